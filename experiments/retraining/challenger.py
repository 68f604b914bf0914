"""The challenger's run: an ordinary one, on the market as the account recorded it.

That market lies as a file in the run's folder, so nothing later can be read, and a source that
grows or revises what it once said changes nothing. The run chooses its best policy on the first of
two stretches after the training years; the second is for the comparison with the champion.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from conf.errors import InputError
from conf.files import write_atomically, write_json
from envs.core.market import BookHistory
from envs.market.history import VOL_OBSERVED, MarketHistory
from experiments.accounts.account import Account
from experiments.certificates.certificate import Certificate, CertifySettings, Part
from experiments.certificates.suite import certificates_content, make_certificates
from experiments.environments.opening import market_settings
from experiments.evaluation.open_run import open_run
from experiments.runs.folder import shown_path

_MARKET = "market.parquet"


def training_config(
    account: Account, folder: Path, session: str, selection: int, validation: int
) -> tuple[dict[str, Any], str]:
    """The configuration of the challenger's run, and the first day that it never sees.

    Writes the account's market up to a session into the run's folder. Training ends before
    `selection` sessions, which end before the last `validation` ones, with the embargo of the
    market between each two. InputError where these leave too little.
    """
    config, history = dict(account.opened["config"]), account.history()
    known = int(np.searchsorted(history.dates, np.datetime64(session), "right"))
    table, data = _as_file(history.sessions(0, known), folder / _MARKET, config["data"])
    write_atomically(folder / _MARKET, table.to_parquet(index=False))
    embargo = market_settings({**config, "data": data}).load().embargo_days
    dates, newest = history.dates[:known], known - validation
    selected = max(newest, 0)
    if embargo and selected:
        selected = int(np.searchsorted(dates, dates[selected] - np.timedelta64(embargo, "D")))
    first = selected - selection
    if first < 1:
        raise InputError(
            f"account {account.name} knows {known} sessions, too few to train before "
            f"{selection} of selection and {validation} of validation",
            "Choose smaller selection_sessions= or validation_sessions=",
        )
    start = config["data"].get("splits", {}).get("train_start")
    splits = {"train_end": str(dates[first - 1]), "validation_end": str(dates[newest - 1])}
    splits |= {} if start is None else {"train_start": start}
    config["data"] = {**data, "splits": splits}
    _ = market_settings(config).load().splits  # InputError where training keeps too few
    return config, str(dates[newest])


def certify_run(folder: Path, parts: tuple[Part, ...]) -> list[Certificate]:
    """Make the short certificates with that run, and write them into its folder."""
    asked = CertifySettings(run=shown_path(folder), certificates=parts, form="short")
    certificates = make_certificates(asked, open_run(str(folder), "best"))
    write_json(folder / asked.file_name, certificates_content(asked, certificates))
    return certificates


def _as_file(
    history: BookHistory, path: Path, data: Mapping[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A recorded market as the table of a user's file, and the settings that read it."""
    dates = pd.to_datetime(history.dates)
    if not isinstance(history, MarketHistory):
        prices = dict(zip(history.assets, history.close[0].T, strict=True))
        table = pd.DataFrame({"date": dates, **prices, "rate": history.rate})
        return table, {"source": "panel_csv", "path": str(path), "assets": list(history.assets)}
    names = ("open", "high", "low", "close", "volume")
    observed = history.implied_vol_source == VOL_OBSERVED
    columns: dict[str, Any] = {
        **{name: getattr(history, name)[0] for name in names},
        "implied_vol": np.where(observed, history.implied_vol[0], np.nan),
        **{name: getattr(history, name) for name in ("rate", "dividend_yield")},
        **{name: values[0] for name, values in history.extras.items()},
    }
    kept = {"worlds": data["worlds"]} if data.get("worlds") is not None else {}
    weight = {"closed_day_weight": history.closed_day_weight}
    return pd.DataFrame({"date": dates, **columns}), {
        **{"source": "csv", "path": str(path)},
        **kept,
        **weight,
    }
