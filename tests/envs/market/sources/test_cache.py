from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from envs.market.sources.cache import (
    DamagedTable,
    cache_folder,
    read_table,
    table_fingerprint,
    write_table,
)


@pytest.fixture
def table() -> pd.DataFrame:
    days = pd.DatetimeIndex(["2020-01-02", "2020-01-03"], name="date")
    return pd.DataFrame({"close": [1.5, 2.5], "vix": [float("nan"), 12.0]}, index=days)


def test_a_table_comes_back_as_it_was_written(tmp_path: Path, table: pd.DataFrame) -> None:
    write_table(tmp_path / "new" / "a.parquet", table)
    back = read_table(tmp_path / "new" / "a.parquet")
    assert back is not None
    pd.testing.assert_frame_equal(back, table, check_freq=False)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.parquet"]


def test_no_file_is_no_table(tmp_path: Path) -> None:
    assert read_table(tmp_path / "none.parquet") is None


def test_every_value_counts_in_the_fingerprint(table: pd.DataFrame) -> None:
    for change in (table * 1.0001, table.rename(columns={"vix": "v"}), table.shift(1, freq="D")):
        assert table_fingerprint(change) != table_fingerprint(table)


def test_a_cut_file_is_damaged(tmp_path: Path, table: pd.DataFrame) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, table)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedTable, match="not readable"):
        read_table(path)


def test_changed_values_are_damage(tmp_path: Path, table: pd.DataFrame) -> None:
    path = tmp_path / "a.parquet"
    write_table(path, table)
    stored = pq.read_table(path)
    doctored = stored.set_column(0, "close", [[1.5, 2.6]])
    pq.write_table(doctored.replace_schema_metadata(stored.schema.metadata), path)
    with pytest.raises(DamagedTable, match="fingerprint"):
        read_table(path)


def test_a_parquet_file_of_another_origin_is_refused(tmp_path: Path, table: pd.DataFrame) -> None:
    path = tmp_path / "a.parquet"
    table.to_parquet(path)
    with pytest.raises(DamagedTable, match="fingerprint"):
        read_table(path)


def test_default_folder_follows_the_desktop_standard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / "polyhedgerl"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/ones/are/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(None) == tmp_path / ".cache" / "polyhedgerl"
