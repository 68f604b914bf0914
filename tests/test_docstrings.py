"""The examples in the docstrings of the most used functions and classes run as they stand."""

import doctest
from importlib import import_module

import pytest

MODULES = (
    "agents.baselines.hedging",
    "agents.baselines.options",
    "envs.core.reward",
    "envs.kernels",
    "envs.market.sources.index",
    "envs.options.black_scholes",
    "envs.options.chain",
    "envs.options.implied_volatility",
    "experiments.backtests.backtest",
    "experiments.statistics.sharpe_inference",
    "risk.bootstrap",
    "risk.hedging",
    "risk.limits",
    "risk.metrics",
    "risk.sizing",
)


def examples(name):
    found = doctest.DocTestFinder(exclude_empty=True).find(import_module(name))
    return [each for each in found if each.examples]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    runner = doctest.DocTestRunner(verbose=False)
    shown: list[str] = []
    for example in examples(name):
        runner.run(example, out=shown.append)
    assert "".join(shown) == ""
    assert runner.tries > 0


def test_thirty_names_have_an_example():
    assert sum(len(examples(name)) for name in MODULES) >= 30
