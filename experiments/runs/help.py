"""What `--help` of a command prints: purpose, examples, groups and keys, read where they are kept.

The purpose is the docstring of the command's module; keys and their comments stand in its YAML.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from omegaconf import OmegaConf

WIDTH = 80
_KEY = re.compile(r"( *)(\w+):(?: ([^#]*))?(?:# (.*))?$")
_FLAGS = """\
Flags, before all settings:
    -m            run a grid: every combination of key=a,b
    --cfg job     show every setting, and do nothing
    --hydra-help  the other flags"""


def help_text(purpose: str | None, config_package: str, config_name: str) -> str:
    """The help of the command that Hydra composes `config_name` for; lines of 80 characters."""
    files = _inherited(_folder(config_package), config_name)
    groups = [
        _entry(f"{group}=", ", ".join(f"*{x}" if x == chosen else x for x in choices))
        for group, choices, chosen in group_choices(config_package, config_name)
    ]
    keys = [_entry(*key) for file in files for key in _keys(file)]
    parts = [
        "\n".join(_wrapped(paragraph) for paragraph in (purpose or "").strip().split("\n\n")),
        "\n".join(["Groups, and their choices (* unless you choose):", *groups]) if groups else "",
        "\n".join(["Keys and what they are unless given:", *keys]) if keys else "",
        _FLAGS,
    ]
    return "\n\n".join(part for part in parts if part)


def group_choices(config_package: str, config_name: str) -> Iterator[tuple[str, list[str], object]]:
    """Each group of that configuration, its choices, and the one that it has unless told.

    The experiments come first, as `+exp`; a group without a choice is left out.
    """
    folder = _folder(config_package)
    files = _inherited(folder, config_name)
    if folder / "config.yaml" in files and (folder / "exp").is_dir():
        yield "+exp", _choices(folder / "exp"), None
    for item in (item for file in files for item in _defaults(file)):
        for group, chosen in item.items() if isinstance(item, dict) else ():
            choices = _choices(folder / group)
            if len(choices) > 1:
                yield group, choices, chosen


def _folder(config_package: str) -> Path:
    return Path(next(iter(import_module(config_package).__path__)))


def _inherited(folder: Path, name: str) -> list[Path]:
    """The file of that configuration, and those that it takes as a whole."""
    file = folder / f"{name}.yaml"
    others = [item for item in _defaults(file) if isinstance(item, str) and item != "_self_"]
    return [file, *(path for other in others for path in _inherited(folder, other))]


def _defaults(file: Path) -> list[object]:
    values = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    return list(values.get("defaults", ())) if isinstance(values, dict) else []


def _choices(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))


def _keys(file: Path) -> Iterator[tuple[str, str]]:
    """`key=value` and comment of each setting of the file itself, in its order.

    A line of comment right behind a key goes on with what is said about it.
    """
    found: list[tuple[str, str]] = []
    path: list[str] = []
    before = ""
    for line in file.read_text(encoding="utf-8").splitlines():
        match = _KEY.match(line)
        if match is not None:
            indent, name, value, note = match.groups(default="")
            path = [*path[: len(indent) // 2], name]
            if value.strip() and path[0] not in ("defaults", "hydra"):
                key, value = f"{'.'.join(path)}=", value.strip()
                if value == "???":
                    found.append((key, f"needed: {note}"))
                else:
                    found.append((key + value, note) if len(value) < 40 else (key, value))
        elif line.startswith("#") and before and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.lstrip('# ')}")
        before = line
    yield from found


def _entry(name: str, text: str) -> str:
    """A name, and indented behind or below it what is said about it."""
    start, below = f"    {name}", "\n" + " " * 28
    first = f"{start:28}" if len(start) < 27 else start + below
    return (first + textwrap.fill(text, WIDTH - 28).replace("\n", below)).rstrip()


def _wrapped(paragraph: str) -> str:
    """Prose in lines of 80 characters; examples stay as they are."""
    lines = paragraph.split("\n")
    return paragraph if lines[0] == "Examples:" else textwrap.fill(" ".join(lines), WIDTH) + "\n"
