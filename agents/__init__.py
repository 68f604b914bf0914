"""Agents: what decides. Learned policies, classical strategies, and how they are kept."""

from typing import TYPE_CHECKING

from conf.lazy import lazy_names

if TYPE_CHECKING:
    from agents.baselines.allocation import build_allocation_baselines as build_allocation_baselines
    from agents.baselines.hedging import build_hedging_baselines as build_hedging_baselines
    from agents.baselines.hedging import delta_hedge as delta_hedge
    from agents.baselines.hedging import leland_hedge as leland_hedge
    from agents.baselines.hedging import liabilities as liabilities
    from agents.baselines.hedging import run_hedge as run_hedge
    from agents.baselines.hedging import whalley_wilmott_hedge as whalley_wilmott_hedge
    from agents.baselines.options import Leg as Leg
    from agents.baselines.options import OptionStrategy as OptionStrategy
    from agents.baselines.options import build_baselines as build_baselines
    from agents.baselines.reference import Baseline as Baseline
    from agents.baselines.reference import Cash as Cash
    from agents.baselines.reference import RandomPolicy as RandomPolicy
    from agents.ensemble import AveragingPolicy as AveragingPolicy
    from agents.ensemble import merge_policies as merge_policies
    from agents.factory import EpisodePPOSettings as EpisodePPOSettings
    from agents.factory import PathwiseAgentSettings as PathwiseAgentSettings
    from agents.factory import PPOSettings as PPOSettings
    from agents.factory import RecurrentPPOSettings as RecurrentPPOSettings
    from agents.factory import build_agent as build_agent
    from agents.off_policy.settings import TQCSettings as TQCSettings
    from agents.pathwise.trainer import PathwiseSettings as PathwiseSettings
    from agents.pathwise.trainer import PathwiseTrainer as PathwiseTrainer
    from agents.persistence.policy_file import LoadedPolicy as LoadedPolicy
    from agents.persistence.policy_file import load_policy as load_policy
    from agents.persistence.policy_file import save_policy as save_policy
    from agents.policy import Policy as Policy
    from agents.policy import RiskManagedPolicy as RiskManagedPolicy
    from agents.policy import Strategy as Strategy
    from agents.portfolio_manager import RLPortfolioManager as RLPortfolioManager
    from agents.ppo.episode_ppo import EpisodePPO as EpisodePPO
    from agents.ppo.recurrent_ppo import SequenceRecurrentPPO as SequenceRecurrentPPO
else:
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
