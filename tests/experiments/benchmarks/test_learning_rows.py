"""Learning timed until it is worth the static book. Nothing here looks at how long it takes."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from agents.baselines.reference import Cash
from envs.core.batch import Window
from envs.market.sources.index import past_of
from envs.option_portfolio.market import OptionMarketSettings
from experiments.benchmarks.learning import (
    TITLES,
    Learner,
    Reached,
    learning_settings,
    open_learner,
    reached_rows,
    seconds_to_static_book,
)
from experiments.evaluation.skill import skill_worlds


@pytest.fixture(scope="module")
def settings():
    return learning_settings(OptionMarketSettings())


@pytest.fixture(scope="module")
def world(settings):
    """The book of the regimes, which is worth something on few paths too."""
    past = past_of(settings.load(), "train")
    (world,) = skill_worlds(settings, past, ("regime",), paths=4, training_paths=12, sessions=330)
    return world


class Pupil:
    """Holds cash until it has learnt enough, and then the static book."""

    def __init__(self, book, lessons):
        self.book, self.lessons, self.taken = book, lessons, 0

    def learn(self):
        self.taken += 1
        return self.taken < 50

    def quantities(self, books):
        return (self.book if self.taken >= self.lessons else Cash()).quantities(books)


def test_an_agent_learns_until_it_is_worth_the_static_book(world, settings, monkeypatch):
    """Seconds are counted by a clock that ticks once a call: a lesson takes one."""
    ticks = iter(range(1000))
    monkeypatch.setattr("time.process_time", lambda: float(next(ticks)))
    pupil = Pupil(world.static_book, lessons=3)
    reached = seconds_to_static_book(Learner(pupil, pupil.learn, settings), world, 100.0)
    assert (pupil.taken, reached) == (3, Reached(3.0, 1.0, within=True))


@pytest.mark.parametrize(("budget", "seconds"), [(7.0, 7.0), (1000.0, 50.0)])
def test_it_ends_with_the_budget_or_where_nothing_is_left_to_learn(
    world, settings, monkeypatch, budget, seconds
):
    ticks = iter(range(1000))
    monkeypatch.setattr("time.process_time", lambda: float(next(ticks)))
    pupil = Pupil(world.static_book, lessons=math.inf)
    reached = seconds_to_static_book(Learner(pupil, pupil.learn, settings), world, budget)
    assert (reached.seconds, reached.within) == (seconds, False)
    assert reached.ratio == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "stock" else n for n in TITLES],
)
def test_a_lesson_moves_the_weights_of_every_agent(world, settings, name):
    window = Window(world.window.start, world.window.stop)
    learner = open_learner(name, settings, world.market, window)
    policy: Any = learner.policy
    before = [weight.clone() for weight in policy.parameters()]
    assert learner.learn()
    assert any(not torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    assert len(policy.features_extractor.columns) == 8
    assert np.isfinite(world.live(learner.policy).mean).all()


def test_rows_say_what_was_not_reached_and_how_much_faster_ours_are():
    reached = {
        "pathwise": Reached(2.0, 1.2, within=True),
        "ours": Reached(10.0, 1.1, within=True),
        "stock": Reached(120.0, 0.4, within=False),
    }
    rows = {row.name: row for row in reached_rows(reached)}
    assert rows["learning.stock"].what.endswith("not within 120 s")
    assert rows["learning.stock"].details == {"reached": False, "ratio": 0.4}
    assert rows["learning.pathwise_speedup"].value == 60.0
    assert rows["learning.ours_speedup"].value == 12.0
    assert rows["learning.ours_speedup"].what.endswith("at least")
    never = {**reached, "ours": Reached(120.0, 0.9, within=False)}
    assert "learning.ours_speedup" not in {row.name for row in reached_rows(never)}
