"""A retraining from its request to its end: killed anywhere, refused, rolled back, cancelled."""

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.persistence.policy_file import WEIGHTS, load_policy, save_policy
from callbacks.checkpointing import Checkpointing
from conf.errors import InputError
from experiments import paper, retrain
from experiments.accounts.account import (
    APPROVED,
    DECISION,
    RETRAINING,
    Account,
    open_account,
)
from experiments.accounts.events import EventStore, open_store
from experiments.accounts.policies import POLICIES, Appointed, appointed
from experiments.accounts.settings import AccountSettings
from experiments.accounts.trading_day import run_session
from experiments.accounts.verification import verify
from experiments.evaluation.open_run import open_run
from experiments.monitoring.checks import CheckSettings, quarterly
from experiments.monitoring.view import read_account
from experiments.retraining.protocol import advance, approve, cancel, standing, triggers
from experiments.retraining.steps import RetrainSettings, run_folder
from experiments.runs.config import config_hash
from experiments.runs.folder import MANIFEST
from experiments.runs.record import CONFIG, load_manifest

SETTINGS = RetrainSettings(
    selection_sessions=60,
    validation_sessions=60,
    certificates=("trials",),
    resamples=100,
    shadow_sessions=2,
    shares=(0.5, 1.0),
    step_sessions=2,
)
OPENED = 30  # sessions before the end


class Killed(Exception):
    pass


class Living:
    """An account in a folder of its own, which goes on session by session."""

    def __init__(self, root, tested, history=None):
        self.folder = root / "outputs" / "accounts" / "mine"
        self.history = tested.setup.history if history is None else history
        self.next = tested.setup.history.num_sessions - OPENED
        if not self.folder.exists():
            with open_store(self.folder) as store:
                open_account(self.folder, store, AccountSettings(name="mine"), tested, self.next)

    @contextmanager
    def opened(self):
        with open_store(self.folder) as store:
            yield Account(self.folder, store)

    def decide(self, sessions=1):
        with self.opened() as account:
            for _ in range(sessions):
                self.next += 1
                run_session(account, self.history.sessions(0, self.next))

    def advance(self, why="", options=SETTINGS):
        return [event.content["step"] for event in advance(self.opened, why, options)]

    def contents(self, kind):
        with self.opened() as account:
            return [event.content for event in account.store.of(kind)]


@pytest.fixture(scope="module")
def shadowing(finished_run, tmp_path_factory, one_thread):
    """The folder of an account whose challenger has been validated, four sessions after opening."""
    root = tmp_path_factory.mktemp("retraining")
    living = Living(root, open_run(str(finished_run), "best"))
    living.decide(4)
    steps = living.advance("a test")
    assert steps == ["requested", "paused", "trained", "certified", "validated"]
    return root


@pytest.fixture
def living(shadowing, tested, tmp_path):
    """A copy of it, to go on with."""
    shutil.copytree(shadowing, tmp_path, dirs_exist_ok=True)
    account = Living(tmp_path, tested)
    account.next += 4
    return account


def approved(living):
    with living.opened() as account:
        approve(account, "Ada", "hand over")


def test_from_the_request_to_the_end(living):
    living.decide()
    assert living.advance() == ["shadowing"]
    assert living.advance() == []
    living.decide()
    assert living.advance() == ["shadowed"]
    reasons = [each["nothing_opened_because"] for each in living.contents(DECISION)]
    assert reasons == [[]] * 4 + [["retraining: nothing is opened"]] * 2
    living.decide()
    assert living.advance() == []  # nobody has approved it
    approved(living)
    weights = living.folder.parents[1] / "mine-retrained" / "1" / "best" / WEIGHTS
    validated = weights.read_bytes()
    weights.write_bytes(validated[:-1])
    with pytest.raises(InputError, match="is not what was validated"):
        living.advance()
    weights.write_bytes(validated)
    with another_run(weights.parents[1]), pytest.raises(InputError, match="has another env, data"):
        living.advance()
    assert living.advance() == ["handing over"]
    living.decide()
    assert living.advance() == []
    living.decide()
    assert living.advance() == ["handing over"]
    living.decide(2)
    assert living.advance() == ["done"]
    living.decide()
    new = {"policy-2": 1.0}
    shares = [each["shares"] for each in living.contents(DECISION)]
    assert shares == [{"policy": 1.0}] * 7 + [{"policy": 0.5, "policy-2": 0.5}] * 2 + [new] * 3
    (approval,) = living.contents(APPROVED)
    assert (approval["by"], approval["what"], approval["at"][:2]) == ("Ada", "hand over", "20")
    with living.opened() as account:
        assert verify(account).differences == ()
        assert appointed(account.store) == Appointed(new)
        age = next(
            c.found
            for c in quarterly(read_account(account), 0, SETTINGS.checks)
            if c.key == "training_data"
        )
        assert age.startswith("8 sessions since the retraining, trained until")
        run, market = run_folder(account, 1), account.history().sessions(0, living.next - 8)
    manifest, dates = load_manifest(run), living.history.dates
    (first, last), *_ = manifest["data"]["splits"].values()
    # Up to the request, and the embargo before each of the two stretches.
    assert manifest["data"]["last"] == str(dates[-OPENED + 3])
    assert manifest["data"]["splits"]["test"] == [
        str(dates[-OPENED + 3 - 59]),
        str(dates[-OPENED + 3]),
    ]
    assert len(dates[(dates >= np.datetime64(first)) & (dates <= np.datetime64(last))]) > 100
    assert manifest["data"]["fingerprint"] == market.fingerprint
    (comparison,) = [e["comparison"] for e in living.contents(RETRAINING) if "comparison" in e]
    assert comparison["low"] < comparison["difference"] < comparison["high"]


@contextmanager
def another_run(run):
    """In the place of the run one of another environment and other days, sound in itself."""
    whole = {name: (run / name).read_text() for name in (CONFIG, MANIFEST)}
    config, manifest = (json.loads(text) for text in whole.values())
    config["env"]["initial_equity_usd"] = 1.0
    manifest["data"]["splits"]["test"][0] = "1999-01-04"
    manifest["config_hash"] = config_hash(config)
    for name, content in ((CONFIG, config), (MANIFEST, manifest)):
        (run / name).write_text(json.dumps(content))
    yield
    for name, text in whole.items():
        (run / name).write_text(text)


def test_killed_before_any_event_it_goes_on_with_the_same_step(living, tested, monkeypatch):
    """The events are those of a call that was never killed; nothing is appointed twice."""
    append, left = EventStore.append, [0]

    def counted(store, kind, content):
        if kind in (POLICIES, RETRAINING):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
        return append(store, kind, content)

    monkeypatch.setattr(EventStore, "append", counted)

    def killed_then_finished():
        killed = 0
        while True:
            left[0] = killed
            try:
                living.advance()
                return killed
            except Killed:
                killed = 1 if killed == 0 else 9

    deaths = 0
    for session in range(8):
        left[0] = 9
        living.decide()
        if session == 2:
            approved(living)
        deaths += killed_then_finished() > 0
    assert deaths >= 5
    steps = [each["step"] for each in living.contents(RETRAINING)][5:]
    assert steps == ["shadowing", "shadowed", *["handing over"] * 2, "done"]
    given = [each["appointed"]["shares"] for each in living.contents(POLICIES)]
    assert given == [{"policy": 1.0}, {"policy": 0.5, "policy-2": 0.5}, *[{"policy-2": 1.0}] * 2]


def test_killed_in_training_it_goes_on_to_the_same_weights(
    living, shadowing, tested, tmp_path, monkeypatch
):
    """And the market of after the request is not seen: there it is another one."""
    history, at = tested.setup.history, tested.setup.history.num_sessions - OPENED + 4
    later = np.where(np.arange(history.num_sessions) >= at, 1.07, 1.0)
    prices = {name: getattr(history, name) * later for name in ("open", "high", "low", "close")}
    other = Living(tmp_path / "other", tested, replace(history, **prices))
    other.decide(4)

    def on_step(self, step=Checkpointing._on_step):
        if self.num_timesteps > 400:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Checkpointing, "_on_step", on_step)
    with pytest.raises(KeyboardInterrupt):
        other.advance("a test")
    monkeypatch.undo()
    assert standing_of(other) == "paused"
    other.decide(2)
    assert next(advance(other.opened, "", SETTINGS)).content["step"] == "trained"
    for place in (".", "best"):
        ours, theirs = (
            (each.folder.parents[1] / "mine-retrained" / "1" / place / WEIGHTS).read_bytes()
            for each in (living, other)
        )
        assert ours == theirs


def standing_of(living):
    with living.opened() as account:
        now = standing(account.store)
        return None if now is None else now.content["step"]


def from_step(living, step, asked=(), **settings):
    """Let it stand at an earlier step again, as asked for otherwise and with other settings."""
    with living.opened() as account:
        events = [event.content for event in account.store.of(RETRAINING)]
        request = {**events[0], **dict(asked)}
        request |= {"settings": {**request["settings"], **settings}}
        chosen = [each for each in events if each["step"] == step]
        for content in (request, *chosen):
            account.store.append(RETRAINING, content)


def refused_because(living):
    """Why it was refused; the champion decides again, alone and freely."""
    assert living.advance() == ["refused"]
    living.decide()
    decision = living.contents(DECISION)[-1]
    assert (decision["shares"], decision["nothing_opened_because"]) == ({"policy": 1.0}, [])
    with living.opened() as account:
        assert verify(account).differences == ()
        assert triggers(account, SETTINGS.checks) == []
    return living.contents(RETRAINING)[-1]["text"]


def test_a_challenger_that_falls_in_the_shadow_is_refused(living):
    from_step(living, "validated", shadow_drawdown=1e-9)
    living.decide(8)
    assert "in the shadow 8 of 2 sessions: challenger" in refused_because(living)


def test_a_challenger_that_is_shown_to_be_worse_is_refused(living):
    best = living.folder.parents[1] / "mine-retrained" / "1" / "best"
    loaded = load_policy(best)
    with torch.no_grad():
        for name, weights in loaded.policy.named_parameters():
            weights.mul_(1.0 if "log_std" in name else -30.0)
    save_policy(loaded.policy, best, loaded.metadata)
    # Sixty days show nothing of anybody.
    from_step(living, "certified", {"compared_from": str(living.history.dates[80])})
    assert "shown to be worse: Sharpe ratio" in refused_because(living)


def test_a_challenger_without_its_certificates_is_refused(living):
    ledger = living.folder.parents[1] / "trials.jsonl"
    ledger.write_text(ledger.read_text().replace('"seed":0', '"seed":1', 1))
    from_step(living, "trained", certificates=["trials"])
    assert "certificates failed: trials.chain" in refused_because(living)


def test_a_hand_over_that_loses_is_rolled_back_and_said_to_be(living):
    living.decide(2)
    from_step(living, "validated", rollback_drawdown=1e-9)
    living.advance()
    living.decide(2)
    living.advance()
    approved(living)
    living.advance()
    assert appointed_in(living).max_drawdown == 1e-9
    living.decide(10)
    assert living.advance() == ["rolled back"]
    assert living.advance() == []
    assert living.contents(DECISION)[-1]["shares"] == {"policy": 1.0}


def appointed_in(living):
    with living.opened() as account:
        return appointed(account.store)


def test_a_trigger_asks_for_it_a_backup_decides_meanwhile_and_a_person_can_end_it(
    finished_run, tested, tmp_path
):
    living = Living(tmp_path, tested)
    old = CheckSettings(max_training_age=2)
    options = replace(SETTINGS, backup=str(finished_run), checks=old)
    living.decide(2)
    assert living.advance(options=options) == []
    with pytest.raises(InputError, match="too few to train"):
        living.advance("a test", replace(SETTINGS, validation_sessions=5000))
    assert not (tmp_path / "outputs" / "mine-retrained").exists()
    living.decide(2)
    steps = advance(living.opened, "", options)
    assert next(steps).content["text"].startswith("training data: 3 sessions since the opening")
    assert next(steps).content["step"] == "paused"
    living.decide()
    decision = living.contents(DECISION)[-1]
    assert (decision["shares"], decision["nothing_opened_because"]) == ({"backup-1": 1.0}, [])
    with living.opened() as account:
        with pytest.raises(InputError, match="is being retrained already"):
            list(advance(living.opened, "again", SETTINGS))
        cancel(account, "Ada", "no longer")
        assert appointed(account.store) == Appointed({"policy": 1.0})
        with pytest.raises(InputError, match="is not being retrained"):
            cancel(account, "Ada", "")
    living.decide()
    assert living.advance(options=options) == []  # too soon
    with living.opened() as account:
        assert verify(account).differences == ()


def test_the_command(command, living, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(retrain, "account=mine", "action=status")
    assert (code, err) == (0, "")
    assert "decides: policy 100 %; retraining: nothing is opened" in out
    for arguments, message in (
        (("account=other",), "there is no account other"),
        (("account=mine", "action=approve"), "nobody approves. Say who: by=NAME"),
        (("account=mine", "action=approve", "by=Ada"), "has nothing to hand over yet"),
        (("account=mine", "reason=more"), "is being retrained already"),
        (("account=mine", "shares=[0.5,0.25]"), "shares is [0.5, 0.25]"),
        (("account=mine", "shadow_drawdown=2"), "setting shadow_drawdown = 2 is"),
    ):
        code, _, err = command(retrain, *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err
    code, out, _ = command(retrain, "account=mine", "action=cancel", "by=Ada", "reason=a drill")
    assert code == 0
    assert "by Ada. a drill" in out.replace("\n", " ")
    code, out, _ = command(paper, "account=mine", "action=verify")
    assert "4 decisions to the last bit" in out
    code, _, err = command(retrain, "account=mine", "reason=again", "validation_sessions=600")
    assert (code, err.count("\n")) == (2, 1)
    assert "too few to train" in err
    assert not (tmp_path / "outputs" / "mine-retrained" / "2").exists()
