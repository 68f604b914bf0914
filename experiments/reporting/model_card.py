"""What was trained, on what, and what must not be concluded from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callbacks.dashboard import flat
from experiments.evaluation.evaluation import Evaluation
from experiments.reporting.contents import Item, Table, Text
from experiments.runs.config import check_plain

OPTION_LIMITS = (
    "What this evaluation does not show. Trades are filled at the close they are decided on, at "
    "modelled prices: the volatility surface is a formula driven by the volatility index, not "
    "quotes, so an edge here may be the formula's. Costs are a model of quoted spreads. Contracts "
    "are European, of one index, with fractional quantities unless configured otherwise; margin "
    "calls, early assignment, taxes and the failure of a broker do not happen."
)

ASSET_LIMITS = (
    "What this evaluation does not show. Trades are filled at the close they are decided on, in "
    "fractions of a share, at the cost stated, whatever their size; taxes, halts and the failure "
    "of a broker do not happen. Prices include dividends. Assets that are known today to have "
    "survived flatter every portfolio of them."
)

COMMON_LIMITS = (
    "A history is one path, and simulated paths are their model's. Intervals say how far results "
    "on days like these could differ, not what another kind of market would do. The number of "
    "trials counts the runs in the ledger beside this run's folder; tries made elsewhere or "
    "deleted are not in it."
)

OPTION_DISCLOSURE = (
    "Options can lose more than was paid for them; short options can lose without bound."
)
DISCLOSURE = (
    "Past and simulated results are no indication of future ones. This is research software, not "
    "advice."
)


def small_print(*, options: bool) -> tuple[Text, Text]:
    """What a result in a market of options, or of assets, does not show; the risk disclosure."""
    limits = OPTION_LIMITS if options else ASSET_LIMITS
    disclosure = f"{OPTION_DISCLOSURE} {DISCLOSURE}" if options else DISCLOSURE
    return (
        Text(f"{limits}\n\n{COMMON_LIMITS}", title="Limits"),
        Text(disclosure, title="Risk disclosure", kind="warning"),
    )


def model_card(evaluation: Evaluation) -> tuple[Item, ...]:
    """Data, training, market and limits."""
    header, manifest, setup = evaluation.header, evaluation.manifest, evaluation.setup
    data = setup.describe_data()
    facts: list[tuple[str, str]] = [
        ("Run", str(header["run"])),
        ("Policy", f"{header['policy']}, after {header['policy_step']} environment steps"),
        ("Seed", str(manifest["seed"])),
        ("Trained", f"{manifest['created']}, {manifest['steps']} steps"),
        ("Configuration", str(manifest["config_hash"])[:12]),
        ("Data", f"{data['source']}, {data['first']} to {data['last']}"),
        ("Data fingerprint", str(data["fingerprint"])[:12]),
        ("Same data as in training", "yes" if header["same_data_as_training"] else "no"),
        *(
            (f"Split {name}", f"{first} to {last}")
            for name, (first, last) in data["splits"].items()
        ),
        *([("Surface", str(header["surface"]))] if header["surface"] != "none" else []),
        ("Costs", str(header["costs"])),
        ("Initial equity", f"${setup.settings.env.initial_equity_usd:,.0f}"),
        ("Bootstrap resamples", str(header["resamples"])),
    ]
    notices = [Text(notice, kind="warning") for notice in header["notices"]]
    return (
        *notices,
        Table("What was evaluated", ("fact", "value"), tuple(facts), folded=False),
        settings_table("Settings, as evaluated", evaluation.config),
        *small_print(options=setup.trades_options),
    )


def settings_table(title: str, config: Mapping[str, Any]) -> Table:
    """What decides and is paid for, of a run's configuration."""
    rows = tuple(
        (name, str(value))
        for section in ("agent", "reward", "costs", "surface", "risk")
        for name, value in flat(check_plain(config[section]), f"{section}.").items()
    )
    return Table(title, ("setting", "value"), rows, folded=True)
