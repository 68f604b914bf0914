"""What policies are compared by on unseen years."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """One of the metrics that a scorer gives, and how it is written."""

    metric: str = "sharpe"
    title: str = "Sharpe"
    unit: str = ""
    decimals: int = 2
    lower_is_better: bool = False
    beside: tuple[str, ...] = ("max_drawdown", "annual_return", "cost_drag")  # shown as well

    def merit(self, value: float) -> float:
        """The value, turned so that more of it is better."""
        return -value if self.lower_is_better else value

    def shown(self, value: float) -> str:
        """The value with its unit."""
        return f"{value:.{self.decimals}f}{self.unit}"


SHARPE = Criterion()
