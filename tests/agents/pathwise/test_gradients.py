"""Gradients of what is earned, against finite differences and against automatic ones."""

import numpy as np
import pytest
import torch

from agents.pathwise.twin import Twin
from tests.agents.pathwise.test_twin import (
    BOOK_OPTIONS,
    allocation_case,
    drifting,
    option_case,
    starts,
)


def a_day(twin, market, size, scale=0.03):
    path, start = starts(market)
    days = twin.days(path, start, 90)
    return days, torch.from_numpy(drifting(np.random.default_rng(2), size, scale))


def utility(earned):
    """Looks at every output that carries a gradient."""
    return (earned.excess - 5.0 * earned.excess**2).mean() + 1e-6 * earned.equity.sum()


@pytest.mark.parametrize("name", BOOK_OPTIONS)
def test_the_written_out_gradient_is_the_automatic_one(name):
    market, _, twin = option_case(name)
    days, action = a_day(twin, market, 20)
    results = []
    for earn in (twin.earn, lambda *given: Twin.earn(twin, *given)):
        wanted = twin.wanted(action, days).requires_grad_()
        earned = earn(wanted, days)
        (gradient,) = torch.autograd.grad(utility(earned), wanted)
        results.append((*earned, gradient))
    for own, automatic in zip(*results, strict=True):
        assert automatic.abs().max() > 0 or name == "no_costs"
        scale = float(automatic.detach().abs().max())
        torch.testing.assert_close(own, automatic, atol=1e-11 * scale, rtol=1e-9)


def differences(value, action, count=40, step=1e-6):
    """Directional derivatives of `value` in random single entries of the actions, and where."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        at = tuple(int(rng.integers(n)) for n in action.shape)
        up, down = action.clone(), action.clone()
        up[at] += step
        down[at] -= step
        yield at, float((value(up) - value(down)) / (2 * step))


@pytest.mark.parametrize("name", ["default", "notional", "daily"])
def test_option_gradients_agree_with_finite_differences(name):
    market, _, twin = option_case(name)
    days, action = a_day(twin, market, 20)

    def value(given):
        return utility(twin.earn(twin.wanted(given, days), days))

    (gradient,) = torch.autograd.grad(value(action.requires_grad_()), action)
    action = action.detach()
    largest = float(gradient.abs().max())
    for at, slope in differences(value, action):
        assert float(gradient[at]) == pytest.approx(slope, rel=1e-4, abs=1e-5 * largest), at


@pytest.mark.parametrize("threshold", [pytest.param(0.0, marks=pytest.mark.slow), 0.05])
def test_allocation_gradients_agree_with_finite_differences(threshold):
    market, _, twin = allocation_case(threshold)
    days, logits = a_day(twin, market, 5, 0.5)

    def value(given):
        return utility(twin.earn(twin.wanted(torch.softmax(given, dim=-1), days), days))

    (gradient,) = torch.autograd.grad(value(logits.requires_grad_()), logits)
    largest = float(gradient.abs().max())
    for at, slope in differences(value, logits.detach()):
        assert float(gradient[at]) == pytest.approx(slope, rel=1e-4, abs=1e-5 * largest), at


@pytest.mark.parametrize("cash", [3.0, -5.0])
def test_gradients_of_bands_agree_with_finite_differences(cash):
    market, _, twin = allocation_case(0.0, action="band")
    days, logits = a_day(twin, market, 9, 0.3)
    logits[..., 4] += cash

    def value(given):
        return utility(twin.earn(twin.wanted(torch.softmax(given, dim=-1), days), days))

    (gradient,) = torch.autograd.grad(value(logits.requires_grad_()), logits)
    largest = float(gradient.abs().max())
    assert (gradient[..., 5:].abs().amax(dim=(0, 1)) > 1e-3 * largest).all()
    for at, slope in differences(value, logits.detach()):
        assert float(gradient[at]) == pytest.approx(slope, rel=1e-4, abs=1e-5 * largest), at
