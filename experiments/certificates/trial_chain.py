"""Whether the ledger of trials is still as it was written: the number of tries rests on it."""

from __future__ import annotations

from pathlib import Path

from experiments.certificates.certificate import Certificate, Certification
from experiments.runs.folder import shown_path
from experiments.runs.trial_ledger import LEDGER, ROOT, check_ledger, ledger_of

_NAMED = 20  # defects that are listed


def trial_chain(certification: Certification) -> list[Certificate]:
    """The chain of the run's ledger, or of that in `outputs`, held against the run folders.

    The number is that of rows and folders that do not agree with it; the certificate asks for none.
    Rows that were taken over from a ledger without hashes are counted and named: of them nothing is
    certified.
    """
    tested = certification.tested
    ledger = Path(ROOT) / LEDGER if tested is None else ledger_of(tested.run)
    check = check_ledger(ledger.resolve())
    words = f"{check.rows} rows of {shown_path(ledger)}, {check.folders} run folders agree"
    if check.defects:
        words = check.defects[0]
    if check.unproven:
        words += f"; {check.unproven} rows are from a ledger without hashes and prove nothing"
    if check.uncounted:
        words += f"; {len(check.uncounted)} run folders have no row"
    details = {
        "rows": check.rows,
        "started": check.started,
        "unproven": check.unproven,
        "folders": check.folders,
        "defects": list(check.defects[:_NAMED]),
        "uncounted": list(check.uncounted[:_NAMED]),
    }
    return [Certificate("trials.chain", not check.defects, len(check.defects), words, details)]
