import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import InputError
from risk.book import Book
from risk.bounds import RULES, LimitSettings, usage_of
from risk.limits import apply_limits

LIMITS = LimitSettings()
CAPS = {
    "position": 0.20,
    "gross": 1.50,
    "cash": 0.90,
    "delta": 0.50,
    "gamma": 1.00,
    "vega": 0.10,
    "margin": 0.40,
}
WITH_MARGIN = LimitSettings(max_margin=0.40)


def a_book(quantity, price, equity=100.0, delta=0.0, gamma=0.0, vega=0.0, traded=0.0, scan=None):
    quantity = np.atleast_2d(np.asarray(quantity, float))

    def each(values):
        return np.broadcast_to(np.asarray(values, float), quantity.shape).copy()

    return Book(
        quantity=quantity,
        price=each(price),
        equity=np.full(len(quantity), float(equity)),
        delta=each(delta),
        gamma=each(gamma),
        vega=each(vega),
        traded=np.full(len(quantity), float(traded)),
        scan=scan,
    )


def allowed(requested, book, limits=LIMITS):
    return apply_limits(np.atleast_2d(np.asarray(requested, float)), book, limits)


def random_books(seed, books=64, positions=6):
    """Books of any size and sign, within limits and far beyond, with prices down to zero."""
    rng = np.random.default_rng(seed)
    size = 10 ** rng.uniform(-3, 3, (books, 1))
    price = 10 ** rng.uniform(-6, 2, (books, positions)) * (rng.random((books, positions)) > 0.1)
    book = Book(
        quantity=rng.normal(size=(books, positions)) * size * (rng.random((books, 1)) > 0.2),
        price=price,
        equity=10 ** rng.uniform(0, 5, books),
        delta=rng.normal(size=(books, positions)) * 10 ** rng.uniform(-2, 2, (books, 1)),
        gamma=rng.normal(size=(books, positions)),
        vega=rng.normal(size=(books, positions)),
        traded=10 ** rng.uniform(-3, 5, books),
        scan=rng.normal(size=(books, positions, 16)),
    )
    requested = rng.normal(size=(books, positions)) * 10 ** rng.uniform(-3, 3, (books, 1))
    return book, requested, rng


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_every_limit_holds_whatever_was_held_or_requested(seed):
    book, requested, _ = random_books(seed)
    result = apply_limits(requested, book, WITH_MARGIN)
    assert not result.alert.any()
    for rule, usage in usage_of(result.quantity, book, WITH_MARGIN).items():
        assert (usage <= CAPS[rule] * (1 + 1e-9)).all(), rule
    shrunk = np.clip(result.quantity, np.minimum(book.quantity, 0), np.maximum(book.quantity, 0))
    opened = (np.abs(result.quantity - shrunk) * book.price).sum(-1)
    moved = (np.abs(result.quantity - book.quantity) * book.price).sum(-1)
    left = np.maximum(2.0 * book.equity - book.traded, 0)
    assert ((opened <= 1e-9 * book.equity) | (moved <= left * (1 + 1e-9))).all()
    assert (result.traded >= moved * (1 - 1e-9)).all()


def within(book, limits=WITH_MARGIN):
    usage = usage_of(book.quantity, book, limits)
    return np.all([usage[rule] <= CAPS[rule] for rule in usage], axis=0)


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_no_position_ends_beyond_both_the_held_and_the_requested_one(seed):
    book, requested, _ = random_books(seed)
    result = apply_limits(requested, book, WITH_MARGIN).quantity
    low = np.minimum(np.minimum(book.quantity, requested), 0)
    high = np.maximum(np.maximum(book.quantity, requested), 0)
    slack = 1e-12 * (np.abs(low) + np.abs(high))
    assert (result >= low - slack).all()
    assert (result <= high + slack).all()


@settings(max_examples=150, deadline=None)
@given(seed=seeds, share=st.floats(0, 1))
def test_a_trade_that_reduces_risk_is_never_blocked(seed, share):
    book, _, _ = random_books(seed)
    requested = share * book.quantity
    result = apply_limits(requested, book, WITH_MARGIN).quantity
    assert (np.abs(result) <= np.abs(requested) * (1 + 1e-12)).all()
    fits = within(dataclasses.replace(book, quantity=requested))
    np.testing.assert_array_equal(result[fits], requested[fits])


@settings(max_examples=150, deadline=None)
@given(seed=seeds)
def test_a_batch_of_books_gets_the_answers_of_each_alone(seed):
    book, requested, _ = random_books(seed, books=9)
    together = apply_limits(requested, book, WITH_MARGIN)
    for i in range(9):
        one = Book(**{f.name: getattr(book, f.name)[i : i + 1] for f in dataclasses.fields(book)})
        alone = apply_limits(requested[i : i + 1], one, WITH_MARGIN)
        np.testing.assert_array_equal(alone.quantity[0], together.quantity[i])
        np.testing.assert_array_equal(alone.clipped[0], together.clipped[i])


FIELDS = ("requested", "quantity", "price", "equity", "delta", "gamma", "vega", "traded", "scan")


@settings(max_examples=150, deadline=None)
@given(
    seed=seeds,
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    field=st.sampled_from(FIELDS),
)
def test_nan_or_infinity_closes_the_book_and_raises_the_alert(seed, bad, field):
    book, requested, rng = random_books(seed, books=5)
    clean = apply_limits(requested, book, WITH_MARGIN)
    values = {f.name: getattr(book, f.name).copy() for f in dataclasses.fields(book)}
    target = requested.copy() if field == "requested" else values[field]
    target[(2, *(rng.integers(0, n) for n in target.shape[1:]))] = bad
    changed = target if field == "requested" else requested
    result = apply_limits(changed, Book(**values), WITH_MARGIN)
    assert result.alert.tolist() == [False, False, True, False, False]
    assert (result.quantity[2] == 0).all()
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(result.quantity[others], clean.quantity[others])
    assert np.isfinite(result.clipped).all()


def test_a_request_within_every_limit_is_not_changed():
    book = a_book([1.0, -1.0], 10.0)
    result = allowed([1.5, -0.5], book)
    np.testing.assert_array_equal(result.quantity, [[1.5, -0.5]])
    assert not result.bound.any()


def clipped(result):
    return {rule: value for rule, value in zip(RULES, result.clipped[0], strict=True) if value}


def test_each_rule_by_hand():
    flat = [0.0, 0.0]
    result = allowed([3.0, 0.0], a_book(flat, 10.0))  # $30 of $100 requested, $20 allowed
    assert result.quantity.tolist() == [[2.0, 0.0]]
    assert clipped(result) == {"position": 10.0}

    wide = LimitSettings(max_position=None, min_cash=None)
    result = allowed([-20.0, 10.0], a_book(flat, 10.0), wide)  # $300 gross, $150 allowed
    assert result.quantity.tolist() == [[-10.0, 5.0]]
    assert clipped(result) == {"gross": 150.0}

    result = allowed([10.0, 2.0], a_book(flat, 10.0), LimitSettings(max_position=None))
    np.testing.assert_allclose(result.quantity, [[7.5, 1.5]])  # $120 invested, $90 allowed
    assert clipped(result) == pytest.approx({"cash": 30.0})

    result = allowed([1.0, 1.0], a_book(flat, 1.0, delta=[80.0, 20.0]))  # delta 1, 0.5 allowed
    np.testing.assert_allclose(result.quantity, [[0.5, 0.5]])
    assert clipped(result) == pytest.approx({"delta": 1.0})

    result = allowed([1.0, 0.0], a_book(flat, 1.0, gamma=-400.0))
    assert result.quantity[0, 0] == pytest.approx(0.25)
    result = allowed([1.0, 0.0], a_book(flat, 1.0, vega=40.0))
    assert result.quantity[0, 0] == pytest.approx(0.25)
    scan = np.zeros((1, 2, 16))
    scan[0, 0, 5] = -80.0
    result = allowed([1.0, 0.0], a_book(flat, 1.0, scan=scan), WITH_MARGIN)
    assert result.quantity[0, 0] == pytest.approx(0.5)

    result = allowed([1.0, 0.0], a_book(flat, 10.0, traded=196.0))  # $10 requested, $4 left
    assert result.quantity[0, 0] == pytest.approx(0.4)
    assert clipped(result) == pytest.approx({"turnover": 6.0})


def test_a_request_beyond_a_limit_keeps_its_proportions():
    book = a_book([0.4, 0.0], 1.0, delta=[100.0, 100.0])
    result = allowed([0.4, 0.3], book)  # delta 0.4, requested 0.7, allowed 0.5
    np.testing.assert_allclose(result.quantity, np.array([[0.4, 0.3]]) * 5 / 7)


def test_a_book_in_breach_is_reduced_without_a_request():
    book = a_book([2.0, 0.0], 10.0, delta=[100.0, 0.0])
    result = allowed([2.0, 0.0], book)
    assert result.quantity[0, 0] == pytest.approx(0.25 * 2.0)
    exhausted = dataclasses.replace(book, traded=np.array([1000.0]))
    assert allowed([2.0, 0.0], exhausted).quantity[0, 0] == pytest.approx(0.5)


def test_closing_needs_no_turnover_and_opening_does():
    book = a_book([1.0, 1.0], 10.0, traded=500.0)
    assert allowed([0.3, 0.0], book).quantity.tolist() == [[0.3, 0.0]]
    assert allowed([1.0, 1.5], book).quantity.tolist() == [[1.0, 1.0]]
    both = allowed([0.0, 1.5], book)
    assert both.quantity.tolist() == [[0.0, 1.0]]
    assert clipped(both) == {"turnover": 5.0}


def test_limits_set_to_null_do_not_bind():
    off = LimitSettings(**{f.name: None for f in dataclasses.fields(LimitSettings)})
    book = a_book([0.0, 0.0], 10.0, delta=1e6, gamma=1e6, vega=1e6, traded=1e9)
    assert allowed([50.0, -70.0], book, off).quantity.tolist() == [[50.0, -70.0]]


def test_without_equity_everything_is_closed():
    result = allowed([1.0, 1.0], a_book([1.0, 1.0], 1.0, equity=0.0))
    assert result.quantity.tolist() == [[0.0, 0.0]]
    assert result.alert.tolist() == [True]


@pytest.mark.parametrize(
    ("requested", "book"),
    [
        ([1e200, 1e200], a_book([0.0, 0.0], 0.0, delta=[1e200, -1e200])),
        ([1e308, 0.0], a_book([-1e308, 0.0], 0.0)),
    ],
)
def test_numbers_too_large_to_be_added_up_close_the_book(requested, book):
    result = allowed(requested, book)
    assert result.quantity.tolist() == [[0.0, 0.0]]
    assert result.alert.all()
    assert np.isfinite(result.traded).all()


def test_a_rule_that_cuts_something_worthless_is_reported():
    result = allowed([1.0, 0.0], a_book([0.0, 0.0], 0.0, delta=[80.0, 0.0]))
    assert result.quantity[0, 0] == pytest.approx(0.625)
    assert [rule for rule, hit in zip(RULES, result.bound[0], strict=True) if hit] == ["delta"]


def test_a_margin_limit_needs_a_scan():
    with pytest.raises(InputError, match="no margin scan"):
        allowed([1.0, 0.0], a_book([0.0, 0.0], 1.0), WITH_MARGIN)


def test_shapes_are_checked():
    with pytest.raises(InputError, match="price has shape"):
        a_book([1.0, 1.0], 1.0).__class__(
            **{**dataclasses.asdict(a_book([1.0, 1.0], 1.0)), "price": np.zeros((1, 3))}
        )
