import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from conf.errors import InputError
from experiments.runs.cli import GateFailed, launch

CONFIG = """
defaults:
  - agent: small
  - _self_
seed: 0
name: ???
total_timesteps: 10
copy: ${seed}
resume: null
hydra:
  run:
    dir: outputs/toy/${now:%H%M%S-%f}
  sweep:
    dir: outputs/sweep
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A configuration package like `conf`, importable by its name."""
    root = tmp_path_factory.mktemp("package")
    conf = root / "toyconf"
    for group in ("agent", "exp"):
        (conf / group).mkdir(parents=True)
    (conf / "__init__.py").touch()
    (conf / "config.yaml").write_text(CONFIG)
    (conf / "plain.yaml").write_text(CONFIG.replace("resume: null\n", ""))
    (conf / "agent" / "small.yaml").write_text("learning_rate: 0.1\n")
    (conf / "agent" / "large.yaml").write_text("learning_rate: 0.2\n")
    (conf / "exp" / "quick.yaml").write_text("# @package _global_\nseed: 4\nname: quick\n")
    sys.path.insert(0, str(root))
    yield root
    sys.path.remove(str(root))


@pytest.fixture
def shell(package, kept_process, tmp_path, monkeypatch, capfd):
    """Call a task as a command; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(task, *arguments):
        monkeypatch.setattr(sys, "argv", ["toy", *arguments])
        code = launch(task, "config", "toyconf")
        out, err = capfd.readouterr()
        return code, out, err

    return call


def train(config):
    return f"{config.seed} {config.name}"


def test_a_finished_command_exits_with_0_and_keeps_its_run_folder(shell, tmp_path):
    seen = []
    code, _, err = shell(lambda config: seen.append(config.seed), "+exp=quick")
    assert (code, seen, err) == (0, [4], "")
    assert len(list(tmp_path.glob("outputs/toy/*/.hydra/config.yaml"))) == 1
    assert "HYDRA_FULL_ERROR" not in os.environ


BAD = {
    "sede=1": "unknown setting sede. Did you mean seed?",
    "agent.learning_rte=1": "unknown setting agent.learning_rte. Did you mean agent.learning_rate?",
    "learning_rate=1": "unknown setting learning_rate. Did you mean agent.learning_rate?",
    "agnt=small": "unknown setting agnt. Did you mean agent?",
    "exp=quick": "exp has no choice that could be changed. Did you mean +exp=quick?",
    "hydra.run.dir=": "hydra.run.dir is empty",
    "hydra.run.dir=''": "hydra.run.dir is empty",
    "agent=[1,2]": "the settings cannot be put together",
    "qqqq=1": "unknown setting qqqq. Known: ",
    "agent=lrage": "agent=lrage is not available. Did you mean agent=large? Choices: large, small",
    "+exp=qick": "exp=qick is not available. Did you mean exp=quick? Choices: quick",
    "seed=[1": "cannot read the override 'seed=[1'",
    "agent.qqqq=1": "unknown setting agent.qqqq. Known: agent.learning_rate",
    "seed": "'seed' is no setting. Settings are given as key=value; did you mean seed=...?",
    "outputs/a/1-2": "given as key=value; did you mean resume=outputs/a/1-2?",
    "quik": "given as key=value; did you mean +exp=quick?",
    "large": "given as key=value; did you mean agent=large?",
    "!": "error: '!' is no setting. Settings are given as key=value\n",
    "seed=1,2": "seed=1,2 names several values. Add -m",
    "seed=${nothing}": "setting seed cannot be resolved: Interpolation key 'nothing' not found",
    "seed=3": "setting name has no value. Give it one: name=...",
    "~nothing": "Could not delete from config. 'nothing' does not exist.",
    "hydra.run.dir=/proc/nothing": "/proc/nothing",
    "hydra.run.dir=${oc.env:NOT_THERE}": "hydra.run.dir cannot be resolved",
    "--config-name=nothing": "Cannot find primary config 'nothing'",
    "--config-dir=nothing": "not found",
    "--nothing": "unrecognized arguments: --nothing",
    "--resolve": "The --resolve flag",
    "--experimental-rerun=x.pickle": "it unpickles a file",
}


@pytest.mark.parametrize("argument", BAD)
def test_a_bad_command_line_is_one_line_and_code_2(shell, argument, tmp_path):
    code, _, err = shell(train, argument)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert BAD[argument] in err
    assert not list(tmp_path.glob("outputs/**/*.log")), "nothing half-made is left"


def test_bad_input_found_by_the_command_is_one_line_and_leaves_no_folder(shell, tmp_path):
    def refuse(config):
        logging.getLogger(__name__).info("reading prices.csv")
        raise InputError("row 3 of prices.csv\nis negative: -1", "Correct it")

    code, _, err = shell(refuse, "name=x")
    assert code == 2
    assert err == "error: row 3 of prices.csv is negative: -1. Correct it\n"
    assert list(tmp_path.glob("outputs/*")) == []


def test_a_run_that_made_something_keeps_its_folder(shell, tmp_path):
    def work_then_refuse(config):
        from hydra.core.hydra_config import HydraConfig

        (Path(HydraConfig.get().runtime.output_dir) / "result.json").write_text("{}")
        raise InputError("the second file is missing")

    assert shell(work_then_refuse, "name=x")[0] == 2
    assert len(list(tmp_path.glob("outputs/toy/*/result.json"))) == 1


def test_an_earlier_run_in_the_same_folder_is_spared(shell, tmp_path):
    def refuse(config):
        raise InputError("no")

    earlier = tmp_path / "mine" / "toy.log"
    earlier.parent.mkdir()
    earlier.write_text("done\n")
    os.utime(earlier, (1, 1))
    (tmp_path / "mine" / "old.log").write_text("older\n")
    os.utime(tmp_path / "mine" / "old.log", (1, 1))
    assert shell(refuse, "name=x", "hydra.run.dir=mine")[0] == 2
    assert (tmp_path / "mine" / "old.log").exists()


def test_a_failed_gate_is_code_1_and_keeps_the_results(shell, tmp_path):
    def gate(config):
        raise GateFailed("Sharpe 0.2 is below 0.5")

    code, _, err = shell(gate, "name=x")
    assert (code, err) == (1, "failed: Sharpe 0.2 is below 0.5\n")
    assert list(tmp_path.glob("outputs/toy/*"))


def test_a_defect_keeps_its_traceback(shell):
    def broken(config):
        return config.nothing_of_that_name.x

    with pytest.raises(Exception, match="nothing_of_that_name"):
        shell(broken, "name=x")

    def value(config):
        raise ValueError("a defect, though a ValueError")

    with pytest.raises(ValueError, match="defect"):
        shell(value, "name=x")
    with pytest.raises(ValueError, match="defect"):
        shell(value, "-m", "name=x", "seed=1,2")


def test_a_sweep_runs_every_job_and_reports_each_failure_in_a_line(shell, tmp_path):
    finished = []

    def picky(config):
        if config.seed == 2:
            raise InputError("seed 2 is unlucky")
        if config.seed == 3:
            raise GateFailed("seed 3 is poor")
        finished.append(config.seed)

    code, _, err = shell(picky, "-m", "name=x", "seed=1,2,3,4")
    assert (code, finished) == (2, [1, 4])
    assert err.splitlines() == [
        "error: job 1 (name=x seed=2): seed 2 is unlucky",
        "failed: job 2 (name=x seed=3): seed 3 is poor",
    ]
    assert sorted(p.name for p in (tmp_path / "outputs/sweep").glob("?")) == ["0", "2", "3"]


def test_a_mistyped_sweep_is_one_line_too(shell):
    code, _, err = shell(train, "-m", "name=x", "sede=1,2")
    assert (code, err) == (2, "error: unknown setting sede. Did you mean seed?\n")
    code, _, err = shell(train, "name=x", "-m", "seed=1,2")
    assert code == 2
    assert "Put flags such as -m before all settings" in err
    code, _, err = shell(train, "-m", "name=x", "agent=lrage,lareg")
    assert code == 2
    assert err.startswith("error: agent=lrage is not available")
    assert err.count("\n") == 1


def test_a_job_that_cannot_be_composed_does_not_hide_the_others(shell, tmp_path):
    finished = []
    code, _, err = shell(
        lambda config: finished.append(config.agent.learning_rate),
        *("-m", "name=x", "agent=small,lrage,large", "+exp=quick"),
    )
    assert (code, finished) == (2, [0.1, 0.2])
    assert err == (
        "error: job (name=x agent=lrage +exp=quick): agent=lrage is not available. "
        "Did you mean agent=large? Choices: large, small\n"
    )
    assert str(tmp_path) not in (tmp_path / "outputs/sweep/multirun.yaml").read_text()


def test_endless_words_are_not_echoed_whole(shell):
    for argument in ("seed=" + "9" * 5000, "x" * 5000 + "=1", "agent=" + "y" * 5000):
        code, _, err = shell(train, "name=x", argument)
        assert code == 2
        assert len(err) < 1500
        assert err.count("\n") == 1


def test_a_refusal_of_the_system_before_the_arguments_stand_is_one_line(
    package, kept_process, monkeypatch, capfd
):
    def prepare(arguments):
        raise PermissionError(13, "Permission denied", "outputs")

    monkeypatch.setattr(sys, "argv", ["toy", "name=x"])
    assert launch(train, "config", "toyconf", prepare) == 2
    assert "the system refused: Permission denied (outputs)" in capfd.readouterr().err


@pytest.mark.parametrize("flag", ["--help", "--hydra-help", "--version"])
def test_help_is_printed_and_exits_with_0(shell, flag, tmp_path):
    code, out, err = shell(train, flag)
    assert (code, err) == (0, "")
    assert len(out) > 5
    assert not (tmp_path / "outputs").exists()


def test_the_composed_configuration_can_be_shown(shell):
    code, out, err = shell(train, "--cfg", "job", "+exp=quick")
    assert (code, err) == (0, "")
    assert "seed: 4" in out


def test_an_interrupt_says_how_to_resume(shell, tmp_path):
    def interrupted(config):
        from hydra.core.hydra_config import HydraConfig

        if config.seed == 1:
            folder = Path(HydraConfig.get().runtime.output_dir)
            (folder / "checkpoints" / "step_000000010").mkdir(parents=True)
        raise KeyboardInterrupt

    code, _, err = shell(interrupted, "name=x")
    assert (code, err) == (130, "interrupted. No checkpoint was written yet\n")
    assert list(tmp_path.glob("outputs/*")) == []
    code, _, err = shell(interrupted, "name=x", "seed=1", "hydra.run.dir=outputs/a")
    expected = "interrupted. Go on with: python -m experiments.train resume=outputs/a\n"
    assert (code, err) == (130, expected)


def test_an_interrupt_of_a_command_without_resume_says_only_that(shell):
    def interrupted(config):
        raise KeyboardInterrupt

    assert shell(interrupted, "--config-name=plain", "name=x")[::2] == (130, "interrupted\n")


SCRIPT = """
import sys, time
from experiments.runs.cli import launch
from conf.errors import InputError

def toy(config):
    if config.seed == 1:
        raise InputError("seed 1 is taken", "Take 2")
    if config.seed == 2:
        raise ZeroDivisionError("a defect")
    if config.seed == 3:
        print("waiting", flush=True)
        time.sleep(60)

if __name__ == "__main__":
    sys.exit(launch(toy, "config", "toyconf"))
"""


def test_a_real_process_exits_with_the_right_codes(package, tmp_path):
    (package / "toy_command.py").write_text(textwrap.dedent(SCRIPT))
    path = os.pathsep.join([str(package), str(Path(__file__).parents[3])])

    def start(seed):
        return subprocess.Popen(
            [sys.executable, "-m", "toy_command", "name=x", f"seed={seed}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Tests that run in the background ignore Ctrl-C, and so would their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            text=True,
        )

    refused, broken, waiting = start(1), start(2), start(3)
    assert refused.communicate(timeout=60)[1] == "error: seed 1 is taken. Take 2\n"
    assert refused.returncode == 2
    assert "ZeroDivisionError: a defect" in broken.communicate(timeout=60)[1]
    assert broken.returncode == 1
    assert waiting.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=60)[1] == "interrupted. No checkpoint was written yet\n"
    assert waiting.returncode == 130
    assert len(list(tmp_path.glob("outputs/toy/*/toy_command.log"))) == 1
