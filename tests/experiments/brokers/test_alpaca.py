"""Alpaca's REST calls against a server on this computer; no answer is never taken for a no."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conf.errors import InputError
from experiments import paper
from experiments.accounts.account import ALERT, CLOSED, Account, open_account
from experiments.accounts.brokers import check_broker
from experiments.accounts.deliveries import ADJUSTED, DELIVERED
from experiments.accounts.events import decoded, open_store
from experiments.accounts.settings import AccountSettings
from experiments.accounts.trading_day import run_session
from experiments.accounts.verification import verify
from experiments.brokers.alpaca import KEYS, AlpacaBroker
from experiments.brokers.orders import BrokerSilent, Order, OrderStatus
from experiments.brokers.settings import AlpacaSettings
from tests.experiments.brokers.alpaca_server import KEY, SECRET, Exchange, serving

PUT = "SPY   260116P00500000"
ORDER = Order("a" * 32, "2026-01-02", 3, PUT, 3.0)


@pytest.fixture
def keys(monkeypatch):
    for name, value in zip(KEYS, (KEY, SECRET), strict=True):
        monkeypatch.setenv(name, value)


@pytest.fixture
def exchange():
    return Exchange()


@pytest.fixture
def broker(exchange, keys):
    with serving(exchange) as url:
        yield AlpacaBroker(AlpacaSettings(url=url, patience_s=0.0, timeout_s=0.5))


def done(broker, order=ORDER):
    return sum(execution.quantity for execution in broker.executions(order.id))


def test_an_order_is_a_limit_near_the_quote_and_is_done_in_contracts(broker, exchange):
    assert broker.status(ORDER.id) is None
    broker.submit(ORDER)
    (sent,) = exchange.orders.values()
    assert (sent["symbol"], sent["side"], sent["type"]) == ("SPY260116P00500000", "buy", "limit")
    assert float(sent["limit_price"]) == 1.13  # 1.10 and two per cent, up to the next cent
    assert sent["time_in_force"] == "day"
    assert broker.status(ORDER.id) is OrderStatus.FILLED
    fills = broker.executions(ORDER.id)
    assert [fill.quantity for fill in fills] == [2.0, 1.0]
    assert [fill.price for fill in fills] == pytest.approx([110.0, 110.0])
    assert broker.positions() == {PUT: 3.0}
    assert broker.cash() == pytest.approx(100_000 - 330)
    broker.submit(ORDER)
    assert len(exchange.orders) == 1


def test_what_is_open_can_be_cancelled_and_keeps_what_was_done(broker, exchange):
    exchange.next = ["partial"]
    broker.submit(ORDER)
    assert (broker.status(ORDER.id), done(broker)) == (OrderStatus.OPEN, 1.0)
    broker.cancel(ORDER.id)
    assert (broker.status(ORDER.id), done(broker)) == (OrderStatus.CANCELLED, 1.0)
    broker.cancel(ORDER.id)
    assert [method for method, _ in exchange.asked].count("DELETE") == 1


@pytest.mark.parametrize("how", [403, 422, "rejected"])
def test_a_no_is_a_rejected_order(broker, exchange, how):
    exchange.next = [how]
    broker.submit(ORDER)
    assert (broker.status(ORDER.id), done(broker)) == (OrderStatus.REJECTED, 0.0)


@pytest.mark.parametrize("how", ["late", "cut"])
def test_an_order_whose_answer_was_lost_is_found_and_not_sent_again(broker, exchange, how):
    exchange.next = [how]
    with pytest.raises(BrokerSilent):
        broker.submit(ORDER)
    assert broker.status(ORDER.id) is OrderStatus.FILLED
    broker.submit(ORDER)
    assert (len(exchange.orders), done(broker)) == (1, 3.0)


def test_an_identifier_that_is_taken_is_the_same_order(broker, exchange, monkeypatch):
    """Two processes asked, found nothing, and both sent it."""
    broker.submit(ORDER)
    answers = [None, *[broker._find(ORDER.id)] * 3]
    monkeypatch.setattr(broker, "_find", lambda order: answers.pop(0))
    broker.submit(ORDER)
    monkeypatch.undo()
    assert (len(exchange.orders), done(broker)) == (1, 3.0)
    assert broker.status(ORDER.id) is OrderStatus.FILLED


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_every_call_without_an_answer_is_silence(broker, exchange, status):
    exchange.next = [status]
    with pytest.raises(BrokerSilent):
        broker.submit(ORDER)
    assert broker.status(ORDER.id) is None
    exchange.down = status
    calls = (broker.positions, broker.cash, broker.deliveries)
    about = (broker.status, broker.cancel, broker.executions)
    for call in (*calls, *(lambda ask=ask: ask(ORDER.id) for ask in about)):
        with pytest.raises(BrokerSilent):
            call()


def test_without_a_server_every_call_is_silence_and_opening_one_line(keys):
    chosen = AlpacaSettings(url="http://127.0.0.1:9", timeout_s=0.5)
    with pytest.raises(BrokerSilent):
        AlpacaBroker(chosen).cash()
    with pytest.raises(InputError, match="Alpaca does not open the account"):
        AlpacaBroker(chosen).check(None, 0.0)
    with pytest.raises(InputError, match="Alpaca does not say what it lists"):
        AlpacaBroker(chosen).unlisted(["XSP   181019C00290000"])


def test_without_a_quote_only_what_makes_a_position_smaller_is_sent(broker, exchange):
    exchange.quotes = {PUT.replace(" ", ""): (0.0, 0.0)}
    broker.submit(ORDER)
    assert (broker.status(ORDER.id), exchange.orders) == (OrderStatus.REJECTED, {})
    exchange.positions = {PUT.replace(" ", ""): 5.0, "SPY": 100.0}
    sale = replace(ORDER, id="b" * 32, quantity=-5.0)
    shares = replace(ORDER, id="c" * 32, quantity=-100.0, symbol="SPY")
    for order in (sale, shares):
        broker.submit(order)
        assert broker.status(order.id) is OrderStatus.FILLED
    assert {order["type"] for order in exchange.orders.values()} == {"market"}
    turned = replace(ORDER, id="d" * 32, quantity=-1.0)
    broker.submit(turned)
    assert broker.status(turned.id) is OrderStatus.REJECTED


def test_fills_of_many_pages_are_all_found(broker, exchange):
    for i in range(130):
        broker_order = replace(ORDER, id=f"{i:032d}")
        status, _, _ = exchange.take(
            {"symbol": "SPY260116P00500000", "qty": "2", "side": "buy"}
            | {"client_order_id": broker_order.id}
        )
        assert status == 200
    assert done(broker, broker_order) == 2.0


def test_exercises_and_assignments_are_deliveries(broker, exchange):
    exchange.assign("SPY260116P00500000", 2.0, "2026-01-05")
    row = {"date": "2026-01-16", "symbol": "SPY260116P00500000", "qty": "-3"}
    for name, status in (("a", "executed"), ("b", "canceled")):
        exchange.activities["OPEXC"].append({**row, "id": name, "status": status})
    found = [(each.day, each.symbol, each.contracts) for each in broker.deliveries()]
    assert found == [("2026-01-05", PUT, 2.0), ("2026-01-16", PUT, -3.0)]
    assert broker.positions() == {PUT: 2.0, "SPY": 200.0}


# --- an account ----------------------------------------------------------------------------------


def settings_of(url, decide="before_close", **broker):
    alpaca = {"url": url, "patience_s": 0.0, "timeout_s": 0.5}
    about = {"kind": "alpaca", "contracts": "SPY", "adjust_usd": 500.0, "alpaca": alpaca}
    given: Any = {**about, **broker}
    return AccountSettings(name="mine", decide=decide, equity_usd=1e6, broker=given)


def test_the_cash_and_positions_of_an_account_are_those_at_the_exchange(tested, tmp_path, keys):
    """Orders cut short, refused and lost, an assignment, and interest that Alpaca does not pay."""
    exchange, history = Exchange(cash=1e6), tested.setup.history
    first = history.num_sessions - 55
    rng = np.random.default_rng(0)
    assigned = None
    with serving(exchange) as url, open_store(tmp_path) as store:
        open_account(tmp_path, store, settings_of(url), tested, first)
        for session in range(first, first + 5):
            exchange.next = []
            if session < first + 4:  # what was silent in the last one would not be known yet
                exchange.next = rng.choice(["fill", "partial", "cut", "rejected"], 100).tolist()
            price = float(0.1 * history.close[0, session])
            exchange.quotes["SPY"] = (price - 0.01, price + 0.01)
            if session > first + 1 and assigned is None:
                short = [s for s, q in exchange.positions.items() if q < 0 and s != "SPY"]
                assigned = short[0]
                exchange.assign(assigned, 1.0, str(history.dates[session - 1]))
            run_session(Account(tmp_path, store), history.sessions(0, session + 1))
        account = Account(tmp_path, store)
        assert verify(account).differences == ()
        kinds = {event.content["kind"] for event in store.of(ALERT)}
        (delivery,) = store.of(DELIVERED)
        assert delivery.content["symbol"].replace(" ", "") == assigned
        assert {"delivery", "cancelled", "rejected"} <= kinds
        assert "difference" not in kinds
        assert len(store.of(ADJUSTED)) == 4
        closed = store.of(CLOSED)[-1].content
        shares = account.days()[-1].beside.shares
    assert exchange.positions.get("SPY", 0.0) == shares
    assert closed["cash_usd"] == pytest.approx(exchange.cash + shares * price, abs=1e-6)
    held = sum(q for s, q in exchange.positions.items() if s != "SPY")
    assert decoded(closed["quantity"]).sum() == pytest.approx(10.0 * held, abs=1e-9)


def test_what_the_account_does_not_know_of_stops_opening(tested, tmp_path, keys):
    exchange, history = Exchange(cash=1e6), tested.setup.history
    exchange.positions["SPY"] = 7.0
    with serving(exchange) as url, open_store(tmp_path) as store:
        open_account(tmp_path, store, settings_of(url), tested, history.num_sessions - 55)
        report = run_session(
            Account(tmp_path, store), history.sessions(0, history.num_sessions - 54)
        )
    assert report.alerts == ["SPY: 7 at the broker, 0 in the book"]
    assert exchange.orders == {}


def test_an_account_begins_with_what_alpaca_holds(exchange, keys):
    with serving(exchange) as url:
        check_broker(settings_of(url), 100_400.0)
        with pytest.raises(InputError, match=r"\$100,000.00 and 0 positions.*equity_usd=100000.00"):
            check_broker(settings_of(url), 1e6)
        with pytest.raises(InputError, match="Give decide=before_close, or decide=after_close"):
            check_broker(settings_of(url, "close"), 100_400.0)
        exchange.positions["SPY"] = 1.0
        with pytest.raises(InputError, match="and 1 positions"):
            check_broker(settings_of(url), 100_400.0)
        check_broker(settings_of(url))


def test_keys_appear_nowhere(command, finished_run, tested, keys, tmp_path, caplog):
    """Whatever goes wrong, and though the server says them back."""
    caplog.set_level(logging.DEBUG)
    day, exchange = tested.setup.history.dates[-55], Exchange(cash=1e6)
    with serving(exchange) as url:
        chosen = ["broker.kind=alpaca", "broker.contracts=XSP", f"broker.alpaca.url={url}"]
        chosen += ["broker.adjust_usd=500", "decide=before_close"]
        opening = (f"run={finished_run}", "feed=replay", f"start={day}", "equity_usd=1e6", *chosen)
        said = command(paper, "account=a", "action=contracts", *opening)
        assert "Alpaca lists them all" in said[1].replace("\n", " ")
        exchange.next = [403, 422, 500, "partial", "rejected", 429, 401]
        patience = ("broker.alpaca.patience_s=0", "broker.alpaca.timeout_s=0.5")
        said += command(paper, "account=a", *opening, *patience)
        assert said[3] == 0
        exchange.down = 401
        said += command(paper, "account=a", "feed=replay")
    assert said[6] == 2
    texts = [text.encode() for text in (*map(str, said), caplog.text)]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 4
    for secret in (KEY, SECRET):
        assert not any(secret.encode() in text for text in (*texts, *files))


@pytest.mark.parametrize(
    ("broker", "message"),
    [
        ({"contracts": "model"}, "Alpaca trades whole listed contracts"),
        ({"adjust_usd": 0.0}, "as broker.adjust_usd=100"),
        ({"live": True}, "broker.confirm='trade mine with real money'"),
        ({"live": True, "confirm": "trade other with real money"}, "was not confirmed"),
        ({"live": True, "confirm": "trade mine with real money"}, "was not confirmed"),
        ({"kind": "simulated", "live": True}, "live=true is for a real broker"),
    ],
)
def test_real_money_takes_a_flag_and_the_typed_name(keys, broker, message):
    """Never with a server of one's own in the place of Alpaca's."""
    with pytest.raises(InputError, match=message):
        check_broker(settings_of("http://127.0.0.1:9", **broker))


def test_without_keys_opening_is_one_line(monkeypatch):
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY"):
        check_broker(settings_of("http://127.0.0.1:9"))


def test_only_live_settings_reach_the_live_address(keys):
    addresses = {
        live: AlpacaBroker(AlpacaSettings(), live=live)._trading._base_url for live in (False, True)
    }
    assert addresses[False].value == "https://paper-api.alpaca.markets"
    assert addresses[True].value == "https://api.alpaca.markets"
