import pytest

from experiments.evaluation import AGENT, INDEX
from experiments.problem import problem_of
from experiments.session import open_session, option_session
from experiments.settings import market_settings
from risk.errors import InputError


def session_of(**sections):
    plain = {"env": {"episode": {"sessions": 40}}, "costs": {"kind": "flat"}, "reward": {}}
    return open_session(market_settings({**plain, "risk": {"enabled": False}, **sections}))


OPTIONS = {"data": {"source": "synthetic", "sessions": 700}, "surface": {"kind": "vix"}}
ASSETS = {
    "data": {"source": "panel_simulated", "assets": 3, "sessions": 700},
    "env": {"kind": "allocation", "episode": {"sessions": 40}},
}


@pytest.mark.parametrize("sections", [OPTIONS, ASSETS])
def test_every_opponent_has_a_name_of_its_own(sections):
    session = session_of(**sections)
    baselines, _ = problem_of(session).opponents(session.window("test"))
    names = [AGENT, INDEX, *(b.name for b in baselines)]
    assert len(set(names)) == len(names) > 5


def test_what_is_about_options_refuses_assets():
    with pytest.raises(InputError, match="is a market of assets"):
        option_session(session_of(**ASSETS))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({**OPTIONS, "env": {"kind": "allocation"}}, "holds one index"),
        ({**ASSETS, "env": {"kind": "options"}}, "holds many assets"),
    ],
)
def test_data_of_the_other_environment_is_named(sections, said):
    with pytest.raises(InputError, match=said):
        session_of(**sections)
