"""A broker of one's own, for drills: it fills at quoted prices, and errs as it is told to.

Its books are a file of its own, which outlives the account's process as a real broker's would.
Faults are drawn from a seed and the order's identifier, so that a drill can be repeated exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agents.persistence.strict_json import read_json
from conf.files import write_json
from conf.settings import settings
from experiments.accounts.orders import BrokerSilent, Execution, Order, OrderStatus

BOOKS = "broker.json"
Share = Annotated[float, Field(ge=0.0, le=1.0)]


@settings
class Faults:
    """How often what goes wrong, as shares of the orders."""

    rejected: Share = 0.0
    partial: Share = 0.0  # filled to a share that is drawn
    late: Share = 0.0  # what was done is reported only when it is asked for again next session
    twice: Share = 0.0  # the same execution is reported twice
    silent: Share = 0.0  # it was taken, but no answer comes back
    lost: Share = 0.0  # it never arrived, and no answer comes back
    seed: int = 0


class SimulatedBroker:
    """Fills at mark plus or minus what trading costs; holds cash and positions."""

    def __init__(self, folder: Path, cash_usd: float, faults: Faults) -> None:
        self._path, self._faults = folder / BOOKS, faults
        new: dict[str, Any] = {"cash": cash_usd, "positions": {}, "orders": {}, "settled": ""}
        self._books: dict[str, Any] = read_json(self._path) if self._path.is_file() else new
        self._prices: Mapping[str, tuple[float, float]] = {}

    @property
    def settled(self) -> str:
        """The day of its newest session; empty before the first."""
        return str(self._books["settled"])

    # --- the market's side -----------------------------------------------------------------------

    def open_session(
        self,
        session: str,
        prices: Mapping[str, tuple[float, float]],
        interest: float,
        paid_out: Mapping[str, float],
    ) -> None:
        """A new session: cash has earned `interest`, contracts that ended are paid out.

        prices: of each symbol dollars a unit, and what a unit costs to trade; paid_out: what a unit
        of a contract that ended is worth.
        """
        books = self._books
        self._prices = prices
        if books["settled"] == session:
            return
        if books["settled"]:  # cash that came with the opening has earned nothing yet
            books["cash"] += books["cash"] * interest
        for symbol, value in paid_out.items():
            books["cash"] += books["positions"].pop(symbol, 0.0) * value
        for order in books["orders"].values():
            if order["status"] == OrderStatus.OPEN:  # it was good for its session alone
                order["status"] = OrderStatus.CANCELLED
            order["late"] = False
        books["settled"] = session
        self._write()

    # --- the account's side ----------------------------------------------------------------------

    def status(self, order: str) -> OrderStatus | None:
        """What became of an order; None: it was never received."""
        known = self._books["orders"].get(order)
        return None if known is None else OrderStatus(known["status"])

    def submit(self, order: Order) -> None:
        """Take an order and fill what can be filled."""
        draws = self._draws(order.id)
        known = order.id in self._books["orders"]
        if not known and draws["lost"]:
            # Sent again it arrives: a line that is down does not stay down for one order.
            self._books.setdefault("lost", []).append(order.id)
            if self._books["lost"].count(order.id) == 1:
                self._write()
                raise BrokerSilent(order.id)
        if not known:
            self._take(order, draws)
        if draws["silent"] and not known:
            raise BrokerSilent(order.id)

    def cancel(self, order: str) -> None:
        """Let what is open of an order be."""
        known = self._books["orders"].get(order)
        if known is not None and known["status"] == OrderStatus.OPEN:
            known["status"] = OrderStatus.CANCELLED
            self._write()

    def executions(self, order: str) -> Sequence[Execution]:
        """All that was done of an order and is reported yet."""
        known = self._books["orders"].get(order)
        if known is None or known["late"]:
            return ()
        return [Execution(**each) for each in known["executions"]]

    def positions(self) -> Mapping[str, float]:
        """Units held of each symbol."""
        held: dict[str, float] = self._books["positions"]
        return {symbol: units for symbol, units in held.items() if units != 0.0}

    def cash(self) -> float:
        """Dollars."""
        return float(self._books["cash"])

    def _take(self, order: Order, draws: Mapping[str, bool]) -> None:
        books = self._books
        entry: dict[str, Any] = {"status": OrderStatus.FILLED, "executions": [], "late": False}
        if draws["rejected"]:
            entry["status"] = OrderStatus.REJECTED
        else:
            share = 1.0
            if draws["partial"]:
                share, entry["status"] = self._share(order.id), OrderStatus.OPEN
            price, unit_cost = self._prices[order.symbol]
            units = share * order.quantity
            paid = price + float(np.sign(units)) * unit_cost
            done = asdict(Execution(f"{order.id}-1", order.id, units, paid))
            entry["executions"] = [done] * (2 if draws["twice"] else 1)
            entry["late"] = draws["late"]
            books["cash"] -= units * paid
            held = books["positions"].get(order.symbol, 0.0) + units
            books["positions"][order.symbol] = held
        books["orders"][order.id] = entry
        self._write()

    def _draws(self, order: str) -> dict[str, bool]:
        rng = self._rng(order)
        chances = {k: v for k, v in asdict(self._faults).items() if k != "seed"}
        return {name: bool(rng.random() < chance) for name, chance in chances.items()}

    def _share(self, order: str) -> float:
        return float(self._rng(order, 1).random())

    def _rng(self, order: str, stream: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._faults.seed, int(order[:15], 16), stream])

    def _write(self) -> None:
        write_json(self._path, self._books)
