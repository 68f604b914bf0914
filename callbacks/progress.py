"""Progress of what takes long: a bar on a terminal; elsewhere lines in the log.

Of a training there is one a minute, of a command that trains many runs one for each.
"""

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


class Meter:
    """Shows how much of a known amount of work is done, its speed and the time left.

    With `line_after` every advance logs a line where there is no bar, but not those of the first so
    many units: they were done by an earlier call and say nothing of the time that the others take.
    """

    def __init__(
        self, total: int, unit: str, show_bar: bool = True, *, line_after: int | None = None
    ) -> None:
        self._line_after = line_after
        self._total, self._unit = total, unit
        self._show_bar = show_bar and sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None

    def open(self, done: int) -> None:
        """Begin with that much done already."""
        self._start = self._last_line = time.monotonic()
        self._first = self._done = done
        if self._show_bar:
            self._redirect = logging_redirect_tqdm()
            self._redirect.__enter__()
            self._bar = tqdm(
                total=self._total, initial=done, unit=self._unit, smoothing=0.05, leave=False
            )

    def __enter__(self) -> Meter:
        self.open(0)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """So much more is done: a bar shows it, or a line if each advance is to have one."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif count and self._line_after is not None and self._done > self._line_after:
            speed = (self._done - self._line_after) / (time.monotonic() - self._start)
            left = self._time_left(self._done, speed)
            log.info("%s %d of %d, %s left", self._unit, self._done, self._total, left)

    def report(self, done: int) -> None:
        """Write a log line if there is no bar and the last one is a minute old."""
        now, new = time.monotonic(), done - self._first
        if self._bar is None and new and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            speed = new / (now - self._start)
            unit, left = self._unit, self._time_left(done, speed)
            log.info("%s %d of %d, %.0f %ss/s, %s left", unit, done, self._total, speed, unit, left)

    def _time_left(self, done: int, speed: float) -> str:
        minutes, seconds = divmod(max(self._total - done, 0) / speed, 60)
        return f"{minutes:.0f} min {int(seconds):02d} s"

    def close(self) -> None:
        """Take the bar off the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._redirect.__exit__(None, None, None)


class Progress(BaseCallback):
    """Shows steps, speed and time left."""

    def __init__(self, total_timesteps: int, show_bar: bool = True) -> None:
        super().__init__()
        self._meter = Meter(total_timesteps, "step", show_bar)

    def _on_training_start(self) -> None:
        self._meter.open(self.model.num_timesteps)

    def _on_step(self) -> bool:
        self._meter.advance(self.training_env.num_envs)
        return True

    def _on_rollout_start(self) -> None:
        self._meter.report(self.model.num_timesteps)

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._meter.close()
