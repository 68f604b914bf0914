"""Every objective against its definition."""

import numpy as np
import pytest
import torch

from agents.pathwise.objectives import Objective
from conf.errors import InputError
from conf.settings import build_settings

EXCESS = torch.from_numpy(0.02 * np.random.default_rng(0).standard_normal((30, 40)) + 0.001)
CASH = torch.full_like(EXCESS, 1.0001)
RETURNS, TOTALS = EXCESS.numpy(), EXCESS.numpy().mean(axis=0)
RATIO = (RETURNS + 1.0001) / 1.0001


def cases():
    worst = np.sort(TOTALS)[:4]
    return {
        "mean_variance": ({"risk_aversion": 3.0}, np.mean(RETURNS - 1.5 * RETURNS**2)),
        "log": ({}, np.mean(np.log(RATIO))),
        "crra": ({"risk_aversion": 3.0}, np.mean((RATIO**-2.0 - 1.0) / -2.0)),
        "cvar": ({"tail": 0.1}, worst.mean()),
        "mean_deviation": ({"multiple": 1.5}, TOTALS.mean() - 1.5 * TOTALS.std()),
    }


@pytest.mark.parametrize("kind", cases())
def test_it_is_what_it_is_called(kind):
    given, expected = cases()[kind]
    objective = build_settings(Objective, {"kind": kind, **given}, "objective")
    excess = EXCESS.clone().requires_grad_()
    value = objective(excess, CASH)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-9)
    (gradient,) = torch.autograd.grad(value, excess)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_a_relative_risk_aversion_of_one_is_the_logarithm():
    crra = build_settings(Objective, {"kind": "crra", "risk_aversion": 1.0}, "objective")
    log = build_settings(Objective, {"kind": "log"}, "objective")
    assert float(crra(EXCESS, CASH)) == float(log(EXCESS, CASH))


def test_over_a_stretch_days_compound():
    given = {"kind": "crra", "risk_aversion": 3.0, "over": "stretch"}
    objective = build_settings(Objective, given, "objective")
    end = RATIO.prod(axis=0)
    assert float(objective(EXCESS, CASH)) == pytest.approx(np.mean((end**-2.0 - 1) / -2.0) / 30)


@pytest.mark.parametrize("kind", ["log", "crra", "mean_deviation"])
def test_ruin_and_a_book_of_cash_have_finite_gradients(kind):
    objective = build_settings(Objective, {"kind": kind}, "objective")
    for excess in (torch.zeros(30, 4), torch.full((30, 4), -2.0)):
        excess = excess.double().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(excess, torch.ones_like(excess)), excess)
        assert torch.isfinite(gradient).all()


def test_an_unknown_objective_is_refused():
    with pytest.raises(InputError, match="objective"):
        build_settings(Objective, {"kind": "hope"}, "objective")
