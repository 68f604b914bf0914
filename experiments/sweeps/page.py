"""A sweep as a table for the terminal, and as a page with Optuna's pictures."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import (
    plot_optimization_history,
    plot_param_importances,
    plot_slice,
)
from rich.table import Table

from conf.files import write_atomically
from experiments.reporting.style import number
from experiments.reporting.terminal import terminal_table
from experiments.sweeps.search import Sweep, ranked, scores_of, value_of

PAGE = "report.html"
_SHOWN = 10  # trials on the terminal
_FEWEST = 2  # completed trials that importance can be told from
_PICTURES: tuple[tuple[str, Callable[..., object]], ...] = (
    ("Scores in the order of the trials", plot_optimization_history),
    ("Which setting mattered", plot_param_importances),
    ("Score over each setting", plot_slice),
)


def terminal_lines(sweep: Sweep) -> Table:
    """The best trials."""
    trials = ranked(sweep)
    names, cells = _cells(sweep, trials[:_SHOWN], seeds=())
    columns = (*names[:2], "")
    rows = [
        [*row[:2], "  ".join(map("=".join, zip(names[2:], row[2:], strict=True)))] for row in cells
    ]
    title = f"the best of {len(trials)} trials, by validation score"
    return terminal_table(title, columns, rows)


def write_page(sweep: Sweep) -> Path:
    """All trials and Optuna's pictures, on a page that needs no network."""
    trials = ranked(sweep)
    columns, rows = _cells(sweep, trials, sweep.settings.seeds)
    parts = [
        f"<h1>Sweep {html.escape(sweep.study.study_name)}</h1>",
        "<p>Objective: the interquartile mean over seeds of the validation score. A trial without"
        " one was pruned after its first seed, or a seed of it was ruined.</p>",
        _table(columns, rows),
    ]
    completed = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    varied = len({trial.value for trial in completed}) > 1
    if len(completed) >= _FEWEST and varied:
        for i, (title, draw) in enumerate(_PICTURES):
            figure = draw(sweep.study)
            script = "inline" if i == 0 else False
            body = figure.to_html(full_html=False, include_plotlyjs=script)  # type: ignore[attr-defined]
            parts += [f"<h2>{title}</h2>", body]
    page = f"<!doctype html><meta charset='utf-8'><title>Sweep</title><body>{''.join(parts)}</body>"
    write_atomically(sweep.folder / PAGE, page.encode())
    return sweep.folder / PAGE


def _cells(
    sweep: Sweep, trials: Sequence[FrozenTrial], seeds: Sequence[int]
) -> tuple[list[str], list[list[str]]]:
    names = list(sweep.settings.space)
    rows = []
    for trial in trials:
        scores: list[float | None] = [*scores_of(trial), *(None for _ in seeds)]
        point = sweep.point(trial.number)
        rows.append(
            [
                f"{trial.number:03d}",
                number(value_of(trial), 3) if value_of(trial) is not None else "pruned",
                *(number(score, 2) for score in scores[: len(seeds)]),
                *(_shown(point[name]) for name in names),
            ]
        )
    shown = [name.rpartition(".")[2] for name in names]
    return ["trial", "score", *(f"seed {seed}" for seed in seeds), *shown], rows


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table border='1' cellpadding='4'>{line(columns, 'th')}{body}</table>"
