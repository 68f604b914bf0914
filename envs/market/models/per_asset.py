"""One number for every asset, written as short as it can be: a number, a list or a spread."""

from __future__ import annotations

import re
from typing import Annotated, Any

import numpy as np
from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from conf.errors import InputError
from conf.types import FloatArray

# Rounding of a matrix somebody typed, and of its eigenvalues.
_TOLERANCE = 1e-8


# An even spread, from the first asset's number to the last's: "0.1..0.3".
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_SPREAD = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")


def _one_message(value: Any, build: ValidatorFunctionWrapHandler) -> Any:
    # Of a union, pydantic complains once a member and names it in the path.
    try:
        if not isinstance(value, str) or _SPREAD.fullmatch(value):
            return build(value)
    except ValidationError:
        pass
    raise ValueError("write one number, a list with one number an asset, or a spread: 0.1..0.3")


def _square(value: Any, build: ValidatorFunctionWrapHandler) -> Any:
    try:
        return build(value)
    except ValidationError:
        raise ValueError("write one number or a square matrix as a list of its rows") from None


PerAsset = Annotated[float | tuple[float, ...] | str, WrapValidator(_one_message)]
Correlation = Annotated[float | tuple[tuple[float, ...], ...], WrapValidator(_square)]


def each_asset(value: PerAsset, assets: int, name: str) -> FloatArray:
    """The number of every asset, (A,); InputError where a list has another length."""
    if isinstance(value, str):
        ends = _SPREAD.fullmatch(value)
        if ends is None:
            raise InputError(f"{name} = {value!r} is no spread", "Write it as 0.1..0.3")
        return np.linspace(float(ends[1]), float(ends[2]), assets)
    if isinstance(value, tuple):
        if len(value) != assets:
            raise InputError(
                f"{name} has {len(value)} numbers for {assets} assets",
                "Give one number an asset, or set data.assets",
            )
        return np.array(value, np.float64)
    return np.full(assets, float(value))


def correlation_root(value: Correlation, assets: int, name: str) -> FloatArray:
    """The symmetric square root of the correlation matrix, (A, A).

    A single number is the correlation of each pair. Raises InputError unless the matrix is
    symmetric with ones on its diagonal and no negative eigenvalue.
    """
    matrix = _matrix(value, assets, name)
    eigenvalues, vectors = np.linalg.eigh(matrix)
    if eigenvalues[0] < -_TOLERANCE:
        lowest = f"; {assets} assets allow {-1 / (assets - 1):.4f} or more" if assets > 1 else ""
        raise InputError(
            f"{name} is no correlation matrix: its smallest eigenvalue is {eigenvalues[0]:.4g}",
            "Correlations must agree with each other"
            + (lowest if not isinstance(value, tuple) else ""),
        )
    # Unlike the vectors' own signs, this root is the same whatever the library returns.
    root: FloatArray = (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T
    return root


def _matrix(value: Correlation, assets: int, name: str) -> FloatArray:
    if not isinstance(value, tuple):
        matrix = np.full((assets, assets), float(value))
        np.fill_diagonal(matrix, 1.0)
    else:
        if len(value) != assets or any(len(row) != assets for row in value):
            lengths = sorted({len(row) for row in value})
            raise InputError(
                f"{name} has {len(value)} rows of {lengths} numbers for {assets} assets",
                "Give a square matrix with a row an asset, or one number for all pairs",
            )
        matrix = np.array(value, np.float64)
    unsymmetric = np.abs(matrix - matrix.T) > _TOLERANCE
    if unsymmetric.any():
        i, j = (int(k) for k in np.argwhere(unsymmetric)[0])
        raise InputError(
            f"{name}[{i}][{j}] is {matrix[i, j]:g} but [{j}][{i}] is {matrix[j, i]:g}",
            "Give a symmetric matrix",
        )
    if (np.abs(np.diag(matrix) - 1.0) > _TOLERANCE).any() or np.abs(matrix).max() > 1 + _TOLERANCE:
        raise InputError(
            f"{name} has a diagonal that is not 1 or an entry outside -1 to 1",
            "Give correlations, not covariances",
        )
    return matrix
