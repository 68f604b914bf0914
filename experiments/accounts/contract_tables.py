"""What an account's slots buy in listed contracts, to be read before the first order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, get_args

from rich.table import Table

from conf.errors import InputError
from envs.core.market import BookHistory
from envs.market.history import MarketHistory
from envs.option_portfolio.market import OptionMarketSettings
from experiments.accounts.brokers import open_alpaca
from experiments.accounts.settings import AccountSettings
from experiments.brokers.listed import Listing, RootName, list_today, root_of
from experiments.reporting.terminal import terminal_table


def listings(
    chosen: AccountSettings,
    config: Mapping[str, Any],
    history: BookHistory,
    equity_usd: float | None = None,
) -> dict[RootName, Listing]:
    """Every root's contracts at the last close of the history; equity: that at the opening if None.

    InputError where the account's book is none of options.
    """
    options = replace(chosen, broker=replace(chosen.broker, contracts="model")).market(config)
    if not isinstance(options, OptionMarketSettings) or not isinstance(history, MarketHistory):
        raise InputError("only a book of options has listed contracts", "Choose a run of options")
    equity = options.env.initial_equity_usd if equity_usd is None else equity_usd
    names: tuple[RootName, ...] = get_args(RootName)
    return {
        name: list_today(options, history, root_of(name, chosen.broker.spy_ratio), equity)
        for name in names
    }


def contract_lines(
    chosen: AccountSettings, found: Mapping[RootName, Listing]
) -> Iterator[Table | str]:
    """A table of the roots, and for the account's own one of its slots."""
    rows = [
        [
            name,
            f"{listing.contract_usd:,.0f}",
            listing.lots,
            listing.none,
            f"{listing.least_equity_usd:,.0f}",
        ]
        for name, listing in found.items()
    ]
    equity = next(iter(found.values())).equity_usd
    roots = ("root", "one contract $", "full slot buys", "slots that buy none", "equity for one $")
    yield terminal_table(f"listed contracts at ${equity:,.0f}", roots, rows)
    if chosen.broker.contracts == "model":
        return
    own = found[chosen.broker.contracts]
    detail = [
        [
            slot.slot,
            slot.symbol[6:],  # its root stands above
            str(slot.lots),
            f"{100 * slot.lost(own.root):.0f} %",
            f"{slot.strike_off:+.1f}",
            f"{slot.days_off:+d}",
            f"{100 * slot.price_off:+.0f} %",
            f"{slot.delta_off:+.3f}",
            f"{slot.vega_off:+.2f}",
        ]
        for slot in own.slots
    ]
    columns = ("slot", "contract", "lots", "left", "strike", "days", "price", "delta", "vega $")
    symbol = own.slots[0].symbol[:6].rstrip()
    yield terminal_table(f"{symbol}: listed less wanted, by the model", columns, detail)
    yield own.summary
    if own.root.american:
        yield "SPY is American: short contracts may be assigned early, and are paid out in shares"
    if chosen.broker.kind == "alpaca":
        unlisted = open_alpaca(chosen).unlisted([slot.symbol for slot in own.slots])
        yield f"Alpaca lists all but {', '.join(unlisted)}" if unlisted else "Alpaca lists them all"
