"""Every command from one place: `polyhedge train` is `python -m experiments.train`."""

from __future__ import annotations

import ast
import difflib
import os
import pkgutil
import re
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra

import experiments

_USAGE = """\
polyhedge <command> key=value ...   or   python -m experiments.<command> ...

{commands}

polyhedge <command> --help says what can be chosen. Completion of commands,
groups and keys: eval "$(polyhedge -sc install=bash)", or =zsh, =fish."""


def commands() -> dict[str, str]:
    """Every command, and in a few words what it does: the first line of its module."""
    folder = Path(next(iter(experiments.__path__)))
    names = [m.name for m in pkgutil.iter_modules([str(folder)]) if not m.ispkg]
    found = {}
    for name in names:
        if name != "__main__":
            tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
            found[name] = (ast.get_docstring(tree) or "").split("\n")[0].rstrip(".")
    return found


def usage() -> str:
    """The list of commands."""
    lines = (f"  {name:14}{purpose}" for name, purpose in commands().items())
    return _USAGE.format(commands="\n".join(lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; without one, list them."""
    name, *rest = [*(sys.argv[1:] if arguments is None else arguments), ""]
    if name in ("", "-h", "--help"):
        print(usage())
        return 0
    if name in ("-sc", "--shell-completion"):
        return _complete(rest[0])
    if name not in commands():
        close = difflib.get_close_matches(name, commands(), n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(commands())}"
        print(f"error: there is no command {name!r}. {hint}", file=sys.stderr)
        return 2
    sys.argv[1:] = rest[:-1]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as `-m`, until the command handles it
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
    return 0


def _complete(request: str) -> int:
    """Hydra's completion, for the command that the line names. Nothing heavy is imported."""
    if not re.fullmatch("(install|uninstall|query)=(bash|zsh|fish)", request):
        print("error: -sc takes install=, uninstall= or query=bash, zsh or fish", file=sys.stderr)
        return 2
    line = re.match(r"(\S+)\s+(\S*)(\s.*)?$", os.environ.get("COMP_LINE", ""), flags=re.DOTALL)
    name = "train"
    if request.startswith("query=") and line is not None:
        program, name, rest = line.groups()
        if rest is None:
            print(*(command for command in commands() if command.startswith(name)))
            return 0
        os.environ["COMP_LINE"] = program + rest
    if name in commands():
        sys.argv[1:] = ["-sc", request]
        config = "config" if name == "train" else name
        hydra.main("pkg://conf", config, version_base="1.3")(lambda _: None)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
