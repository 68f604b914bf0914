"""Look-ahead: nothing up to a session depends on what comes after it.

For many sessions t everything after t is replaced (prices, volatility, rates, the user's own
columns), and once taken away altogether. What the framework derives from the data up to t must
keep its bits: the history as it is read, prices and Greeks of every contract, unit costs, market
features; and, on the way through an environment, observations, the actions of a policy with a
memory, rewards and accounts.

Not of the past by design: the policy's own weights (learnt on other days, the same for both
futures), the dates of sessions to come (the calendar is known in advance), and the bounds of
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
from envs.hedging.market import HedgingMarket
from envs.market.sources.index import SyntheticData
from experiments.certificates.certificate import Certificate, Certification
from experiments.certificates.small_environments import (
    STOCKS,
    allocation_settings,
    few_paths,
    hedging_settings,
    index_history,
    models_of,
    option_settings,
    panel_histories,
    untrained_policy,
    with_extra_columns,
)
from experiments.certificates.sources import (
    LoadedSource,
    Source,
    index_tables,
    panel_tables,
    sp500_table,
    stock_table,
)
from experiments.environments.setup import open_books
from experiments.evaluation.open_run import TestedRun

LONGEST_EPISODE = 25  # sessions that a policy trades through before it trades at t
BOOKS = 2

Arrays = Mapping[str, NDArray[Any]]  # name -> (sessions, ...)


@dataclass(frozen=True)
class Configuration:
    """One way in which the framework can be set up."""

    name: str
    source: Source
    settings: MarketSettings
    policy: Policy | None = None  # None: a small untrained network


@dataclass(frozen=True)
class Difference:
    """One number that changed with the future."""

    array: str  # dotted name
    column: str  # feature or instrument; empty where the array has neither
    session: int
    date: str

    def __str__(self) -> str:
        column = f" ({self.column})" if self.column else ""
        return f"{self.array}{column} of {self.date}"


Comparisons = dict[int, Difference | None]  # session t -> the first number that changed


def look_ahead(certification: Certification) -> list[Certificate]:
    """One certificate for each environment, and one for the run."""
    moments, seed = certification.profile.moments, certification.seed

    def certificate(name: str, configurations: Iterable[Configuration]) -> Certificate:
        return certificate_of(
            name, {each.name: compare_futures(each, moments, seed) for each in configurations}
        )

    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        certificates = [
            certificate("look_ahead.options", option_configurations(certification, folder)),
            certificate("look_ahead.allocation", allocation_configurations(certification, folder)),
            certificate("look_ahead.hedging", hedging_configurations(certification, folder)),
        ]
    if certification.tested is not None:
        certificates.append(certificate("look_ahead.run", run_configurations(certification.tested)))
    return certificates


def certificate_of(name: str, results: Mapping[str, Comparisons]) -> Certificate:
    """PASS where no pair differs; `results` are by configuration."""
    pairs = sum(map(len, results.values()))
    differing = [
        (configuration, t, difference)
        for configuration, result in results.items()
        for t, difference in result.items()
        if difference is not None
    ]
    what = f"of {pairs} pairs of {len(results)} configurations and a session differ"
    details: dict[str, Any] = {
        "pairs": pairs,
        "differing": len(differing),
        "first": None,
        "configurations": {configuration: len(result) for configuration, result in results.items()},
    }
    if differing:
        configuration, t, first = differing[0]
        what += f"; first {first}, with what comes after session {t} of {configuration}"
        details["first"] = {"configuration": configuration, "session": t, "what": str(first)}
    return Certificate(name, not differing and pairs > 0, float(len(differing)), what, details)


def compare_futures(configuration: Configuration, moments: int, seed: int) -> Comparisons:
    """Compare one configuration with itself under other futures."""
    rng = np.random.default_rng(seed)
    source, settings = configuration.source, configuration.settings
    market = settings.build(source.history())
    policy = configuration.policy
    if policy is None:
        policy = untrained_policy(settings, market, seed)
    results: Comparisons = {}
    # What is left of a history has to hold one liability.
    fewest = settings.env.episode.sessions if isinstance(market, HedgingMarket) else 0
    for t in chosen_sessions(market, moments, rng, fewest):
        other = settings.build(source.changed(t, rng))
        results[t] = (
            market_difference(market, other, t)
            or episode_difference(settings, policy, market, other, t)
            or market_difference(market, settings.build(source.cut(t)), t)
        )
    return results


def chosen_sessions(
    market: BookMarket, count: int, rng: np.random.Generator, fewest: int = 0
) -> list[int]:
    """Sessions t to change everything after: the eve of a roll where there is one, and others.

    At least `fewest` sessions come before.
    """
    first, last = max(market.first_usable + 1, fewest), market.history.num_sessions - 2
    eves: list[int] = []
    listed = market.listed[first + 1 : last + 1]
    if listed.any():
        eves = [first + int(rng.choice(np.flatnonzero(listed)))]
    rest = [t for t in rng.permutation(np.arange(first, last + 1)).tolist() if t not in eves]
    return sorted((eves + rest)[:count])


# --- comparing -----------------------------------------------------------------------------------


def market_difference(market: BookMarket, other: BookMarket, session: int) -> Difference | None:
    """Where two markets differ in anything up to `session`; None where they are bit-identical.

    Interest from `session` to the next is left out where there is no next: how long it runs is
    settled by the calendar, but is read off the dates here.
    """
    last_interest = min(session + 1, other.history.num_sessions - 1)

    def known(of: BookMarket) -> dict[str, NDArray[Any]]:
        arrays = {
            name: values[: last_interest if name == "cash_return" else session + 1]
            for name, values in session_arrays(of, of.history.num_sessions)
        }
        return {**arrays, "first_usable": np.array([of.first_usable])}

    return first_difference(market, known(market), known(other))


def session_arrays(item: Any, sessions: int, name: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Every array with a session axis inside a market, by its dotted name, sessions first.

    What is added to a market later is among them without being named here.
    """
    parts: Mapping[str, Any] = {}
    if is_dataclass(item):
        parts = {field.name: getattr(item, field.name) for field in fields(item)}
    elif isinstance(item, Mapping):
        parts = item
    elif isinstance(item, np.ndarray):
        # (P, T, ...) before (T, ...): no market here has as many instruments as sessions.
        for axis in (1, 0):
            if axis < item.ndim and item.shape[axis] == sessions:
                yield name, np.moveaxis(item, axis, 0)
                return
    for key, part in parts.items():
        yield from session_arrays(part, sessions, f"{name}.{key}".lstrip("."))


def episode_difference(
    settings: MarketSettings, policy: Policy, market: BookMarket, other: BookMarket, session: int
) -> Difference | None:
    """The first thing that a policy sees, does or earns differently up to `session`."""
    start = max(market.first_usable, session - LONGEST_EPISODE)
    window = Window(start, session + 2)  # the trade at t is settled a session later
    one, two = (
        _episode(open_books(settings, each, window, BOOKS), policy) for each in (market, other)
    )
    return first_difference(market, one, two, start)


def _episode(kernel: BookKernel, policy: Policy) -> dict[str, NDArray[Any]]:
    """Everything that happens in a window up to the trade of its last session but one.

    The trade as well: what a risk module or a cost reads is not seen before. What comes of it is
    of the session after.
    """
    observation, state = kernel.reset(), None
    starts = np.ones(kernel.num_envs, np.bool_)
    reward = np.zeros(kernel.num_envs)
    days: dict[str, list[NDArray[Any]]] = {}
    for _ in range(kernel.window.start, kernel.window.stop - 1):
        action, state = policy.predict(
            observation, state=state, episode_start=starts, deterministic=True
        )
        day = {"observation": observation, "action": action, "reward": reward}
        day |= {f"account {name}": values for name, values in kernel.ledger.get_state().items()}
        observation, reward, *_, trade = kernel.step(action)
        day |= {"traded to": trade.quantity, "traded at": trade.price}
        day |= {"cost of the trade": trade.cost}
        for name, values in day.items():
            days.setdefault(name, []).append(np.array(values))
        starts = np.zeros(kernel.num_envs, np.bool_)
    return {name: np.stack(values) for name, values in days.items()}


def first_difference(
    market: BookMarket, one: Arrays, two: Arrays, start: int = 0
) -> Difference | None:
    """The earliest entry of `one` whose bits differ in `two`, sessions counted from `start`."""
    differences = []
    for name, values in one.items():
        index = first_unequal(values, two.get(name, np.empty(0)))
        if index is not None:
            session = start + index[0]
            column = _column(market, name, values.shape, index)
            date = str(market.history.dates[session])
            differences.append(Difference(name, column, session, date))
    return min(differences, key=lambda difference: difference.session, default=None)


def first_unequal(one: NDArray[Any], two: NDArray[Any]) -> tuple[int, ...] | None:
    """Index of the first entry whose bits differ; None where all are the same."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return (0,) * max(one.ndim, 1)
    bits = f"u{one.dtype.itemsize}"
    unequal = np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(two).view(bits)
    if not unequal.any():
        return None
    return tuple(int(i) for i in np.argwhere(unequal)[0])


def _column(market: BookMarket, name: str, shape: tuple[int, ...], index: tuple[int, ...]) -> str:
    """The name of what the last index counts, where that is features or instruments."""
    names = [feature.name for feature in market.features]
    if name.startswith("observed.after"):
        names = names[len(names) - shape[-1] :]
    elif name != "observation" and not name.startswith("observed."):
        names = list(market.instruments)
    counts_names = len(shape) > 2 or (len(shape) == 2 and shape[-1] == len(names))
    return names[index[-1]] if counts_names and index[-1] < len(names) else ""


# --- configurations ------------------------------------------------------------------------------


def option_configurations(certification: Certification, folder: Path) -> Iterator[Configuration]:
    """Every source under both surfaces, with every block of observations."""
    everything, rng = certification.profile.everything, np.random.default_rng(certification.seed)
    variants = list(product(("vix", "flat"), ("expiry", "daily")))
    for source in _index_sources(certification, rng, folder):
        history: Any = source.history()
        for number, (surface, roll) in enumerate(variants if everything else variants[::3]):
            managed = number % 2 == 1
            settings = option_settings(history, surface, roll, managed=managed)
            name = _named(f"{source.name}, {surface}, {roll}", managed)
            yield Configuration(name, source, settings)


def allocation_configurations(
    certification: Certification, folder: Path
) -> Iterator[Configuration]:
    """Every source of panels, without and with the risk module."""
    for number, source in enumerate(_panel_sources(certification, folder)):
        both = (False, True) if certification.profile.everything else (number % 2 == 1,)
        for managed in both:
            settings = allocation_settings(managed=managed)
            yield Configuration(_named(source.name, managed), source, settings)


def hedging_configurations(certification: Certification, folder: Path) -> Iterator[Configuration]:
    """Every source of an index, hedged by bands."""
    rng = np.random.default_rng(certification.seed)
    for source in _index_sources(certification, rng, folder):
        yield Configuration(source.name, source, hedging_settings())


def run_configurations(tested: TestedRun) -> Iterator[Configuration]:
    """A run's policy in the market that it was trained in, without and with its risk module."""
    settings: Any = tested.setup.settings
    source = LoadedSource("run", few_paths(tested.setup.loaded.history))
    for managed in (False, True) if settings.risk.enabled else (False,):
        under = replace(settings, risk=replace(settings.risk, enabled=managed))
        yield Configuration(_named("the run", managed), source, under, tested.policy)


def _index_sources(
    certification: Certification, rng: np.random.Generator, folder: Path
) -> Iterator[Source]:
    profile = certification.profile
    yield sp500_table(None if profile.everything else profile.sessions, folder)
    for model in models_of(SyntheticData) if profile.everything else ("gbm", "heston"):
        history = index_history(model, profile.sessions)
        yield LoadedSource(f"synthetic {model}", with_extra_columns(history, rng))
    simulated = with_extra_columns(index_history("heston", profile.sessions, paths=1), rng)
    yield from index_tables(simulated, rng, folder)


def _panel_sources(certification: Certification, folder: Path) -> Iterator[Source]:
    profile = certification.profile
    histories = dict(panel_histories(profile.sessions, everything=profile.everything))
    stocks = histories.pop(STOCKS, None)
    for name, history in histories.items():
        yield LoadedSource(name, history)
    yield from panel_tables(next(iter(histories.values())), folder)
    if stocks is not None:
        yield stock_table(None if profile.everything else profile.sessions)


def _named(name: str, managed: bool) -> str:
    return f"{name}, risk module" if managed else name
