"""The kernel of a market: the one place that knows which environment belongs to what."""

from __future__ import annotations

from conf.errors import InputError
from envs.allocation.env import AllocationKernel
from envs.allocation.market import AllocationSettings, PanelMarket
from envs.core.batch import Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket, BookOptions
from envs.option_portfolio.env import OptionPortfolioKernel
from envs.option_portfolio.market import OptionMarket, OptionPortfolioSettings
from risk.overlay import RiskSettings


def open_kernel(
    market: BookMarket,
    options: BookOptions,
    window: Window,
    num_envs: int = 1,
    seed: int | None = None,
    *,
    random_start: bool = True,
    risk: RiskSettings | None = None,
) -> BookKernel:
    """Books of the kind that the market is for; InputError where the settings are of another."""
    if isinstance(market, OptionMarket) and isinstance(options, OptionPortfolioSettings):
        return OptionPortfolioKernel(
            market, options, window, num_envs, seed, random_start=random_start, risk=risk
        )
    if isinstance(market, PanelMarket) and isinstance(options, AllocationSettings):
        return AllocationKernel(
            market, options, window, num_envs, seed, random_start=random_start, risk=risk
        )
    raise InputError(
        f"a {type(market).__name__} cannot be traded with {type(options).__name__}",
        "Take env=option_portfolio for options on an index, env=portfolio_allocation for a panel",
    )
