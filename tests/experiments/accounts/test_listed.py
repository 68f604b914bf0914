"""An account in listed contracts holds whole lots, and its cash is the broker's to the cent."""

import contextlib
import json
from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from envs.option_portfolio.market import OptionMarketSettings
from envs.options.black_scholes import price
from envs.options.surface import FlatSurface
from experiments import paper
from experiments.accounts import order_flow
from experiments.accounts.account import ALERT, CLOSED, ENDED, ORDER, Account, open_account
from experiments.accounts.deliveries import ADJUSTED, DELIVERED, SHARES
from experiments.accounts.events import EventStore, decoded, open_store
from experiments.accounts.listed_broker import adjusted, in_parts, take_deliveries, taken_from
from experiments.accounts.order_flow import OrderFlow
from experiments.accounts.settings import AccountSettings
from experiments.accounts.trading_day import run_session
from experiments.accounts.verification import verify
from experiments.brokers.listed import RootName, list_today, read_symbol, root_of, with_contracts
from experiments.brokers.orders import BrokerSilent, Delivery, Order
from experiments.brokers.settings import BrokerSettings
from experiments.brokers.simulated import SimulatedBroker
from tests.markets import options_of, random_walk

RATIO = 0.0997  # of SPY, no round number
BEGUN = 60  # sessions before the end of the data; two sessions before contracts end
FAULTS = {"rejected": 0.1, "partial": 0.2, "twice": 0.2, "assigned": 0.3}


def begin(folder, tested, decide="close", **broker):
    given: Any = {"kind": "simulated", "spy_ratio": RATIO, **broker}
    settings = AccountSettings(name="mine", decide=decide, equity_usd=1e6, broker=given)
    with open_store(folder) as store:
        open_account(folder, store, settings, tested, tested.setup.history.num_sessions - BEGUN)


def call(folder, tested, session):
    """One call of the command, that many sessions after the opening."""
    history = tested.setup.history
    with open_store(folder) as store:
        stop = history.num_sessions - BEGUN + session + 1
        return run_session(Account(folder, store), history.sessions(0, stop))


def contents(folder, kind):
    with open_store(folder) as store:
        return [event.content for event in store.of(kind)]


def differs(folder, tested, root):
    """Dollars and contracts by which the broker's books differ from the account's, at its end."""
    books = [json.loads(path.read_text()) for path in folder.glob("*broker.json")]
    closed = contents(folder, CLOSED)[-1]
    at = tested.setup.history.dates.astype(str).tolist().index(closed["session"])
    spot = root.ratio * float(tested.setup.history.close[0, at])
    shares = sum(own["positions"].pop(root.name, 0.0) for own in books)
    cash = sum(own["cash"] for own in books) + shares * spot - closed["cash_usd"]
    held = sum(sum(own["positions"].values()) for own in books)
    lots = decoded(closed["quantity"]).sum() / root.lot - held
    return abs(cash), abs(lots)


# --- the mapping ---------------------------------------------------------------------------------


def test_symbols_are_read_back_and_shares_are_none():
    strikes: dict[RootName, float] = {"SPX": 2925.0, "XSP": 2930.0, "SPY": 293.0 / RATIO}
    for name, strike in strikes.items():
        symbol = root_of(name, RATIO).symbol("2018-11-16", False, strike)
        contract = read_symbol(symbol)
        assert contract is not None
        assert len(symbol) == 21
        assert (str(contract.expiry), contract.is_call) == ("2018-11-16", False)
        assert contract.strike == pytest.approx(strike * root_of(name, RATIO).ratio)
        assert read_symbol(symbol.replace(" ", "")) == contract
    assert root_of("SPX", RATIO).symbol("2018-11-16", True, 2925.0) == "SPXW  181116C02925000"
    assert read_symbol("SPY") is None


def test_a_listing_says_what_rounding_costs():
    """One lot of SPX is a hundred times the index; prices off by Black and Scholes."""
    history = random_walk(300)
    options = OptionMarketSettings(surface=FlatSurface(), env=options_of())
    spx, xsp = (list_today(options, history, root_of(n, 0.1), 1e5) for n in ("SPX", "XSP"))
    spot = float(history.close[0, -1])
    assert spx.contract_usd == pytest.approx(100 * spot)
    least = [list_today(options, history, spx.root, x * spx.least_equity_usd) for x in (0.999, 1)]
    assert max(slot.lots for slot in least[1].slots) == 1
    with pytest.raises(InputError, match=r"buys 0 SPX contracts .* 20 of 20 slots buy none"):
        least[0].check()
    full = 1e5 / spot / 10
    for slot in xsp.slots:
        contract = read_symbol(slot.symbol)
        assert contract is not None
        assert contract.strike == int(contract.strike)
        assert slot.lots == int(slot.units / 10)
        assert slot.lots <= full
        assert slot.lost(xsp.root) == pytest.approx(1 - 10 * slot.lots / slot.units)
    slot = xsp.slots[7]  # 30D_Put_1.00
    contract, day = read_symbol(slot.symbol), history.dates[-1].astype("datetime64[D]")
    assert contract is not None
    days = (np.datetime64(contract.expiry) - day).astype(int)
    wanted = (spot, spot, (days - slot.days_off) / 365, 0.2, 0.025, 0.015, False)
    listed = (spot, 10 * contract.strike, days / 365, 0.2, 0.025, 0.015, False)
    assert slot.strike_off == pytest.approx(10 * contract.strike - spot)
    assert 1 + slot.price_off == pytest.approx(float(price(*listed) / price(*wanted)))


def test_what_is_rolled_daily_is_never_listed():
    options = OptionMarketSettings(surface=FlatSurface(), env=options_of(chain={"roll": "daily"}))
    with pytest.raises(InputError, match=r"Choose a run of env\.chain\.roll=expiry"):
        with_contracts(options, root_of("XSP", 0.1))


def test_an_order_through_zero_is_two():
    orders = [Order(str(i), "day", i, "x", q) for i, q in enumerate((-30.0, -20.0, 10.0, 50.0))]
    parts = in_parts(orders, np.array([20.0, 20.0, 20.0, -40.0]))
    assert [part.quantity for part in parts] == [-20.0, -10.0, -20.0, 10.0, 40.0, 10.0]
    assert len({part.id for part in parts}) == 6
    assert parts[0].id == "0"  # what closes is the order as it was


def test_an_assignment_takes_from_the_short_slots_alone():
    held = np.array([30.0, -20.0, -5.0, -40.0])
    assert taken_from([0, 1, 3], held, 50.0) == [[1, 20.0], [3, 30.0]]
    assert taken_from([0, 1, 3], held, 70.0) == [[1, 20.0], [3, 40.0], [0, 10.0]]


# --- accounts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "decide", "backup"),
    [
        ("SPX", "before_close", False),
        ("XSP", "close", True),
        ("SPY", "close", False),
        ("SPY", "after_close", False),
        ("SPY", "close", True),
    ],
)
def test_cash_and_contracts_are_the_brokers(tested, tmp_path, name, decide, backup):
    """Through refusals, parts, assignments, and the end of contracts, after days off too."""
    begin(tmp_path, tested, decide, contracts=name, backup=backup, faults=FAULTS)
    last = 9 if decide == "after_close" else 30
    for session in (0, 1, 2, 3, 4, last):
        report = call(tmp_path, tested, session)
        cash, lots = differs(tmp_path, tested, root_of(name, RATIO))
        assert cash < 1e-9 * 1e6
        assert lots < 1e-9
        quantity = decoded(contents(tmp_path, CLOSED)[-1]["quantity"])
        whole = quantity / root_of(name, RATIO).lot
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
    assert len(report.missed) == last - 5
    kinds = [content["kind"] for content in contents(tmp_path, ALERT)]
    assert "difference" not in kinds
    delivered = contents(tmp_path, DELIVERED)
    early = [each for each in delivered if each["places"]]
    assert bool(early) == (len(early) < len(delivered)) == (name == "SPY")
    with open_store(tmp_path) as store:
        assert verify(Account(tmp_path, store)).differences == ()


def test_what_is_reported_late_finds_its_session(tested, tmp_path):
    faults = {**FAULTS, "late": 0.1, "silent": 0.1, "lost": 0.1, "seed": 1}
    begin(tmp_path, tested, contracts="SPY", faults=faults)
    for session in range(6):
        call(tmp_path, tested, session)
    assert "difference" not in [content["kind"] for content in contents(tmp_path, ALERT)]
    with open_store(tmp_path) as store:
        assert verify(Account(tmp_path, store)).differences == ()


def test_a_process_that_dies_takes_a_delivery_once(tested, tmp_path, monkeypatch):
    append, folders = EventStore.append, [tmp_path / str(moment) for moment in (999, 7, 30)]

    def counted(store, kind, content):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return append(store, kind, content)

    for folder in folders:
        begin(folder, tested, contracts="SPY", faults={"assigned": 1.0}, adjust_usd=1e6)
        call(folder, tested, 0)
        left = [int(folder.name)]
        monkeypatch.setattr(EventStore, "append", counted)
        with contextlib.suppress(KeyboardInterrupt):
            call(folder, tested, 1)
        monkeypatch.undo()
        call(folder, tested, 1)
        assert len(contents(folder, DELIVERED)) > 1
        assert contents(folder, DELIVERED) == contents(folders[0], DELIVERED)
        assert contents(folder, CLOSED) == contents(folders[0], CLOSED)
        assert contents(folder, ADJUSTED) == []  # orders that were done make no gap


def test_only_deliveries_of_the_sessions_that_it_knows_are_its_own(tested, tmp_path, monkeypatch):
    """Those of before the opening never; one of the session after when it is there."""
    begin(tmp_path, tested, contracts="SPY")
    days = tested.setup.history.dates[-BEGUN - 1 : -BEGUN + 2].astype(str)
    known = [
        Delivery(day, day, f"SPY   {day[2:].replace('-', '')}C09000000", -1.0) for day in days[::2]
    ]
    monkeypatch.setattr(SimulatedBroker, "deliveries", lambda self: known)
    for session, ids in ((0, []), (1, [days[2]])):
        call(tmp_path, tested, session)
        assert [content["id"] for content in contents(tmp_path, DELIVERED)] == ids


def test_shares_that_the_broker_does_not_hold_are_missed(tested, tmp_path, monkeypatch):
    begin(tmp_path, tested, contracts="SPY")
    for session in (0, 1):
        call(tmp_path, tested, session)
    positions = SimulatedBroker.positions
    monkeypatch.setattr(
        SimulatedBroker,
        "positions",
        lambda self: {name: held for name, held in positions(self).items() if name != "SPY"},
    )
    alerts = call(tmp_path, tested, 2).alerts  # contracts in the money have ended
    shares = sum(content["shares"] for content in contents(tmp_path, DELIVERED))
    assert shares
    assert f"SPY: {-shares:g} at the broker, 0 in the book" in alerts


def test_a_gap_that_grows_after_it_was_taken_over_is_held_against_the_limit(tested, tmp_path):
    begin(tmp_path, tested, adjust_usd=10.0)
    with open_store(tmp_path) as store:
        taken = [adjusted(Account(tmp_path, store), gap) for gap in (11.0, 5.0, 5005.0, 5.0)]
    assert taken == [False, True, False, True]
    assert [content["usd"] for content in contents(tmp_path, ADJUSTED)] == [5.0]


def test_without_a_broker_it_is_the_backtest_in_whole_lots(tested, tmp_path):
    begin(tmp_path, tested, kind="model", contracts="XSP")
    for session in range(4):
        call(tmp_path, tested, session)
    with open_store(tmp_path) as store:
        result = verify(Account(tmp_path, store))
    assert (result.backtest_sessions, result.differences) == (3, ())
    held = decoded(contents(tmp_path, CLOSED)[-1]["quantity"]) / 10.0
    assert np.abs(held).max() > 0
    np.testing.assert_allclose(held, np.round(held), atol=1e-9)


def test_the_command_says_what_a_slot_buys_and_refuses_nothing(command, finished_run, tmp_path):
    opening = [f"run={finished_run}", "feed=replay", "broker.contracts=SPX"]
    opening += ["decide=after_close", "broker.kind=simulated"]
    code, out, err = command(paper, "account=a", "equity_usd=5e4", *opening)
    assert (code, err.count("\n")) == (2, 1)
    assert "at $50,000 a full slot buys 0 SPX contracts (one is $" in err
    assert "broker.contracts=XSP" in err
    assert not (tmp_path / "outputs").exists()
    code, _, err = command(paper, "account=a", *opening, "broker.contracts=FOO")
    assert (code, err.count("\n")) == (2, 1)
    assert "Input should be 'model', 'SPX', 'XSP' or 'SPY'" in err
    code, out, _ = command(paper, "account=a", "action=contracts", *opening)
    assert code == 0
    assert all(text in out for text in ("SPXW", "slots that buy none", "XSP", "SPY"))
    assert not (tmp_path / "outputs").exists()


def test_whole_contracts_leave_no_order_for_the_rounding_of_their_units(tested, tmp_path):
    given = BrokerSettings(kind="simulated", contracts="SPY", spy_ratio=RATIO)
    chosen = AccountSettings(name="mine", equity_usd=3e7, broker=given)
    with open_store(tmp_path) as store:
        open_account(tmp_path, store, chosen, tested, tested.setup.history.num_sessions - BEGUN)
    for session in range(8):
        call(tmp_path, tested, session)
    orders = contents(tmp_path, ORDER)
    assert orders
    assert all(abs(order["quantity"]) >= 1.0 for order in orders)
    assert {content["order"] for content in contents(tmp_path, ENDED)} == {o["id"] for o in orders}
    assert {content["kind"] for content in contents(tmp_path, ALERT)} <= {"delivery"}


def test_where_no_report_tells_what_is_held_limits_are_said_not_to_be_looked_at(
    play, tested, tmp_path
):
    """A position that the account does not know of: opened in part, cancelled, reported late."""
    faults = {"late": 0.5, "partial": 0.6, "seed": 12}
    broker = {"kind": "simulated", "contracts": "XSP", "faults": faults}
    play(tmp_path, tested, 1, broker=broker, equity_usd=1e8)
    texts = [
        content["text"] for content in contents(tmp_path, ALERT) if content["kind"] == "limits"
    ]
    assert texts == ["not looked at: the broker holds more or less than it has reported"]


def test_silence_after_the_orders_leaves_the_session_closed(play, tested, tmp_path, monkeypatch):
    held = OrderFlow._held

    def silent(*_):
        raise BrokerSilent("no answer")

    def asked(flow, book):
        with monkeypatch.context() as patch:
            patch.setattr(SimulatedBroker, "status", silent)
            return held(flow, book)

    monkeypatch.setattr(OrderFlow, "_held", asked)
    play(tmp_path, tested, 1, broker={"kind": "simulated", "contracts": "XSP"}, equity_usd=1e6)
    assert [content["kind"] for content in contents(tmp_path, ALERT)] == ["silent"]
    assert len(contents(tmp_path, CLOSED)) == 1


def test_shares_that_the_broker_has_not_are_not_sold(tested, tmp_path, monkeypatch):
    def taken_away(account, broker):
        texts = take_deliveries(account, broker)
        del broker._broker._books["positions"]["SPY"]
        return texts

    begin(tmp_path, tested, contracts="SPY", faults={"assigned": 0.4, "seed": 1})
    call(tmp_path, tested, 0)
    monkeypatch.setattr(order_flow, "take_deliveries", taken_away)
    report = call(tmp_path, tested, 1)
    assert contents(tmp_path, DELIVERED)
    assert any("SPY: " in text and ", 0 in the book" in text for text in report.alerts)
    assert SHARES not in {order["place"] for order in contents(tmp_path, ORDER)}
