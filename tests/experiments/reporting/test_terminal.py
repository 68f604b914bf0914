"""On a terminal of 80 characters every name stays whole, and the last lines say where to go on."""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import conf
from callbacks.progress import Meter
from experiments.evaluation.run_comparison import EvaluatedBook, RunComparison
from experiments.reporting.terminal import ROWS, comparison_lines, say_where
from experiments.statistics.paired_effects import Effect, PairedEffect
from experiments.statistics.verdict import compare
from experiments.sweeps.ablation import (
    PARTS,
    SCORE,
    Ablation,
    AblationResult,
    AblationSettings,
    Technique,
)
from experiments.sweeps.ablation_page import terminal_lines

KEYS = [key for key, _, _ in ROWS]


def shown(lines):
    console = Console(width=80)
    with console.capture() as capture:
        for line in lines:
            console.print(line)
    text = capture.get()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    return text


def test_an_ablation_of_every_technique_names_each_in_one_piece():
    files = sorted((Path(conf.__file__).parent / "techniques").glob("*.yaml"))
    techniques = {file.stem: Technique(description="a", overrides=("seed=1",)) for file in files}
    chosen = AblationSettings(techniques=techniques, seeds=(0, 1, 2, 3, 4))
    differences = np.full(5, -12.34)
    effects = tuple(
        PairedEffect(name, differences, -12.34, -23.45, -10.12, 0.5, 1.0, Effect.NOT_SHOWN)
        for name in techniques
    )
    arms = ("without", *techniques)
    scores = dict.fromkeys(arms, (-12.34,) * 5)
    measures = (SCORE, *PARTS)
    result = AblationResult(
        dict.fromkeys(measures, scores),
        dict.fromkeys(measures, effects),
        dict.fromkeys(arms, 12345.0),
        None,
    )
    text = shown(terminal_lines(Ablation(Path(), (), chosen), result))
    lines = [line.split() for line in text.splitlines() if line]
    for name in techniques:
        row = [name, "-12.34", "-12.34", "-23.45", "to", "-10.12"]
        assert lines.count([*row, "1.000", "not", "shown"]) == 1
        assert lines.count(row) == 2
    assert "curiosity 12345" in " ".join(text.split())


def test_ten_runs_are_compared_in_tables_that_fit():
    rng = np.random.default_rng(0)
    returns = {
        f"production/2026-11-29/07-31-{k}": rng.normal(0.0, 0.01, 300) for k in range(10, 20)
    }
    first, *others = returns
    verdict = compare(returns[first], {name: returns[name] for name in others}, 0.0, reps=100)
    days = np.arange("2020-01-01", "2020-10-28", dtype="datetime64[D]")
    books = tuple(
        EvaluatedBook(
            name,
            "",
            7,
            {"same": 1, **{f"part.{k}": {"x": [place] * 20} for k in range(12)}},
            days,
            np.ones(301),
            np.zeros(300),
            dict.fromkeys(KEYS, -1.2),
            {"vega": 3.25},
        )
        for place, name in enumerate(returns)
    )
    lines = comparison_lines(RunComparison("test", "policy", books, verdict, None))
    text = shown(lines)
    assert text.count("Sharpe ratio  ") == 3  # of four, four and two runs
    assert text.count("mean vega, $ a point") == 3
    assert "part.0.x [0, 0, 0, 0, 0, 0, 0, 0, 0,... -> [1, " in " ".join(text.split())
    assert "part.9.x" in text
    assert "part.10.x" not in text
    assert "and 2 more" in text
    assert text.count("-120.0 %") == 10 * sum(style == "percent" for _, _, style in ROWS)
    assert [name for name in others if name not in text] == []


def test_a_command_ends_with_where_its_result_is_and_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / ("x" * 90)
    folder.mkdir(parents=True)
    say_where(folder, "python -m experiments.stress run=[a]")
    (folder / "report.html").touch()
    say_where(folder)
    shown_folder = f"outputs/{'x' * 90}"
    assert capsys.readouterr().out.splitlines() == [
        f"written to {shown_folder}",
        "next: python -m experiments.stress run=[a]",
        f"written to {shown_folder}",
        f"next: open {shown_folder}/report.html",
    ]


def test_a_line_a_run_says_the_time_left_by_those_that_were_done_now(monkeypatch, caplog):
    times = iter([0.0, 61.0, 120.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    with caplog.at_level("INFO"), Meter(5, "run", show_bar=False, line_after=2) as meter:
        meter.advance(2)  # by an earlier call
        meter.advance()
        meter.advance(0)
        meter.advance()
    assert caplog.messages == ["run 3 of 5, 2 min 02 s left", "run 4 of 5, 1 min 00 s left"]
    assert not list(times)


def test_a_meter_is_quiet_but_on_a_terminal(monkeypatch, capsys):
    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda answer=is_terminal: answer)
        with Meter(2, "window") as meter:
            meter.advance()
        shown_bar = capsys.readouterr().err
        assert ("0/2" in shown_bar) == is_terminal
