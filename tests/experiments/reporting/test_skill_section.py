"""The section about skill says what was measured, and is drawn."""

import re

import pytest

from experiments.evaluation.skill import NAMES, Skill, WorldSkill
from experiments.reporting.charts import Intervals
from experiments.reporting.page import render
from experiments.reporting.skill_section import COLUMNS, skill_chart, skill_section, skill_table
from experiments.reporting.terminal import skill_lines
from risk.bootstrap import Interval
from tests.experiments.reporting.pictures import report

RATIOS = {
    "garch": Interval(1.31, 1.12, 1.50),
    "heston_premium": Interval(0.97, 0.80, 1.14),
    "heston": Interval(0.41, 0.22, 0.63),
}


def world(name):
    ratio = RATIOS.get(name)
    return WorldSkill(
        name,
        Interval(0.0345, 0.0201, 0.0489),
        Interval(0.0263, 0.0111, 0.0399),
        Interval(0.0082, -0.0012, 0.0176),
        ratio,
    )


@pytest.fixture(scope="module")
def skill():
    return Skill(tuple(map(world, NAMES)), 1, 240, 3.0)


def test_the_table_has_every_world_and_a_ratio_only_where_one_says_anything(skill):
    table = skill_table(skill)
    assert table.columns == COLUMNS
    rows = [[str(cell).replace("\u00a0", " ") for cell in row] for row in table.rows]
    assert rows[0][1:] == [
        "3.45 % (2.01 % to 4.89 %)",
        "2.63 %",
        "+0.82 % (−0.12 % to +1.76 %)",
        "1.31 (1.12 to 1.50)",
    ]
    assert [row[-1] for row in rows[3:]] == ["–", "–"]
    assert any("0.90" in note for note in table.notes)  # mean of the three ratios


def test_the_picture_has_the_worlds_that_pay_and_what_beats_the_book(skill):
    chart = skill_chart(skill)
    (series,) = chart.panels[0].series
    assert isinstance(series, Intervals)
    assert series.values.tolist() == [1.31, 0.97, 0.41]
    assert series.outcomes == ("OUTPERFORMS", "INCONCLUSIVE", "UNDERPERFORMS")
    assert [mark.value for mark in chart.panels[0].marks] == [1.0]
    nothing = Skill((world("fair"),), 1, 240, 3.0)
    assert not skill_chart(nothing).panels[0].drawable
    assert nothing.mean_ratio != nothing.mean_ratio


def test_a_page_and_the_terminal_show_it(skill):
    section = skill_section(skill)
    page = render(report([skill_chart(skill)]))
    assert "best static book" in page
    assert len(section.items) == 2
    cells = [list(column.cells) for column in skill_lines(skill).columns]
    assert cells[0] == [name.replace("_", " ") for name in NAMES]
    assert re.fullmatch(r"3\.45 \(2\.01 to 4\.89\)", str(cells[1][0]))
    assert cells[3] == [
        *(f"{r[0]:.2f} ({r[1]:.2f} to {r[2]:.2f})" for r in RATIOS.values()),
        "-",
        "-",
    ]
