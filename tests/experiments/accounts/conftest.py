import pytest

from experiments.accounts.account import Account, open_account
from experiments.accounts.events import open_store
from experiments.accounts.settings import AccountSettings
from experiments.accounts.trading_day import run_session
from experiments.evaluation.open_run import open_run


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
                report = run_session(Account(folder, store), history.sessions(0, session + 1))
            if after is not None:
                after(folder)
        return report

    return played
