"""Tasks of other processes, apart from the tests so that a worker imports little for them."""

import os
import signal

import numpy as np
import torch


def drawn(seed: int) -> np.ndarray:
    """A product whose last bits depend on the number of threads, and a draw of torch."""
    torch.manual_seed(seed)
    weights = torch.randn(64, 64)
    return (weights @ weights).numpy()


def killed_once(task: tuple[int, str]) -> np.ndarray:
    """The worker that has the task is killed the first time."""
    seed, marker = task
    if marker:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return drawn(seed)
