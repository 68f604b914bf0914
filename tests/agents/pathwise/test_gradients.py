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
    """Of each book; looks at every output that carries a gradient."""
    return (earned.excess - 5.0 * earned.excess**2).mean(dim=0) + 1e-6 * earned.equity.sum(dim=0)


@pytest.mark.parametrize("name", BOOK_OPTIONS)
def test_the_written_out_gradient_is_the_automatic_one(name):
    market, _, twin = option_case(name)
    days, action = a_day(twin, market, 20)
    results = []
    for earn in (twin.earn, lambda *given: Twin.earn(twin, *given)):
        wanted = twin.wanted(action, days).requires_grad_()
        earned = earn(wanted, days)
        (gradient,) = torch.autograd.grad(utility(earned).sum(), wanted)
        results.append((*earned, gradient))
    for own, automatic in zip(*results, strict=True):
        assert automatic.abs().max() > 0 or name == "no_costs"
        scale = float(automatic.detach().abs().max())
        torch.testing.assert_close(own, automatic, atol=1e-11 * scale, rtol=1e-9)


def check_gradient(twin, days, actions, asked, rounds=5, step=1e-6):
    """Finite differences in random single entries, one of every book at once; the gradient."""

    def value(given):
        return utility(twin.earn(twin.wanted(asked(given), days), days))

    actions.requires_grad_()
    (gradient,) = torch.autograd.grad(value(actions).sum(), actions)
    actions, largest = actions.detach(), float(gradient.abs().max())
    rng, (length, books, size) = np.random.default_rng(0), actions.shape
    for _ in range(rounds):
        at = (rng.integers(length, size=books), np.arange(books), rng.integers(size, size=books))
        up, down = actions.clone(), actions.clone()
        up[at] += step
        down[at] -= step
        slope = (value(up) - value(down)) / (2 * step)
        torch.testing.assert_close(gradient[at], slope, rtol=1e-4, atol=1e-5 * largest)
    return gradient


def as_weights(logits):
    return torch.softmax(logits, dim=-1)


@pytest.mark.parametrize("name", ["default", "notional", "daily"])
def test_option_gradients_agree_with_finite_differences(name):
    market, _, twin = option_case(name)
    days, action = a_day(twin, market, 20)
    check_gradient(twin, days, action, lambda asked: asked)


@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_allocation_gradients_agree_with_finite_differences(threshold):
    market, _, twin = allocation_case(threshold)
    days, action = a_day(twin, market, 5, 0.5)
    check_gradient(twin, days, action, as_weights)


@pytest.mark.parametrize("cash", [3.0, -5.0])
def test_gradients_of_bands_agree_with_finite_differences(cash):
    market, _, twin = allocation_case(0.0, action="band")
    days, logits = a_day(twin, market, 9, 0.3)
    logits[..., 4] += cash
    gradient = check_gradient(twin, days, logits, as_weights)
    assert (gradient[..., 5:].abs().amax(dim=(0, 1)) > 1e-3 * gradient.abs().max()).all()
