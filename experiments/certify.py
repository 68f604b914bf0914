"""Certificates of what must hold: `python -m experiments.certify`; of a run too with `run=`.

Each is PASS or FAIL with its number: look-ahead, martingale, canaries, ledger replay,
determinism and the chain of the trials. `form=short` takes a minute,
`certificates=[ledger,martingale]` makes those two.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from conf.files import write_json
from conf.settings import build_settings
from experiments.certificates.certificate import CertifySettings, certificates_table
from experiments.certificates.suite import certificates_content, make_certificates
from experiments.evaluation.open_run import open_run
from experiments.runs.cli import GateFailed, launch
from experiments.runs.config import plain_config
from experiments.runs.folder import shown_path


def certify(config: DictConfig) -> None:
    """Make the requested certificates; print them as a table and write `certificates.json`.

    An incomplete or short set has another file name (`CertifySettings.file_name`). With `run=` the
    file is written into the run's folder as well. Raises GateFailed if a certificate fails.
    """
    request: CertifySettings = build_settings(CertifySettings, plain_config(config), "certify")
    tested = None if request.run is None else open_run(request.run, request.policy)
    certificates = make_certificates(request, tested)
    folders = [Path(HydraConfig.get().runtime.output_dir)]
    if tested is not None:
        folders.append(tested.run)
    content = certificates_content(request, certificates)
    for folder in folders:
        write_json(folder / request.file_name, content)
    console = Console()
    console.print(certificates_table(certificates))
    console.print(f"written to {shown_path(folders[-1] / request.file_name)}")
    if failed := [item.name for item in certificates if not item.passed]:
        raise GateFailed(f"certificates failed: {', '.join(failed)}")


def main() -> int:
    """Entry point of the command."""
    return launch(certify, "certify")


if __name__ == "__main__":
    sys.exit(main())
