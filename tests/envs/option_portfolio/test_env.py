"""What must always hold for the option book, checked against slow independent bookkeeping."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import InputError
from envs.core.batch import Window
from envs.core.reward import TERMS
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.options.black_scholes import price
from envs.options.surface import FlatSurface, VixSurface
from tests.markets import (
    history_of,
    kernel_of,
    market_of,
    options_of,
    perturbed_after,
    random_walk,
    wandering_vol,
)

ROLLS = ("expiry", "daily")
REALISTIC = {"costs": {"kind": "realistic"}}


def wandering(sessions=200, seed=3, paths=1):
    vol = np.repeat(wandering_vol(sessions, seed), paths, axis=0)
    return random_walk(sessions, paths=paths, seed=seed, implied_vol=vol)


class PlainBook:
    """One account in plain Python, written without the ledger: cash, and contracts by name."""

    def __init__(self, kernel: OptionPortfolioKernel) -> None:
        self.kernel = kernel
        self.cash = kernel.options.initial_equity_usd
        self.held: dict[int, tuple[float, float, float]] = {}  # slot -> quantity, strike, expiry

    def value_of(self, slot: int, strike: float, expiry_day: float, session: int) -> float:
        history = self.kernel.market.history
        spot = float(history.close[0, session])
        days = expiry_day - history.dates[session].astype("datetime64[D]").astype(float)
        is_call = self.kernel.market.tape.is_call[slot]
        if days <= 0:
            return max(spot - strike, 0.0) if is_call else max(strike - spot, 0.0)
        tau = days / 365
        surface = VixSurface()
        drivers = surface.drivers(history.implied_vol)[0, session]
        k = np.log(strike) - np.log(spot) - (0.025 - 0.015) * tau
        vol = surface.vol(drivers[None], np.array([k]), np.array([tau]))
        return float(price(spot, strike, tau, vol, 0.025, 0.015, np.array([is_call]))[0])

    def step(self, session: int, target: np.ndarray, cost: float) -> float:
        """Trade at `session`, settle at the next; the equity there."""
        tape, history = self.kernel.market.tape, self.kernel.market.history
        day = history.dates.astype("datetime64[D]").astype(float)
        for slot, quantity in enumerate(target):
            current = self.held.get(slot, (0.0, 0.0, 0.0))[0]
            strike = float(tape.strike[0, session, slot])
            expiry = day[session] + tape.days_to_expiry[session, slot]
            self.cash -= (quantity - current) * self.value_of(slot, strike, expiry, session)
            self.held[slot] = (float(quantity), strike, expiry)
        self.cash -= cost
        now = session + 1
        self.cash *= float(np.exp(0.025 * (day[now] - day[session]) / 365))
        equity = self.cash
        for slot, (quantity, strike, expiry) in list(self.held.items()):
            worth = quantity * self.value_of(slot, strike, expiry, now)
            equity += worth
            if tape.rolled[now, slot]:
                self.cash += worth
                del self.held[slot]
        return equity


@pytest.mark.parametrize(
    ("roll", "unit"),
    [
        ("daily", "notional"),
        ("expiry", "premium"),
        pytest.param("daily", "premium", marks=pytest.mark.slow),
        pytest.param("expiry", "notional", marks=pytest.mark.slow),
    ],
)
def test_equity_equals_that_of_an_independent_ledger(roll, unit):
    """Self-financing, contracts that keep strike and expiry, interest, costs: all at once."""
    # Twenty contracts at up to a tenth of the equity: more would ruin the book.
    sizing = {"unit": unit, "max_notional": 1.0 if unit == "premium" else 0.1}
    options = options_of(chain={"roll": roll}, sizing=sizing, **REALISTIC)
    kernel = kernel_of(wandering(110), options=options, surface=VixSurface())
    kernel.reset()
    book, rng = PlainBook(kernel), np.random.default_rng(0)
    for _ in range(50):  # every contract expires once
        session, costs = int(kernel.session[0]), kernel.ledger.costs[0]
        kernel.step(rng.uniform(-1, 1, (1, 20)))
        cost = kernel.ledger.costs[0] - costs
        closing = cost - trading_cost(kernel, session) if roll == "daily" else 0.0
        equity = book.step(session, kernel.held_quantity[0], cost - closing)
        equity -= closing
        book.cash -= closing
        assert kernel.ledger.equity[0] == pytest.approx(equity, rel=1e-9)
        assert kernel.ledger.cash[0] == pytest.approx(book.cash, rel=1e-9)
    assert kernel.ledger.costs[0] > 50


def trading_cost(kernel: OptionPortfolioKernel, session: int) -> float:
    """Cost of the trade at `session` in daily mode, where every trade opens from nothing."""
    market, held = kernel.market, kernel.held_quantity[0]
    impact = kernel.options.costs.impact(held[None], market.tape.mark[0, session][None])
    opening = np.abs(held) @ market.unit_cost[0, session]
    return float(opening + (0.0 if impact is None else impact[0]))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), roll=st.sampled_from(ROLLS), cost=st.floats(0, 50))
def test_each_step_is_self_financing(seed, roll, cost):
    options = options_of(chain={"roll": roll}, costs={"kind": "flat", "rate_bps": cost})
    kernel = kernel_of(wandering(90, seed % 7), options=options, surface=VixSurface(), num_envs=3)
    kernel.reset()
    rng = np.random.default_rng(seed)
    tape, growth = kernel.market.tape, kernel.market.cash_return
    for _ in range(30):
        t, before = int(kernel.session[0]), kernel.ledger.equity.copy()
        costs = kernel.ledger.costs.copy()
        held_before = kernel.ledger.quantity.copy()
        cash_before = kernel.ledger.cash.copy()
        kernel.step(rng.uniform(-1, 1, (3, 20)))
        q = kernel.held_quantity
        paid = kernel.ledger.costs - costs
        closing = 0.0
        if roll == "daily":
            assert kernel.market.closing_unit_cost is not None
            closing = (np.abs(q) * kernel.market.closing_unit_cost[0, t + 1]).sum(-1)
        cash = cash_before - ((q - held_before) * tape.mark[0, t]).sum(-1) - (paid - closing)
        earned = (q * (tape.aged[0, t + 1] - tape.mark[0, t])).sum(-1) + cash * growth[t] - paid
        np.testing.assert_allclose(kernel.ledger.equity - before, earned, rtol=1e-9, atol=1e-6)


def test_cash_earns_the_risk_free_rate_and_nothing_else_happens():
    kernel = kernel_of(wandering(120))
    kernel.reset()
    start = kernel.market.history.dates[kernel.session[0]]
    for _ in range(60):
        result = kernel.step(np.zeros((1, 20)))
    days = (kernel.market.history.dates[kernel.session[0]] - start).astype(float)
    expected = 100_000 * np.exp(0.025 * days / 365)
    assert kernel.ledger.equity[0] == pytest.approx(expected, rel=1e-12)
    excess_terms = dict(zip(kernel.reward.term_names, kernel.reward_terms[0], strict=True))
    assert excess_terms["sharpe"] == pytest.approx(0, abs=1e-6)
    assert result.reward[0] == pytest.approx(100 * (np.exp(0.025 / 365) - 1), abs=0.02)


def test_a_long_call_gains_exactly_the_change_of_its_own_price():
    kernel = kernel_of(history_of([1000.0] * 51 + [1010.0, 1030.0]), surface=FlatSurface())
    kernel.reset()
    action = np.zeros((1, 20))
    slot = 2  # 30D_Call_1.00
    t = int(kernel.session[0])
    kernel.step(np.zeros((1, 20)))
    action[0, slot] = 0.05
    kernel.step(action)
    tape = kernel.market.tape
    assert not tape.rolled[t + 2, slot]
    quantity = kernel.held_quantity[0, slot]
    strike, days = tape.strike[0, t + 1, slot], tape.days_to_expiry[t + 1, slot]
    elapsed = kernel.market.history.days_to_next[t + 1]
    tomorrow = price(
        1010.0, strike, (days - elapsed) / 365, 0.2, 0.025, 0.015, np.array([True])
    ).item()
    gain = quantity * (tomorrow - tape.mark[0, t + 1, slot])
    fresh = quantity * (tape.mark[0, t + 2, slot] - tape.mark[0, t + 1, slot])
    assert kernel.market.history.close[0, t + 2] == 1010.0
    book = kernel.ledger.quantity[0, slot] * tape.mark[0, t + 2, slot]
    assert book == pytest.approx(quantity * tomorrow)
    assert gain == pytest.approx(fresh)


@settings(max_examples=15, deadline=None)
@given(session=st.integers(60, 110), seed=st.integers(0, 99), roll=st.sampled_from(ROLLS))
def test_no_result_depends_on_later_prices(session, seed, roll):
    history = wandering(120, seed)
    options = options_of(
        chain={"roll": roll},
        observation={"extra_blocks": ["volatility", "term_structure", "rates", "calendar"]},
        **REALISTIC,
    )
    runs = []
    for data in (history, perturbed_after(history, session, seed)):
        kernel = kernel_of(data, options=options, surface=VixSurface())
        seen, rewards = [kernel.reset()], []
        mixing = np.random.default_rng(seed).normal(size=(seen[0].shape[1], 20)) * 0.1
        while kernel.session[0] < session:
            result = kernel.step(np.tanh(seen[-1] @ mixing))
            seen.append(result.observation)
            rewards.append(result.reward[0])
        runs.append((np.stack(seen), np.array(rewards), kernel.ledger.get_state()))
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    for name, value in runs[0][2].items():
        np.testing.assert_array_equal(value, runs[1][2][name])


POLICIES = {
    "long calls": lambda obs, rng: np.tile(np.r_[np.full(5, 0.5), np.zeros(15)], (len(obs), 1)),
    "short straddle": lambda obs, rng: np.tile(
        np.where(np.arange(20) % 5 == 2, -0.3, 0.0), (len(obs), 1)
    ),
    "momentum": lambda obs, rng: np.tile(np.sign(obs[:, 1:2]) * 0.4, (1, 20)),
    "random": lambda obs, rng: rng.uniform(-1, 1, (len(obs), 20)),
}


@pytest.mark.parametrize("roll", ROLLS)
def test_no_policy_earns_anything_in_a_fair_market(roll):
    """Drift r - q, realised = implied volatility, no costs: discounted P&L has mean zero.

    The certificates try more policies on more paths.
    """
    paths, sessions = 800, 50 + 45
    history = random_walk(sessions, paths=paths, seed=11)
    options = options_of(chain={"roll": roll})
    kernel = kernel_of(history, num_envs=len(POLICIES) * paths, options=options)
    obs, rng = kernel.reset(), np.random.default_rng(5)
    start = int(kernel.session[0])
    for _ in range(sessions - start - 1):
        seen = obs.reshape(len(POLICIES), paths, -1)
        actions = [act(each, rng) for act, each in zip(POLICIES.values(), seen, strict=True)]
        obs = kernel.step(np.concatenate(actions)).observation
    days = (history.dates[-1] - history.dates[start]).astype(float)
    gain = kernel.ledger.equity * np.exp(-0.025 * days / 365) - 100_000
    for name, each in zip(POLICIES, gain.reshape(len(POLICIES), paths), strict=True):
        error = each.std(ddof=1) / np.sqrt(paths)
        assert error > 0
        assert abs(each.mean()) < 3.5 * error, name


def test_episodes_stepped_together_equal_episodes_stepped_alone():
    history = wandering(330, paths=3)
    options = options_of(episode={"sessions": 60}, **REALISTIC)
    market = market_of(history, options, VixSurface())
    window = Window(market.first_usable, history.num_sessions)
    rng = np.random.default_rng(2)
    count = 7
    start = rng.integers(window.start, window.stop - 61, count)
    path = rng.integers(0, 3, count)
    actions = rng.uniform(-1.2, 1.2, (60, count, 20))
    together = OptionPortfolioKernel(market, options, window, count)
    seen = [together.place(start, path, start + 60)]
    rewards = []
    for action in actions:
        result = together.step(action)
        seen.append(result.observation)
        rewards.append(result.reward)
    assert result.truncated.all()
    for i in range(count):
        alone = OptionPortfolioKernel(market, options, window, 1)
        obs = alone.place(start[i : i + 1], path[i : i + 1], start[i : i + 1] + 60)
        np.testing.assert_array_equal(obs[0], seen[0][i])
        for t, action in enumerate(actions):
            result = alone.step(action[i : i + 1])
            np.testing.assert_array_equal(result.observation[0], seen[t + 1][i])
            assert result.reward[0] == rewards[t][i]
        for name, value in alone.ledger.get_state().items():
            np.testing.assert_array_equal(value[0], together.ledger.get_state()[name][i])


def test_same_seed_same_episodes_and_saved_state_continues_exactly():
    history = wandering(400)
    options = options_of(episode={"sessions": 40})
    kernels = [
        kernel_of(history, 4, options, random_start=True, seed=9, surface=VixSurface())
        for _ in range(3)
    ]
    first, second, third = kernels
    np.testing.assert_array_equal(first.reset(), second.reset())
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (100, 4, 20))

    def run(kernel, steps):
        out = []
        for action in steps:
            result = kernel.step(action)
            done = result.terminated | result.truncated
            out.append((kernel.reset(done) if done.any() else result.observation, result.reward))
        return out

    run(first, actions[:57])
    third.set_state(first.get_state())
    for (obs, reward), (obs3, reward3) in zip(
        run(first, actions[57:]), run(third, actions[57:]), strict=True
    ):
        np.testing.assert_array_equal(obs, obs3)
        np.testing.assert_array_equal(reward, reward3)
    run(second, actions)
    assert first.rng.bit_generator.state == second.rng.bit_generator.state
    np.testing.assert_array_equal(first.ledger.equity, second.ledger.equity)


def test_state_of_another_number_of_episodes_is_refused():
    history = wandering(120)
    state = kernel_of(history, 2).get_state()
    with pytest.raises(InputError, match="same num_envs"):
        kernel_of(history, 3).set_state(state)


def test_random_starts_stay_inside_the_window():
    history = wandering(400)
    options = options_of(episode={"sessions": 40})
    market = market_of(history, options)
    kernel = OptionPortfolioKernel(market, options, Window(100, 200), 500, seed=0)
    kernel.reset()
    assert kernel.session.min() == 100
    assert kernel.end.max() == 199
    assert len(np.unique(kernel.session)) == 60


def test_a_year_truncates_and_ruin_terminates():
    crash = [1000.0] * 60 + [1000.0 * 0.9**i for i in range(1, 21)] + [100.0] * 40
    options = options_of(episode={"ruin_share": 0.5, "sessions": 10})
    kernel = kernel_of(history_of(crash), options=options)
    kernel.reset()
    short_puts = np.where(kernel.market.tape.is_call, 0.0, -1.0)[None]
    while True:
        result = kernel.step(short_puts)
        if result.terminated[0] or result.truncated[0]:
            break
    assert result.terminated[0]
    assert not result.truncated[0]
    assert kernel.ledger.equity[0] < 50_000
    assert result.reward[0] < -options.reward.ruin_penalty

    calm = kernel_of(
        wandering(120), options=options_of(episode={"sessions": 10}), random_start=True
    )
    calm.reset()
    ends = [calm.step(np.zeros((1, 20))) for _ in range(10)]
    assert [bool(e.truncated[0]) for e in ends] == [False] * 9 + [True]
    assert not any(e.terminated[0] for e in ends)
    assert calm.episode_summary(0)["l"] == 10


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_nan_action_is_refused(bad):
    kernel = kernel_of(wandering(120), 2)
    kernel.reset()
    action = np.zeros((2, 20))
    action[1, 3] = bad
    with pytest.raises(InputError, match="action 3 of episode 1"):
        kernel.step(action)
    with pytest.raises(InputError, match="shape"):
        kernel.step(np.zeros((2, 19)))


def test_actions_beyond_their_bounds_count_as_the_bound():
    a, b = kernel_of(wandering(120)), kernel_of(wandering(120))
    a.reset(), b.reset()
    np.testing.assert_array_equal(
        a.step(np.full((1, 20), 7.0)).observation, b.step(np.full((1, 20), 1.0)).observation
    )


def test_windows_that_cannot_work_are_refused():
    history = wandering(120)
    options = options_of()
    market = market_of(history, options)
    with pytest.raises(InputError, match="warm-up"):
        OptionPortfolioKernel(market, options, Window(10, 110))
    with pytest.raises(InputError, match="does not fit"):
        OptionPortfolioKernel(market, options, Window(60, 110))
    with pytest.raises(InputError, match="too short"):
        Window(5, 6)
    with pytest.raises(InputError, match="num_envs is 0"):
        OptionPortfolioKernel(market, options, Window(60, 110), 0, random_start=False)


def test_greeks_of_one_call_by_hand():
    kernel = kernel_of(wandering(120), surface=VixSurface())
    kernel.reset()
    action = np.zeros((1, 20))
    action[0, 2] = 0.1
    t = int(kernel.session[0])
    kernel.step(action)
    q, tape = kernel.held_quantity[0, 2], kernel.market.tape
    spot = kernel.market.history.close[0, t]
    greeks = kernel.exposures()
    assert greeks["delta"][0] == pytest.approx(q * tape.delta[0, t, 2] * spot / 100_000)
    assert greeks["gamma"][0] == pytest.approx(
        q * tape.gamma[0, t, 2] * spot * (0.01 * spot) / 100_000
    )
    assert greeks["vega"][0] == pytest.approx(q * tape.vega[0, t, 2] / 100)
    assert greeks["theta"][0] == pytest.approx(q * tape.theta[0, t, 2])
    assert greeks["theta"][0] < 0


def test_a_term_of_the_reward_sees_the_greeks_of_what_was_held_into_this_close(monkeypatch):
    monkeypatch.setitem(TERMS, "diversity", lambda step, _: step.exposure("vega"))
    kernel = kernel_of(wandering(120), 2, surface=VixSurface())
    kernel.reset()
    action = np.zeros((2, 20))
    action[0, 2], action[1, 3] = 0.1, -0.1
    t = kernel.session.copy()
    kernel.step(action)
    vega = (kernel.held_quantity * kernel.market.tape.vega[0, t]).sum(axis=-1) / 100
    seen = kernel.reward_terms[:, kernel.reward.term_names.index("diversity")]
    np.testing.assert_allclose(seen, 0.1 * vega, rtol=1e-12)  # the term's weight
    assert seen[0] > 0 > seen[1]


def test_exposures_cost_nothing_where_no_term_asks(monkeypatch):
    kernel = kernel_of(wandering(120))
    kernel.reset()
    monkeypatch.setattr(kernel, "exposures", None)
    kernel.step(np.zeros((1, 20)))


def test_a_restarted_kernel_equals_a_fresh_one():
    used, fresh = kernel_of(wandering(150), 2), kernel_of(wandering(150), 2)
    used.reset()
    for _ in range(70):
        used.step(np.full((2, 20), 0.3))
    np.testing.assert_array_equal(used.reset(), fresh.reset())
    left, right = used.get_state(), fresh.get_state()
    for name in left:
        if name not in ("rng", "reward_terms"):
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_rolling_daily_charges_the_old_contract_at_its_own_strike():
    options = options_of(chain={"roll": "daily"}, **REALISTIC)
    kernel = kernel_of(wandering(120), options=options, surface=VixSurface())
    kernel.reset()
    action = np.zeros((1, 20))
    action[0, 9] = 0.02  # 30D_Put_1.10: in the money, and deeper or shallower a day later
    t = int(kernel.session[0])
    kernel.step(action)
    history, tape = kernel.market.history, kernel.market.tape
    held, spot = kernel.held_quantity[0, 9], history.close[0, t + 1]
    old = options.costs.per_unit(
        tape.aged[0, t + 1, 9:10],
        np.array([spot]),
        np.maximum(tape.strike[0, t, 9:10] - spot, 0),
        history.implied_vol[0, t + 1 : t + 2],
    )
    opening = held * kernel.market.unit_cost[0, t, 9]
    assert kernel.ledger.costs[0] == pytest.approx(opening + held * old[0], rel=1e-12)
