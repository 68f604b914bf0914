import numpy as np
import pytest
from arch.data import sp500
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import InputError
from risk.guard import Guard, GuardSettings, GuardState

ACTIVE, REDUCING, HALTED = GuardState
QUIET = GuardSettings(max_volatility=None, max_beta=None)


def watching(equity=100.0, options=QUIET, books=1):
    guard = Guard(books, options)
    guard.open(np.ones(books, bool), equity)
    return guard


def after(guard, *equities):
    """The guard's restrictions after each close, while the index does not move."""
    return [guard.observe(np.array([float(e)]), np.zeros(1)) for e in equities]


def replay(first, last):
    """A book that simply holds the index, from the close of `first` on."""
    close = sp500.load()["Close"][first:last]
    guard = watching(float(close.iloc[0]))
    for day, price in close.iloc[1:].items():
        (restrictions,) = after(guard, price)
        state, closed = GuardState(int(restrictions.state[0])), bool(restrictions.close[0])
        yield f"{day:%m-%d}", state.name + ("!" if closed else ""), str(restrictions.reason[0])


def test_october_2008_day_by_day():
    # Index: -0.45, -4.03, -1.35, -3.85, -5.74, -1.13, -7.62 % (22 % below 30 September), ...
    assert list(replay("2008-09-30", "2008-10-15")) == [
        ("10-01", "ACTIVE", ""),
        ("10-02", "REDUCING", "day_loss"),
        ("10-03", "ACTIVE", ""),
        ("10-06", "REDUCING", "day_loss"),
        ("10-07", "REDUCING!", "day_crash"),
        ("10-08", "ACTIVE", ""),
        ("10-09", "HALTED!", "drawdown"),
        ("10-10", "HALTED!", "drawdown"),
        ("10-13", "HALTED!", ""),  # up 11.6 %: still halted, only a person resets it
        ("10-14", "HALTED!", ""),
        ("10-15", "HALTED!", "drawdown"),
    ]


def test_august_2015_day_by_day():
    # Index: -0.26, -0.83, -2.11, -3.19, -3.94, -1.35, +3.90, +2.43, +0.06, -0.84, -2.96 %
    assert list(replay("2015-08-17", "2015-09-01")) == [
        ("08-18", "ACTIVE", ""),
        ("08-19", "ACTIVE", ""),
        ("08-20", "ACTIVE", ""),
        ("08-21", "REDUCING", "day_loss"),
        ("08-24", "REDUCING", "day_loss"),
        ("08-25", "ACTIVE", ""),
        ("08-26", "ACTIVE", ""),
        ("08-27", "ACTIVE", ""),
        ("08-28", "ACTIVE", ""),
        ("08-31", "ACTIVE", ""),
        ("09-01", "ACTIVE", ""),
    ]


def test_triggers_hold_at_exactly_their_value():
    guard = watching()
    states = [int(restrictions.state[0]) for restrictions in after(guard, 97.0, 97.0, 97 * 0.9701)]
    assert states == [REDUCING, ACTIVE, ACTIVE]
    assert after(watching(), 95.0)[0].close[0]
    assert after(watching(), 80.0)[0].state[0] == HALTED


def test_a_cooldown_keeps_reducing_for_its_sessions():
    options = GuardSettings(max_volatility=None, max_beta=None, cooldown_sessions=3)
    states = [int(o.state[0]) for o in after(watching(options=options), 96, 97, 98, 99)]
    assert states == [REDUCING, REDUCING, REDUCING, ACTIVE]


def test_reducing_only_lets_positions_shrink():
    guard = watching()
    (restrictions,) = after(guard, 96.0)
    requested = np.array([[5.0, -5.0, 0.5, -1.0, 3.0]])
    held = np.array([[1.0, 1.0, 1.0, -2.0, 0.0]])
    assert restrictions.applied(requested, held).tolist() == [[1.0, 0.0, 0.5, -1.0, 0.0]]


def test_halted_closes_everything_until_a_person_resets():
    guard = watching()
    (restrictions,) = after(guard, 79.0)
    held = np.array([[3.0, -2.0]])
    assert restrictions.applied(held, held).tolist() == [[0.0, 0.0]]
    guard.reset(np.array([True]))
    states = [int(o.state[0]) for o in after(guard, 79.0, 78.0, 63.0)]
    assert states == [ACTIVE, ACTIVE, HALTED]


def test_the_kill_switch_halts_at_once():
    guard = watching(books=2)
    guard.kill(np.array([False, True]))
    restrictions = guard.observe(np.array([101.0, 101.0]), np.zeros(2))
    assert restrictions.state.tolist() == [ACTIVE, HALTED]
    assert restrictions.close.tolist() == [False, True]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -5.0])
def test_nan_infinity_or_no_equity_halts(bad):
    guard = watching(books=2)
    restrictions = guard.observe(np.array([101.0, bad]), np.zeros(2))
    assert restrictions.state.tolist() == [ACTIVE, HALTED]
    assert restrictions.reason[1] == "not_finite"
    again = guard.observe(np.array([102.0, 100.0]), np.zeros(2))
    assert again.state.tolist() == [ACTIVE, HALTED]


def test_a_book_above_its_volatility_target_is_scaled_to_it():
    guard = watching(options=GuardSettings(max_beta=None, halt_at_drawdown=None))
    equity, returns = 100.0, [0.029, -0.025] * 10
    for r in returns:
        equity *= 1 + r
        (restrictions,) = after(guard, equity)
    volatility = np.std(returns, ddof=1) * 252**0.5
    assert volatility > 0.3
    assert restrictions.scale[0] == pytest.approx(0.3 / volatility)
    requested = np.array([[2.0]])
    np.testing.assert_allclose(
        restrictions.applied(requested, requested), requested * 0.3 / volatility
    )


def test_a_beta_above_its_bound_closes_the_book():
    rng = np.random.default_rng(0)
    index = rng.normal(0, 0.005, 60)
    for beta, closes in ((0.45, False), (0.55, True)):
        guard = watching(options=GuardSettings(max_volatility=None))
        equity = 100.0
        for i, r in enumerate(index):
            equity *= 1 + beta * r
            restrictions = guard.observe(np.array([equity]), np.array([r]))
            assert restrictions.close[0] == (closes and i == 59)


@pytest.mark.parametrize("daily", [0.0, 1e-4, 0.001, 0.0013, 0.01])
def test_an_index_that_never_varies_has_no_beta(daily):
    rng = np.random.default_rng(1)
    guard, equity = watching(options=GuardSettings(max_volatility=None)), 100.0
    for _ in range(70):
        equity *= 1 + rng.normal(0.0005, 0.002)
        restrictions = guard.observe(np.array([equity]), np.array([daily]))
        assert restrictions.reason.tolist() == [""]


def test_a_nan_index_return_halts_and_the_equity_still_counts():
    guard = watching()
    restrictions = guard.observe(np.array([60.0]), np.array([np.nan]))
    assert (restrictions.state[0], restrictions.reason[0]) == (HALTED, "not_finite")
    guard.reset(np.array([True]))
    assert guard.peak.tolist() == [60.0]
    assert guard.observe(np.array([60.0]), np.zeros(1)).state[0] == ACTIVE


def test_a_book_that_was_never_opened_begins_at_its_first_close():
    guard = Guard(1)
    for _ in range(25):
        restrictions = guard.observe(np.array([100_000.0]), np.zeros(1))
    assert restrictions.scale.tolist() == [1.0]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_guard_never_raises_an_exposure_and_a_batch_equals_each_alone(seed):
    rng = np.random.default_rng(seed)
    together, alone = watching(books=5), [watching() for _ in range(5)]
    equity = np.full(5, 100.0)
    for _ in range(30):
        equity = equity * (1 + rng.normal(0, 0.02, 5))
        index = rng.normal(0, 0.01, 5)
        restrictions = together.observe(equity, index)
        requested, held = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
        kept = restrictions.applied(requested, held)
        assert (np.abs(kept) <= np.abs(requested)).all()
        assert (kept * requested >= 0).all()
        for i, guard in enumerate(alone):
            single = guard.observe(equity[i : i + 1], index[i : i + 1])
            assert [x[0] for x in single] == [x[i] for x in restrictions]


def test_its_state_is_saved_and_restored():
    guard, twin = watching(), watching()
    after(guard, 96.0, 90.0)
    twin.set_state(guard.get_state())
    for left, right in zip(after(guard, 92, 70, 71), after(twin, 92, 70, 71), strict=True):
        assert [x[0] for x in left] == [x[0] for x in right]
    with pytest.raises(InputError, match="same number of books"):
        watching(books=2).set_state(guard.get_state())
