import pytest

from experiments.accounts.account import Account
from experiments.accounts.events import open_store
from experiments.monitoring.view import read_account

FAULTS = {"partial": 0.5, "seed": 1}


@pytest.fixture(scope="session")
def traded_folder(play, tested, tmp_path_factory):
    """An account of eight sessions with a broker that fills half of the orders in part."""
    folder = tmp_path_factory.mktemp("accounts") / "mine"
    play(folder, tested, broker={"kind": "simulated", "faults": FAULTS})
    return folder


@pytest.fixture(scope="session")
def view(traded_folder):
    with open_store(traded_folder) as store:
        return read_account(Account(traded_folder, store))
