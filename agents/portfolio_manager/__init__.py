"""A portfolio manager in one object; see `RLPortfolioManager`."""

from agents.portfolio_manager.manager import RLPortfolioManager

__all__ = ["RLPortfolioManager"]
