"""`python -m experiments`, which is also `polyhedge`: the list, each command's help, completion."""

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import conf
from experiments.__main__ import commands, main, usage
from experiments.runs.help import help_text

CONF = Path(conf.__file__).parent
ROOT = CONF.parent


def config_of(command):
    return "config" if command == "train" else command


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_every_command_is_listed_with_what_it_does(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    names = {file.stem for file in (ROOT / "experiments").glob("*.py")} - {"__init__", "__main__"}
    assert set(commands()) == names
    for name, purpose in commands().items():
        assert purpose
        assert f"  {name:14}{purpose}\n" in listed
    assert max(map(len, usage().splitlines())) <= 80


def test_an_unknown_command_is_one_line_and_code_2(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: there is no command 'trian'. Did you mean train?\n"
    assert main(["-sc"]) == main(["-sc", "install=csh"]) == 2
    assert capsys.readouterr().err.count("error: -sc takes install=") == 2


@pytest.mark.parametrize("name", commands())
def test_help_says_the_purpose_three_examples_the_choices_and_every_key(name):
    # That the examples compose is tested with those of the documents.
    purpose = import_module(f"experiments.{name}").__doc__
    text = help_text(purpose, "conf", config_of(name))
    assert text.startswith(commands()[name])
    assert text.count(f"\n    python -m experiments.{name} ") == 3
    assert max(map(len, text.splitlines())) <= 80
    own: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{config_of(name)}.yaml"))
    groups = [item for item in own.pop("defaults") if isinstance(item, dict)]
    own.pop("hydra")
    assert [key for key in leaves(own) if f"    {key}=" not in text] == []
    for group in (key for item in groups for key in item if not key.startswith("override")):
        choices = [file.stem for file in (CONF / group).glob("*.yaml")]
        shown = text.partition(f"    {group}=")[2]
        assert all(choice in shown for choice in choices if len(choices) > 1)
    assert ("\n    +exp=" in text) == (name in ("train", "walk_forward", "sweep", "ablate"))


def asked(*arguments, **variables):
    line, env = [sys.executable, "-m", "experiments", *arguments], {**os.environ, **variables}
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("polyhedge st", ["stress"]),
        ("polyhedge train +exp=qu", ["+exp=quickstart"]),
        ("polyhedge evaluate spl", ["split="]),
        ("polyhedge nothing x", []),
    ],
)
def test_commands_groups_and_keys_are_completed(line, completed):
    assert asked("-sc", "query=bash", COMP_LINE=line) == completed


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_a_command_is_run_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["polyhedge", "compare", "--help"])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as leaving:
        main()
    signal.signal(signal.SIGINT, before)
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("Put runs side by side.\n")
