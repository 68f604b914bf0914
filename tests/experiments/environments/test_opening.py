import pytest
from gymnasium import spaces

from agents.persistence.policy_file import LoadedPolicy
from agents.ppo.simplex_policies import SimplexPolicy
from conf.errors import InputError
from envs.allocation.simplex import Simplex
from experiments.environments.opening import market_settings, open_market, option_setup
from experiments.evaluation.open_run import check_policy_fits
from experiments.evaluation.split import AGENT, INDEX


def setup_of(**sections):
    plain = {"env": {"episode": {"sessions": 40}}, "costs": {"kind": "flat"}, "reward": {}}
    return open_market(market_settings({**plain, "risk": {"enabled": False}, **sections}))


OPTIONS = {"data": {"source": "synthetic", "sessions": 700}, "surface": {"kind": "vix"}}
ASSETS = {
    "data": {"source": "panel_simulated", "assets": 3, "sessions": 700},
    "env": {"kind": "allocation", "episode": {"sessions": 40}},
}


@pytest.mark.parametrize("sections", [OPTIONS, ASSETS])
def test_baseline_names_are_unique(sections):
    setup = setup_of(**sections)
    baselines, _ = setup.baselines(setup.window("test"))
    names = [AGENT, INDEX, *(b.name for b in baselines)]
    assert len(set(names)) == len(names) > 5


def test_option_setup_refuses_an_allocation():
    with pytest.raises(InputError, match="is a market of assets"):
        option_setup(setup_of(**ASSETS))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": OPTIONS["data"], "env": {"kind": "allocation"}}, "holds one index"),
        (
            {**ASSETS, "env": {"kind": "options"}, "surface": {"kind": "vix"}},
            "holds many assets",
        ),
        ({**ASSETS, "surface": {"kind": "vix"}}, "surface=vix prices options"),
        ({**OPTIONS, "surface": {"kind": "none"}}, "needs a volatility surface"),
        ({**ASSETS, "costs": {"kind": "realistic"}}, "are those of options"),
        ({**ASSETS, "risk": {"limits": {"max_delta": 0.5}}}, "max_delta = 0.5 is a limit for"),
    ],
)
def test_sections_of_the_other_environment_are_refused_by_name(sections, message):
    with pytest.raises(InputError, match=message):
        setup_of(**sections)


def test_a_policy_for_other_assets_or_another_order_is_refused():
    setup = setup_of(**ASSETS)
    policy = SimplexPolicy(
        spaces.Box(-10.0, 10.0, (len(setup.market.features),)),
        Simplex(4),
        lambda _: 0.0,
        net_arch=[8],
    )
    names = list(setup.market.instruments)
    assert setup.describe_data()["assets"] == names
    check_policy_fits(LoadedPolicy(policy, {"assets": names}), setup.market)
    with pytest.raises(InputError, match=f"trained on {names[2]}, {names[1]}"):
        check_policy_fits(LoadedPolicy(policy, {"assets": names[::-1]}), setup.market)
