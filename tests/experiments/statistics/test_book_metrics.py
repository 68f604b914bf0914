"""Turnover, cost, concentration and rank, by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from experiments.statistics import performance as book_metrics


def test_turnover_and_cost_are_shares_of_each_days_equity() -> None:
    equity = [100.0, 200.0, 150.0]
    assert book_metrics.turnover([10.0, 40.0], equity) == pytest.approx(252 * (0.1 + 0.2) / 2)
    assert book_metrics.cost_drag([1.0, 4.0], equity) == pytest.approx(252 * (0.01 + 0.02) / 2)
    both = book_metrics.turnover([[10.0, 40.0], [0.0, 0.0]], [equity, equity])
    assert both.tolist() == [book_metrics.turnover([10.0, 40.0], equity), 0.0]


def test_ruin_on_the_last_day_can_still_be_measured() -> None:
    assert book_metrics.turnover([10.0], [100.0, -5.0]) == pytest.approx(25.2)


def test_concentration_runs_from_one_position_to_twenty_equal_ones() -> None:
    assert book_metrics.concentration([0.0, -500.0, 0.0]) == 1.0
    assert book_metrics.concentration(np.tile([1.0, -1.0], 10)) == pytest.approx(0.05)
    assert book_metrics.concentration([1.0, 3.0]) == pytest.approx(10 / 16)
    book = book_metrics.concentration([[0.0, 0.0], [2.0, 0.0]])
    assert math.isnan(book[0])
    assert book[1] == 1.0


def test_iv_rank_is_the_place_in_the_range() -> None:
    assert book_metrics.iv_rank([0.1, 0.5, 0.2]) == pytest.approx(0.25)
    ranks = book_metrics.iv_rank([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.2, 0.2]])
    assert ranks[:2].tolist() == [1.0, 0.0]
    assert math.isnan(ranks[2])


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: book_metrics.turnover([1.0, 2.0], [100.0, 100.0]), "covers 2 sessions"),
        (lambda: book_metrics.turnover([-1.0], [100.0, 100.0]), "traded_usd is negative"),
        (lambda: book_metrics.cost_drag([1.0, 1.0], [100.0, 0.0, 1.0]), "equity is not positive"),
        (lambda: book_metrics.cost_drag([math.nan], [100.0, 1.0]), r"cost_usd\[0\] is nan"),
        (lambda: book_metrics.concentration([1.0, math.nan]), r"position_usd\[1\] is nan"),
        (lambda: book_metrics.iv_rank([0.1, math.nan]), r"implied_vol\[1\] is nan"),
    ],
)
def test_bad_input_is_refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        action()
