"""Which policy is kept: the best on the validation split, never one that was ruined."""

import json

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.logger import Logger

from agents.persistence.policy_file import load_policy
from agents.ppo.policies import MaskedMlpLstmPolicy
from callbacks.criterion import Criterion
from callbacks.validation import Validation


class Scores:
    """Hands out prepared scores, one a call."""

    def __init__(self, *scores):
        self.left = list(scores)

    def __call__(self, policy):
        value = self.left.pop(0)
        return value if isinstance(value, dict) else {"sharpe": value, "ruined": 0.0}


@pytest.fixture
def model():
    low, high = np.full(3, -1, np.float32), np.full(3, 1, np.float32)

    class Model:
        num_timesteps = 0
        policy = MaskedMlpLstmPolicy(
            spaces.Box(low, high), spaces.Box(low[:2], high[:2]), lambda _: 1e-3, lstm_hidden_size=4
        )
        logger = Logger(None, [])

        def get_env(self):
            return None

    return Model()


def validating(model, tmp_path, validation, train, patience=None, **criterion):
    scores = Scores(*validation), Scores(*train)
    callback = Validation(
        100, tmp_path / "best", *scores, {"run": "toy"}, patience, Criterion(**criterion)
    )
    callback.model = model
    return callback


def run_to(callback, model, *steps):
    for step in steps:
        model.num_timesteps = step
        callback.on_rollout_start()


def test_the_best_on_validation_is_kept_whatever_training_says(model, tmp_path):
    callback = validating(model, tmp_path, [0.1, 0.7, 0.4], [0.2, 0.3, 5.0])
    run_to(callback, model, 0, 100, 150, 210, 320)
    assert (callback.best_value, callback.best_step) == (0.7, 210)
    assert load_policy(tmp_path / "best").metadata == {"run": "toy", "step": 210}
    kept = json.loads((tmp_path / "best" / "validation.json").read_text())
    assert kept == {"step": 210, "score": 0.7, "metrics": {"sharpe": 0.7, "ruined": 0.0}}


def test_what_is_judged_by_decides_and_is_named(model, tmp_path, caplog):
    cost = {"metric": "cost", "title": "mean + 1.5 SD", "unit": " %", "lower_is_better": True}
    costs = [{"cost": value, "sharpe": 10.0 * value} for value in (130.0, 116.04, 121.0)]
    callback = validating(model, tmp_path, costs, [{"cost": 115.0}] * 3, **cost)
    with caplog.at_level("INFO"):
        run_to(callback, model, 100, 200, 300)
    assert (callback.best_value, callback.best_step) == (116.04, 200)
    assert caplog.messages[1:] == [
        "step 200: mean + 1.5 SD 116.04 % on validation, 115.00 % on the training years, "
        "best so far",
        "step 300: mean + 1.5 SD 121.00 % on validation, 115.00 % on the training years",
    ]


def test_a_score_is_said_before_its_parts(model, tmp_path, caplog):
    """A better Sharpe ratio may be the worse score."""
    scores = [
        {"sharpe": sharpe, "worlds_sharpe": worlds, "score": (sharpe + worlds) / 2}
        for sharpe, worlds in ((0.8, 0.5), (0.9, 0.1))
    ]
    callback = validating(model, tmp_path, scores, [1.0, 1.1])
    with caplog.at_level("INFO"):
        run_to(callback, model, 100, 200)
    assert caplog.messages == [
        "step 100: score 0.65 (Sharpe 0.80 on validation, 0.50 in unseen worlds; "
        "1.00 on the training years), best so far",
        "step 200: score 0.50 (Sharpe 0.90 on validation, 0.10 in unseen worlds; "
        "1.10 on the training years)",
    ]
    assert callback.best_shown() == "score 0.65 (validation Sharpe 0.80)"


def test_a_ruined_policy_is_never_the_best(model, tmp_path):
    ruined = {"sharpe": 3.0, "ruined": 0.01}
    callback = validating(model, tmp_path, [ruined, -0.5, np.nan], [1.0, 1.0, 1.0])
    run_to(callback, model, 100)
    assert (callback.best_value, callback.best_step) == (None, None)
    assert not (tmp_path / "best").exists()
    run_to(callback, model, 200, 300)
    assert (callback.best_value, callback.best_step) == (-0.5, 200)


def test_its_state_decides_what_is_kept_after_a_resume(model, tmp_path):
    first = validating(model, tmp_path, [0.1, 0.7], [1.0, 1.0])
    run_to(first, model, 100, 200)
    state = json.loads(json.dumps(first.state_dict()))
    resumed = validating(model, tmp_path, [0.5, 0.8], [1.0, 1.0])
    resumed.load_state_dict(state)
    run_to(resumed, model, 200, 300)  # 200 was scored already
    assert (resumed.best_value, resumed.best_step) == (0.7, 200)
    run_to(resumed, model, 400)
    assert (resumed.best_value, resumed.best_step) == (0.8, 400)


def test_patience_counts_the_scores_since_the_best_over_a_resume(model, tmp_path):
    callback = validating(model, tmp_path, [0.5, 0.1, 0.2, 0.3], [1.0] * 4, patience=3)
    run_to(callback, model, 100, 200, 300)
    assert callback._on_step()
    resumed = validating(model, tmp_path, [0.3], [1.0], patience=3)
    resumed.load_state_dict(callback.state_dict())
    run_to(resumed, model, 400)
    assert not resumed._on_step()


def test_the_last_policy_is_scored_once(model, tmp_path):
    callback = validating(model, tmp_path, [0.5, 0.6], [1.0, 1.0])
    run_to(callback, model, 100, 150)
    callback.finish()
    callback.finish()
    assert (callback.best_value, callback.best_step) == (0.6, 150)
