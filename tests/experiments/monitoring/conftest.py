import pytest

from experiments.accounts.account import Account
from experiments.accounts.events import open_store
from experiments.evaluation.open_run import open_run
from experiments.monitoring.view import read_account
from tests.experiments.accounts.test_paper import play

FAULTS = {"partial": 0.5, "seed": 1}


@pytest.fixture(scope="session")
def tested(finished_run):
    return open_run(str(finished_run), "best")


@pytest.fixture(scope="session")
def traded_folder(tested, tmp_path_factory):
    """An account of eight sessions with a broker that fills half of the orders in part."""
    folder = tmp_path_factory.mktemp("accounts") / "mine"
    play(folder, tested, kind="simulated", faults=FAULTS)
    return folder


@pytest.fixture(scope="session")
def view(traded_folder):
    with open_store(traded_folder) as store:
        return read_account(Account(traded_folder, store))
