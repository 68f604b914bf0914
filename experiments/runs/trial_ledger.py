"""The file of the trial ledger: rows are only ever added, each with the hash of the one before.

A line is the JSON of a row; `hash` is the SHA-256 of the line without it, `previous` the hash of
the line above. So no row can be changed, taken out or moved without breaking what follows. That the
end was not cut off, and the chain not calculated anew, is seen from the run folders: each keeps the
hashes of its own rows in `trial.json`, and its manifest repeats those of training. The hashes have
no key: who changes the ledger and every later run folder consistently is not found.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agents.persistence.strict_json import read_json
from conf.errors import InputError
from conf.files import write_atomically, write_json
from experiments.runs.folder import MANIFEST, lock_file, trial_folder

log = logging.getLogger(__name__)

LEDGER = "trials.jsonl"
ROOT = "outputs"
FORMER = "trials.parquet"  # of earlier versions: results alone, without hashes
SEAL = "trial.json"  # in a run folder: the hashes of its rows
SEAL_FORMAT = 1
INTENT = "trial.pending"  # in a run folder: the hash of the row that is about to be written
NOTED = "trial"  # in the manifest: the same hashes, as far as they were known when it was written

# Kinds of rows. Unproven ones were taken over from a ledger without hashes.
STARTED, RESULT, UNPROVEN = "started", "result", "unproven"

_LOCK = "trials.lock"
_FIRST = "0" * 64  # stands for the hash before the first row
_FRAME = ("kind", "previous", "hash")

Row = dict[str, Any]


def ledger_of(run: Path) -> Path:
    """The ledger that a run belongs to: in the nearest `outputs` above it, else in its parent."""
    folder = run.resolve()
    root = next((above for above in folder.parents if above.name == ROOT), folder.parent)
    return root / LEDGER


def read_rows(ledger: Path) -> list[Row]:
    """All rows, oldest first, as plain data with `kind` and `hash`; none if there is no ledger.

    Where there is only a ledger of an earlier version its results are given, as unproven rows: that
    none was removed from it nobody can tell. Raises InputError for a file that is damaged, and for
    a chain that is broken.
    """
    try:
        content = ledger.read_bytes()
    except FileNotFoundError:
        return _taken_over(ledger)
    except OSError as error:
        raise _damaged(ledger, error.strerror or type(error).__name__) from None
    *lines, rest = content.split(b"\n")
    if rest or not lines:
        raise _damaged(ledger, "its last row is cut off")
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        previous = rows[-1]["hash"] if rows else _FIRST
        row = _parsed(line)
        if row is None or row["previous"] != previous or _line(row) != line:
            raise _damaged(ledger, f"row {number} is not the one that was written after the last")
        rows.append(row)
    return rows


def add_row(
    ledger: Path,
    folder: Path,
    kind: str,
    content: Mapping[str, Any],
    is_known: Callable[[Sequence[Row], Sequence[str]], bool],
) -> None:
    """Add a row about the run in `folder`, and its hash to that folder; safe among processes.

    `is_known` is given all rows and the hashes in the folder, and says whether the row is there
    already; then nothing is added. The folder first says which row it will be: whenever a call is
    killed, the next one takes up a row that reached the ledger. Logs a warning where the ledger
    lacks rows that this folder keeps, and where it is to begin anew among folders that keep some.
    """
    with lock_file(ledger.parent / _LOCK) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for other writers
        rows, seal = read_rows(ledger), sealed_rows(folder)
        hashes, intent = {row["hash"] for row in rows}, folder / INTENT
        if not rows or not hashes.issuperset(seal):
            warn_of_defects(ledger)
        if intent.is_file():  # a call before was killed; did its row reach the ledger?
            pending = intent.read_text(encoding="ascii", errors="replace")
            if pending in hashes and pending not in seal:
                seal = _sealed(folder, (*seal, pending))
            intent.unlink()
        if is_known(rows, seal):
            return
        row = chained(kind, content, rows[-1]["hash"] if rows else _FIRST)
        write_atomically(intent, row["hash"].encode())
        write_atomically(ledger, b"".join(_line(row) + b"\n" for row in (*rows, row)))
        _sealed(folder, (*seal, row["hash"]))
        intent.unlink()


def _sealed(folder: Path, rows: tuple[str, ...]) -> tuple[str, ...]:
    write_json(folder / SEAL, {"format": SEAL_FORMAT, "rows": rows})
    return rows


def chained(kind: str, content: Mapping[str, Any], previous: str) -> Row:
    """The row that follows the one with the hash `previous`."""
    row = {"kind": kind, **content, "previous": previous}
    return {**row, "hash": _hash(row)}


def content_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the row says, without its place in the chain."""
    return {name: value for name, value in row.items() if name not in _FRAME}


def sealed_rows(folder: Path) -> tuple[str, ...]:
    """The hashes of its rows that a run folder keeps; none where it has no `trial.json`."""
    path = folder / SEAL
    if not path.is_file():
        return ()
    seal = read_json(path)
    rows = seal.get("rows")
    if seal.get("format") != SEAL_FORMAT or not isinstance(rows, list) or not rows:
        raise InputError(f"{path} does not hold the hashes of a run", "Put back the original file")
    return tuple(map(str, rows))


@dataclass(frozen=True)
class LedgerCheck:
    """What became of a ledger since its rows were written."""

    ledger: Path
    rows: int  # in an unbroken chain
    started: int  # of them
    unproven: int  # of them: taken over from a ledger without hashes
    folders: int  # that keep hashes of their rows
    defects: tuple[str, ...]  # in words; none where nothing was found
    uncounted: tuple[str, ...]  # run folders that neither keep a hash nor are named by a row


def check_ledger(ledger: Path) -> LedgerCheck:
    """Hold the chain, and the hashes in the run folders, against the ledger."""
    ledger = ledger.resolve()
    defects: list[str] = []
    try:
        rows = read_rows(ledger)
    except InputError as error:
        defects.append(error.problem)
        rows = []
    kept: dict[Path, set[str]] = {}
    for path in sorted((*ledger.parent.rglob(SEAL), *ledger.parent.rglob(MANIFEST))):
        folder = trial_folder(path.parent)
        if folder.parent.name == "checkpoints" or ledger_of(folder) != ledger:
            continue
        hashes = kept.setdefault(folder, set())
        try:
            hashes.update(sealed_rows(folder) if path.name == SEAL else _noted_rows(path))
        except InputError as error:
            defects.append(error.problem)
    names = {folder: folder.relative_to(ledger.parent).as_posix() for folder in kept}
    owner = {row["hash"]: row["run"] for row in rows}
    for folder, name in names.items():
        missing = sum(entry not in owner for entry in kept[folder])
        others = {owner[entry] for entry in kept[folder] if entry in owner} - {name}
        if missing:
            defects.append(f"{missing} row(s) of {name} are not in the ledger")
        if others:
            defects.append(f"{name} keeps rows of {', '.join(sorted(others))}")
    folders = sum(map(bool, kept.values()))
    if folders and not rows and not ledger.exists():
        defects.insert(
            0, f"{ledger} is missing, and {folders} run folder(s) keep hashes of its rows"
        )
    named, kinds = set(owner.values()), [row["kind"] for row in rows]
    return LedgerCheck(
        ledger,
        len(rows),
        kinds.count(STARTED),
        kinds.count(UNPROVEN),
        folders,
        tuple(defects),
        tuple(name for folder, name in names.items() if not kept[folder] and name not in named),
    )


def warn_of_defects(ledger: Path) -> None:
    """Log what `check_ledger` finds, in one line: the number of tries is then too low."""
    defects = check_ledger(ledger).defects
    if defects:
        more = f", and {len(defects) - 1} more defect(s)" if len(defects) > 1 else ""
        log.warning(
            "trials are missing, so results look better than they are: %s%s. All of them: "
            "python -m experiments.certify certificates=[trials]",
            defects[0],
            more,
        )


def _noted_rows(manifest: Path) -> list[str]:
    """The hashes that a manifest repeats; none in those of earlier versions."""
    noted = read_json(manifest).get(NOTED)
    return [str(entry) for entry in noted] if isinstance(noted, list) else []


def _taken_over(ledger: Path) -> list[Row]:
    """The rows of the former ledger beside it, as the beginning of a chain."""
    former = ledger.with_name(FORMER)
    if not former.is_file():
        return []
    try:
        contents = pq.read_table(former).to_pylist()
        rows: list[Row] = []
        for content in contents:
            plain = {key: None if value != value else value for key, value in content.items()}
            rows.append(chained(UNPROVEN, plain, rows[-1]["hash"] if rows else _FIRST))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise _damaged(former, f"not readable, {type(error).__name__}") from None
    log.warning(
        "%s has no hashes: its %d rows count as tries, but nothing shows whether there were more",
        FORMER,
        len(rows),
    )
    return rows


def _parsed(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
        _text(row)  # a ValueError for what is no finite number
    except (ValueError, RecursionError):
        return None
    whole = isinstance(row, dict) and all(isinstance(row.get(name), str) for name in _FRAME)
    return row if whole and isinstance(row.get("run"), str) else None


def _line(row: Mapping[str, Any]) -> bytes:
    """The row as it is written; with another hash than its own where it was changed."""
    content = {name: value for name, value in row.items() if name != "hash"}
    return _text({**content, "hash": _hash(content)})


def _hash(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(row)).hexdigest()


def _text(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":"), allow_nan=False).encode()


def _damaged(ledger: Path, why: str) -> InputError:
    return InputError(
        f"the trial ledger {ledger} is damaged: {why}",
        "Put back an untouched copy; without it nobody can say how many tries there were",
    )
