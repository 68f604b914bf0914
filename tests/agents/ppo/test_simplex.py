"""Densities, entropies and samples of the distributions on the simplex."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch
from stable_baselines3.common.distributions import Distribution

from agents.ppo.simplex import DISTRIBUTIONS, FLOOR, LEAST_CONCENTRATION, make_simplex_distribution
from conf.errors import InputError

NAMES = sorted(DISTRIBUTIONS)
# Head and spread by distribution and number of weights. Quadrature needs densities without poles:
# concentrations above one, and Gaussians that are no narrower than the grid.
SHAPES = {
    ("dirichlet", 2): ([0.4, -0.3], [math.log(5.0)]),
    ("dirichlet", 3): ([0.5, -0.2, 0.1], [math.log(7.0)]),
    ("softmax_gaussian", 2): ([0.7], [-0.4]),
    ("softmax_gaussian", 3): ([0.6, -0.5], [-0.3, 0.1]),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def distribution_of(name, head, spread, dtype=torch.float64):
    """The distribution with one state's parameters, or with many of them (N, head_size)."""
    head, spread = torch.as_tensor(head, dtype=dtype), torch.as_tensor(spread, dtype=dtype)
    head = head if head.dim() == 2 else head[None]
    weights = head.shape[1] + (name == "softmax_gaussian")
    return make_simplex_distribution(name, weights).proba_distribution(head, spread)


def concentration(head, spread):
    return LEAST_CONCENTRATION + math.exp(spread[0]) * scipy.special.softmax(head)


def many(name, head, spread, count, dtype=torch.float64):
    return distribution_of(name, np.tile(head, (count, 1)), spread, dtype)


def triangle(size):
    """Weights (size^2, 3) and quadrature weights over the simplex of three, by Gauss-Legendre.

    The square is folded onto the triangle: w1 = x, w2 = (1 - x) y, dw1 dw2 = (1 - x) dx dy.
    """
    nodes, shares = np.polynomial.legendre.leggauss(size)
    nodes, shares = (nodes + 1) / 2, shares / 2
    x, y = np.meshgrid(nodes, nodes)
    weights = np.stack([x, (1 - x) * y, (1 - x) * (1 - y)], axis=-1).reshape(-1, 3)
    return weights, (np.outer(shares, shares) * (1 - x)).ravel()


def density(name, head, spread, weights):
    log_prob = many(name, head, spread, len(weights)).log_prob(torch.from_numpy(weights))
    return log_prob.exp().numpy()


@pytest.mark.parametrize("name", NAMES)
def test_the_density_over_two_weights_integrates_to_one(name):
    head, spread = SHAPES[name, 2]

    def at(weight):
        return density(name, head, spread, np.array([[weight, 1 - weight]]))[0]

    total, error = scipy.integrate.quad(at, 0, 1, epsabs=1e-10)
    assert error < 1e-8
    assert total == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_the_density_over_three_weights_integrates_to_one_with_the_mean_of_its_samples(name):
    head, spread = SHAPES[name, 3]
    weights, shares = triangle(200)
    mass = shares * density(name, head, spread, weights)
    assert mass.sum() == pytest.approx(1.0, abs=1e-6)
    drawn = many(name, head, spread, 200_000).sample().numpy()
    for power in (1, 2):
        expected = (mass[:, None] * weights**power).sum(axis=0)
        error = (drawn**power).std(axis=0) / math.sqrt(len(drawn))
        assert np.all(np.abs((drawn**power).mean(axis=0) - expected) < 5 * error)


@pytest.mark.parametrize("num_weights", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_the_entropy_is_minus_the_mean_log_density(name, num_weights):
    head, spread = SHAPES[name, num_weights]
    if num_weights == 3:
        weights, shares = triangle(200)
    else:
        nodes, shares = np.polynomial.legendre.leggauss(400)
        weights, shares = np.stack([nodes + 1, 1 - nodes], axis=1) / 2, shares / 2
    p = density(name, head, spread, weights)
    expected = -(shares * scipy.special.xlogy(p, p)).sum()
    entropy = many(name, head, spread, 100_000).entropy().numpy()
    error = max(entropy.std() / math.sqrt(len(entropy)), 1e-9)
    assert entropy.mean() == pytest.approx(expected, abs=5 * error + 1e-6)


def test_dirichlet_agrees_with_scipy_and_torch():
    head, spread = [0.3, -1.0, 2.0, 0.0], [math.log(12.0)]
    alpha = concentration(head, spread)
    dist = distribution_of("dirichlet", head, spread)
    weights = np.random.default_rng(0).dirichlet(alpha, 20)
    theirs = torch.distributions.Dirichlet(torch.from_numpy(alpha))
    for row in weights:
        log_prob = float(dist.log_prob(torch.from_numpy(row[None])))
        assert log_prob == pytest.approx(scipy.stats.dirichlet.logpdf(row, alpha), rel=1e-10)
        assert log_prob == pytest.approx(float(theirs.log_prob(torch.from_numpy(row))), rel=1e-10)
    assert float(dist.entropy()) == pytest.approx(scipy.stats.dirichlet.entropy(alpha), rel=1e-10)
    assert float(dist.entropy()) == pytest.approx(float(theirs.entropy()), rel=1e-10)
    np.testing.assert_allclose(dist.mode().numpy()[0], alpha / alpha.sum(), rtol=1e-12)


def test_dirichlet_samples_have_the_moments_of_the_literature():
    """Kotz, Balakrishnan and Johnson (2000), chapter 49: variance m (1 - m) / (total + 1)."""
    head, spread = [0.3, -1.0, 2.0], [math.log(6.0)]
    alpha = concentration(head, spread)
    drawn = many("dirichlet", head, spread, 200_000).sample().numpy()
    mean = alpha / alpha.sum()
    variance = mean * (1 - mean) / (alpha.sum() + 1)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * math.sqrt(0.25 / len(drawn)))
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.02)


def test_logistic_normal_agrees_with_another_change_of_variables():
    """The Jacobian by automatic differentiation of softmax, the Gaussian by scipy."""
    head, spread = [0.4, -1.2, 0.1], [-0.5, 0.2, -1.0]
    dist = distribution_of("softmax_gaussian", head, spread)

    def weights_of(logits):
        return torch.softmax(torch.cat([logits, torch.zeros(1, dtype=logits.dtype)]), 0)[:-1]

    for logits in np.random.default_rng(1).normal(head, np.exp(spread), (20, 3)):
        first = weights_of(torch.from_numpy(logits))
        weights = torch.cat([first, 1 - first.sum(0, keepdim=True)])
        jacobian = torch.autograd.functional.jacobian(weights_of, torch.from_numpy(logits))
        gaussian = np.sum(scipy.stats.norm.logpdf(logits, head, np.exp(spread)))
        expected = gaussian - float(torch.logdet(jacobian))
        assert float(dist.log_prob(weights[None])) == pytest.approx(expected, rel=1e-9)


def test_logistic_normal_samples_have_the_gaussians_moments_as_log_ratios():
    head, spread = [0.4, -1.2, 0.1], [-0.5, 0.2, -1.0]
    drawn = many("softmax_gaussian", head, spread, 200_000).sample().numpy()
    ratios = np.log(drawn[:, :-1] / drawn[:, -1:])
    np.testing.assert_allclose(ratios.mean(axis=0), head, atol=0.02)
    np.testing.assert_allclose(np.cov(ratios.T), np.diag(np.exp(2 * np.array(spread))), atol=0.02)
    median = many("softmax_gaussian", head, spread, 1).mode().numpy()[0]
    np.testing.assert_allclose(np.log(median[:-1] / median[-1]), head, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name):
    dist = make_simplex_distribution(name, 4)
    generator = torch.Generator().manual_seed(3)
    head = torch.randn(3, dist.head_size, generator=generator, dtype=torch.float64)
    spread = dist.initial_spread(-0.7, 9.0).double()
    actions = torch.softmax(2 * torch.randn(3, 4, generator=generator, dtype=torch.float64), -1)
    inputs = (head.requires_grad_(), spread.requires_grad_())

    def log_prob(head, spread):
        return dist.proba_distribution(head, spread).log_prob(actions)

    def entropy(head, spread):
        torch.manual_seed(7)
        return dist.proba_distribution(head, spread).entropy()

    for function in (log_prob, entropy):
        assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-6, rtol=1e-6)


EXTREMES = {
    "dirichlet": [
        ([0.0] * 11, math.log(1e6)),
        ([0.0] * 11, math.log(1e-3)),
        ([80.0] + [-80.0] * 10, math.log(500.0)),
        ([0.0] * 10 + [30.0], math.log(0.1)),
    ],
    "softmax_gaussian": [
        ([0.0] * 10, -10.0),
        ([0.0] * 10, 3.0),
        ([100.0] + [-100.0] * 9, 0.0),
        ([-300.0] * 10, 2.0),
        ([300.0] * 10, 2.0),
    ],
}


@pytest.mark.parametrize(
    ("name", "head", "spread"), [(name, *case) for name in NAMES for case in EXTREMES[name]]
)
def test_extreme_parameters_give_sound_samples_and_finite_gradients(name, head, spread):
    count = 10 if name == "softmax_gaussian" else 1
    head = torch.tensor([head] * 500, dtype=torch.float32, requires_grad=True)
    spread = torch.full((count,), spread, dtype=torch.float32, requires_grad=True)
    dist = make_simplex_distribution(name, 11).proba_distribution(head, spread)
    for weights in (dist.sample(), dist.mode()):
        assert weights.dtype == torch.float32
        assert float(weights.detach().min()) > 0
        assert float(weights.detach().max()) <= 1
        sums = weights.detach().double().sum(dim=1)
        assert float((sums - 1).abs().max()) < 1e-6
        log_prob = dist.log_prob(weights.detach())
        assert torch.isfinite(log_prob).all()
        for value in (log_prob, dist.entropy()):
            gradients = torch.autograd.grad(value.sum(), (head, spread), retain_graph=True)
            assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_the_log_density_is_finite_on_the_border(name):
    head, spread = SHAPES[name, 3]
    corners = torch.cat([torch.eye(3), torch.tensor([[0.5, 0.5, 0.0]])]).double()
    dist = many(name, head, spread, 4)
    assert torch.isfinite(dist.log_prob(corners)).all()


@pytest.mark.parametrize("name", NAMES)
def test_padding_rows_have_log_density_zero_and_no_gradient(name):
    given, spread = SHAPES[name, 3]
    head = torch.tensor([given] * 2, dtype=torch.float64, requires_grad=True)
    dist = make_simplex_distribution(name, 3).proba_distribution(head, torch.tensor(spread))
    log_prob = dist.log_prob(torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.3, 0.5]]))
    assert log_prob[0] == 0.0
    assert log_prob[1] != 0.0
    (gradient,) = torch.autograd.grad(log_prob.exp().sum(), head)
    assert torch.count_nonzero(gradient[0]) == 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spread", ["narrow", "wide"])
def test_a_stored_float32_action_has_the_log_density_it_was_drawn_with(name, spread):
    initial = {
        "narrow": {"log_std_init": -4.0, "concentration_init": 1e5},
        "wide": {"log_std_init": 1.0, "concentration_init": 3.0},
    }
    empty = make_simplex_distribution(name, 11)
    parameter = empty.initial_spread(**initial[spread])
    head = torch.randn(1000, empty.head_size)
    actions = empty.proba_distribution(head, parameter).sample()
    at_sampling = empty.log_prob(actions)
    stored = torch.from_numpy(np.clip(actions.numpy(), 0.0, 1.0).astype(np.float32).copy())
    exact = empty.proba_distribution(head.double(), parameter.double()).log_prob(stored)
    np.testing.assert_allclose(at_sampling, exact, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_score_has_mean_zero_even_where_many_weights_are_near_zero(name):
    """Only a density that belongs to the samples has a score of mean zero: the floor must not."""
    given, width = {
        "dirichlet": ([2.0, -9.0, -9.0, 0.0], [math.log(2.0)]),
        "softmax_gaussian": ([-9.0, 4.0, 0.0], [1.5, 1.0, 0.0]),
    }[name]
    head = torch.tensor([given] * 400_000, dtype=torch.float32, requires_grad=True)
    spread = torch.tensor([width] * 1, dtype=torch.float32)[0].requires_grad_()
    dist = make_simplex_distribution(name, 4).proba_distribution(head, spread)
    (gradient,) = torch.autograd.grad(dist.log_prob(dist.sample().detach()).sum(), head)
    scores = gradient.double()
    error = scores.std(dim=0) / math.sqrt(len(head))
    assert torch.all(scores.mean(dim=0).abs() < 5 * error + 2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_samples_carry_gradients_to_the_parameters(name):
    """The mean of the first weight over samples moves as its exact mean does."""
    head, spread = SHAPES[name, 3]
    count = 200_000
    parameter = torch.tensor([head], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(1)
    dist = make_simplex_distribution(name, 3)
    dist.proba_distribution(parameter.expand(count, -1), torch.tensor(spread).double())
    (gradient,) = torch.autograd.grad(dist.sample()[:, 0].mean(), parameter)
    weights, shares = triangle(200)

    def mean_of_first(first):
        moved = [first, *head[1:]]
        return (shares * density(name, moved, spread, weights) * weights[:, 0]).sum()

    expected = (mean_of_first(head[0] + 1e-4) - mean_of_first(head[0] - 1e-4)) / 2e-4
    assert float(gradient[0, 0]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_distribution_of_stable_baselines3(name):
    dist = make_simplex_distribution(name, 5)
    assert isinstance(dist, Distribution)
    net, spread = dist.proba_distribution_net(7, log_std_init=-0.5, concentration_init=20.0)
    assert net.weight.shape == (dist.head_size, 7)
    params = (net(torch.ones(2, 7)), spread)
    torch.manual_seed(2)
    actions, log_prob = dist.log_prob_from_params(*params)
    torch.manual_seed(2)
    assert torch.equal(actions, dist.actions_from_params(*params))
    assert torch.equal(log_prob, dist.log_prob(actions))
    fixed = dist.actions_from_params(*params, deterministic=True)
    assert torch.equal(fixed, dist.get_actions(deterministic=True))
    assert actions.shape == fixed.shape == (2, 5)


def test_the_logged_spread_is_the_standard_deviation_of_what_is_drawn():
    dist = make_simplex_distribution("dirichlet", 4)
    spread = dist.initial_spread(0.0, 30.0)
    dist.proba_distribution(torch.zeros(200_000, 4), spread)
    drawn = dist.sample().std(dim=0)
    np.testing.assert_allclose(drawn, dist.log_std(spread).exp().expand(4), rtol=0.02)
    gaussian = make_simplex_distribution("softmax_gaussian", 4)
    assert torch.equal(gaussian.log_std(spread), spread)


def test_the_floor_is_a_normal_float32():
    assert np.float32(FLOOR) > np.finfo(np.float32).tiny


def test_unknown_names_and_impossible_parameters_are_refused():
    with pytest.raises(InputError, match="Choose one of dirichlet, softmax_gaussian"):
        make_simplex_distribution("beta", 3)
    with pytest.raises(InputError, match="two weights"):
        make_simplex_distribution("dirichlet", 1)
    with pytest.raises(ValueError, match="Expected parameter"):
        distribution_of("dirichlet", [math.nan, 0.0], [0.0])
