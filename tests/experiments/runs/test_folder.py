import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conf.errors import InputError
from experiments.accounts.events import STORE
from experiments.runs.folder import (
    ABLATION,
    SWEEP,
    WALK,
    check_run_name,
    newest_runs,
    remove_if_untouched,
    resolve_run,
    run_lock,
    writer_of,
)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(["c", "b", "a"]):
        manifest = tmp_path / "outputs" / "quick" / "2026-01-05" / name / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}")
        os.utime(manifest, (1e9 - age, 1e9 - age))
    return tmp_path / "outputs"


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "x" * 64])
def test_plain_names_are_allowed(name):
    assert check_run_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "x" * 65, "a b", "ä", "a\n", "$(x)", "-\0"])
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="not allowed"):
        check_run_name(name)


@pytest.mark.parametrize(
    "given",
    ["outputs/quick/2026-01-05/b", "quick/2026-01-05/b", "outputs/quick/2026-01-05/b/"],
)
def test_a_run_is_found_by_its_path_from_here_or_below_the_root(root, given):
    assert resolve_run(given) == root / "quick/2026-01-05/b"
    assert resolve_run(root / "quick/2026-01-05/b") == root / "quick/2026-01-05/b"


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "empty"),
        ("quick/nothing", r"not found\. The newest runs: .*outputs/quick/2026-01-05/c"),
        ("outputs/quick", "not a run folder"),
        ("outputs/../outputs/quick/2026-01-05/b", r"contains '\.\.'"),
        ("quick/2026-01-05/away", "leads out of outputs"),
        ("/nothing/here", "not found"),
    ],
)
def test_a_path_that_is_no_run_is_refused_with_the_newest_runs(root, given, complaint, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("{}")
    (root / "quick/2026-01-05/away").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match=complaint):
        resolve_run(given)


def test_an_output_folder_on_another_disk_may_be_linked(root, tmp_path):
    root.rename(tmp_path / "disk")
    root.symlink_to(tmp_path / "disk")
    assert resolve_run("quick/2026-01-05/a") == tmp_path / "disk/quick/2026-01-05/a"


def test_the_newest_runs_come_first(root):
    assert [run.name for run in newest_runs(root)] == ["c", "b", "a"]
    assert newest_runs(root / "nothing") == []
    with pytest.raises(InputError, match="no runs in nothing yet"):
        resolve_run("x", Path("nothing"))


def test_a_run_folder_has_one_writer(tmp_path):
    with run_lock(tmp_path):
        with pytest.raises(InputError, match=rf"process {os.getpid()} is writing into"):
            run_lock(tmp_path).__enter__()
        assert _lock_in_another_process(tmp_path) == "refused"
        assert writer_of(tmp_path) == f"process {os.getpid()}"
        with pytest.raises(InputError, match=f"has only just been begun by process {os.getpid()}"):
            resolve_run(tmp_path)
        for record in (WALK, SWEEP, ABLATION, STORE):  # which are under way for hours
            (tmp_path / record).touch()
            with pytest.raises(InputError, match=r"not a run folder: it has no manifest\.json"):
                resolve_run(tmp_path)
            (tmp_path / record).unlink()
    assert writer_of(tmp_path) == writer_of(tmp_path / "nothing") == ""
    assert _lock_in_another_process(tmp_path) == "locked"
    with run_lock(tmp_path):
        pass


def test_a_killed_writer_leaves_the_folder_free(tmp_path):
    child = os.fork()
    if child == 0:
        with run_lock(tmp_path):
            os._exit(9)
    os.waitpid(child, 0)
    with run_lock(tmp_path):
        pass


def test_only_an_untouched_folder_is_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "toy" / "now"
    for extra in ("result.json", "checkpoints/step_1/x", "tensorboard/events", "sub/a.log"):
        (folder / ".hydra").mkdir(parents=True, exist_ok=True)
        (folder / ".hydra" / "config.yaml").touch()
        (folder / "train.log").write_text("reading\n")
        (folder / extra).parent.mkdir(parents=True, exist_ok=True)
        (folder / extra).touch()
        assert not remove_if_untouched(folder, since=0.0)
        (folder / extra).unlink()
        for parent in (folder / extra).parents:
            if parent == folder:
                break
            parent.rmdir()
    assert not remove_if_untouched(folder, since=2e10), "older than the command"
    assert remove_if_untouched(folder, since=0.0)
    assert list((tmp_path / "outputs").iterdir()) == []
    assert not remove_if_untouched(folder, since=0.0)
    assert not remove_if_untouched(tmp_path, since=0.0), "the working directory stays"


def _lock_in_another_process(folder):
    code = (
        "import sys; from pathlib import Path\n"
        "from experiments.runs.folder import run_lock\n"
        "from conf.errors import InputError\n"
        "try:\n"
        "    with run_lock(Path(sys.argv[1])): print('locked')\n"
        "except InputError: print('refused')\n"
    )
    root = Path(__file__).parents[3]
    completed = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return completed.stdout.strip()


def test_a_folder_in_which_another_process_has_begun_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs" / "run"
    (folder / ".hydra").mkdir(parents=True)
    since = time.time() - 60
    with run_lock(folder):
        assert not remove_if_untouched(folder, since)
        assert folder.exists()
    assert remove_if_untouched(folder, since)
