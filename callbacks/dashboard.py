"""TensorBoard: loggers that can be resumed, and the layout and hyperparameters of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tensorboard.summary.writer import event_file_writer
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from callbacks.criterion import SHARPE, Criterion
from callbacks.performance import EPISODE_SCALARS
from envs.core.kernel import BookKernel


@contextmanager
def plain_event_names() -> Iterator[None]:
    """Files begun in the block are named without the host and the process.

    TensorBoard itself offers only to append to their names.
    """
    module: Any = event_file_writer
    before = module.socket, module.os
    module.socket = SimpleNamespace(gethostname=lambda: "run")
    module.os = SimpleNamespace(path=os.path, getpid=lambda: 0)
    try:
        yield
    finally:
        module.socket, module.os = before


class ResumableTensorBoard(TensorBoardOutputFormat):
    """TensorBoard output that hides what an earlier, killed process wrote from `purge_step` on."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        with plain_event_names():
            self.writer = SummaryWriter(str(folder), purge_step=purge_step)
        self._is_closed = False


def make_logger(folder: Path, purge_step: int | None = None) -> Logger:
    """The logger of a run, to TensorBoard only; messages for the user go to train.log."""
    return Logger(str(folder), [ResumableTensorBoard(folder, purge_step)])


def tensorboard_writers(logger: Logger) -> Iterator[SummaryWriter]:
    """The writers behind a logger."""
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat) and output.writer is not None:
            yield output.writer


def write_scalars(logger: Logger, values: Mapping[str, float], step: int) -> None:
    """Write values at `step`, independently of Stable-Baselines3's own next dump."""
    for writer in tensorboard_writers(logger):
        for name, value in values.items():
            if np.isfinite(value):
                writer.add_scalar(name, value, step)
        writer.flush()


_hparams: Any = hparams  # untyped

OPTIMISER = {
    "loss": "train/loss",
    "explained variance": "train/explained_variance",
    "approximate KL": "train/approx_kl",
    "clip fraction": "train/clip_fraction",
    "action spread": "train/std",
}

OPTIMISER_OF_TQC = {
    "actor loss": "train/actor_loss",
    "critic loss": "train/critic_loss",
    "temperature": "train/ent_coef",
    "beta of prioritised replay": "train/beta",
}

# Titles of the scalars book/<name> whose name lacks the unit.
BOOK_TITLES = {
    "gross_notional": "gross notional / equity",
    "cash": "cash / equity",
    "vega": "vega, $ a point",
    "theta": "theta, $ a session",
}


class Dashboard(BaseCallback):
    """Writes the custom-scalars layout and the hyperparameters once, as training starts."""

    def __init__(self, settings: Mapping[str, Any], criterion: Criterion = SHARPE) -> None:
        """`settings`: the sections of the configuration that are hyperparameters."""
        super().__init__()
        self._settings, self._criterion = flat(settings), criterion

    def _on_training_start(self) -> None:
        env: Any = self.training_env
        kernel: BookKernel = env.kernel
        charts = layout(
            self._criterion,
            tuple(kernel.episode_summary(0)),
            kernel.reward.term_names,
            tuple(kernel.book_scalars()),
            OPTIMISER if isinstance(self.model, OnPolicyAlgorithm) else OPTIMISER_OF_TQC,
        )
        results = dict.fromkeys(result_scalars(self._criterion), 0.0)
        for writer in tensorboard_writers(self.logger):
            writer.add_custom_scalars(charts)
            events: Any = writer.file_writer
            for summary in _hparams(self._settings, results):
                events.add_summary(summary)
            writer.flush()

    def _on_step(self) -> bool:
        return True


def result_scalars(criterion: Criterion) -> tuple[str, ...]:
    """Scalars of the run that the HPARAMS page shows next to the hyperparameters."""
    metric, beside = criterion.metric, criterion.beside[0]
    validation = (f"validation/{name}" for name in (metric, beside, "gap"))
    return (*validation, f"train_split/{metric}")


def layout(
    criterion: Criterion,
    episode: Sequence[str],
    reward_terms: Sequence[str],
    book: Sequence[str],
    optimiser: Mapping[str, str] = OPTIMISER,
) -> dict[str, dict[str, list[Any]]]:
    """Category -> chart -> one anchored tag, as TensorBoard's custom scalars expect it.

    Lines are coloured by run, so every chart shows one quantity. Categories sort by name.
    """
    judged = {name: name.replace("_", " ") for name in criterion.beside}
    judged = {criterion.metric: criterion.title, **judged}
    explored = {name: tag for name, tag in EPISODE_SCALARS.items() if name in episode}
    charts = {
        "1 Unseen years": {
            "gap, training minus validation": "validation/gap",
            **{f"validation {title}": f"validation/{name}" for name, title in judged.items()},
        },
        # Noise trades too: what is evaluated is the policy without it.
        "2 Training, with exploration and without": {
            **{
                f"{tag.partition('/')[2].replace('_', ' ')} of episodes, exploring": tag
                for tag in explored.values()
            },
            **{
                f"{title} of the training years, deterministic": f"train_split/{name}"
                for name, title in judged.items()
            },
        },
        "3 The book": {
            BOOK_TITLES.get(name, name.replace("_", " ")): f"book/{name}" for name in book
        },
        "4 Reward, mean a step": {name: f"reward/{name}" for name in (*reward_terms, "total")},
        "5 Optimiser": dict(optimiser),
    }
    return {
        category: {chart: ["Multiline", [f"^{tag}$"]] for chart, tag in tags.items()}
        for category, tags in charts.items()
    }


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """Nested settings as dotted names -> values that TensorBoard can show; lists become text."""
    result: dict[str, bool | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            result[prefix + name] = value if plain else str(value)
    return result
