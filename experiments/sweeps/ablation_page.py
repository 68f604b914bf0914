"""An ablation as tables for the terminal, and as a page."""

from __future__ import annotations

import numpy as np
from rich.table import Table as TerminalTable

from experiments.reporting.charts import Chart, Intervals, Mark, Panel
from experiments.reporting.contents import Report, Section, Table
from experiments.reporting.style import number, shown_name
from experiments.reporting.terminal import terminal_table
from experiments.statistics.paired_effects import Effect, PairedEffect
from experiments.statistics.verdict import Outcome
from experiments.sweeps.ablation import ENSEMBLE, SCORE, WITHOUT, Ablation, AblationResult

TITLES = {
    SCORE: "validation score",
    "sharpe": "Sharpe ratio of the validation years",
    "worlds_sharpe": "Sharpe ratio in unseen worlds",
}
# Colour and marker are those of the like outcome of a comparison.
_LIKE = {
    Effect.HELPS: Outcome.OUTPERFORMS,
    Effect.HURTS: Outcome.UNDERPERFORMS,
    Effect.NOT_SHOWN: Outcome.INCONCLUSIVE,
}
_FEWEST = 5  # seeds, below which the page says that they are few


def terminal_lines(ablation: Ablation, result: AblationResult) -> list[TerminalTable | str]:
    """Each technique on each measure, and what is to be minded."""
    tables: list[TerminalTable | str] = []
    for measure, effects in result.effects.items():
        title = f"{TITLES[measure]}, {len(ablation.settings.seeds)} seeds, {WITHOUT}: "
        summary = _shown(result.summary(WITHOUT, measure))
        # Eighty characters: what a run costs follows below, and parts have no verdict.
        shown = 6 if measure == SCORE else 4
        rows = [row[:shown] for row in _rows(ablation, effects, result, measure)]
        tables.append(terminal_table(title + summary, _columns(ablation)[:shown], rows))
    seconds = ", ".join(f"{arm} {result.cpu_seconds[arm]:.0f}" for arm in ablation.arms)
    return [*tables, f"CPU seconds of a run: {seconds}.", *_notes(ablation, result)[1:]]


def build_page(ablation: Ablation, result: AblationResult) -> Report:
    """The verdicts at a glance, then each measure and every seed."""
    chosen = ablation.settings
    counts = {
        effect: sum(row.effect is effect for row in result.effects[SCORE]) for effect in Effect
    }
    sections = [
        Section(
            TITLES[measure].capitalize(),
            (
                _chart(ablation, measure, result),
                Table(
                    "With less without, seed by seed",
                    _columns(ablation),
                    tuple(map(tuple, _rows(ablation, effects, result, measure))),
                ),
                Table(
                    "Every seed",
                    ("", *(f"seed {seed}" for seed in chosen.seeds)),
                    tuple((shown_name(arm), *result.scores[measure][arm]) for arm in ablation.arms),
                    folded=True,
                ),
            ),
            intro="" if measure == SCORE else "A part of the score; the verdicts go by the whole.",
        )
        for measure, effects in result.effects.items()
    ]
    techniques = Table(
        "Techniques",
        ("technique", "what it does", "overrides"),
        tuple(
            (shown_name(name), technique.description, " ".join(technique.overrides))
            for name, technique in chosen.techniques.items()
        ),
    )
    return Report(
        title="Which techniques help",
        subtitle=" ".join(ablation.overrides),
        verdict_text=f"Of {len(chosen.techniques)} techniques {counts[Effect.HELPS]} "
        f"help, {counts[Effect.HURTS]} hurt, and of {counts[Effect.NOT_SHOWN]} neither is shown: "
        f"{len(chosen.seeds)} paired seeds, paired t-tests at level {chosen.level:g} with Holm's "
        "correction for the number of techniques.",
        sections=(*sections, Section("What was compared", (techniques,))),
        footer=tuple(_notes(ablation, result)),
    )


def _columns(ablation: Ablation) -> tuple[str, ...]:
    interval = f"{100 * ablation.settings.level:g} % interval"
    return ("technique", "with it", "difference", interval, "p (Holm)", "verdict", "CPU s")


def _rows(
    ablation: Ablation, effects: tuple[PairedEffect, ...], result: AblationResult, measure: str
) -> list[list[str]]:
    rows = []
    for effect in _in_order(ablation, effects):
        low, high = (f"{end:+.2f}" for end in (effect.low, effect.high))
        before = result.cpu_seconds[ablation.before(effect.name)]
        rows.append(
            [
                effect.name,
                _shown(result.summary(effect.name, measure)),
                f"{effect.mean:+.2f}",
                f"{low} to {high}" if np.isfinite(effect.low) else "-",
                f"{effect.p_adjusted:.3f}",
                str(effect.effect) if measure == SCORE else "-",
                f"{result.cpu_seconds[effect.name]:.0f} ({before:.0f})",
            ]
        )
    if result.ensemble is not None:
        rows.append([ENSEMBLE, _shown(result.ensemble[measure]), *["-"] * 5])
    return rows


def _in_order(ablation: Ablation, effects: tuple[PairedEffect, ...]) -> list[PairedEffect]:
    """The best first; steps of a cumulative one as they were taken."""
    if ablation.settings.cumulative:
        return list(effects)
    return sorted(effects, key=lambda effect: (np.isnan(effect.mean), -effect.mean))


def _notes(ablation: Ablation, result: AblationResult) -> list[str]:
    notes = ["CPU s: of a run; in brackets without. Verdicts go by the validation score."]
    if ablation.settings.cumulative:
        notes.append("Each technique is on top of those before it, and compared with them.")
    if result.ensemble is not None:
        notes.append(f"{ENSEMBLE}: one policy of the last row's seeds, and so without a verdict.")
    if len(ablation.settings.seeds) < _FEWEST:
        notes.append(f"Fewer than {_FEWEST} seeds show only large differences.")
    for effect in result.effects[SCORE]:
        if effect.missing:
            notes.append(f"{effect.name}: {effect.missing} seed(s) have no score on one side.")
    return notes


def _chart(ablation: Ablation, measure: str, result: AblationResult) -> Chart:
    level, effects = ablation.settings.level, _in_order(ablation, result.effects[measure])
    names = tuple(shown_name(effect.name) for effect in effects)
    numbers = np.array([(e.mean, e.low, e.high) for e in effects]).reshape(-1, 3)
    value, low, high = np.where(np.isfinite(numbers), numbers, np.nan).T
    outcomes = tuple(_LIKE[effect.effect].value for effect in effects)
    intervals = Intervals("difference", names, value, low, high, outcomes)
    return Chart(
        f"ablation_{measure}",
        f"What each technique changes: {TITLES[measure]}",
        (Panel("", (intervals,), marks=(Mark("x", 0.0, dash=False),), note="no differences"),),
        subtitle=f"With less without, mean over seeds, {100 * level:g} % intervals; to the right "
        "of zero the technique is better.",
        x_label="difference",
        height=100 + 25 * max(len(effects), 3),
        description="; ".join(f"{e.name} {number(e.mean)}, {e.effect}" for e in effects),
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
