"""An ablation: planted techniques are classed right, nonsense is refused, a killed one goes on."""

import json
import re
from pathlib import Path

import pytest

import conf
from conf.errors import InputError
from conf.settings import build_settings
from experiments import ablate
from experiments.runs.record import load_manifest, load_run_config
from experiments.runs.training import train_in
from experiments.sweeps import ablation, search
from experiments.sweeps.ablation import AblationSettings
from tests.experiments.conftest import TINY

# One asset rises and one falls; without a technique PPO learns next to nothing.
MARKET = (
    *("+exp=allocation", "experiment=tiny", "data.assets=2", "data.paths=1", "data.sessions=500"),
    *("data.gbm.drift=[1.2,-0.8]", "data.gbm.vol_annual=0.2", "env.episode.sessions=40"),
    *("reward.weights.portfolio_return=100", "reward.weights.deep_drawdown=0"),
)
AGENT = (
    *("num_envs=4", "total_timesteps=256", "agent.rollout_steps=256", "agent.batch_size=64"),
    *("agent.net_arch=[8]", "agent.learning_rate=1e-6", "agent.reward_scale=1"),
    *("agent.n_epochs=20", "agent.log_std_init=0.5"),
    *("callbacks.checkpoint_every=256", "callbacks.validate_every=100000"),
)
FOLDER = "outputs/tiny/ablation-day/time"
HERE = f"hydra.run.dir={FOLDER}"
USEFUL = "+techniques.useful={description: Learns, overrides: ['agent.learning_rate=1e-2']}"
USELESS = "+techniques.useless={description: Noise, overrides: ['agent.max_grad_norm=0.4']}"


def result_of(root):
    return json.loads((root / FOLDER / "ablation" / "ablation.json").read_text())


def test_planted_techniques_are_classed_right(command, tmp_path, monkeypatch):
    """And the same after it was stopped in the middle, whose finished runs are not repeated."""
    begun: list[str] = []

    def stop_after(count):
        def train_some(folder, config):
            if len(begun) >= count:
                raise KeyboardInterrupt
            begun.append(folder.name)
            return train_in(folder, config)

        monkeypatch.setattr(search, "train_in", train_some)

    stop_after(4)
    code, _, err = command(ablate, *MARKET, *AGENT, HERE, USEFUL, USELESS, "seeds=[0,1,2]")
    assert (code, err.splitlines()[-1]) == (
        130,
        f"interrupted. Go on with: python -m experiments.ablate resume={FOLDER}",
    )
    stop_after(100)
    finished = {p: p.stat().st_mtime_ns for p in (tmp_path / FOLDER).glob("*/policy.safetensors")}
    assert len(finished) == 4
    code, out, _ = command(ablate, f"resume={FOLDER}")
    assert code == 0
    log = (tmp_path / FOLDER / "ablate.log").read_text()
    assert re.findall(r"run (\d) of 9, \d+ min \d\d s left", log) == list("123456789")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    result = result_of(tmp_path)
    assert list(result["effects"]) == ["score"]  # no worlds
    useful, useless = result["effects"]["score"]
    assert (useful["technique"], useful["verdict"]) == ("useful", "helps")
    assert (useless["technique"], useless["verdict"]) == ("useless", "not shown")
    assert useful["low"] > 0.0
    assert all(seconds > 0.0 for seconds in result["cpu_seconds_a_run"].values())
    assert "helps" in out
    assert "not shown" in out
    page = (tmp_path / FOLDER / "ablation" / "report.html").read_text()
    assert "Of 2 techniques 1 help, 0 hurt, and of 1 neither is shown" in page

    # Paired: the same seed on both sides, and only the technique differs; all from a cold start.
    for seed in (0, 2):
        without, with_it = (
            load_run_config(tmp_path / FOLDER / f"{arm}-{seed}") for arm in ("without", "useful")
        )
        assert without["seed"] == with_it["seed"] == seed
        assert without["pretrain"]["kind"] == "none"
        assert without["agent"].pop("learning_rate") == 1e-6
        assert with_it["agent"].pop("learning_rate") == 1e-2
        assert without == with_it
    # Difference by hand from what the runs wrote.
    scores = [
        [
            json.loads((tmp_path / FOLDER / f"{arm}-{seed}/best/validation.json").read_text())
            for seed in range(3)
        ]
        for arm in ("without", "useful")
    ]
    by_hand = sum(b["score"] - a["score"] for a, b in zip(*scores, strict=True)) / 3
    assert useful["difference"] == pytest.approx(by_hand)
    assert load_manifest(tmp_path / FOLDER / "useful-0")["status"] == "finished"


REFUSED = {
    "seeds=[0,1]": "there is no technique to judge",
    "techniques=[nothing]": "nothing is not available. Choices: ",
    "+techniques.same={description: a, overrides: ['agent.learning_rate=1e-6']}": (
        "technique same changes nothing: agent.learning_rate=1e-6"
    ),
    "+techniques.cheap={description: a, overrides: ['costs.rate_bps=0']}": (
        "technique cheap changes costs, by which policies are judged"
    ),
    "+techniques.often={description: a, overrides: ['callbacks.validate_every=64']}": (
        "technique often changes callbacks, by which policies are judged"
    ),
    "+techniques.levered={description: a, overrides: ['env.episode.sessions=20']}": (
        "technique levered changes env, by which policies are judged"
    ),
    "+techniques.typo={description: a, overrides: ['agent.batch_sise=3']}": (
        "technique typo: unknown setting agent.batch_sise. Did you mean agent.batch_size"
    ),
    "techniques=[prioritised_replay]": (
        "technique prioritised_replay is of agent=tqc, and these runs have agent=ppo. "
        "Compare with and without it: agent=tqc"
    ),
    "techniques=[curriculum_years]": (
        "technique curriculum_years: stage 1 of the curriculum has 0 of the training sessions"
    ),
    "techniques=[curriculum_worlds]": (
        "technique curriculum_worlds: stage 1 of the curriculum takes the calmest paths"
    ),
    "+techniques.empty={description: a}": "techniques.empty.overrides is missing",
    "+techniques.without={description: a, overrides: ['seed=1']}": "cannot be named without",
}


@pytest.mark.parametrize("argument", REFUSED)
def test_a_mistake_is_one_line_code_2_and_nothing_is_trained(command, argument, tmp_path):
    code, _, err = command(ablate, *MARKET, *AGENT, argument)
    assert (code, err.count("\n")) == (2, 1), err
    assert REFUSED[argument] in err
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.slow
def test_a_cumulative_ablation_adds_one_technique_to_the_other(command, tmp_path):
    """Each is compared with what it comes on top of, and the last one's seeds become one policy."""
    first = "+techniques.first={description: a, overrides: ['agent.gamma=0.6']}"
    second = "+techniques.second={description: b, overrides: ['agent.n_epochs=1']}"
    chosen = (first, second, "seeds=[0,1]", "cumulative=true")
    assert command(ablate, *TINY, HERE, *chosen)[0] == 0
    result = result_of(tmp_path)
    scores, effects = result["scores"]["score"], result["effects"]["score"]
    steps = [("first", "without"), ("second", "first")]
    for (name, before), effect in zip(steps, effects, strict=True):
        by_hand = sum(b - a for a, b in zip(scores[before], scores[name], strict=True)) / 2
        assert effect["technique"] == name
        assert effect["difference"] == pytest.approx(by_hand)
    both = load_run_config(tmp_path / FOLDER / "second-1")["agent"]
    assert (both["gamma"], both["n_epochs"]) == (0.6, 1)
    merged = load_manifest(tmp_path / FOLDER / "ensemble")["merged_from"]
    assert [member["run"].split("/")[-1] for member in merged] == ["second-0", "second-1"]
    measured = json.loads((tmp_path / FOLDER / "ensemble/best/validation.json").read_text())
    assert result["ensemble"] == {"score": measured["metrics"]["sharpe"]}
    assert command(ablate, f"resume={FOLDER}")[0] == 0
    assert result_of(tmp_path) == result


TECHNIQUES = sorted(
    path.stem for path in (Path(conf.__file__).parent / "techniques").glob("*.yaml")
)


def test_every_technique_of_the_files_can_be_trained_in_quickstart(command, tmp_path, monkeypatch):
    """But those of years, which simulated worlds do not have: their days are made up."""
    opened = []

    def stop(begun, *_):
        opened.append(begun)
        raise InputError("stopped here")

    monkeypatch.setattr(ablate, "train_arms", stop)
    # To simulate the worlds takes seconds.
    monkeypatch.setattr(ablation, "episode_places", lambda *_: [])
    of_tqc = ["hindsight", "prioritised_replay"]
    fitting = [name for name in TECHNIQUES if name not in ("curriculum_years", *of_tqc)]
    chosen = f"techniques=[{','.join(fitting)}]"
    assert command(ablate, "+exp=quickstart", chosen)[2] == "error: stopped here\n"
    assert opened[0].arms == ("without", *fitting)
    assert opened[0].settings.seeds == (0, 1, 2, 3, 4)
    arguments = opened[0].arguments("larger_batch", 3)
    assert arguments[:4] == ["+exp=quickstart", "pretrain=none", "agent.batch_size=256", "seed=3"]
    chosen = f"techniques=[{','.join(of_tqc)}]"
    other = ("agent=tqc", chosen, "hydra.run.dir=outputs/tqc")
    assert command(ablate, "+exp=quickstart", *other)[2] == "error: stopped here\n"
    assert opened.pop().arms == ("without", *of_tqc)
    command(ablate, "techniques=[curriculum_years]", "seeds=[7,8]", "hydra.run.dir=outputs/years")
    assert opened[1].settings.seeds == (7, 8)


@pytest.mark.parametrize("seeds", [[0], [1, 1], [-1, 0], 3])
def test_seeds_have_to_be_two_different_ones(seeds):
    techniques = {"useful": {"description": "a", "overrides": ["agent.gamma=0.6"]}}
    with pytest.raises(InputError, match="seed"):
        build_settings(AblationSettings, {"techniques": techniques, "seeds": seeds}, "ablate")


def test_an_ablation_keeps_its_settings(command, tmp_path):
    code, _, err = command(ablate, "resume=outputs/nothing")
    assert code == 2
    assert "is not the folder of an ablation" in err
