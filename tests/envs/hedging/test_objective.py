"""Objectives of costs: by hand, and the same as what pathwise training maximises."""

from typing import Any

import numpy as np
import pytest
import torch

from agents.pathwise.objectives import CVaR, Entropic, MeanDeviation, MeanVariance
from envs.hedging.objective import EntropicCost, MeanDeviationCost, QuadraticCost, TailCost

TWINS: dict[str, tuple[Any, Any]] = {
    "mean_deviation": (MeanDeviationCost(multiple=1.5), MeanDeviation(multiple=1.5)),
    "entropic": (EntropicCost(risk_aversion=2.0), Entropic(risk_aversion=2.0)),
    "cvar": (TailCost(tail=0.1), CVaR(tail=0.1)),
    "mean_variance": (QuadraticCost(risk_aversion=3.0), MeanVariance(risk_aversion=3.0)),
}


@pytest.mark.parametrize("name", TWINS)
def test_the_objective_is_minus_the_utility_that_training_maximises(name):
    cost, utility = TWINS[name]
    assert cost.kind == utility.kind == name
    lost = np.random.default_rng(0).normal(0.05, 0.2, (20, 500))
    gained = torch.from_numpy(-lost)
    expected = -20 * float(utility(gained, torch.ones_like(gained)))
    assert cost(lost) == pytest.approx(expected, rel=1e-9)


def test_objectives_of_two_costs_by_hand():
    lost = np.array([[0.5, 0.0], [0.5, 0.5]])  # they cost 1 and .5
    assert MeanDeviationCost(multiple=2.0)(lost) == pytest.approx(0.75 + 2 * 0.25)
    assert EntropicCost(risk_aversion=1.0)(lost) == pytest.approx(
        np.log((np.exp(1.0) + np.exp(0.5)) / 2)
    )
    assert TailCost(tail=0.5)(lost) == 1.0
    assert QuadraticCost(risk_aversion=2.0)(lost) == pytest.approx((1.5 + 0.75) / 2)


def test_an_objective_says_what_it_is():
    titles = {name: cost.title for name, (cost, _) in TWINS.items()}
    assert titles == {
        "mean_deviation": "mean + 1.5 SD",
        "entropic": "entropic cost, risk aversion 2",
        "cvar": "mean of the worst 10 %",
        "mean_variance": "quadratic cost, risk aversion 3",
    }
