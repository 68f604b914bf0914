"""Says how far training is: a bar on a terminal, a line a minute anywhere else."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 60.0


class Progress(BaseCallback):
    """Steps done, speed and time left."""

    def __init__(self, total_timesteps: int, show_bar: bool = True) -> None:
        super().__init__()
        self._total = total_timesteps
        self._show_bar = show_bar and sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._began = self._said = time.monotonic()
        self._first = 0

    def _on_training_start(self) -> None:
        self._began = self._said = time.monotonic()
        self._first = self.model.num_timesteps
        if self._show_bar:
            self._redirect = logging_redirect_tqdm()
            self._redirect.__enter__()
            self._bar = tqdm(
                total=self._total, initial=self._first, unit="step", smoothing=0.05, leave=False
            )

    def _on_step(self) -> bool:
        if self._bar is not None:
            self._bar.update(self.training_env.num_envs)
        return True

    def _on_rollout_start(self) -> None:
        now = time.monotonic()
        done = self.model.num_timesteps - self._first
        if self._bar is None and done and now - self._said > SECONDS_BETWEEN_LINES:
            self._said = now
            speed = done / (now - self._began)
            left = max(self._total - self.model.num_timesteps, 0) / speed
            log.info(
                "step %d of %d, %.0f steps/s, %d min %02d s left",
                self.model.num_timesteps,
                self._total,
                speed,
                left // 60,
                left % 60,
            )

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._redirect.__exit__(None, None, None)
