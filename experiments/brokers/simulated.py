"""A broker of one's own, for drills: it fills at quoted prices, and errs as it is told to.

Its books are a file of its own, which outlives the account's process as a real broker's would.
Faults are drawn from a seed and the order's identifier, so that a drill can be repeated exactly.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agents.persistence.strict_json import read_json
from conf.files import write_atomically
from conf.settings import settings
from experiments.brokers.listed import exercised, read_symbol
from experiments.brokers.orders import BrokerSilent, Delivery, Execution, Order, OrderStatus

BOOKS, BACKUP_BOOKS = "broker.json", "backup_broker.json"
_FORGOTTEN = 10  # sessions after which an order that was asked for is forgotten
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Quotes = Mapping[
    str, tuple[float, float]
]  # of each symbol dollars a unit, and the cost to trade it


@settings
class Faults:
    """How often what goes wrong, as shares of the orders."""

    rejected: Share = 0.0
    partial: Share = 0.0  # filled to a share that is drawn
    late: Share = 0.0  # what was done is reported only when it is asked for again next session
    twice: Share = 0.0  # the same execution is reported twice
    silent: Share = 0.0  # it was taken, but no answer comes back
    lost: Share = 0.0  # it never arrived, and no answer comes back
    assigned: Share = 0.0  # of short contracts on shares that are in the money, each night
    seed: int = 0


@dataclass(frozen=True)
class Shares:
    """What contracts are paid out in, where it is not cash."""

    symbol: str
    day: str  # the session before
    before: float  # dollars a share at its close


@dataclass(frozen=True)
class BrokerSession:
    """What a session brings to a broker."""

    day: str
    quotes: Quotes  # at its close
    opening: Quotes  # at its open, of what could be ordered the evening before
    interest: float  # of cash since the session before
    paid_out: Mapping[str, float]  # dollars a unit of each contract that ended
    shares: Shares | None = None  # that contracts are paid in, and assigned in the night before


class SimulatedBroker:
    """Fills at mark plus or minus what trading costs; holds cash and positions.

    With `at_open`, what is ordered is filled at the open of the next session; else at once. With
    `whole`, nothing but whole contracts is filled.
    """

    def __init__(
        self,
        path: Path,
        cash_usd: float,
        faults: Faults,
        at_open: bool = False,
        whole: bool = False,
    ) -> None:
        self._path, self._faults = path, faults
        self._chances = {name: chance for name, chance in asdict(faults).items() if name != "seed"}
        self._at_open, self._whole = at_open, whole
        new: dict[str, Any] = {"cash": cash_usd, "positions": {}, "orders": {}, "settled": ""}
        self._books: dict[str, Any] = read_json(path) if path.is_file() else {**new, "faults": []}
        self._quotes: Quotes = {}

    @property
    def settled(self) -> str:
        """The day of its newest session; empty before the first."""
        return str(self._books["settled"])

    # --- the market's side -----------------------------------------------------------------------

    def open_session(self, session: BrokerSession) -> None:
        """Go to a session: fill at its open what waited for it, pay interest and what ended."""
        books = self._books
        self._quotes = session.quotes
        if books["settled"] == session.day:
            return
        if session.shares is not None:
            self._assign(session.shares)
        known = books["orders"].items()
        books["orders"] = {k: o for k, o in known if o["age"] < _FORGOTTEN or not o["asked"]}
        for order in books["orders"].values():
            order["age"] += 1
            order["late"] = False
            if "waits" in order:
                self._fill(Order(**order.pop("waits")), order, session.opening)
            if order["status"] == OrderStatus.OPEN:  # it was good for one session
                order["status"] = OrderStatus.CANCELLED
        if books["settled"]:  # cash that came with the opening has earned nothing yet
            books["cash"] += books["cash"] * session.interest
        for symbol, value in session.paid_out.items():
            held = books["positions"].get(symbol, 0.0)
            if session.shares is not None and value > 0.0:
                self._deliver(symbol, -held, session.day, session.shares)
            else:
                books["cash"] += held * value
            books["positions"].pop(symbol, None)
        books["settled"] = session.day
        self._write()

    # --- the account's side ----------------------------------------------------------------------

    def status(self, order: str) -> OrderStatus | None:
        """What became of an order; None: it was never received."""
        known = self._books["orders"].get(order)
        return None if known is None else OrderStatus(known["status"])

    def submit(self, order: Order) -> None:
        """Take an order, and fill what can be filled."""
        known = order.id in self._books["orders"]
        lost, silent = (self._draws(order.id)[name] and not known for name in ("lost", "silent"))
        if lost and [order.id, "lost"] not in self._books["faults"]:
            # Sent again it arrives: a line that is down does not stay down for one order.
            self._note(order.id, "lost")
            self._write()
            raise BrokerSilent(order.id)
        if not known:
            self._take(order)
            self._write()
        if silent:
            raise BrokerSilent(order.id)

    def cancel(self, order: str) -> None:
        """Let what is open of an order be."""
        known = self._books["orders"].get(order)
        if known is not None and known["status"] == OrderStatus.OPEN:
            known["status"] = OrderStatus.CANCELLED
            known.pop("waits", None)
            self._write()

    def executions(self, order: str) -> Sequence[Execution]:
        """All that was done of an order and is reported yet."""
        known = self._books["orders"].get(order)
        if known is None or known["late"]:
            return ()
        known["asked"] = True
        return [Execution(**each) for each in known["executions"]]

    def positions(self) -> Mapping[str, float]:
        """Units held of each symbol."""
        held: dict[str, float] = self._books["positions"]
        return {symbol: units for symbol, units in held.items() if units != 0.0}

    def cash(self) -> float:
        """Dollars."""
        return float(self._books["cash"])

    def deliveries(self) -> Sequence[Delivery]:
        """Contracts that became shares, all of them."""
        return [Delivery(**each) for each in self._books.get("deliveries", [])]

    def _assign(self, shares: Shares) -> None:
        """Exercise short contracts in the money against the account, overnight."""
        for symbol, held in sorted(self._books["positions"].items()):
            contract = read_symbol(symbol)
            if contract is None or held >= 0.0 or contract.in_the_money(shares.before) == 0.0:
                continue
            night = zlib.crc32(f"{shares.day} {symbol}".encode())
            chance, share = np.random.default_rng([self._faults.seed, night]).random(2)
            if chance < self._faults.assigned:
                self._deliver(symbol, float(np.ceil(share * -held)), shares.day, shares)

    def _deliver(self, symbol: str, contracts: float, day: str, shares: Shares) -> None:
        contract, positions = read_symbol(symbol), self._books["positions"]
        if contract is None or contracts == 0.0:
            return
        delivered, usd = exercised(contract, contracts)
        positions[symbol] += contracts
        positions[shares.symbol] = positions.get(shares.symbol, 0.0) + delivered
        self._books["cash"] += usd
        done = asdict(Delivery(f"{self._path.stem} {day} {symbol}", day, symbol, contracts))
        self._books.setdefault("deliveries", []).append(done)

    def _take(self, order: Order) -> None:
        entry: dict[str, Any] = {
            "status": OrderStatus.OPEN,
            "executions": [],
            "late": False,
            "age": 0,
            "asked": False,
        }
        self._books["orders"][order.id] = entry
        if self._draws(order.id)["silent"]:
            self._note(order.id, "silent")
        if self._draws(order.id)["rejected"]:
            entry["status"] = OrderStatus.REJECTED
            self._note(order.id, "rejected")
        elif self._at_open:
            entry["waits"] = asdict(order)
        else:
            self._fill(order, entry, self._quotes)

    def _fill(self, order: Order, entry: dict[str, Any], quotes: Quotes) -> None:
        draws, share = self._draws(order.id), 1.0
        if draws["partial"]:
            share = float(self._rng(order.id, 1).random())
        else:
            entry["status"] = OrderStatus.FILLED
        price, unit_cost = quotes[order.symbol]
        units = share * order.quantity
        units = float(np.trunc(units)) if self._whole else units
        paid = price + float(np.sign(units)) * unit_cost
        done = asdict(Execution(f"{order.id}-1", order.id, units, paid))
        entry["executions"] = [done] * (2 if draws["twice"] else 1) if units else []
        entry["late"] = draws["late"]
        self._books["cash"] -= units * paid
        held = self._books["positions"].get(order.symbol, 0.0) + units
        self._books["positions"][order.symbol] = held
        for name in ("partial", "late", "twice"):
            if draws[name]:
                self._note(order.id, name)

    def _note(self, order: str, fault: str) -> None:
        self._books["faults"].append([order, fault])

    def _draws(self, order: str) -> dict[str, bool]:
        rng = self._rng(order)
        return {name: bool(rng.random() < chance) for name, chance in self._chances.items()}

    def _rng(self, order: str, stream: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._faults.seed, int(order[:15], 16), stream])

    def _write(self) -> None:
        # Without indents, which are slow to write and grow with every order.
        write_atomically(self._path, json.dumps(self._books, allow_nan=False).encode())
