import numpy as np
import pytest

from risk.guard import GuardState
from risk.limits import Book, LimitSettings, usage_of
from risk.overlay import OVERLAY_RULES, RiskOverlay, RiskSettings


def a_book(quantity, equity=100.0, price=10.0):
    quantity = np.atleast_2d(np.asarray(quantity, float))
    zero = np.zeros_like(quantity)
    return Book(
        quantity=quantity,
        price=np.full_like(quantity, price),
        equity=np.full(len(quantity), equity),
        delta=zero,
        gamma=zero,
        vega=zero,
        traded=np.zeros(len(quantity)),
    )


def watching(books=1, **options):
    overlay = RiskOverlay(books, RiskSettings(**options))
    overlay.open(np.ones(books, bool), 100.0)
    return overlay


def test_guard_first_then_limits_and_each_says_what_it_took():
    overlay = watching()
    overlay.observe(np.array([96.5]), np.zeros(1))  # -3.5 %: nothing may be opened
    result = overlay.apply(np.array([[3.0, 1.0]]), a_book([2.5, 0.0], equity=96.5))
    assert result.state.tolist() == [GuardState.REDUCING]
    # Wanted 3 and 1; the guard keeps 2.5 and 0; the position limit leaves $19.30 of $25.
    np.testing.assert_allclose(result.quantity, [[1.93, 0.0]])
    taken = dict(zip(OVERLAY_RULES, result.taken[0], strict=True))
    assert taken["guard"] == pytest.approx(15.0)
    assert taken["position"] == pytest.approx(5.7)
    assert {rule for rule, hit in zip(OVERLAY_RULES, result.bound[0], strict=True) if hit} == {
        "guard",
        "position",
    }


def test_turnover_is_counted_over_a_month_of_trades():
    overlay = watching(limits=LimitSettings(max_monthly_turnover=0.5))
    held = np.zeros((1, 2))
    traded = []
    for day in range(30):
        wanted = np.array([[2.0, 0.0]]) if day % 2 == 0 else np.zeros((1, 2))
        result = overlay.apply(wanted, a_book(held))
        traded.append(np.abs(result.quantity - held).sum() * 10.0)
        held = result.quantity
    # $50 a month: $20 in, $20 out, $10 in, $10 out (shrinking is free), then nothing ...
    assert traded[:6] == pytest.approx([20, 20, 10, 10, 0, 0])
    # ... until the first two trades are 21 sessions old: $30 are free then, $20 are wanted.
    assert traded[20] == 0
    assert traded[22] == pytest.approx(20)


def test_a_number_that_is_none_closes_the_book_and_halts_it():
    overlay = watching(2)
    result = overlay.apply(np.array([[1.0, np.nan], [1.0, 1.0]]), a_book(np.ones((2, 2))))
    assert result.alert.tolist() == [True, False]
    assert result.quantity.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    orders = overlay.observe(np.array([100.0, 100.0]), np.zeros(2))
    assert orders.state.tolist() == [GuardState.HALTED, GuardState.ACTIVE]
    again = overlay.apply(np.ones((2, 2)), a_book(np.zeros((2, 2))))
    assert again.quantity.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_a_new_episode_is_watched_afresh():
    overlay = watching(2)
    overlay.observe(np.array([70.0, 70.0]), np.zeros(2))
    overlay.open(np.array([True, False]), 100.0)
    result = overlay.apply(np.ones((2, 1)), a_book(np.zeros((2, 1))))
    assert result.state.tolist() == [GuardState.ACTIVE, GuardState.HALTED]
    assert result.quantity.tolist() == [[1.0], [0.0]]


def test_its_state_goes_round():
    rng = np.random.default_rng(0)
    first, twin = watching(3), watching(3)

    def day(overlay, wanted, equity):
        result = overlay.apply(wanted, a_book(np.ones((3, 4))))
        overlay.observe(equity, np.zeros(3))
        return result

    for _ in range(10):
        day(first, rng.normal(size=(3, 4)), rng.uniform(90, 100, 3))
    twin.set_state(first.get_state())
    for _ in range(30):
        wanted, equity = rng.normal(size=(3, 4)), rng.uniform(90, 100, 3)
        left, right = day(first, wanted, equity), day(twin, wanted, equity)
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_every_limit_holds_on_every_day_of_a_wild_book():
    rng = np.random.default_rng(1)
    overlay = watching(50)
    held, equity = np.zeros((50, 4)), np.full(50, 100.0)
    for _ in range(60):
        book = Book(
            quantity=held,
            price=rng.uniform(0.01, 20, (50, 4)),
            equity=equity,
            delta=rng.normal(0, 40, (50, 4)),
            gamma=rng.normal(0, 40, (50, 4)),
            vega=rng.normal(0, 4, (50, 4)),
            traded=np.zeros(50),
        )
        held = overlay.apply(rng.normal(0, 5, (50, 4)), book).quantity
        caps = {"position": 0.2, "gross": 1.5, "cash": 0.9, "delta": 0.5, "gamma": 1, "vega": 0.1}
        for rule, usage in usage_of(held, book, LimitSettings()).items():
            assert (usage <= caps.get(rule, np.inf) * (1 + 1e-9)).all(), rule
        equity = equity * rng.uniform(0.97, 1.03, 50)
        overlay.observe(equity, rng.normal(0, 0.01, 50))
