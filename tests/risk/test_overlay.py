import numpy as np
import pytest

from conf.errors import InputError
from risk.book import Book
from risk.bounds import LimitSettings, usage_of
from risk.guard import GuardState
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


def test_the_guard_comes_before_the_limits_and_each_reports_what_it_took():
    overlay = watching()
    overlay.observe(np.array([96.5]), np.zeros(1))  # -3.5 %: nothing may be opened
    result = overlay.apply(np.array([[3.0, 1.0]]), a_book([2.5, 0.0], equity=96.5))
    assert result.state.tolist() == [GuardState.REDUCING]
    # Wanted 3 and 1; the guard keeps 2.5 and 0; the position limit leaves $19.30 of $25.
    np.testing.assert_allclose(result.quantity, [[1.93, 0.0]])
    clipped = dict(zip(OVERLAY_RULES, result.clipped[0], strict=True))
    assert clipped["guard"] == pytest.approx(15.0)
    assert clipped["position"] == pytest.approx(5.7)
    assert {rule for rule, hit in zip(OVERLAY_RULES, result.bound[0], strict=True) if hit} == {
        "guard",
        "position",
    }


def test_turnover_is_counted_over_a_month_of_trades():
    overlay = watching(limits=LimitSettings(max_monthly_turnover=0.5))
    held = np.zeros((1, 2))
    traded = []
    for day in range(30):
        requested = np.array([[2.0, 0.0]]) if day % 2 == 0 else np.zeros((1, 2))
        result = overlay.apply(requested, a_book(held))
        traded.append(np.abs(result.quantity - held).sum() * 10.0)
        held = result.quantity
    # $50 a month: $20 in, $20 out, $10 in, $10 out (shrinking is free), then nothing ...
    assert traded[:6] == pytest.approx([20, 20, 10, 10, 0, 0])
    # ... until the first two trades are 21 sessions old: $30 are free then, $20 are requested.
    assert traded[20] == 0
    assert traded[22] == pytest.approx(20)


def test_nan_closes_the_book_and_halts_it():
    overlay = watching(2)
    result = overlay.apply(np.array([[1.0, np.nan], [1.0, 1.0]]), a_book(np.ones((2, 2))))
    assert result.alert.tolist() == [True, False]
    assert result.quantity.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    orders = overlay.observe(np.array([100.0, 100.0]), np.zeros(2))
    assert orders.state.tolist() == [GuardState.HALTED, GuardState.ACTIVE]
    again = overlay.apply(np.ones((2, 2)), a_book(np.zeros((2, 2))))
    assert again.quantity.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_the_kill_switch_and_the_reset_act_on_the_very_next_trade():
    overlay, requested, book = watching(2), np.ones((2, 2)), a_book(np.ones((2, 2)))
    second = np.array([False, True])
    overlay.observe(np.array([100.0, 100.0]), np.zeros(2))
    overlay.kill(second)
    killed = overlay.apply(requested, book)
    assert killed.quantity.tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert killed.state.tolist() == [GuardState.ACTIVE, GuardState.HALTED]
    assert overlay.guard.restrictions.reason.tolist() == ["", "killed"]
    overlay.reset(second)
    assert overlay.apply(requested, book).quantity.tolist() == requested.tolist()


def test_a_book_halted_by_its_drawdown_trades_on_as_soon_as_it_is_reset():
    overlay = watching()
    overlay.observe(np.array([70.0]), np.zeros(1))
    assert not overlay.apply(np.ones((1, 2)), a_book([1.0, 1.0], 70.0)).quantity.any()
    overlay.reset(np.ones(1, bool))
    assert overlay.apply(np.ones((1, 2)), a_book([0.0, 0.0], 70.0)).quantity.all()


def test_an_alert_holds_for_every_trade_after_it():
    overlay = watching()
    assert overlay.apply(np.array([[1.0, np.nan]]), a_book([0.0, 0.0])).alert.all()
    again = overlay.apply(np.ones((1, 2)), a_book([0.0, 0.0]))
    assert not again.quantity.any()
    assert again.state.tolist() == [GuardState.HALTED]
    assert overlay.guard.restrictions.reason.tolist() == ["not_finite"]


def test_what_is_closed_without_a_request_counts_as_traded():
    overlay = watching(limits=LimitSettings(max_monthly_turnover=0.5))
    first = overlay.apply(np.array([[2.0, 0.0]]), a_book([0.0, 0.0]))  # $20 of $50
    assert first.quantity.tolist() == [[2.0, 0.0]]
    overlay.record_trade(np.array([20.0]))  # the contract was rolled: closed at its value
    second = overlay.apply(np.array([[0.0, 2.0]]), a_book([0.0, 0.0]))
    np.testing.assert_allclose(second.quantity, [[0.0, 1.0]])


def test_infinite_trades_are_not_counted():
    overlay = watching()
    overlay.apply(np.array([[np.inf, 1.0]]), a_book([1e308, 1.0], price=1e100))
    overlay.record_trade(np.array([np.inf]))
    assert np.isfinite(overlay.recent_trades).all()


def test_a_new_episode_is_watched_afresh():
    overlay = watching(2)
    overlay.observe(np.array([70.0, 70.0]), np.zeros(2))
    overlay.open(np.array([True, False]), 100.0)
    result = overlay.apply(np.ones((2, 1)), a_book(np.zeros((2, 1))))
    assert result.state.tolist() == [GuardState.ACTIVE, GuardState.HALTED]
    assert result.quantity.tolist() == [[1.0], [0.0]]


def test_its_state_is_saved_and_restored():
    rng = np.random.default_rng(0)
    first, twin = watching(3), watching(3)

    def day(overlay, requested, equity):
        result = overlay.apply(requested, a_book(np.ones((3, 4))))
        overlay.observe(equity, np.zeros(3))
        return result

    for _ in range(10):
        day(first, rng.normal(size=(3, 4)), rng.uniform(90, 100, 3))
    twin.set_state(first.get_state())
    for _ in range(30):
        requested, equity = rng.normal(size=(3, 4)), rng.uniform(90, 100, 3)
        left, right = day(first, requested, equity), day(twin, requested, equity)
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_reason_of_the_last_close_is_saved_and_restored():
    first, twin = watching(), watching()
    first.observe(np.array([96.0]), np.zeros(1))
    twin.set_state(first.get_state())
    assert twin.guard.restrictions.reason.tolist() == ["day_loss"]


@pytest.mark.parametrize("name", ["recent_trades", "guard.scale", "guard.returns"])
def test_a_state_of_another_shape_is_refused(name):
    state = watching().get_state()
    for wrong in ({**state, name: np.zeros((7, 3))}, {k: v for k, v in state.items() if k != name}):
        with pytest.raises(InputError, match=name.removeprefix("guard.")):
            watching().set_state(wrong)


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
