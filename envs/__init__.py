"""Environments of option books and portfolios; importing this registers them with gymnasium."""

from typing import TYPE_CHECKING

from conf.lazy import lazy_names
from envs.registration import register_environments

if TYPE_CHECKING:
    from envs.allocation.market import AllocationMarketSettings as AllocationMarketSettings
    from envs.allocation.market import AllocationSettings as AllocationSettings
    from envs.core.batch import StepRecord as StepRecord
    from envs.core.batch import StepResult as StepResult
    from envs.core.batch import Window as Window
    from envs.core.costs import FlatCosts as FlatCosts
    from envs.core.costs import RealisticCosts as RealisticCosts
    from envs.core.costs import SpreadCosts as SpreadCosts
    from envs.core.features import Feature as Feature
    from envs.core.features import Scaling as Scaling
    from envs.core.kernel import BookKernel as BookKernel
    from envs.core.kernel import BookState as BookState
    from envs.core.market import BookMarket as BookMarket
    from envs.core.market import BookOptions as BookOptions
    from envs.core.market import EpisodeSettings as EpisodeSettings
    from envs.core.reward import RewardSettings as RewardSettings
    from envs.core.reward import RewardWeights as RewardWeights
    from envs.core.reward import Step as Step
    from envs.gymnasium_adapters import KernelEnv as KernelEnv
    from envs.gymnasium_adapters import KernelVectorEnv as KernelVectorEnv
    from envs.hedging.market import HedgingMarketSettings as HedgingMarketSettings
    from envs.hedging.market import HedgingSettings as HedgingSettings
    from envs.kernels import make_allocation_market as make_allocation_market
    from envs.kernels import make_hedging_market as make_hedging_market
    from envs.kernels import make_option_hedging as make_option_hedging
    from envs.kernels import make_option_market as make_option_market
    from envs.kernels import make_option_portfolio as make_option_portfolio
    from envs.kernels import make_portfolio_allocation as make_portfolio_allocation
    from envs.kernels import open_kernel as open_kernel
    from envs.market.history import MarketHistory as MarketHistory
    from envs.market.panel import PanelHistory as PanelHistory
    from envs.market.sources.index import FileData as FileData
    from envs.market.sources.index import Sp500Data as Sp500Data
    from envs.market.sources.index import SyntheticData as SyntheticData
    from envs.market.sources.index import YahooData as YahooData
    from envs.market.sources.index import load_market as load_market
    from envs.market.sources.panel import load_panel as load_panel
    from envs.option_portfolio.market import OptionMarketSettings as OptionMarketSettings
    from envs.option_portfolio.market import OptionPortfolioSettings as OptionPortfolioSettings
    from envs.options.black_scholes import price as price
    from envs.options.black_scholes import price_and_greeks as price_and_greeks
    from envs.options.chain import ChainSettings as ChainSettings
    from envs.options.implied_volatility import implied_volatility as implied_volatility
    from envs.options.surface import FlatSurface as FlatSurface
    from envs.options.surface import VixSurface as VixSurface
    from envs.sb3_vec_env import KernelVecEnv as KernelVecEnv
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)

register_environments()
