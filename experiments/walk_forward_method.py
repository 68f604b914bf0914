"""How a walk-forward was made, for its page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.market.history import VOL_ESTIMATED, MarketHistory
from envs.option_market import OptionMarket
from experiments.model_card import small_print
from experiments.report_contents import Section, Table, Text
from experiments.run_folder import shown_path
from experiments.session import Session
from experiments.settings import surface_kind
from experiments.walk_forward_folder import Walk
from experiments.walk_forward_record import WindowResult
from experiments.walk_forward_windows import WalkForwardSettings


def method_section(walk: Walk, results: Sequence[WindowResult]) -> Section:
    """What was done, what it does not show, and the facts to do it again."""
    notices = dict.fromkeys([*walk.notices, *(x for r in results for x in r.result.notices)])
    method = [
        _training(walk.asked),
        _purge(walk.session.loaded.embargo_days),
        "Each test begins in cash at the last close of the year before, with a fresh book and a "
        "policy that remembers nothing, and so does each baseline; those that are fitted are "
        "fitted on the window's training years. The growth of the years is multiplied; nothing is "
        "paid for closing a book at the end of a test. Every day is the return of exactly one "
        "window.",
    ]
    if isinstance(walk.session.market, OptionMarket):
        method.append(market_constants(walk.session, walk.windows[0].first_test))
    return Section(
        "How it was made",
        (
            *(Text(notice, kind="warning") for notice in notices),
            Text("\n\n".join(method)),
            Table("Facts", ("fact", "value"), _facts(walk), folded=False),
            *small_print(walk.session),
        ),
    )


def market_constants(session: Session, first_test: int) -> str:
    """That an option market's constants are the same for all windows, and what they knew.

    first_test: calendar year; what was estimated on earlier years alone is not named.
    """
    history = session.loaded.history
    estimated = isinstance(history, MarketHistory) and bool(
        np.any(history.implied_vol_source == VOL_ESTIMATED)
    )
    origins = (
        (surface_kind(session.settings) == "vix", 2020, "surface on S&P 500 options of 1996–2020"),
        (estimated, 2013, "estimate of VIX (before 2014 in the embedded data) on 1999–2013"),
        (session.settings.env.costs.kind == "realistic", 2019, "option spreads on quotes of 2019"),
    )
    known_later = [what for used, last, what in origins if used and last >= first_test]
    text = (
        "The constants of the volatility surface, the volatility estimate and the costs are those "
        "of the configuration; they are not refitted for each window."
    )
    if not known_later:
        return text
    return (
        f"{text} Their defaults were estimated on years that are tested here, or on later ones: "
        f"{'; '.join(known_later)}."
    )


def _training(asked: WalkForwardSettings) -> str:
    train = (
        f"the {_years(asked.train_years)} before its validation"
        if asked.mode == "rolling"
        else "all years before its validation"
    )
    begun = (
        "from fresh weights"
        if asked.retrain == "fresh"
        else "from the weights that the window before chose"
    )
    return (
        f"Each window's policy is trained on {train}, {begun}, and chosen among its evaluations by "
        f"its Sharpe ratio in the {_years(asked.validation_years)} after. Then it is tested in the "
        f"{_years(asked.test_years)} after that, which neither it nor the choice has seen."
    )


def _purge(days: int) -> str:
    if days:
        return (
            f"Purge and embargo: the last {days} calendar days, the longest life of what can be "
            "held, are left out of every training and validation stretch. What is held in one "
            "stretch has ended before the next begins, so no return that is learned from reaches "
            "into it."
        )
    return (
        "Purge: stretches end before the close at which the next begins, so no return that is "
        "learned from reaches into it. What is held has no life beyond the next close, and so "
        "there is nothing to embargo."
    )


def _facts(walk: Walk) -> tuple[tuple[str, str], ...]:
    first, last = (walk.settings_of(walk.windows[i]).top.total_timesteps for i in (0, -1))
    return (
        ("Folder", shown_path(walk.folder)),
        ("Windows", str(len(walk.windows))),
        ("Steps of the first window", f"{first:,}"),
        ("Steps of the last window", f"{last:,}"),
        ("Seed", str(walk.config["seed"])),
        ("Data fingerprint", walk.session.loaded.history.fingerprint[:12]),
        ("Bootstrap resamples", str(walk.asked.resamples)),
    )


def _years(count: int) -> str:
    return "year" if count == 1 else f"{count} years"
