import logging
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from experiments import evaluate, train
from experiments.accounts.account import Account, open_account
from experiments.accounts.events import open_store
from experiments.accounts.settings import AccountSettings
from experiments.accounts.trading_day import run_session
from experiments.evaluation.open_run import open_run

# A run of seconds: a simulated market, tiny networks, two rollouts.
TINY = (
    "data=synthetic",
    "data.sessions=500",
    "total_timesteps=512",
    "num_envs=4",
    "threads=1",
    "env.episode.sessions=40",
    "agent.rollout_steps=128",
    "agent.batch_size=64",
    "agent.n_epochs=2",
    "agent.lstm_hidden_size=8",
    "agent.n_lstm_layers=1",
    "agent.net_arch=[8]",
    "agent.learning_rate=1e-3",
    "callbacks.checkpoint_every=128",
    "callbacks.validate_every=256",
)
# The one that everybody shares, with room for accounts and crises.
FINISHED = (*TINY, "data.sessions=700", "experiment=tiny")


@pytest.fixture
def kept_process():
    """Puts back what a command changes in its process: log handlers and torch's threads."""
    handlers, level = logging.root.handlers[:], logging.root.level
    threads = torch.get_num_threads()
    yield
    for handler in logging.root.handlers[:]:
        if handler not in handlers:
            handler.close()
    logging.root.handlers, logging.root.level = handlers, level
    torch.set_num_threads(threads)


@pytest.fixture
def command(kept_process, tmp_path, monkeypatch, capfd):
    """Run a command in an empty folder; gives its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(module, *arguments):
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        code = module.main()
        out, err = capfd.readouterr()
        # Tables fit a terminal, and nothing in them is cut short.
        assert "…" not in out
        assert [line for line in out.splitlines() if {"─", "━"} & {*line} and len(line) > 80] == []
        return code, out, err

    return call


RUN = Path("outputs") / "tiny" / "day" / "run"


def _call(module, root: Path, *arguments: str) -> None:
    before, argv, threads = Path.cwd(), sys.argv, torch.get_num_threads()
    handlers, level = logging.root.handlers[:], logging.root.level
    os.chdir(root)
    sys.argv = [module.__name__, *arguments]
    try:
        assert module.main() == 0
    finally:
        os.chdir(before)
        sys.argv = argv
        torch.set_num_threads(threads)
        for handler in logging.root.handlers[:]:  # or later runs would log into this one's file
            if handler not in handlers:
                logging.root.removeHandler(handler)
                handler.close()
        logging.root.setLevel(level)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run that has come to its end; do not write into it."""
    root = tmp_path_factory.mktemp("finished")
    _call(train, root, *FINISHED, f"hydra.run.dir={RUN}")
    return root / RUN


@pytest.fixture(scope="session")
def evaluated_run(finished_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, evaluated without a report; do not write into it."""
    root = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(finished_run.parents[2], root / "outputs")
    _call(evaluate, root, f"run={RUN}", "report=false", "resamples=100")
    return root / RUN


@pytest.fixture(scope="session")
def tested(finished_run):
    return open_run(str(finished_run), "best")


@pytest.fixture(scope="session")
def play():
    """Open an account 60 sessions before the end, and take it through some; the last report."""

    def played(folder, tested, sessions=8, after=None, **chosen):
        history = tested.setup.history
        first = history.num_sessions - 60
        with open_store(folder) as store:
            open_account(folder, store, AccountSettings(name="mine", **chosen), tested, first)
        for session in range(first, first + sessions):
            with open_store(folder) as store:
                account = Account(folder, store)
                report = run_session(account, history.sessions(0, session + 1))
                if after is not None:
                    after(account)
        return report

    return played


@pytest.fixture
def stopped_and_resumed(command, monkeypatch, tmp_path):
    """Train in a folder, interrupted by a callback after 400 steps, and go on; the folder."""

    def on_step(self):
        if self.num_timesteps > 400:
            raise KeyboardInterrupt
        return True

    def train_twice(folder, arguments, callback):
        monkeypatch.setattr(callback, "_on_step", on_step)
        assert command(train, *arguments, f"hydra.run.dir={folder}")[0] == 130
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        assert command(train, f"resume={folder}")[0] == 0
        return tmp_path / folder

    return train_twice
