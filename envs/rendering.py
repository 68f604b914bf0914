"""One book at a close, for people: as a table and as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.core.kernel import BookKernel

RENDER_FPS = 8  # sessions a second
_INCHES, _DOTS_AN_INCH = (8.0, 5.0), 80
_NOT_SUMMED = ("units", "price $")


def book_table(kernel: BookKernel, index: int = 0) -> str:
    """Book `index` as lines of text: date, equity and cash, then each position that is held.

    Units, dollars a unit and dollars; of options also what the position gains, in dollars: for a
    1 % move of the index (delta) and the change of that (gamma), a volatility point (vega), a
    session (theta; a calendar day on that clock).
    """
    quantity, price = kernel.ledger.quantity[index], kernel.prices()[index]
    greeks = {name: values[index] for name, values in kernel.position_greeks().items()}
    columns = {"units": quantity, "price $": price, "value $": quantity * price, **greeks}
    held = np.flatnonzero(quantity)
    rows = [["position", *columns]]
    for k in held:
        numbers = (f"{values[k]:,.2f}" for values in columns.values())
        rows.append([kernel.market.instruments[k], *numbers])
    summed = {name: values.sum() for name, values in columns.items() if name not in _NOT_SUMMED}
    totals = (f"{summed[name]:,.2f}" if name in summed else "" for name in columns)
    rows = [*rows, ["all", *totals]] if len(held) else [["nothing is held"]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join([_headline(kernel, index), *lines])


def book_picture(kernel: BookKernel, equity: Sequence[float], index: int = 0) -> NDArray[np.uint8]:
    """Book `index` as an RGB image (400, 640, 3): equity since the start, and what is held.

    `equity` is dollars at each close of the episode, the first and this one included.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DOTS_AN_INCH, layout="constrained")
    above, below = figure.subplots(2, 1)
    above.plot(equity)
    above.set_title(_headline(kernel, index), parse_math=False)  # of its two dollar signs
    above.set(xlabel="sessions", ylabel="equity, $")
    value = kernel.ledger.quantity[index] * kernel.prices()[index]
    below.bar(kernel.market.instruments, value)
    below.axhline(0.0, color="black", linewidth=0.8)
    below.set_ylabel("position, $")
    below.tick_params(axis="x", labelrotation=90, labelsize=7)
    pixels = io.BytesIO()
    figure.savefig(pixels, format="rgba", dpi=_DOTS_AN_INCH)
    width, height = (round(inches * _DOTS_AN_INCH) for inches in _INCHES)
    return np.frombuffer(pixels.getvalue(), np.uint8).reshape(height, width, 4)[..., :3].copy()


def _headline(kernel: BookKernel, index: int) -> str:
    session, start, end = (each[index] for each in (kernel.session, kernel.start, kernel.end))
    day, ledger = kernel.market.history.dates[session], kernel.ledger
    return (
        f"{day}, session {session - start} of {end - start}: "
        f"equity ${ledger.equity[index]:,.2f}, cash ${ledger.cash[index]:,.2f}"
    )
