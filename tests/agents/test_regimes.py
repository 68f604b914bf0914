"""Specialists by regime: filtered probabilities, who acts, and the policy file."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from agents.ensemble import merge_policies
from agents.persistence.policy_file import DESCRIPTION, _checksum, load_policy, save_policy
from agents.ppo.policies import MaskedMlpLstmPolicy
from agents.ppo.simplex_policies import SharedMlpPolicy, SimplexLstmPolicy, SimplexPolicy
from agents.regimes import RegimeFilter, RegimePolicy, fit_filter
from conf.errors import InputError
from envs.allocation.simplex import Simplex

OBS, ACTION, COLUMN = spaces.Box(-np.inf, np.inf, (5,)), spaces.Box(-1e3, 1e3, (3,)), 2
REGIMES = RegimeFilter(column=COLUMN, mean=(0.1, -0.2), variance=(0.5, 4.0), stay=(0.97, 0.9))


def switching(sessions, rng, scale=1.0):
    """Observed features (T, N) of two paths whose regime changes every 40 sessions."""
    storm = (np.arange(sessions)[:, None] // 40 + np.arange(2)) % 2
    return scale * rng.normal(size=(sessions, 2)) * np.where(storm, 2.0, 0.7)


def make(policy, seed, action=ACTION, obs=OBS):
    torch.manual_seed(seed)
    lstm = {"lstm_hidden_size": 6} if issubclass(policy, MaskedMlpLstmPolicy) else {}
    made = policy(obs, action, lambda _: 1e-3, net_arch=[4], **lstm)
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.6 * torch.randn_like(weight)
    return made


MEMBERS = {
    "recurrent": lambda: [make(MaskedMlpLstmPolicy, seed) for seed in (0, 1)],
    "of two architectures": lambda: [make(MaskedMlpLstmPolicy, 0), make(SharedMlpPolicy, 1)],
    "on the simplex": lambda: [
        make(SimplexLstmPolicy, 0, Simplex(3)),
        make(SimplexPolicy, 1, Simplex(3)),
    ],
}


def observations(sessions=160):
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(sessions, 2, 5))
    seen[:, :, COLUMN] = switching(sessions, rng)
    return seen.astype(np.float32)


def walk(policy, seen, state=None):
    """Deterministic actions (T, N, A) and states; the second path begins anew at session 100."""
    actions, states = [], []
    for session, observation in enumerate(seen):
        starts = np.array([session == 0 and state is None, session in (0, 100)])
        action, state = policy.predict(observation, state, starts, deterministic=True)
        actions.append(action)
        states.append(state)
    return np.stack(actions), states


def test_probabilities_are_those_of_hamiltons_filter():
    observed = switching(400, np.random.default_rng(1)).astype(np.float64)
    filtered, before = [], REGIMES.shares[None].repeat(2, axis=0)
    for session in observed:
        before = REGIMES.update(before, session)
        filtered.append(before)
    probabilities = np.stack(filtered)
    stay, enter = REGIMES.stay[0], 1.0 - REGIMES.stay[1]
    given = [stay, enter, *REGIMES.mean, *REGIMES.variance]
    for path in range(2):
        model = MarkovRegression(observed[:, path], k_regimes=2, switching_variance=True)
        expected = model.filter(given).filtered_marginal_probabilities
        np.testing.assert_allclose(probabilities[:, path], expected, rtol=0.0, atol=1e-12)
        plain = plain_filter(observed[:, path])
        np.testing.assert_allclose(probabilities[:, path, 1], plain, rtol=0.0, atol=1e-12)
    assert (probabilities.max(axis=-1) < 0.9).mean() > 0.05


def plain_filter(observed):
    """Probabilities of the second regime by Bayes' rule, one number at a time."""
    (stay, remain), filtered = REGIMES.stay, []
    storm = (1 - stay) / (1 - stay + 1 - remain)
    for value in observed:
        storm = (1 - storm) * (1 - stay) + storm * remain
        in_calm, in_storm = (
            math.exp(-((value - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
            for mean, variance in zip(REGIMES.mean, REGIMES.variance, strict=True)
        )
        storm = storm * in_storm / (storm * in_storm + (1 - storm) * in_calm)
        filtered.append(storm)
    return filtered


def test_a_value_that_no_regime_expects_still_gives_probabilities():
    update = REGIMES.update(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1e6, -1e6]))
    assert np.array_equal(update, [[0.0, 1.0], [0.0, 1.0]])


@pytest.mark.parametrize("name", MEMBERS)
def test_the_member_of_the_likelier_regime_acts_as_it_would_alone(name):
    members, seen = MEMBERS[name](), observations()
    actions, states = walk(RegimePolicy(members, REGIMES, "hard"), seen)
    calm, turbulent = (walk(member, seen)[0] for member in members)
    probabilities = np.stack([state[0] for state in states])
    plain = plain_filter(seen[:, 0, COLUMN].tolist())
    np.testing.assert_allclose(probabilities[:, 0, 1], plain, rtol=0.0, atol=1e-12)
    likely = probabilities[..., 0] >= 0.5
    assert 0.2 < likely.mean() < 0.8
    # A cold start at a switch would show: each has seen all sessions before.
    assert np.array_equal(actions, np.where(likely[..., None], calm, turbulent))
    assert np.abs(calm - turbulent).max() > 0.1


@pytest.mark.parametrize("name", MEMBERS)
def test_soft_gating_weighs_by_the_probabilities(name):
    members, seen = MEMBERS[name](), observations()
    actions, states = walk(RegimePolicy(members, REGIMES, "soft"), seen)
    calm, turbulent = (walk(member, seen)[0] for member in members)
    weight = np.stack([state[0][:, :1] for state in states])
    expected = weight * calm + (1.0 - weight) * turbulent
    np.testing.assert_allclose(actions, expected, rtol=1e-6, atol=1e-6)
    assert actions.dtype == calm.dtype
    pure = (weight == 0.0) | (weight == 1.0)
    assert np.array_equal(
        actions[pure[..., 0]], np.where(weight < 0.5, turbulent, calm)[pure[..., 0]]
    )


def test_an_episode_begins_with_the_long_run_shares():
    policy = RegimePolicy(MEMBERS["recurrent"](), REGIMES, "hard")
    seen = observations(101)
    probabilities = walk(policy, seen)[1][100][0]
    fresh = REGIMES.update(REGIMES.shares[None], seen[100, 1:, COLUMN].astype(np.float64))
    assert np.array_equal(probabilities[1:], fresh)
    first = policy.predict(seen[100, 1:], deterministic=True)[1][0]
    assert np.array_equal(first, fresh)


@pytest.mark.parametrize("gating", ["hard", "soft"])
def test_a_loaded_policy_goes_on_from_the_saved_ones_state(tmp_path, gating):
    policy, seen = RegimePolicy(MEMBERS["of two architectures"](), REGIMES, gating), observations()
    loaded = load_policy(save_policy(policy, tmp_path, {"step": 1})).policy
    actions, states = walk(policy, seen)
    again, _ = walk(loaded, seen)
    assert np.array_equal(again, actions)
    rest, _ = walk(loaded, seen[120:], states[119])
    assert np.array_equal(rest[:, 0], actions[120:, 0])
    saved = save_policy(loaded, tmp_path / "again", {"step": 1})
    assert (saved / DESCRIPTION).read_bytes() == (tmp_path / DESCRIPTION).read_bytes()


FORGERIES: dict[str, Any] = {
    "a class for a gating": {"gating": "os.system"},
    "a third member": lambda plain: {"members": plain["members"] * 2},
    "a merge inside": lambda plain: {"members": [plain, plain]},
    "a member of another width": lambda plain: {
        "members": [plain["members"][0] | {"lstm_hidden_size": 4096}, plain["members"][1]]
    },
    "members of two action spaces": lambda plain: {
        "members": [plain["members"][0], plain["members"][1] | {"action_high": [1.0] * 3}]
    },
    "a column beyond": {"column": 5},
    "no variance": {"variance": [0.0, 1.0]},
    "a regime without end": {"stay": [1.0, 0.9]},
    "an endless mean": {"mean": [1e300, 0.0]},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_an_impossible_description_is_one_error(tmp_path, name):
    save_policy(RegimePolicy(MEMBERS["recurrent"](), REGIMES, "hard"), tmp_path, {})
    description = json.loads((tmp_path / DESCRIPTION).read_text())
    plain, change = description["architecture"], FORGERIES[name]
    change = change(plain) if callable(change) else change
    of_filter = change.keys() & plain["regimes"].keys()
    description["architecture"] = plain | (
        {"regimes": plain["regimes"] | change} if of_filter else change
    )
    description["checksum"] = _checksum(description)
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(InputError) as refusal:
        load_policy(tmp_path)
    assert "\n" not in str(refusal.value)


def test_only_policies_of_one_environment_are_specialists_of_it():
    one = make(MaskedMlpLstmPolicy, 0)
    wide = make(MaskedMlpLstmPolicy, 0, obs=spaces.Box(-np.inf, np.inf, (6,)))
    with pytest.raises(InputError, match="differ in their observation space"):
        RegimePolicy([one, wide], REGIMES, "hard")
    with pytest.raises(InputError, match="differ in their action space"):
        RegimePolicy([one, make(SimplexPolicy, 0, Simplex(3))], REGIMES, "hard")
    merged = RegimePolicy([one, one], REGIMES, "hard")
    with pytest.raises(InputError, match="is a merge by regime itself"):
        RegimePolicy([one, merged], REGIMES, "hard")
    with pytest.raises(InputError, match="kind regimes with gated actions are not merged exactly"):
        merge_policies([merged, merged])


def test_regimes_are_fitted_and_named_in_order():
    rng = np.random.default_rng(2)
    storm = np.arange(4000) // 100 % 4 == 3
    returns = np.where(storm, 0.2, -0.1) + rng.normal(size=4000) * np.where(storm, 2.0, 0.7)
    by_variance = fit_filter("volatility", 3, returns)
    by_mean = fit_filter("trend", 3, -returns)
    np.testing.assert_allclose(by_variance.variance, [0.49, 4.0], rtol=0.1)
    np.testing.assert_allclose(by_variance.mean, [-0.1, 0.2], atol=0.15)
    np.testing.assert_allclose(by_variance.stay, [1 - 1 / 300, 0.99], atol=0.004)
    np.testing.assert_allclose(by_variance.shares, [0.75, 0.25], atol=0.05)
    # Upside down the wild regime is the falling one, and comes first.
    assert by_mean.variance == by_variance.variance[::-1]
    assert by_mean.stay == by_variance.stay[::-1]
    with pytest.raises(InputError, match="never differ"):
        fit_filter("trend", 3, np.ones(100))
