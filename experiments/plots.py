"""Pictures of a backtest."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from risk.metrics import drawdown

FloatArray = NDArray[np.float64]

COLOURS = {"policy": "#0b6e99", "managed": "#7a4d9f", "buy and hold": "#b8860b", "cash": "#8a8a8a"}


def equity_figure(
    title: str, dates: NDArray[np.datetime64], curves: Mapping[str, FloatArray]
) -> Figure:
    """Equity curves (T + 1,) by name, scaled to start at 1, above their drawdowns."""
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for name, equity in curves.items():
        colour = COLOURS.get(name)
        # Dashed, for it often lies on top of the raw book.
        dashes = "--" if name == "managed" else "-"
        upper.plot(dates, equity / equity[0], dashes, label=name, color=colour, linewidth=1.4)
        loss = -100.0 * drawdown(equity)
        if name == "cash":
            continue
        lower.fill_between(dates, loss, 0.0, color=colour, alpha=0.35, linewidth=0)
    upper.set_title(title, loc="left")
    upper.set_ylabel("value of 1 invested")
    upper.legend(frameon=False, loc="upper left")
    lower.set_ylabel("drawdown, %")
    for axis in (upper, lower):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG, the same bytes for the same figure."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130, metadata={"Software": None})
    return content.getvalue()
