"""The command: what is due is checked, people are told once, and no secret is seen anywhere."""

import http.server
import json
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from conf.errors import InputError
from experiments import monitor
from experiments.accounts.account import ALERT
from experiments.accounts.events import open_store
from experiments.monitoring import notify
from experiments.monitoring.watch import CHECKED

SECRET = "hunter2hunter2"
TOKEN = "T0KEN0F0N0USE"


@pytest.fixture
def account(command, traded_folder, tmp_path):
    """The account's folder where the command looks for it."""
    folder = tmp_path / "outputs" / "accounts" / "mine"
    shutil.copytree(traded_folder, folder)
    return folder


@contextmanager
def receiver():
    """A receiver of apprise's JSON messages on this machine: its port, and what it got."""
    messages = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            messages.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], messages
        finally:
            server.shutdown()
            thread.join()


def events(folder, kind):
    with open_store(folder) as store:
        return [event.content for event in store.of(kind)]


def test_what_is_due_is_checked_once_a_period(command, account):
    code, out, err = command(monitor, "account=mine", "now=session")
    assert (code, err) == (0, "")
    assert "decided in time" in out
    assert {each["period"] for each in events(account, CHECKED)} == {
        *("daily", "weekly", "monthly", "quarterly")
    }
    assert len(list((account / "reports").glob("*.html"))) == 1
    code, out, _ = command(monitor, "account=mine", "now=session")
    assert "daily" in out
    assert "weekly" not in out
    assert len(events(account, CHECKED)) == 4


def test_the_dead_man_alerts_once_and_gates(command, account):
    known = len(events(account, ALERT))
    for _ in range(2):
        code, _, err = command(monitor, "account=mine", "gate=true")
        assert code == 1
        assert "account mine has alerts: undecided" in err
    new = events(account, ALERT)[known:]
    assert [alert["kind"] for alert in new] == ["undecided"]
    assert "nothing was decided on" in new[0]["text"]


def test_halt_needs_no_lock_and_resume_ends_it(command, account):
    assert command(monitor, "account=mine", "action=halt", "mode=flatten", "why=a drill")[0] == 0
    assert json.loads((account / "HALT").read_text())["mode"] == "flatten"
    assert command(monitor, "account=mine", "now=session")[0] == 0
    assert "Halted by command" in (account / "live.html").read_text()
    assert events(account, ALERT)[-2]["kind"] == "halted"
    assert command(monitor, "account=mine", "action=resume")[0] == 0
    code, _, err = command(monitor, "account=mine", "action=resume")
    assert (code, err) == (2, "error: account mine is not halted\n")


def test_an_address_gets_every_alert_once_and_its_secrets_are_seen_nowhere(
    command, account, monkeypatch, tmp_path
):
    seen = []

    def check(*arguments):
        code, out, err = command(monitor, "account=mine", *arguments, "hydra.verbose=true")
        seen.append(out + err)
        return code, out, err

    with receiver() as (port, messages):
        url = f"json://user:{SECRET}@127.0.0.1:{port}/{TOKEN}"
        monkeypatch.setenv(notify.VARIABLE, f"json://user:{SECRET}@127.0.0.1:9/{TOKEN} {url}")
        code, out, _ = check("now=session")
        assert (code, len(messages)) == (0, 1)
        assert "address 1 of 2 took no message" in out
        path, authorization, message = messages[0]
        assert path == f"/{TOKEN}"
        assert authorization.startswith("Basic ")
        kinds = {alert["kind"] for alert in events(account, ALERT)}
        assert message["title"] == f"account mine: {_pairs(account)} alerts"
        assert all(f"{kind}: " in message["message"] for kind in kinds)
        check("now=session")
        assert len(messages) == 1
        check()  # the dead man
        assert len(messages) == 2
        assert "undecided" in messages[1][2]["message"]
        assert messages[1][2]["title"] == "account mine: 1 alert"
    monkeypatch.setenv(notify.VARIABLE, f"none://user:{SECRET}@127.0.0.1/{TOKEN}")
    code, _, err = check()
    assert (code, err.count("\n")) == (2, 1)
    assert "at number 1" in err
    written = [p.read_bytes() for p in Path(tmp_path).rglob("*") if p.is_file()]
    assert len(written) > 5
    for secret in (SECRET, TOKEN):
        assert not any(secret in text for text in seen)
        assert not any(secret.encode() in content for content in written)


def _pairs(folder):
    return len({(alert["kind"], alert["session"]) for alert in events(folder, ALERT)})


def test_a_crash_while_sending_neither_loses_nor_floods(account):
    """Killed before anything went out, and once more after it did: two messages, not three."""
    with receiver() as (port, messages), open_store(account) as store:
        urls = [f"json://127.0.0.1:{port}/"]
        alerts = [[e.content["kind"], e.content["session"]] for e in store.of(ALERT)]
        store.append(notify.SENDING, {"address": 1, "alerts": alerts})
        assert notify.send_alerts(store, "mine", urls) == []
        assert len(messages) == 1
        store.append(ALERT, {"session": "2031-01-01", "kind": "jump", "text": "new"})
        for _ in range(2):
            store.append(notify.SENDING, {"address": 1, "alerts": [["jump", "2031-01-01"]]})
        assert notify.send_alerts(store, "mine", urls) == []
        assert len(messages) == 1
        store.append(ALERT, {"session": "2031-01-02", "kind": "jump", "text": "new"})
        with pytest.raises(InputError, match="at number 1"):
            notify.send_alerts(store, "mine", ["", *urls])
        assert "2031-01-02 jump: new" in messages[-1][2]["message"]


def test_mistakes_are_one_line(command, account):
    for arguments, message in (
        (("account=other",), "there is no account other"),
        (("account=../x",), "setting account = '../x' is not valid"),
        (("account=mine", "now=noon"), "now is 'noon'"),
        (("account=mine", "decided_by=late"), "decided_by"),
        (("account=mine", "action=stop"), "action"),
        (("account=mine", "checks.window=1"), "window"),
    ):
        code, _, err = command(monitor, *arguments)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err
