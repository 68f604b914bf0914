"""Progress of training: a bar on a terminal, otherwise a log line a minute."""

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
    """Shows steps, speed and time left."""

    def __init__(self, total_timesteps: int, show_bar: bool = True) -> None:
        super().__init__()
        self._total = total_timesteps
        self._show_bar = show_bar and sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._start = self._last_line = time.monotonic()
        self._first_step = 0

    def _on_training_start(self) -> None:
        self._start = self._last_line = time.monotonic()
        self._first_step = self.model.num_timesteps
        if self._show_bar:
            self._redirect = logging_redirect_tqdm()
            self._redirect.__enter__()
            self._bar = tqdm(
                total=self._total,
                initial=self._first_step,
                unit="step",
                smoothing=0.05,
                leave=False,
            )

    def _on_step(self) -> bool:
        if self._bar is not None:
            self._bar.update(self.training_env.num_envs)
        return True

    def _on_rollout_start(self) -> None:
        now = time.monotonic()
        step = self.model.num_timesteps
        new_steps = step - self._first_step
        if self._bar is None and new_steps and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            speed = new_steps / (now - self._start)
            minutes, seconds = divmod(max(self._total - step, 0) / speed, 60)
            message = "step %d of %d, %.0f steps/s, %d min %02d s left"
            log.info(message, step, self._total, speed, minutes, seconds)

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._redirect.__exit__(None, None, None)
