"""The risk module on plain arrays, and the measures that everything is judged by."""

from typing import TYPE_CHECKING

from conf.lazy import lazy_names

if TYPE_CHECKING:
    from risk.book import Book as Book
    from risk.bootstrap import Interval as Interval
    from risk.bootstrap import interquartile_mean as interquartile_mean
    from risk.bounds import LimitSettings as LimitSettings
    from risk.guard import Guard as Guard
    from risk.guard import GuardSettings as GuardSettings
    from risk.guard import GuardState as GuardState
    from risk.hedging import HedgingStrategy as HedgingStrategy
    from risk.hedging import PaperExchange as PaperExchange
    from risk.limits import LimitResult as LimitResult
    from risk.limits import apply_limits as apply_limits
    from risk.manager import AdvancedRiskManager as AdvancedRiskManager
    from risk.margin import ScanSettings as ScanSettings
    from risk.metrics import annual_return as annual_return
    from risk.metrics import annual_volatility as annual_volatility
    from risk.metrics import beta as beta
    from risk.metrics import calmar_ratio as calmar_ratio
    from risk.metrics import drawdown as drawdown
    from risk.metrics import expected_shortfall as expected_shortfall
    from risk.metrics import max_drawdown as max_drawdown
    from risk.metrics import profit_factor as profit_factor
    from risk.metrics import sharpe_ratio as sharpe_ratio
    from risk.metrics import simple_returns as simple_returns
    from risk.metrics import sortino_ratio as sortino_ratio
    from risk.metrics import value_at_risk as value_at_risk
    from risk.metrics import win_rate as win_rate
    from risk.overlay import OverlayResult as OverlayResult
    from risk.overlay import RiskOverlay as RiskOverlay
    from risk.overlay import RiskSettings as RiskSettings
    from risk.sizing import PositionSizer as PositionSizer
    from risk.sizing import kelly_fraction as kelly_fraction
    from risk.sizing import volatility_leverage as volatility_leverage
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
