"""Certify that nothing leaks and that runs repeat.

Each certificate is PASS or FAIL with its number: look-ahead, martingale, canaries, ledger replay,
determinism and the chain of the trials; those of a run too with `run=`. `form=short` takes a
minute.

Examples:
    python -m experiments.certify form=short
    python -m experiments.certify run=outputs/production/<date>/<time>
    python -m experiments.certify certificates=[ledger,martingale]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from conf.files import write_json
from conf.settings import build_settings
from experiments.certificates.certificate import CertifySettings, certificates_table
from experiments.certificates.suite import certificates_content, make_certificates
from experiments.evaluation.open_run import open_run
from experiments.reporting.terminal import say_where
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import plain_config


def certify(config: DictConfig) -> None:
    """Make the requested certificates; print them as a table and write `certificates.json`.

    An incomplete or short set has another file name (`CertifySettings.file_name`). With `run=` the
    file is written into the run's folder as well. Raises GateFailed if a certificate fails.
    """
    request: CertifySettings = build_settings(CertifySettings, plain_config(config))
    tested = None if request.run is None else open_run(request.run, request.policy)
    certificates = make_certificates(request, tested)
    folders = [Path(HydraConfig.get().runtime.output_dir)]
    if tested is not None:
        folders.append(tested.run)
    failed = [item.name for item in certificates if not item.passed]
    content = certificates_content(request, certificates)
    for folder in folders:
        write_json(folder / request.file_name, content)
    Console().print(certificates_table(certificates))
    say_where(folders[-1] / request.file_name, _next(request, failed))
    if failed:
        raise GateFailed(f"certificates failed: {', '.join(failed)}")


def _next(request: CertifySettings, failed: Sequence[str]) -> str:
    run = "" if request.run is None else f" run={request.run}"
    if failed:
        return f"read in docs/concepts/certificates.md what {failed[0]} means"
    if not request.is_complete:
        return f"the whole of it: python -m experiments.certify{run}"
    return f"python -m experiments.{'evaluate' if run else 'train +exp=production'}{run}"


def main() -> int:
    """Entry point of the command."""
    return launch(certify, "certify")


if __name__ == "__main__":
    sys.exit(main())
