"""A market with one row for each (path, session): what the hot loop gathers from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from envs.option_market import OptionMarket

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class MarketRows:
    """Views of an OptionMarket; row = path x T + session. M slots."""

    mark: NDArray[np.float64]  # (rows, M)
    aged: NDArray[np.float64]  # (rows, M)
    spot: NDArray[np.float64]  # (rows,)
    unit_cost: NDArray[np.float64]  # (rows, M)
    closing_cost: NDArray[np.float64] | None  # (rows, M)
    before: NDArray[np.float32]  # (rows, F1) observation before the portfolio block
    after: NDArray[np.float32]  # (rows, F2) and after it
    log_price: NDArray[np.float64]  # (rows,)


def lay_out_rows(market: OptionMarket) -> MarketRows:
    """The rows of a market."""
    tape, observed, closing = market.tape, market.observed, market.closing_unit_cost
    return MarketRows(
        mark=as_rows(tape.mark),
        aged=as_rows(tape.aged),
        spot=as_rows(market.history.close),
        unit_cost=as_rows(market.unit_cost),
        closing_cost=None if closing is None else as_rows(closing),
        before=as_rows(observed.before),
        after=as_rows(observed.after),
        log_price=as_rows(observed.log_price),
    )


def as_rows(values: NDArray[Any]) -> NDArray[Any]:
    """(P, T, ...) -> (P x T, ...), contiguous: `take` copies the whole of any other array."""
    flat = (values.shape[0] * values.shape[1], *values.shape[2:])
    return np.ascontiguousarray(values).reshape(flat)
