"""The environments' names: `gymnasium.make("PolyHedge/OptionPortfolio-v0")` and `make_vec`.

An environment's code is imported when one is made.
"""

from __future__ import annotations

import gymnasium as gym

OPTION_PORTFOLIO = "PolyHedge/OptionPortfolio-v0"
PORTFOLIO_ALLOCATION = "PolyHedge/PortfolioAllocation-v0"
OPTION_HEDGING = "PolyHedge/OptionHedging-v0"


def register_environments() -> None:
    """Make the environments known to gymnasium; calling it twice is harmless."""
    for name, function in (
        (OPTION_PORTFOLIO, "make_option_portfolio"),
        (PORTFOLIO_ALLOCATION, "make_portfolio_allocation"),
        (OPTION_HEDGING, "make_option_hedging"),
    ):
        if name not in gym.registry:
            gym.register(
                id=name,
                entry_point=f"envs.kernels:{function}",
                vector_entry_point=f"envs.kernels:{function}",
            )
