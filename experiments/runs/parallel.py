"""Independent tasks at the same time: the one place where work is spread over the cores.

Tasks run in threads. That suits NumPy and torch, which leave Python's global lock while they
calculate, and tasks that wait for a process of their own. Joblib's threads end with the command:
Ctrl-C does not wait for tasks under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from joblib import Parallel, delayed

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int) -> list[Result]:
    """`function(task)` for every task, in the order of the tasks, at most `jobs` at a time.

    Results do not depend on `jobs`: each task computes with as many torch threads as the caller.
    After a failure no further task begins and those under way are waited for; then the failure is
    raised, of several that of the earliest task, with a note that says which one it was.
    """
    failures: dict[int, Exception] = {}
    threads = torch.get_num_threads()

    def attempt(number: int, task: Task) -> Result | None:
        if failures:
            return None
        try:
            # Torch keeps the number by thread, and a product in a new one may run before it asks.
            torch.set_num_threads(threads)
            return function(task)
        except Exception as error:
            error.add_note(f"in task {number} of {len(tasks)}")
            failures[number] = error
            return None

    numbered = enumerate(tasks, start=1)
    results = Parallel(jobs, backend="threading")(delayed(attempt)(*task) for task in numbered)
    if failures:
        raise failures[min(failures)]
    return results  # type: ignore[no-any-return]
