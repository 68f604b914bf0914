"""The section of a report about skill: what the policy is worth where the truth is known."""

from __future__ import annotations

import numpy as np

from experiments.evaluation.skill import PAYS, RISK_AVERSION, TITLES, Skill, WorldSkill
from experiments.reporting.charts import Chart, Intervals, Mark, Panel
from experiments.reporting.contents import Section, Table
from experiments.reporting.style import number, percent
from experiments.statistics.verdict import Outcome
from risk.bootstrap import Interval

COLUMNS = ("world", "policy, % a year", "best static book", "difference", "ratio")


def skill_section(skill: Skill) -> Section:
    """The picture, and the table behind it."""
    return Section(
        "Skill in worlds whose law is known",
        (skill_chart(skill), skill_table(skill)),
        intro="Years that were simulated from five fixed laws, and that neither the policy nor the "
        "static book was fitted to. The certainty equivalent is the annual mean less "
        f"{number(RISK_AVERSION / 2.0, 1)} times the annual variance of the excess return; the "
        "ratio is that of the policy over that of the best book of constant notionals, held to "
        "expiry. A policy that only holds what pays on average ends at 1; above it lies timing. In "
        "the fair world nothing can be earned, and the distance from cash is the cost of trying. "
        "Without the risk module.",
    )


def skill_chart(skill: Skill) -> Chart:
    """The ratio of each world that pays, with its interval."""
    paying = [(world.world, world.ratio) for world in skill.worlds if world.ratio is not None]
    names = tuple(TITLES[name] for name, _ in paying)
    value, low, high = np.array([ratio for _, ratio in paying]).reshape(-1, 3).T
    outcomes = tuple(str(_outcome(ratio)) for _, ratio in paying)
    bars = Intervals("ratio", names, value, low, high, outcomes)
    book = Mark("x", 1.0, "best static book", dash=False)
    return Chart(
        "skill",
        "Certainty equivalent over that of the best static book",
        (Panel("", (bars,), marks=(book,), note="no world pays"),),
        subtitle=f"With 95 % intervals over {skill.paths:,} paths of {number(skill.years, 1)} "
        "years; to the right of 1 the policy is better.",
        x_label="ratio",
        height=100 + 25 * max(len(names), 3),
        description="; ".join(
            f"{name} {number(each)}, {outcome}"
            for name, each, outcome in zip(names, value, outcomes, strict=True)
        ),
    )


def skill_table(skill: Skill) -> Table:
    """Every world; a ratio where it says anything."""
    notes = (
        "Brackets: 95 % intervals, on the same paths for both.",
        f"No ratio where the best static book is worth less than {percent(PAYS)} a year, as in the "
        "fair world, where it is cash.",
        f"Mean ratio over the worlds that pay: {number(skill.mean_ratio)}.",
    )
    return Table("Skill", COLUMNS, tuple(_row(world) for world in skill.worlds), notes=notes)


def _row(world: WorldSkill) -> tuple[str, ...]:
    def ends(interval: Interval, *, plus: bool = False) -> str:
        value, low, high = (percent(each, 2, plus=plus) for each in interval)
        return f"{value} ({low} to {high})"

    ratio = "–"
    if world.ratio is not None:
        value, low, high = (number(each) for each in world.ratio)
        ratio = f"{value} ({low} to {high})"
    return (
        TITLES[world.world],
        ends(world.policy),
        percent(world.static.value, 2),
        ends(world.difference, plus=True),
        ratio,
    )


def _outcome(ratio: Interval) -> Outcome:
    if ratio.low > 1.0:
        return Outcome.OUTPERFORMS
    return Outcome.UNDERPERFORMS if ratio.high < 1.0 else Outcome.INCONCLUSIVE
