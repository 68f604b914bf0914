import numpy as np
import pytest

from conf.errors import InputError
from envs.option_portfolio.extra_blocks import EXTRA_BLOCKS
from envs.options.surface import VixSurface
from tests.markets import (
    history_of,
    kernel_of,
    market_of,
    options_of,
    random_walk,
    wandering_vol,
)


def wandering(sessions=330):
    return random_walk(sessions, seed=3, implied_vol=wandering_vol(sessions))


def test_the_layout_is_the_documented_one():
    features = market_of(wandering(120)).observed.features
    assert len(features) == 213
    blocks = [feature.block for feature in features]
    assert blocks == ["market"] * 7 + ["option"] * 160 + ["portfolio"] * 46
    assert features[7].name == "30D_Call_0.90.price"
    assert features[166].name == "60D_Put_1.10.time_value"
    assert [f.name for f in features[167:169]] == ["cash", "equity"]
    assert len({feature.name for feature in features}) == 213


def test_option_features_by_hand():
    market = market_of(wandering(120), surface=VixSurface())
    t, slot = 100, 13
    spot, tape = market.history.close[0, t], market.tape
    by_name = {f.name: (i, f) for i, f in enumerate(market.observed.features)}
    strike, mark = tape.strike[0, t, slot], tape.mark[0, t, slot]
    gap = (spot - strike) if tape.is_call[slot] else (strike - spot)
    raw = {
        "price": mark / spot,
        "moneyness": strike / spot,
        "time": tape.days_to_expiry[t, slot] / 365,
        "delta": tape.delta[0, t, slot],
        "gamma": tape.gamma[0, t, slot] * spot / 100,
        "theta": tape.theta[0, t, slot] / spot,
        "intrinsic": max(gap, 0) / spot,
        "time_value": (mark - max(gap, 0)) / spot,
    }
    for name, value in raw.items():
        index, feature = by_name[f"{tape.slots[slot].name}.{name}"]
        expected = np.clip((value - feature.center) / feature.scale, feature.low, feature.high)
        assert market.observed.before[0, t, index] == pytest.approx(expected, rel=1e-6), name


def test_portfolio_features_by_hand():
    kernel = kernel_of(wandering(120), surface=VixSurface())
    kernel.reset()
    rng = np.random.default_rng(0)
    returns, equity = [], [100_000.0]
    for _ in range(12):
        growth = kernel.market.cash_return[kernel.session[0]]
        obs = kernel.step(rng.uniform(-1, 1, (1, 20))).observation[0]
        equity.append(kernel.ledger.equity[0])
        returns.append(equity[-1] / equity[-2] - 1 - growth)
    t, ledger = int(kernel.session[0]), kernel.ledger
    value = ledger.quantity[0] * kernel.market.tape.mark[0, t]
    weights = np.abs(value) / np.abs(value).sum()
    block = obs[167:]
    close = kernel.market.history.close[0]
    assert obs[0] == pytest.approx(np.log(close[t] / close[kernel.start[0]]) / 0.25, rel=1e-5)
    assert block[0] == pytest.approx(ledger.cash[0] / equity[-1], rel=1e-5)
    assert block[1] == pytest.approx(equity[-1] / 1e5 - 1, rel=1e-4)
    np.testing.assert_allclose(block[2:22], ledger.quantity[0] * close[t] / equity[-1], rtol=1e-5)
    np.testing.assert_allclose(block[22:42], value / equity[-1] / 0.2, rtol=1e-5)
    assert block[42] == pytest.approx(np.abs(value).sum() / equity[-1], rel=1e-5)
    assert block[43] == pytest.approx(1 - (weights**2).sum(), rel=1e-5)
    assert block[44] == pytest.approx(1 - equity[-1] / max(equity), abs=1e-6)
    sharpe = np.mean(returns) / np.std(returns, ddof=1) * np.sqrt(252)
    assert block[45] == pytest.approx(np.clip(sharpe / 5, -2, 2), rel=1e-2)


def test_rolling_sharpe_uses_the_last_sixty_sessions():
    kernel = kernel_of(wandering(250), surface=VixSurface())
    kernel.reset()
    rng = np.random.default_rng(1)
    excess, equity = [], 100_000.0
    for _ in range(150):
        growth = kernel.market.cash_return[kernel.session[0]]
        kernel.step(rng.uniform(-0.3, 0.3, (1, 20)))
        excess.append(kernel.ledger.equity[0] / equity - 1 - growth)
        equity = kernel.ledger.equity[0]
    last = np.array(excess[-60:])
    expected = last.mean() / (last.std(ddof=1) + 1e-6) * np.sqrt(252)
    assert kernel.statistics.rolling_sharpe()[0] == pytest.approx(expected, rel=1e-6)
    whole = np.array(excess)
    assert kernel.statistics.episode_sharpe()[0] == pytest.approx(
        whole.mean() / (whole.std() + 1e-6), rel=1e-6
    )


def test_observations_stay_inside_the_space():
    wild = 1000 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.12, 200)))
    kernel = kernel_of(history_of(wild, vol=0.9), num_envs=3, surface=VixSurface())
    obs = kernel.reset()
    rng = np.random.default_rng(0)
    for _ in range(140):
        assert (kernel.observation_space.low <= obs).all()
        assert (obs <= kernel.observation_space.high).all()
        assert obs.dtype == np.float32
        obs = kernel.step(rng.uniform(-1, 1, (3, 20))).observation


def test_extra_blocks_come_after_the_standard_features():
    history = wandering()
    ratio = np.abs(np.sin(np.arange(330)))[None]
    with_column = history_of(history.close, history.implied_vol, extras={"put_call": ratio})
    names = (*EXTRA_BLOCKS, "extra:put_call")
    options = options_of(observation={"extra_blocks": list(names)})
    observed = market_of(with_column, options, VixSurface()).observed
    assert [f.name for f in observed.features[213:]] == [
        "vix_level",
        "vix_rank",
        "vix_change",
        "term_slope",
        "skew",
        "rate",
        "dividend_yield",
        "days_to_expiry_friday",
        "days_to_payrolls",
        "days_to_fomc",
        "days_to_cpi",
        "put_call",
    ]
    kernel = kernel_of(with_column, options=options, surface=VixSurface())
    obs = kernel.reset()
    assert obs.shape == (1, 225)
    t = int(kernel.session[0])
    assert obs[0, 213] == pytest.approx(with_column.implied_vol[0, t] / 0.2, rel=1e-6)


def test_calendar_block_counts_the_days_to_the_third_and_first_friday():
    options = options_of(observation={"extra_blocks": ["calendar"]})
    market = market_of(history_of(np.full(200, 1000.0)), options)
    days = {
        str(d): v for d, v in zip(market.history.dates, market.observed.after[0] * 30, strict=True)
    }
    np.testing.assert_allclose(days["2001-03-15"], [1, 22], rtol=1e-6)  # 16 March, 6 April 2001
    np.testing.assert_allclose(days["2001-04-06"], [14, 0], atol=1e-5)
    np.testing.assert_allclose(days["2001-04-20"], [0, 14], atol=1e-5)


def test_unknown_blocks_and_columns_are_refused():
    history = wandering(120)
    for block, message in (("vixx", "Known blocks"), ("extra:pcr", "no such column")):
        with pytest.raises(InputError, match=message):
            market_of(history, options_of(observation={"extra_blocks": [block]}))


def test_a_history_shorter_than_the_warm_up_is_refused():
    with pytest.raises(InputError, match="longer history"):
        market_of(history_of(np.full(40, 1000.0)))
