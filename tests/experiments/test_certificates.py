"""Every certificate in its short form passes, and fails once its bug is put in."""

import ast
import dataclasses
import datetime as dt
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from envs.batch import BatchKernel
from envs.book_kernel import BookKernel
from envs.book_observation import BookObservation
from envs.extra_blocks import EXTRA_BLOCKS, volatility_block
from envs.ledger import Ledger
from envs.market.volatility_estimate import fill_implied_vol
from envs.observation import MARKET
from experiments.certificates import canary, determinism, plain_ledger
from experiments.certificates.certificate import Certificate
from experiments.certificates.determinism import COMPARED, hash_of, tiny_config, train_once
from experiments.certificates.fair_markets import TrendForward, fair_markets
from experiments.certificates.ledger_replay import (
    allocation_books,
    certificate_of,
    option_books,
    replayed,
)
from experiments.certificates.look_ahead import Configuration, trip
from experiments.certificates.martingale import FairGain, fair_gains
from experiments.certificates.other_future import LoadedSource, TableSource
from experiments.certificates.outside_tables import index_table, panel_tables
from experiments.certificates.plain_ledger import Entry, option_price, replay
from experiments.certificates.session_rows import session_arrays
from experiments.certificates.settings import FORMS, Certification
from experiments.certificates.setups import (
    allocation,
    index_history,
    option_book,
    panel_histories,
    with_own_columns,
)
from experiments.certify import PARTS

SHORT = Certification(FORMS["short"], 0, None)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("part", PARTS)
def test_the_framework_is_certified(part):
    made = PARTS[part](SHORT)
    assert made
    assert [(one.name, one.what) for one in made if not one.passed] == []


# --- look-ahead ----------------------------------------------------------------------------------


def an_index(**kind):
    rng = np.random.default_rng(0)
    return with_own_columns(index_history("gbm", 110, **kind), rng)


def tripped(source=None, moments=2):
    source = source or LoadedSource("gbm", an_index())
    setup = option_book(source.history(), "vix", "expiry", managed=False)
    found = trip(Configuration("x", source, setup), moments, seed=3)
    assert len(found.sessions) == moments
    return found


def test_a_feature_that_reads_the_next_session_is_named(monkeypatch):
    from envs import observation

    right, column = observation.market_features, [f.name for f in MARKET].index("rsi_14")

    def shifted(history):
        values = right(history).copy()
        values[:, :-1, column] = values[:, 1:, column]
        return values

    monkeypatch.setattr(observation, "market_features", shifted)
    found = tripped()
    assert [t for t, _ in found.differences] == list(found.sessions)
    assert {what.item for _, what in found.differences} == {"rsi_14"}
    assert [what.session for _, what in found.differences] == list(found.sessions)


def test_a_block_scaled_by_the_whole_sample_is_named(monkeypatch):
    def fitted(history, tape):
        features, values = volatility_block(history, tape)
        return features, values - np.nanmean(values, axis=1, keepdims=True)

    monkeypatch.setitem(EXTRA_BLOCKS, "volatility", fitted)
    found = tripped(moments=1)
    assert found.differences[0][1].item == "vix_level"


def test_a_kernel_that_looks_one_row_ahead_is_found_on_the_way(monkeypatch):
    right = BookObservation.observe

    def ahead(self, row, *rest):
        return right(self, row + 1, *rest)

    monkeypatch.setattr(BookObservation, "observe", ahead)
    assert tripped(moments=1).differences[0][1].where == "observation"


def test_a_file_whose_gaps_are_filled_from_behind_is_found(monkeypatch, tmp_path):
    from envs.market import files

    def from_behind(observed, *prices):
        return fill_implied_vol(pd.Series(observed).bfill(), *prices)

    table = index_table(an_index(paths=1), np.random.default_rng(0))
    table.iloc[60:101, table.columns.get_loc("vix")] = np.nan

    def read(table):
        table.to_csv(tmp_path / "a.csv", index_label="date", date_format="%Y-%m-%d")
        return files.load_file(tmp_path / "a.csv", 0.025, 0.015)[0]

    source = TableSource("csv", table, read)
    assert tripped(source, 3).differences == ()
    monkeypatch.setattr(files, "fill_implied_vol", from_behind)
    assert tripped(source, 3).differences[0][1].where == "history.implied_vol"


def test_a_downloaded_panel_whose_holes_are_filled_from_behind_is_found(monkeypatch, tmp_path):
    from envs.market import panel_yahoo

    def from_behind(table):
        close = pd.DataFrame(table.close).bfill().to_numpy(copy=True)
        close[:5] = table.close[:5]
        return dataclasses.replace(table, close=close), ()

    def looked_at():
        _, history = next(panel_histories(80, everything=False))
        (source,) = [s for s in panel_tables(history, tmp_path) if s.name == "panel_yahoo"]
        return trip(Configuration("x", source, allocation(managed=False)), 1000, seed=0)

    assert looked_at().differences == ()
    monkeypatch.setattr(panel_yahoo, "_without_missing_sessions", from_behind)
    found = looked_at().differences
    # Row 40 of the table; its first five come before the last listing.
    assert [(t, what.where) for t, what in found] == [(35, "history.close")]


def test_a_panel_feature_that_reads_the_next_session_is_named(monkeypatch):
    from envs import panel_market

    right = panel_market.panel_features

    def shifted(history):
        found = right(history)
        later = np.concatenate([found.returns[:, 1:], found.returns[:, -1:]], axis=1)
        return dataclasses.replace(found, returns=later)

    monkeypatch.setattr(panel_market, "panel_features", shifted)
    name, history = next(panel_histories(110, everything=False))
    found = trip(
        Configuration(name, LoadedSource(name, history), allocation(managed=False)), 1, seed=0
    )
    assert len(found.differences) == 1


def test_everything_of_a_market_is_compared():
    history = an_index()
    market = option_book(history, "vix", "daily", managed=False).market(history)
    names = {name for name, _ in session_arrays(market, history.num_sessions)}
    assert {
        "history.close",
        "history.extras.sentiment",
        "tape.mark",
        "tape.aged",
        "tape.rolled",
        "observed.before",
        "observed.after",
        "unit_cost",
        "closing_unit_cost",
        "growth",
    } <= names


# --- martingale ----------------------------------------------------------------------------------


@pytest.mark.parametrize("market", ["gbm_expiry", "assets"])
def test_cash_that_earns_a_double_day_count_is_no_martingale(monkeypatch, market):
    with_double_interest(monkeypatch)
    fair = next(m for m in fair_markets(None, ("expiry",), 0) if m.name == market)
    gains = fair_gains(fair, 60, 60, seed=0)
    # Earned twice and discounted once, over nine weeks or more.
    assert gains["cash"].mean > math.exp(0.025 * 63 / 365) - 1
    assert gains["cash"].standard_errors > 3


def test_standard_errors_by_hand():
    assert FairGain(0.03, 0.01, 100).standard_errors == pytest.approx(3.0)
    assert FairGain(1e-12, 0.0, 100).standard_errors == 0.0
    assert FairGain(-1e-6, 0.0, 100).standard_errors == -math.inf


# --- canaries ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Seer:
    """Holds a forward in the direction of tomorrow's close, for one path from session `start`."""

    pair: np.ndarray
    close: np.ndarray
    start: int

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        now = self.start + (0 if state is None else state[0])
        move = np.sign(self.close[now + 1] - self.close[now])
        return np.tile(move * self.pair, (len(observation), 1)), (now + 1 - self.start,)


def test_an_agent_that_sees_tomorrow_makes_the_canary_fall():
    def seer(session, settings, steps):
        pair = TrendForward.of(session.market).pair
        return Seer(pair, session.market.history.close[0], session.window(canary.SEEN_ON).start)

    found = canary.no_edge("options", 0, 1, 0, train=seer)
    assert (found.passed, found.number) == (False, 1.0)
    assert found.details["agents"][0]["verdict"] == "BEATS"


@pytest.mark.parametrize("kind", canary.KINDS)
def test_an_agent_that_does_not_learn_finds_no_edge(kind):
    def idle(session, settings, steps):
        return canary.trained(session, settings, 0)

    assert not canary.edge(kind, 0, 0, train=idle).passed


# --- ledger --------------------------------------------------------------------------------------


def with_double_interest(monkeypatch):
    from envs import option_market, panel_market

    for module in (option_market, panel_market):
        right = module.cash_growth
        monkeypatch.setattr(module, "cash_growth", lambda h, f=right: (1.0 + f(h)) ** 2 - 1.0)


def with_a_fresh_contract(monkeypatch):
    right = BookKernel.__init__

    def opened(self, *arguments, **options):
        right(self, *arguments, **options)
        self._aged = self._mark

    monkeypatch.setattr(BookKernel, "__init__", opened)


def with_a_skipped_cost(monkeypatch):
    right = Ledger.trade

    def free(self, target, mark, cost_usd):
        return right(self, target, mark, 0.0 * cost_usd)

    monkeypatch.setattr(Ledger, "trade", free)


def first_book(kind):
    books = option_books(SHORT) if kind == "options" else allocation_books(SHORT)
    return certificate_of("ledger", replayed([next(books)]))


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        (with_double_interest, "options"),
        (with_a_fresh_contract, "options"),
        (with_a_skipped_cost, "options"),
        (with_double_interest, "allocation"),
        (with_a_skipped_cost, "allocation"),
    ],
)
def test_the_replayed_ledger_finds(monkeypatch, bug, kind):
    bug(monkeypatch)
    found = first_book(kind)
    assert not found.passed
    assert found.number > 1e-6


def test_a_quote_of_another_contract_is_found(monkeypatch):
    from envs.options import tape

    right = tape._Market.price_at

    def fresh(self, where, strike, tau, is_call):
        return right(self, where, strike * 1.01, tau, is_call)

    monkeypatch.setattr(tape._Market, "price_at", fresh)
    books = [book for book in option_books(SHORT) if book.name == "daily"]
    found = certificate_of("ledger", replayed(books))
    assert found.number < 1e-9  # market and account agree with each other
    assert not found.passed
    assert "60D" in found.what or "30D" in found.what


def test_the_plain_ledger_knows_only_the_standard_library():
    tree = ast.parse(Path(plain_ledger.__file__).read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= set(sys.stdlib_module_names)


def test_an_account_by_hand():
    friday, monday, tuesday = dt.date(2024, 1, 5), dt.date(2024, 1, 8), dt.date(2024, 1, 9)
    call = ("call", 100.0, tuesday)
    lines = [
        Entry(friday, "index", price=100.0),
        Entry(friday, "rate", price=0.0365),
        Entry(friday, "equity", price=1000.0),
        Entry(friday, "trade", "C", *call, 10.0, 2.0, 3.0),
        Entry(friday, "trade", "A", "spot", None, None, 1.0, 50.0, 1.0),
        Entry(monday, "index", price=101.0),
        Entry(monday, "rate", price=0.0),
        Entry(monday, "quote", "C", *call, price=2.5),
        Entry(monday, "quote", "A", "spot", price=51.0),
        Entry(monday, "equity", price=1002.0),
        Entry(monday, "trade", "A", "spot", None, None, -1.0, 51.0, 0.0),
        Entry(tuesday, "index", price=104.0),
        Entry(tuesday, "equity", price=1000.0),
    ]
    found = replay(lines, 1000.0)
    cash = (1000.0 - 20.0 - 3.0 - 50.0 - 1.0) * math.exp(0.0365 * 3 / 365)  # a weekend
    expected = [1000.0, cash + 25.0 + 51.0, cash + 51.0 + 40.0]  # and intrinsic value at expiry
    assert [own for _, _, own in found.equity] == pytest.approx(expected, rel=1e-15)
    assert found.largest_gap == pytest.approx(expected[2] / 1000.0 - 1.0, rel=0.1)
    assert found.complaints == []


def test_what_is_odd_in_a_journal_is_said():
    day, later = dt.date(2024, 1, 5), dt.date(2024, 1, 8)
    bought = Entry(day, "trade", "A", "spot", None, None, 1.0, 50.0)
    unquoted = replay([bought, Entry(later, "equity", price=1.0)], 100.0)
    assert unquoted.complaints == ["2024-01-08: A is held and not quoted"]
    other = bought._replace(day=later, kind="call", strike=9.0, expiry=later)
    assert replay([bought, other], 100.0).complaints == ["2024-01-08: A is not what it was"]
    half = bought._replace(event="close", quantity=-0.5)
    assert replay([bought, half], 100.0).complaints == ["2024-01-05: A was not closed"]
    assert replay([Entry(day, "gift")], 1.0).complaints == ["2024-01-05: unknown event gift"]
    assert replay([Entry(day, "equity", price=math.nan)], 1.0).largest_gap == math.inf
    assert replay([], 1.0).largest_gap == math.inf


def test_option_prices_are_the_published_ones():
    # J. Hull, Options, Futures, and Other Derivatives, example 15.6.
    assert option_price("call", 42, 40, 0.5, 0.2, 0.1, 0.0) == pytest.approx(4.76, abs=0.005)
    assert option_price("put", 42, 40, 0.5, 0.2, 0.1, 0.0) == pytest.approx(0.81, abs=0.005)
    assert option_price("put", 42, 45, 0.0, 0.2, 0.1, 0.0) == 3.0


# --- determinism ---------------------------------------------------------------------------------


def test_a_generator_that_ignores_its_seed_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(
        BatchKernel, "seed", lambda self, seed: setattr(self, "rng", np.random.default_rng())
    )
    config = tiny_config(0, 128)
    folders = [tmp_path / "outputs" / name for name in ("one", "two")]
    for folder in folders:
        train_once(config, folder)
    found = determinism.certificate_of(folders[0], {"a second run": folders[1]})
    assert not found.passed
    assert "policy.safetensors of a second run" in found.what
    assert found.number <= len(COMPARED)
    assert hash_of(folders[0] / COMPARED[0]) != hash_of(folders[1] / COMPARED[0])


def test_a_certificate_as_plain_data():
    one = Certificate("a.b", False, math.inf, "what", {"x": 1})
    assert one.as_json() == {
        "name": "a.b",
        "word": "FAIL",
        "number": None,
        "what": "what",
        "details": {"x": 1},
    }
