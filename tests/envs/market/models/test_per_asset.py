from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from conf.settings import build_settings
from envs.market.models.panel import PanelModel
from envs.market.models.per_asset import correlation_root, each_asset


def test_a_number_a_list_and_a_spread_give_one_number_an_asset() -> None:
    assert each_asset(0.2, 3, "vol").tolist() == [0.2, 0.2, 0.2]
    assert each_asset((0.1, 0.3), 2, "vol").tolist() == [0.1, 0.3]
    assert each_asset("0.1..0.3", 3, "vol") == pytest.approx([0.1, 0.2, 0.3])
    assert each_asset(" 1 .. -1e-1", 2, "vol").tolist() == [1.0, -0.1]
    assert each_asset("0.1..0.3", 1, "vol").tolist() == [0.1]


def test_a_list_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="vol has 2 numbers for 3 assets"):
        each_asset((0.1, 0.3), 3, "vol")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.2, 0.2),
        ([0.1, 0.2], (0.1, 0.2)),
        ("0.1..0.2", "0.1..0.2"),
    ],
)
def test_all_three_are_read_from_plain_data(value: Any, wanted: Any) -> None:
    assert build_settings(PanelModel, {"vol_annual": value}, "data.gbm").vol_annual == wanted


@pytest.mark.parametrize(
    "value", ["high", "0.1...0.2", "..", "0.1..", {"first": 0.1}, [0.1, "x"], None]
)
def test_anything_else_is_one_error_that_says_what_to_write(value: Any) -> None:
    with pytest.raises(InputError, match=r"data\.gbm\.vol_annual = .*write one number") as caught:
        build_settings(PanelModel, {"vol_annual": value}, "data.gbm")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0, -0.5])
def test_the_root_gives_back_the_constant_correlation(correlation: float) -> None:
    root = correlation_root(correlation, 3, "correlation")
    np.testing.assert_allclose(root, root.T, atol=1e-14)
    np.testing.assert_allclose(
        root @ root, np.where(np.eye(3, dtype=bool), 1.0, correlation), atol=1e-12
    )


def test_the_root_gives_back_a_matrix() -> None:
    matrix = ((1.0, 0.2, -0.3), (0.2, 1.0, 0.5), (-0.3, 0.5, 1.0))
    root = correlation_root(matrix, 3, "correlation")
    np.testing.assert_allclose(root @ root, matrix, atol=1e-12)


def test_one_asset_needs_no_correlation() -> None:
    assert correlation_root(0.3, 1, "correlation").tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-0.6, "smallest eigenvalue is -0.2.*allow -0.5000 or more"),
        (1.5, "outside -1 to 1"),
        (((1.0, 0.9, -0.9), (0.9, 1.0, 0.9), (-0.9, 0.9, 1.0)), "smallest eigenvalue is -0.8"),
        (((1.0, 0.2), (0.2, 1.0)), "2 rows of .* for 3 assets"),
        (((1.0, 0.2, 0.1), (0.3, 1.0, 0.1), (0.1, 0.1, 1.0)), r"\[0\]\[1\] is 0.2 but"),
        (((0.04, 0.0, 0.0), (0.0, 0.04, 0.0), (0.0, 0.0, 0.04)), "not covariances"),
    ],
)
def test_what_is_no_correlation_matrix_is_refused(value: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        correlation_root(value, 3, "correlation")
