"""Where the episodes of each stage begin, and when a stage ends."""

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.logger import Logger

from callbacks.curriculum import CurriculumSettings, Stage, StagedEpisodes, places_of
from conf.errors import InputError
from conf.settings import build_settings
from envs.core.batch import Window
from envs.sb3_vec_env import KernelVecEnv
from tests.markets import kernel_of, options_of, random_walk

DAY = dt.date.fromisoformat
SESSIONS = 10
OPTIONS = options_of(episode={"sessions": SESSIONS})


def paths_of_rising_volatility(count=6, sessions=400):
    """The wildest first."""
    walk = random_walk(sessions, count)
    scale = np.linspace(3.0, 1.0, count)[:, None]
    close = 1000.0 * np.exp(scale * np.log(walk.close / 1000.0))
    return replace(walk, close=close, open=close, high=close * 1.01, low=close * 0.99)


class Model:
    num_timesteps = 0
    logger = Logger(None, [])

    def __init__(self, env):
        self.env = env

    def get_env(self):
        return self.env


class Scored:
    best_score = None


def staged(stages, history, total=100):
    kernel = kernel_of(history, 64, OPTIONS, random_start=True, seed=3)
    window = kernel.window
    places = places_of(stages, kernel.market, window, SESSIONS)
    scored: Any = Scored()
    callback = StagedEpisodes(stages, places, total, scored)
    model: Any = Model(KernelVecEnv(kernel))
    callback.init_callback(model)
    return kernel, callback, model, scored


def begun(kernel):
    """Days and paths of the episodes that begin now."""
    days, paths = [], []
    for _ in range(10):
        kernel.reset()
        days += kernel.market.history.dates[kernel.start].tolist()
        days += kernel.market.history.dates[kernel.end].tolist()
        paths += kernel.path.tolist()
    return min(days), max(days), set(paths)


def to_step(callback, model, step):
    model.num_timesteps = step
    callback.on_rollout_start()
    return callback.stage


def test_episodes_lie_in_the_years_of_their_stage():
    stages = [
        Stage(first=DAY("2001-04-02"), last=DAY("2001-08-31"), until=0.25),
        Stage(first=DAY("2001-04-02"), last=DAY("2001-12-31"), until=0.5),
        Stage(),
    ]
    kernel, callback, model, _ = staged(stages, random_walk(400))
    everything = kernel.market.history.dates[[kernel.market.first_usable, -1]].tolist()
    first, last, _ = begun(kernel)
    assert (first, last) == (DAY("2001-04-02"), DAY("2001-08-31"))
    assert [to_step(callback, model, step) for step in (0, 24, 25)] == [0, 0, 1]
    first, last, _ = begun(kernel)
    assert (first, last) == (DAY("2001-04-02"), DAY("2001-12-31"))
    assert to_step(callback, model, 50) == 2
    assert begun(kernel)[:2] == tuple(everything)


def test_calm_paths_come_first():
    stages = [Stage(calmest=0.33, until=0.2), Stage(calmest=0.5, until=0.4), Stage()]
    kernel, callback, model, _ = staged(stages, paths_of_rising_volatility())
    assert begun(kernel)[2] == {4, 5}
    to_step(callback, model, 20)
    assert begun(kernel)[2] == {3, 4, 5}
    to_step(callback, model, 90)
    assert begun(kernel)[2] == set(range(6))


def test_a_score_ends_a_stage_and_may_end_two_at_once():
    stages = [
        Stage(calmest=0.3, until_score=0.5),
        Stage(calmest=0.6, until=0.9, until_score=0.7),
        Stage(calmest=0.9, until_score=2.0),
        Stage(),
    ]
    _, callback, model, scored = staged(stages, paths_of_rising_volatility())
    assert to_step(callback, model, 60) == 0
    scored.best_score = 0.49
    assert to_step(callback, model, 70) == 0
    scored.best_score = 0.5
    assert to_step(callback, model, 70) == 1
    assert to_step(callback, model, 90) == 2
    _, again, model, scored = staged(stages, paths_of_rising_volatility())
    scored.best_score = 0.7
    assert [to_step(again, model, 10), to_step(again, model, 10)] == [2, 2]


def test_a_restored_stage_is_that_of_new_episodes():
    stages = [Stage(calmest=0.2, until=0.2), Stage(calmest=0.5, until=0.4), Stage()]
    history = paths_of_rising_volatility()
    _, callback, model, _ = staged(stages, history)
    to_step(callback, model, 20)
    kernel, again, model, _ = staged(stages, history)
    again.load_state_dict(callback.state_dict())
    again.init_callback(model)
    assert begun(kernel)[2] == {3, 4, 5}
    with pytest.raises(InputError, match="stage 7"):
        again.load_state_dict({"stage": 7})


def test_without_a_restriction_episodes_are_drawn_as_ever():
    history = random_walk(200, 3)
    plain, opened = (kernel_of(history, 8, OPTIONS, random_start=True, seed=1) for _ in range(2))
    opened.restrict(opened.window, None)
    for kernel in (plain, opened):
        kernel.reset()
    assert plain.start.tolist() == opened.start.tolist()
    assert plain.path.tolist() == opened.path.tolist()


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        (Stage(first=DAY("2015-01-01")), "stage 1 .* has 0 of the training sessions"),
        (Stage(last=DAY("2001-03-20")), "and an episode needs 11"),
        (Stage(calmest=0.5), "toy has one path"),
    ],
)
def test_what_the_data_does_not_cover_is_refused(stage, complaint):
    kernel = kernel_of(random_walk(300), 1, OPTIONS)
    with pytest.raises(InputError, match=complaint):
        places_of([stage], kernel.market, Window(kernel.market.first_usable, 300), SESSIONS)


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ([{}], "give at least 2"),
        ([{}, {}], "a stage before the last one has no end"),
        ([{"until": 0.5}, {"until": 0.8}], "the last stage goes on to the end"),
        ([{"until": 0.5}, {"until": 0.4}, {}], "do not rise from stage to stage"),
        ([{"until": 1.5}, {}], "less than 1"),
        ([{"until": 0.5, "calmest": 0}, {}], "greater than 0"),
        ([{"until": 0.5, "first": 2003}, {}], "write a date as YYYY-MM-DD"),
        ([{"until": 0.5, "first": "2005-01-01", "last": "2004-01-01"}, {}], "must come before"),
        ([{"util": 0.5}, {}], "Did you mean 'until'"),
    ],
)
def test_nonsense_is_refused_in_one_line(stages, complaint):
    with pytest.raises(InputError, match=complaint) as refusal:
        build_settings(CurriculumSettings, {"kind": "stages", "stages": stages}, "curriculum")
    assert "\n" not in str(refusal.value)
