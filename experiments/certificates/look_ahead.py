"""Look-ahead tripwire: nothing up to a session depends on what comes after it.

For many sessions t everything after t is replaced (prices, volatility, rates, the user's own
columns), and once taken away altogether. What the framework derives from the data up to t must
keep its bits: the history as it is read, prices and Greeks of every contract, unit costs, market
features; and, on the way through an environment, observations, the actions of a policy with a
memory, rewards and accounts.

What is not of the past by design: the policy's own weights (learnt on other days, the same for
both futures), the dates of sessions to come (the calendar is known in advance), and the bounds of
splits that are given as shares of the sessions, which is why sessions are counted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.policy import Policy
from envs.core.batch import Window
from envs.core.kernel import BookKernel
from envs.core.market import BookMarket, MarketSettings
from experiments.certificates.certificate import Certificate, Certification
from experiments.certificates.other_future import LoadedSource, Source
from experiments.certificates.outside_tables import (
    index_tables,
    panel_tables,
    sp500_table,
    stock_table,
)
from experiments.certificates.setups import (
    STOCKS,
    allocation,
    as_trained,
    index_histories,
    index_history,
    option_book,
    panel_histories,
    untrained_policy,
    with_own_columns,
)
from experiments.environments.setup import open_books
from experiments.evaluation.open_run import TestedRun

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """One number that is not what it was."""

    where: str  # dotted name of the array
    item: str  # which column of it: a feature, an instrument; empty where there is but one
    session: int
    date: str

    def __str__(self) -> str:
        which = f" ({self.item})" if self.item else ""
        return f"{self.where}{which} of {self.date}"


def session_arrays(item: Any, sessions: int, prefix: str = "") -> Iterator[tuple[str, Array]]:
    """Every array with a session axis inside a market, by its dotted name, sessions first.

    What is added to a market later is among them without being named here.
    """
    if is_dataclass(item):
        for field in fields(item):
            yield from session_arrays(getattr(item, field.name), sessions, f"{prefix}.{field.name}")
    elif isinstance(item, Mapping):
        for name, value in item.items():
            yield from session_arrays(value, sessions, f"{prefix}.{name}")
    elif isinstance(item, np.ndarray):
        axes = [axis for axis in (1, 0) if axis < item.ndim and item.shape[axis] == sessions]
        # (P, T, ...) before (T, ...): no market here has as many instruments as sessions.
        if axes:
            yield prefix.lstrip("."), np.moveaxis(item, axes[0], 0)


def first_difference(
    market: BookMarket, other: BookMarket, session: int, *, same_length: bool
) -> Difference | None:
    """Where two markets differ in anything up to `session`; None where they are bit-identical.

    Interest from `session` to the next is left out where there is no next: how long it runs is
    settled by the calendar, but is read off the dates here.
    """
    length, other_length = market.history.num_sessions, other.history.num_sessions
    theirs = dict(session_arrays(other, other_length))
    for name, values in session_arrays(market, length):
        until = session + (1 if same_length or name != "cash_return" else 0)
        if name not in theirs:
            return Difference(name, "missing", 0, str(market.history.dates[0]))
        where = first_unequal(values[:until], theirs[name][:until])
        if where is not None:
            date = str(market.history.dates[where[0]])
            return Difference(name, _item(market, name, values.shape, where), where[0], date)
    if market.first_usable != other.first_usable:
        first = min(market.first_usable, other.first_usable)
        return Difference("first_usable", "", first, str(market.history.dates[first]))
    return None


def first_unequal(one: Array, two: Array) -> tuple[int, ...] | None:
    """Index of the first entry whose bits differ; None where all are the same."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return (0,) * max(one.ndim, 1)
    bits = f"u{one.dtype.itemsize}"
    unequal = np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(two).view(bits)
    if not unequal.any():
        return None
    return tuple(int(i) for i in np.argwhere(unequal)[0])


def _item(market: BookMarket, name: str, shape: tuple[int, ...], where: tuple[int, ...]) -> str:
    """The last index by its name, where it counts features or instruments."""
    names = [feature.name for feature in market.features]
    if name.startswith("observed.after"):
        names = names[len(names) - shape[-1] :]
    elif not name.startswith("observed."):
        names = list(market.instruments)
    counts_them = len(where) > 2 or (len(where) == 2 and shape[-1] == len(names))
    return names[where[-1]] if counts_them and where[-1] < len(names) else ""


LONGEST_EPISODE = 25  # sessions that a policy trades through before it trades at t
BOOKS = 2


@dataclass(frozen=True)
class Configuration:
    """One way in which the framework can be set up."""

    name: str
    source: Source
    case: MarketSettings
    policy: Policy | None = None  # None: a small network made for it


@dataclass(frozen=True)
class LookAheadResult:
    """What was found in one configuration."""

    name: str
    sessions: tuple[int, ...]  # t of every pair that was compared
    differences: tuple[tuple[int, Difference], ...]  # t and the first number that changed


def look_ahead(wanted: Certification) -> list[Certificate]:
    """One certificate for each environment, and one for the run."""

    def tripped(found: Iterable[Configuration]) -> list[LookAheadResult]:
        return [trip(one, wanted.profile.moments, wanted.seed) for one in found]

    with TemporaryDirectory() as folder:
        made = [
            certificate_of("look_ahead.options", tripped(option_books(wanted, Path(folder)))),
            certificate_of("look_ahead.allocation", tripped(allocations(wanted, Path(folder)))),
        ]
    if wanted.tested is not None:
        made.append(certificate_of("look_ahead.run", tripped(the_run(wanted.tested))))
    return made


def certificate_of(name: str, found: list[LookAheadResult]) -> Certificate:
    """PASS where no pair differs."""
    pairs = sum(len(one.sessions) for one in found)
    differing = [(one.name, t, what) for one in found for t, what in one.differences]
    what = f"of {pairs} pairs of {len(found)} configurations and a session differ"
    details: dict[str, Any] = {
        "pairs": pairs,
        "differing": len(differing),
        "first": None,
        "configurations": {one.name: len(one.sessions) for one in found},
    }
    if differing:
        where, t, first = differing[0]
        what += f"; first {first}, with what comes after session {t} of {where}"
        details["first"] = {"configuration": where, "session": t, "what": str(first)}
    return Certificate(name, not differing and pairs > 0, float(len(differing)), what, details)


def trip(configuration: Configuration, moments: int, seed: int) -> LookAheadResult:
    """Compare one configuration with itself under other futures."""
    rng = np.random.default_rng(seed)
    source, case = configuration.source, configuration.case
    market = case.build(source.history())
    policy = configuration.policy
    if policy is None:
        window = Window(market.first_usable, market.history.num_sessions)
        policy = untrained_policy(open_books(case, market, window, BOOKS), seed)
    sessions = chosen_sessions(market, moments, rng)
    found = []
    for t in sessions:
        other = case.build(source.changed(t, rng))
        difference = (
            first_difference(market, other, t, same_length=True)
            or _on_the_way(case, policy, market, other, t)
            or first_difference(market, case.build(source.cut(t)), t, same_length=False)
        )
        if difference is not None:
            found.append((t, difference))
    return LookAheadResult(configuration.name, tuple(sessions), tuple(found))


def chosen_sessions(market: BookMarket, count: int, rng: np.random.Generator) -> list[int]:
    """Sessions t to change everything after: the eve of a roll where there is one, and others."""
    first, last = market.first_usable + 1, market.history.num_sessions - 2
    eves: list[int] = []
    listed = market.listed[first + 1 : last + 1]
    if listed.any():
        eves = [first + int(rng.choice(np.flatnonzero(listed)))]
    rest = [t for t in rng.permutation(np.arange(first, last + 1)).tolist() if t not in eves]
    return sorted((eves + rest)[:count])


# --- through an environment ----------------------------------------------------------------------


def _on_the_way(
    case: MarketSettings, policy: Policy, market: BookMarket, other: BookMarket, session: int
) -> Difference | None:
    """The first thing that a policy sees, does or earns differently up to `session`."""
    start = max(market.first_usable, session - LONGEST_EPISODE)
    window = Window(start, session + 2)  # the trade at t is settled a session later
    one, two = (_episode(open_books(case, each, window, BOOKS), policy) for each in (market, other))
    labels = {
        "observation": [feature.name for feature in market.features],
        **{key: list(market.instruments) for key in ("action", "traded to", "traded at")},
    }
    found = []
    for name, values in one.items():
        where = first_unequal(values, two[name])
        if where is not None:
            found.append((where[0], name, where[-1] if len(where) > 2 else None))
    if not found:
        return None
    step, name, column = min(found, key=lambda item: item[0])
    known = labels.get(name, [])
    item = "" if column is None else known[column] if column < len(known) else str(column)
    at = start + step
    return Difference(name, item, at, str(market.history.dates[at]))


def _episode(kernel: BookKernel, policy: Policy) -> dict[str, NDArray[Any]]:
    """Everything that happens in a window up to the trade of its last session but one.

    The trade as well: what a risk module or a cost reads is not seen before. What comes of it is
    of the session after.
    """
    obs, state = kernel.reset(), None
    starts = np.ones(kernel.num_envs, np.bool_)
    reward = np.zeros(kernel.num_envs)
    days: dict[str, list[NDArray[Any]]] = {}
    while True:
        action, state = policy.predict(obs, state=state, episode_start=starts, deterministic=True)
        day = {"observation": obs, "action": action, "reward": reward}
        day |= {f"account {name}": values for name, values in kernel.ledger.get_state().items()}
        last = kernel.session[0] >= kernel.window.stop - 2
        result = kernel.step(action)
        trade = result.record
        day |= {
            "traded to": trade.quantity,
            "traded at": trade.price,
            "cost of the trade": trade.cost,
        }
        for name, values in day.items():
            days.setdefault(name, []).append(np.array(values))
        if last:
            return {name: np.stack(values) for name, values in days.items()}
        obs, reward = result.observation, result.reward
        starts = np.zeros(kernel.num_envs, np.bool_)


# --- what is looked at ---------------------------------------------------------------------------


def option_books(wanted: Certification, folder: Path) -> Iterator[Configuration]:
    """Every source under both surfaces, with every block of observations."""
    profile, rng = wanted.profile, np.random.default_rng(wanted.seed)
    ways = list(product(("vix", "flat"), ("expiry", "daily")))
    for source in _index_sources(wanted, rng, folder):
        history: Any = source.history()
        for number, (surface, roll) in enumerate(ways if profile.everything else ways[::3]):
            managed = number % 2 == 1
            case = option_book(history, surface, roll, managed=managed)
            yield Configuration(_named(f"{source.name}, {surface}, {roll}", managed), source, case)


def allocations(wanted: Certification, folder: Path) -> Iterator[Configuration]:
    """Every source of panels, without and with the risk module."""
    for number, source in enumerate(_panel_sources(wanted, folder)):
        both = (False, True) if wanted.profile.everything else (number % 2 == 1,)
        for managed in both:
            name = _named(source.name, managed)
            yield Configuration(name, source, allocation(managed=managed))


def the_run(tested: TestedRun) -> Iterator[Configuration]:
    """A run's policy in the market that it was trained in, without and with its risk module."""
    setup = tested.setup
    source, case = LoadedSource("run", setup.loaded.history), as_trained(setup)
    risk = setup.settings.risk
    for managed in (False, True) if risk.enabled else (False,):
        under = replace(case, risk=replace(risk, enabled=managed))
        yield Configuration(_named("the run", managed), source, under, tested.policy)


def _index_sources(
    wanted: Certification, rng: np.random.Generator, folder: Path
) -> Iterator[Source]:
    profile = wanted.profile
    yield sp500_table(None if profile.everything else profile.sessions, folder)
    for name, history in index_histories(profile.sessions, rng, everything=profile.everything):
        yield LoadedSource(name, history)
    simulated = with_own_columns(index_history("heston", profile.sessions, paths=1), rng)
    yield from index_tables(simulated, rng, folder)


def _panel_sources(wanted: Certification, folder: Path) -> Iterator[Source]:
    profile = wanted.profile
    histories = dict(panel_histories(profile.sessions, everything=profile.everything))
    stocks = histories.pop(STOCKS, None)
    for name, history in histories.items():
        yield LoadedSource(name, history)
    yield from panel_tables(next(iter(histories.values())), folder)
    if stocks is not None:
        yield stock_table(None if profile.everything else profile.sessions)


def _named(name: str, managed: bool) -> str:
    return f"{name}, risk module" if managed else name
