"""What a report says: plain data, which `experiments.reporting.page` turns into a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from conf.errors import InputError
from experiments.reporting.charts import Chart
from experiments.reporting.style import OUTCOME_STYLES

Cell = str | float | int | None

NO_VERDICT = "NO VERDICT"  # where there was nothing to be compared with

_FOLDED_ABOVE = 24  # rows


@dataclass(frozen=True)
class Text:
    """Paragraphs, a blank line between them."""

    body: str
    title: str = ""
    kind: Literal["plain", "note", "warning"] = "plain"


@dataclass(frozen=True)
class Table:
    """Rows under columns; the first column names the row.

    Cells are text as it is to be shown, or numbers, which are written with two decimals (whole
    numbers without). None and NaN are undefined. Columns of numbers are set to the right. A cell
    that is an outcome is coloured as one.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    emphasis: frozenset[int] = frozenset()  # rows, from 0
    folded: bool | None = None  # closed until clicked; None: if it is long

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(
                    f"{self.title}: row {i} has {len(row)} cells for {len(self.columns)} columns",
                    "Give a cell for each column, None where it is undefined",
                )

    @property
    def is_folded(self) -> bool:
        """Whether it is closed until clicked."""
        return len(self.rows) > _FOLDED_ABOVE if self.folded is None else self.folded


Item = Chart | Table | Text


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    items: tuple[Item, ...]
    intro: str = ""


@dataclass(frozen=True)
class KeyNumber:
    """A number that is read first."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The whole page, from top to bottom."""

    title: str
    verdict_text: str
    sections: tuple[Section, ...]
    outcome: str = NO_VERDICT  # or an `experiments.statistics.verdict.Outcome`
    subtitle: str = ""
    key_numbers: tuple[KeyNumber, ...] = ()
    footer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.outcome not in (*OUTCOME_STYLES, NO_VERDICT):
            raise InputError(
                f"{self.outcome!r} is no verdict",
                f"Use one of {', '.join((*OUTCOME_STYLES, NO_VERDICT))}",
            )
        keys = [chart.key for chart in self.charts]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise InputError(
                f"several charts are called {', '.join(repeated)}", "Give each chart its own key"
            )

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts, in the order of the page."""
        return tuple(i for s in self.sections for i in s.items if isinstance(i, Chart))
