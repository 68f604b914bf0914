"""The plain ledger: right by hand, and what it finds when the accounts are wrong."""

import ast
import dataclasses
import datetime as dt
import math
import sys
from itertools import islice
from pathlib import Path

import pytest

from envs.core.costs import FlatCosts, RealisticCosts
from envs.core.kernel import BookKernel
from envs.core.ledger import Ledger
from envs.hedging import liability
from envs.hedging.env import HedgingKernel
from envs.option_portfolio.market import OptionMarket
from envs.options.black_scholes import price, price_and_greeks
from experiments.backtests import plain_ledger
from experiments.backtests.plain_ledger import Entry, option_price, replay, trade_cost
from experiments.certificates.certificate import PROFILES, Certification
from experiments.certificates.ledger_replay import (
    allocation_replays,
    certificate_of,
    hedging_replays,
    option_replays,
)
from tests.experiments.certificates.planted_bugs import with_double_interest

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = Certification(PROFILES["short"], 0, None)


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


def without_the_spread(monkeypatch):
    right = RealisticCosts.per_unit
    free = {"spread_floor_bps": 0.0, "spread_scale_bps": 0.0, "in_the_money_share": 0.0}

    def unit(self, *market):
        return right(dataclasses.replace(self, **free), *market)

    monkeypatch.setattr(RealisticCosts, "per_unit", unit)


def without_impact(monkeypatch):
    monkeypatch.setattr(RealisticCosts, "impact", lambda self, *order: None)


def without_the_last_sale(monkeypatch):
    right = HedgingKernel._leaving
    monkeypatch.setattr(HedgingKernel, "_leaving", lambda *given: (right(*given)[0], None))


REPLAYS = {
    "options": option_replays,
    "allocation": allocation_replays,
    "hedging": hedging_replays,
}


def first_books(kind):
    return certificate_of("ledger", dict(islice(REPLAYS[kind](SHORT), 2)))  # of both paths


@pytest.mark.parametrize(
    ("bug", "kind"),
    [
        (with_double_interest, "options"),
        (with_a_fresh_contract, "options"),
        (with_a_skipped_cost, "options"),
        (with_double_interest, "allocation"),
        (with_a_skipped_cost, "allocation"),
        (with_double_interest, "hedging"),
        (with_a_skipped_cost, "hedging"),
        (without_the_last_sale, "hedging"),
    ],
)
def test_the_replayed_ledger_finds_wrong_accounts(monkeypatch, bug, kind):
    bug(monkeypatch)
    certificate = first_books(kind)
    assert not certificate.passed
    assert certificate.number > 1e-6


@pytest.mark.parametrize("bug", [without_the_spread, without_impact])
def test_a_cost_that_is_not_by_the_schedule_is_found(monkeypatch, bug):
    bug(monkeypatch)
    certificate = first_books("options")
    assert certificate.number < 1e-9  # market and account agree with each other
    assert not certificate.passed
    assert "off the fee schedule" in certificate.what


def with_half_the_share(monkeypatch):
    monkeypatch.setattr(FlatCosts, "share", property(lambda self: 0.5e-4 * self.rate_bps))


def with_another_strike(monkeypatch):
    def of_another_strike(spot, strike, *rest):
        return price_and_greeks(spot, 1.01 * strike, *rest)

    monkeypatch.setattr(liability, "price_and_greeks", of_another_strike)


@pytest.mark.parametrize(
    ("bug", "complaint"),
    [
        (with_half_the_share, "a trade off the fee schedule"),
        (with_another_strike, "(call_1.00_20 "),
    ],
)
def test_what_a_hedge_is_charged_and_a_liability_is_worth_is_worked_out_anew(
    monkeypatch, bug, complaint
):
    assert first_books("hedging").passed
    bug(monkeypatch)
    certificate = first_books("hedging")
    assert certificate.number < 1e-9  # market and account agree with each other
    assert not certificate.passed
    assert complaint in certificate.what, certificate.what


def test_an_index_without_its_dividends_is_found(monkeypatch):
    def of_prices(self, window):
        close = self.history.close[:, window.start : window.stop]
        return close[:, 1:] / close[:, :-1] - 1.0

    monkeypatch.setattr(OptionMarket, "index_returns", of_prices)
    certificate = first_books("options")
    assert not certificate.passed
    assert "buy-and-hold of the index off by" in certificate.what


def test_costs_by_hand():
    fees = {
        **{"spread_floor_bps": 0.5, "spread_scale_bps": 1.0, "spread_pivot_bps": 100.0},
        **{"spread_exponent": 0.5, "in_the_money_share": 0.01, "calm_vol": 0.15},
        **{"slippage_bps": 2.0, "impact_bps": 3.0, "impact_threshold_units": 10.0},
        "multiplier": 2.0,
    }
    day = dt.date(2024, 1, 5)
    # 4 of an index of 1000: 40 bp; half the spread is sqrt(40 / 100) = .632 bp, twice at 30 %.
    outside = Entry(day, "trade", "C", "call", 1050.0, day, -30.0, 4.0)
    half = 2 * 0.4**0.5 * 1e-4 * 1000
    by_hand = 2 * (30 * (half + 2e-4 * 4) + 20 * 4 * 3e-4)
    assert trade_cost(fees, outside, 1000.0, 0.30) == pytest.approx(by_hand, rel=1e-14)
    inside = Entry(day, "close", "P", "put", 1100.0, day, 30.0, 101.0)
    by_hand = 2 * 30 * (0.01 * 101 + 2e-4 * 101)
    assert trade_cost(fees, inside, 1000.0, 0.10) == pytest.approx(by_hand, rel=1e-14)
    cheap = Entry(day, "trade", "P", "put", 500.0, day, 1.0, 0.01)
    by_hand = 2 * (0.5e-4 * 1000 + 2e-4 * 0.01)
    assert trade_cost(fees, cheap, 1000.0, 0.15) == pytest.approx(by_hand, rel=1e-14)
    assert trade_cost({"rate_bps": 5.0}, outside, 1000.0, 0.3) == pytest.approx(30 * 4 * 5e-4)


def test_a_quote_of_another_contract_is_found(monkeypatch):
    from envs.options import tape

    def of_another_strike(spot, strike, *rest):
        return price(spot, strike * 1.01, *rest)

    monkeypatch.setattr(tape, "price", of_another_strike)
    daily = {name: each for name, each in option_replays(SHORT) if name.startswith("daily, path")}
    certificate = certificate_of("ledger", daily)
    assert certificate.number < 1e-9  # market and account agree with each other
    assert not certificate.passed
    assert "60D" in certificate.what or "30D" in certificate.what


def test_the_plain_ledger_knows_only_the_standard_library():
    tree = ast.parse(Path(plain_ledger.__file__).read_text())
    imported = {
        (str(node.module) if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
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
    replayed = replay(lines, 1000.0)
    cash = (1000.0 - 20.0 - 3.0 - 50.0 - 1.0) * math.exp(0.0365 * 3 / 365)  # a weekend
    expected = [1000.0, cash + 25.0 + 51.0, cash + 51.0 + 40.0]  # and intrinsic value at expiry
    assert [own for _, _, own in replayed.equity] == pytest.approx(expected, rel=1e-15)
    assert replayed.equity_gap == pytest.approx(expected[2] / 1000.0 - 1.0, rel=0.1)
    assert replayed.complaints == []


def test_lines_of_a_trade_log_that_contradict_each_other_are_reported():
    day, later = dt.date(2024, 1, 5), dt.date(2024, 1, 8)
    bought = Entry(day, "trade", "A", "spot", None, None, 1.0, 50.0)
    unquoted = replay([bought, Entry(later, "equity", price=1.0)], 100.0)
    assert unquoted.complaints == ["2024-01-08: A is held and not quoted"]
    other = bought._replace(day=later, kind="call", strike=9.0, expiry=later)
    assert replay([bought, other], 100.0).complaints == ["2024-01-08: A is not what it was"]
    half = bought._replace(event="close", quantity=-0.5)
    assert replay([bought, half], 100.0).complaints == ["2024-01-05: A was not closed"]
    assert replay([Entry(day, "gift")], 1.0).complaints == ["2024-01-05: unknown event gift"]
    assert replay([Entry(day, "equity", price=math.nan)], 1.0).equity_gap == math.inf
    assert replay([], 1.0).equity_gap == math.inf


def test_option_prices_are_the_published_ones():
    # J. Hull, Options, Futures, and Other Derivatives, example 15.6.
    assert option_price("call", 42, 40, 0.5, 0.2, 0.1, 0.0) == pytest.approx(4.76, abs=0.005)
    assert option_price("put", 42, 40, 0.5, 0.2, 0.1, 0.0) == pytest.approx(0.81, abs=0.005)
    assert option_price("put", 42, 45, 0.0, 0.2, 0.1, 0.0) == 3.0
