"""TensorBoard loggers that can be resumed, and scalars written at a given step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter


class ResumableTensorBoard(TensorBoardOutputFormat):
    """TensorBoard output that hides what an earlier, killed process wrote from `purge_step` on."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
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
