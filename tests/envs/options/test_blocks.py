"""Pieces are contiguous and in order, whatever the arrays they come from look like."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.options.blocks import in_blocks


def test_a_formula_sees_contiguous_pieces_in_their_own_types() -> None:
    sizes = []

    def formula(numbers: Any, flags: Any) -> tuple[Any, Any]:
        sizes.append(numbers.size)
        assert numbers.strides == (8,)
        assert flags.strides == (1,)
        assert numbers.dtype == np.float64
        assert flags.dtype == np.bool_
        return numbers * 2.0, np.where(flags, numbers, -1.0)

    numbers = np.arange(60_000.0).reshape(3, 20_000)[:, ::-2]
    flags = np.array([[True], [False], [True]])
    doubled, chosen = in_blocks(formula, [numbers, flags], outputs=2)
    assert np.array_equal(doubled, numbers * 2.0)
    assert np.array_equal(chosen, np.where(flags, numbers, -1.0))
    assert doubled.flags.c_contiguous
    assert len(sizes) > 1
    assert max(sizes) <= 8192


def test_nothing_in_gives_nothing_out() -> None:
    result = in_blocks(lambda values: (values,), [np.empty((0, 3))])[0]
    assert result.shape == (0, 3)
