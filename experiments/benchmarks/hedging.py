"""Benchmark of hedging: CPU seconds until a hedge is as good as the best constant band.

The problem is that of `+exp=hedging` (docs/hedging.md). Pathwise training and PPO learn as there;
both are looked at now and then, at times a quarter apart, on paths that nothing was trained on.
With `pfhedge=true` the hedger of that library learns the same problem in an environment of its own
(`pfhedge_hedger.py`). What looking takes is not counted.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from hydra import compose
from hydra.errors import HydraException
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from agents.baselines.hedging import hedging_costs
from agents.factory import PathwiseAgentSettings
from agents.pathwise.trainer import PathwiseTrainer, make_twin
from agents.policy import Policy
from agents.ppo.parallel import torch_threads
from conf.errors import InputError
from envs.core.batch import Window
from envs.hedging.market import HedgingMarket
from experiments.benchmarks.rows import Row, at_most
from experiments.benchmarks.settings import Bench
from experiments.environments.hedging import HedgingSetup
from experiments.environments.opening import open_market
from experiments.runs.config import plain_config
from experiments.runs.settings import RunSettings, run_settings
from experiments.runs.training import INVOCATION_KEYS, build_model

TARGET = 129.3  # mean + 1.5 SD in percent of the price: a band of .10 shares around delta
FIRST_LOOK, LOOKS_APART = 0.25, 1.25  # seconds, and the factor between one time and the next
LOOKED_AT = 20_000  # paths, at most
AGENTS: Mapping[str, tuple[str, ...]] = {
    "pathwise": (),
    "ppo": ("agent=episode_ppo", "num_envs=2048", "total_timesteps=8192000"),
}
TITLES = {"pathwise": "pathwise", "ppo": "PPO, from a cold start", "pfhedge": "pfhedge's band"}
# What the end has to be below; of pfhedge nothing is demanded.
OBJECTIVES = {"pathwise": 115.0, "ppo": 117.0}
PFHEDGE = ("pfhedge==0.23.0", "numpy==1.26.4", f"torch=={torch.__version__.partition('+')[0]}")
PFHEDGE_EPOCHS, PFHEDGE_PATHS = 400, 10_000  # a path for each liability, drawn anew each time


@dataclass
class Course:
    """Counts CPU seconds of learning, and looks now and then how good the hedge is."""

    look: Callable[[], float]  # the objective, percent of the price
    spent: float = 0.0
    reached: float | None = None  # seconds to the target; None: not yet
    _due: float = FIRST_LOOK
    _since: float = field(default_factory=lambda: time.process_time())

    def lesson(self) -> None:
        """What was learned since the last call was a lesson."""
        self.spent += time.process_time() - self._since
        if self.reached is None and self.spent >= self._due:
            self._due = self.spent * LOOKS_APART
            if self.look() <= TARGET:
                self.reached = self.spent
        self._since = time.process_time()


@dataclass(frozen=True)
class Learnt:
    """What an agent took, in CPU seconds, and how good it was at the end."""

    reached: float | None  # to the target; None: never
    spent: float
    objective: float  # percent of the price


def hedging_rows(bench: Bench) -> list[Row]:
    """Three rows of each agent."""
    request = bench.request
    learnt = {}
    with torch_threads(1):  # seconds of one core
        for name, overrides in AGENTS.items():
            settings = hedging_run(*overrides, *request.hedging_arguments)
            learnt[name] = learn(settings, request.hedging_effort, request.hedging_paths)
    if request.pfhedge:
        learnt["pfhedge"] = learn_with_pfhedge(request.hedging_effort, request.hedging_paths)
    return learnt_rows(learnt)


def hedging_run(*overrides: str) -> RunSettings:
    """The settings of `experiments.train +exp=hedging` with these overrides, inside a command."""
    try:
        plain = plain_config(compose("config", ["+exp=hedging", *overrides]))
    except HydraException as error:
        raise InputError(
            f"hedging_arguments do not go with +exp=hedging: "
            f"{str(error).splitlines()[0].rstrip('.')}",
            "Give arguments of experiments.train that pathwise training and PPO share",
        ) from None
    return run_settings({name: v for name, v in plain.items() if name not in INVOCATION_KEYS})


def learn(settings: RunSettings, effort: float, paths: int) -> Learnt:
    """Train as the settings say, with a share of the updates or steps; judge on unseen paths."""
    setup: Any = open_market(settings.market)
    agent, top = settings.agent, settings.top
    model: Any = build_model(setup, settings)
    few = list(_unseen(setup, min(LOOKED_AT, paths)))
    course = Course(lambda: _objective(setup, model.policy, few))
    if isinstance(agent, PathwiseAgentSettings):
        agent = replace(agent, updates=math.ceil(effort * agent.updates))
        market, window = setup.learning
        twin = make_twin(market, setup.settings.env, agent.cost_multiple)
        trainer = PathwiseTrainer(model.policy, [twin], [window], agent, top.seed)
        while not trainer.finished:
            trainer.update()
            course.lesson()
    else:
        model.set_logger(Logger(folder=None, output_formats=[]))
        model.learn(math.ceil(effort * top.total_timesteps), callback=_Lessons(course))
        course.lesson()
    return Learnt(
        course.reached, course.spent, _objective(setup, model.policy, _unseen(setup, paths))
    )


class _Lessons(BaseCallback):
    """A rollout and its update are a lesson."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course

    def _on_rollout_start(self) -> None:
        self._course.lesson()

    def _on_step(self) -> bool:
        return True


def _unseen(setup: HedgingSetup, paths: int) -> Iterator[tuple[HedgingMarket, Window]]:
    markets = setup.unseen(paths)
    if markets is None:
        raise InputError("the rows of hedging need simulated data", "Leave data=hedging_paths")
    return markets


def _objective(setup: HedgingSetup, policy: Policy, markets: Any) -> float:
    """Of what liabilities cost on all these markets, percent of the price."""
    env = setup.settings.env
    each = [env.objective.of_each(hedging_costs(policy, m, env, window)) for m, window in markets]
    return 100.0 * env.objective.over(np.concatenate(each))


def learn_with_pfhedge(effort: float, paths: int) -> Learnt:
    """The same by pfhedge, of the versions that are named here; InputError where it fails."""
    request = {
        **{"target": TARGET, "first_look": FIRST_LOOK, "looks_apart": LOOKS_APART},
        **{"looked_at": min(LOOKED_AT, paths), "paths": paths, "paths_an_epoch": PFHEDGE_PATHS},
        "epochs": math.ceil(effort * PFHEDGE_EPOCHS),
    }
    script = Path(__file__).with_name("pfhedge_hedger.py")
    with TemporaryDirectory() as folder:
        python = str(Path(folder) / "bin" / "python")
        _run(sys.executable, "-m", "venv", folder)
        _run(python, "-m", "pip", "install", "--quiet", *PFHEDGE)
        told = _run(python, str(script), json.dumps(request))
    return Learnt(**json.loads(told))


def _run(*command: str) -> str:
    """What it prints; InputError where it fails."""
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        lines = process.stderr.strip().splitlines() or ["no message"]
        errors = [line for line in lines if line.lower().startswith("error")] or lines
        raise InputError(
            f"pfhedge could not be installed and run: {errors[-1][:300]}",
            "See that pip can reach a package index, or leave pfhedge=false",
        )
    return process.stdout


def learnt_rows(learnt: Mapping[str, Learnt]) -> list[Row]:
    """Seconds to the target, seconds to the end, and how good it is there."""
    rows = []
    for name, each in learnt.items():
        title, never = TITLES[name], "" if each.reached is not None else ", never"
        seconds = each.spent if each.reached is None else each.reached
        what = f"hedging, to mean + 1.5 SD of {TARGET:g} % of the price{never}: {title}"
        details = {"reached": each.reached is not None}
        budget = at_most(OBJECTIVES[name]) if name in OBJECTIVES else None
        rows += [
            Row(f"hedging.{name}_to_band", what, seconds, "CPU s", details=details),
            Row(f"hedging.{name}", f"hedging, to the end: {title}", each.spent, "CPU s"),
            Row(
                f"hedging.{name}_objective",
                f"hedging, mean + 1.5 SD at the end: {title}",
                each.objective,
                "% of the price",
                budget,
            ),
        ]
    return rows
