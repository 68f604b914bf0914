"""Sharpe ratios of several series on the same days, and on resamples of those days."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from risk.bootstrap import mean_block_length, stationary_indices
from risk.errors import InputError
from risk.metrics import NEGLIGIBLE

FloatArray = NDArray[np.float64]

# From so many on, whole paths are drawn: they are independent, whatever happens within them.
_FEWEST_PATHS = 20
_CELLS_AT_ONCE = 4_000_000


class PairedSample:
    """Excess returns (S, P, T) of S series on the same days of P independent paths.

    Daily numbers, one a series: `mean`, `deviation` (ddof=1) and `sharpe`, over the days of all
    paths together. `names` (S) are for messages: InputError for a constant excess return, unless
    it is cash's 0, with Sharpe ratio 0.
    """

    def __init__(self, excess: FloatArray, names: Sequence[str]) -> None:
        series, self._paths, self._sessions = excess.shape
        self._by_path = self._paths >= _FEWEST_PATHS
        flat = excess.reshape(series, -1)
        self._days = flat.shape[1]
        self.mean = flat.mean(axis=1)
        self.deviation = flat.std(axis=1, ddof=1)
        cash = ~flat.any(axis=1)
        for k in np.flatnonzero((self.deviation <= NEGLIGIBLE) & ~cash).tolist():
            raise InputError(
                f"{names[k]} earns the same {self.mean[k]:.3g} above cash every day",
                "Give risk_free as what cash earned; nothing else is without risk",
            )
        self._risky = ~cash
        self.sharpe = self.scaled(self.mean)  # daily
        centred = flat - self.mean[:, None]
        unit = np.where(cash, 0.0, 1.0 / np.where(cash, 1.0, self.deviation))
        self._standard = centred * unit[:, None]
        moments = np.stack([self._standard, np.square(self._standard)])
        if self._by_path:
            moments = moments.reshape(2, series, self._paths, -1).sum(axis=3)
        self.units = moments.shape[2]  # what is drawn: days, or whole paths
        self._moments = np.ascontiguousarray(moments.transpose(2, 0, 1).reshape(self.units, -1))

    def draw(
        self, reps: int, mean_block: float | None, rng: np.random.Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Means and Sharpe ratios, daily, (reps, S) each, of resampled days; in step.

        Fewer than 20 paths are resampled by days, in blocks of `mean_block` sessions (estimated
        if None); 20 and more as whole paths, whatever the dependence within them.
        """
        if mean_block is None:
            mean_block = 1.0 if self._by_path else self._block_length()
        drawn = [self._resampled(weights) for weights in self._weights(reps, mean_block, rng)]
        means, sharpes = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        return means, sharpes

    def scaled(self, means: FloatArray) -> FloatArray:
        """Mean daily excess returns (..., S) over each series' own deviation; 0 for cash."""
        scaled = np.zeros_like(means)
        np.divide(means, self.deviation, out=scaled, where=self._risky)
        return scaled

    def _block_length(self) -> float:
        """Mean block length that the differences of Sharpe ratios need, sessions."""
        # A Sharpe ratio's influence function: its sum is, to first order, the estimate's error.
        influence = self._standard - 0.5 * self.sharpe[:, None] * (np.square(self._standard) - 1.0)
        return mean_block_length(influence[:1] - influence[1:])

    def _resampled(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Means and Sharpe ratios, daily, (B, S) each, of samples weights (B, units)."""
        first, second = np.split(weights @ self._moments / self._days, 2, axis=1)
        variance = (second - np.square(first)) * (self._days / (self._days - 1))
        # Without any varied day in the sample, a book that hardly trades is cash.
        risk = np.sqrt(np.maximum(variance, 0.0))
        varied = risk > NEGLIGIBLE
        sharpes = np.divide(self.sharpe + first, risk, out=np.zeros_like(risk), where=varied)
        return self.mean + first * self.deviation, sharpes

    def _weights(
        self, reps: int, mean_block: float, rng: np.random.Generator
    ) -> Iterator[FloatArray]:
        """How often each day, or path, is drawn: (B, units) arrays with `reps` rows in all."""
        at_once = max(1, _CELLS_AT_ONCE // self.units)
        for begin in range(0, reps, at_once):
            size = min(at_once, reps - begin)
            if self._by_path:
                drawn = rng.integers(self._paths, size=(size, self._paths))
            else:
                days = stationary_indices(self._sessions, mean_block, size * self._paths, rng)
                first = np.arange(self._paths)[:, None] * self._sessions
                drawn = (days.reshape(size, self._paths, -1) + first).reshape(size, -1)
            cells = drawn + np.arange(size)[:, None] * self.units
            counts = np.bincount(cells.ravel(), minlength=size * self.units)
            yield counts.reshape(size, self.units).astype(np.float64)
