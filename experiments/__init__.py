"""The commands, and what only they need.

The packages beside this one have common names. Where a module of that name lies before them on the
path (a `conf/` in the working directory, another wheel), their own place is put first, and every
command says so.
"""

import signal
import sys
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_SIBLINGS = ("agents", "callbacks", "conf", "envs", "risk")


def _foreign_place(name: str) -> Path | None:
    """Where a module of that name would be imported from, if that is not beside this package."""
    spec = find_spec(name)
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    place = next((Path(text) for text in places if text), None)
    return None if place is None or place.resolve().is_relative_to(_ROOT / name) else place


# Name -> place of what is passed over.
SHADOWING = {name: place for name in _SIBLINGS if (place := _foreign_place(name)) is not None}
if SHADOWING:
    sys.path.insert(0, str(_ROOT))

# Python imports this with `-m` before the command itself. Ctrl-C just ends the process until the
# command has been imported and handles it.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
