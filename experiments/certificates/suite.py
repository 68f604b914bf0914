"""Makes the certificates that were asked for, one part after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.ppo.parallel import torch_threads
from callbacks.progress import Meter
from experiments.certificates.canary import canary
from experiments.certificates.certificate import Certificate, Certification, CertifySettings
from experiments.certificates.determinism import determinism
from experiments.certificates.ledger_replay import ledger_replay
from experiments.certificates.look_ahead import look_ahead
from experiments.certificates.martingale import martingale
from experiments.certificates.trial_chain import trial_chain
from experiments.evaluation.open_run import TestedRun
from experiments.runs.provenance import gather_provenance

log = logging.getLogger(__name__)

PARTS: Mapping[str, Callable[[Certification], list[Certificate]]] = {
    "look_ahead": look_ahead,
    "martingale": martingale,
    "ledger": ledger_replay,
    "canary": canary,
    "determinism": determinism,
    "trials": trial_chain,
}


def make_certificates(request: CertifySettings, tested: TestedRun | None) -> list[Certificate]:
    """The requested certificates, of the run too where there is one."""
    certificates: list[Certificate] = []
    certification = Certification(request.profile, request.seed, tested)
    asked = {n: p for n, p in PARTS.items() if {n, "all"} & set(request.certificates)}
    # Few books at a time: handing them to a second core costs more than it brings.
    with torch_threads(1), Meter(len(asked), "certificate") as meter:
        for name, part in asked.items():
            log.info("certifying: %s", name.replace("_", " "))
            certificates += part(certification)
            meter.advance()
    return certificates


def certificates_content(
    request: CertifySettings, certificates: Sequence[Certificate]
) -> dict[str, Any]:
    """What is written of them, as JSON can hold it."""
    return {
        "format": 1,
        **gather_provenance(),  # machine, threads, versions, commit
        "run": request.run,
        "form": request.form,
        "complete": request.is_complete,
        "seed": request.seed,
        "passed": all(item.passed for item in certificates),
        "certificates": [item.as_json() for item in certificates],
    }
