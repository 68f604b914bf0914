import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from agents.persistence.checkpoint import (
    list_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from agents.persistence.packing import pack, unpack
from agents.persistence.resume_state import ResumeState, capture, restore
from conf.errors import InputError
from tests.agents.toy_run import TOTAL, Adapting, build

SAVED = ("state.safetensors", "state.json", "manifest.json")


def state_at(step, value=None):
    filling = float(step if value is None else value)
    arrays = {"policy.w": np.full((40, 40), filling), "empty": np.zeros((0, 3), np.int8)}
    return ResumeState({"counters": {"num_timesteps": step}, "value": filling}, arrays)


def test_what_is_written_is_read_back(tmp_path):
    everything: dict[str, Any] = {
        "bool": np.array([True, False]),
        "int8": np.array([-3], np.int8),
        "uint32": np.arange(5, dtype=np.uint32),
        "float32": np.array([np.nan, np.inf, -0.0], np.float32),
        "scalar": np.float32(0.1),
        "zero_dim": np.array(2.5),
        "strided": np.arange(12.0).reshape(3, 4).T,
        "generator": np.random.default_rng(0).bit_generator.state,
        "nested": [1, (2.5, None, "x"), {"deep": [True, float("-inf")]}],
    }
    values, arrays = pack(everything, "all")
    path = write_checkpoint(
        ResumeState({"counters": {"num_timesteps": 7}, "all": values}, arrays), tmp_path
    )
    read = read_checkpoint(path)
    again = unpack(read.values["all"], read.arrays)
    assert again["nested"] == everything["nested"]
    assert type(again["nested"][1]) is tuple
    assert again["generator"] == everything["generator"]
    assert type(again["scalar"]) is np.float32
    for name in ("bool", "int8", "uint32", "float32", "zero_dim", "strided"):
        assert again[name].dtype == everything[name].dtype
        assert again[name].shape == everything[name].shape
        assert again[name].tobytes() == everything[name].tobytes()


@pytest.mark.parametrize(
    "value", [object(), {1: 2}, {"$array": 1}, lambda: 0, b"x", {3}, np.array([object()])]
)
def test_what_only_pickle_could_write_is_refused(value):
    with pytest.raises(InputError):
        pack(value, "part")


def test_the_newest_complete_checkpoint_is_chosen_over_damaged_ones(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "nowhere") is None
    for step in (10, 20, 30, 40, 50, 60):
        write_checkpoint(state_at(step), tmp_path)
    (tmp_path / "step_000000060" / "manifest.json").unlink()
    (tmp_path / "step_000000050" / "state.json").write_text("{}")
    tensors = tmp_path / "step_000000040" / "state.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with (tmp_path / "step_000000030" / "state.safetensors").open("r+b") as handle:
        handle.truncate(100)
    (tmp_path / "step_x").mkdir()
    assert newest_checkpoint(tmp_path) == tmp_path / "step_000000020"
    for damaged in (60, 50, 40, 30):
        with pytest.raises(InputError):
            read_checkpoint(tmp_path / f"step_{damaged:09d}")


def test_a_renamed_checkpoint_is_refused(tmp_path):
    path = write_checkpoint(state_at(10), tmp_path)
    moved = path.rename(tmp_path / "step_000000099")
    with pytest.raises(InputError, match="step 10"):
        read_checkpoint(moved)


def test_any_flipped_bit_is_detected(tmp_path):
    path = write_checkpoint(state_at(10), tmp_path)
    rng = np.random.default_rng(1)
    for name in SAVED:
        original = (path / name).read_bytes()
        for _ in range(60):
            mutated = bytearray(original)
            mutated[rng.integers(len(mutated))] ^= 1 << int(rng.integers(8))
            (path / name).write_bytes(mutated)
            try:
                state = read_checkpoint(path)
            except InputError:
                continue
            # Only white space and the letters of a key's digest can differ without meaning.
            assert state.values == state_at(10).values
            assert np.array_equal(state.arrays["policy.w"], state_at(10).arrays["policy.w"])
        (path / name).write_bytes(original)


def test_the_same_step_with_another_content_replaces_the_old_one(tmp_path):
    write_checkpoint(state_at(10, value=1), tmp_path)
    path = write_checkpoint(state_at(10, value=2), tmp_path)
    assert read_checkpoint(path).values["value"] == 2
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_pruning_keeps_the_last_ones_and_never_removes_the_newest_complete(tmp_path):
    for step in (10, 20, 30, 40):
        write_checkpoint(state_at(step), tmp_path)
    prune_checkpoints(tmp_path, keep_last=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step_000000030", "step_000000040"]
    for step in (50, 60):
        write_checkpoint(state_at(step), tmp_path)
    for step in (40, 50, 60):
        (tmp_path / f"step_{step:09d}" / "state.json").unlink()
    prune_checkpoints(tmp_path, keep_last=1)
    assert newest_checkpoint(tmp_path) == tmp_path / "step_000000030"
    with pytest.raises(InputError, match="keep_last"):
        prune_checkpoints(tmp_path, keep_last=0)


# Every call through which a checkpoint reaches the disk; a crash is tried before and after each.
BOUNDARIES = [
    *((os, name) for name in ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir")),
    (io, "open"),
]


@contextlib.contextmanager
def _counting(strike):
    """Call `strike(n, after)` around the n-th call of any boundary."""
    count = 0
    originals = [(module, name, getattr(module, name)) for module, name in BOUNDARIES]

    def wrap(original):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            mine = count
            strike(mine, False)
            try:
                return original(*args, **kwargs)
            finally:
                strike(mine, True)

        return call

    try:
        for module, name, original in originals:
            setattr(module, name, wrap(original))
        yield lambda: count
    finally:
        for module, name, original in originals:
            setattr(module, name, original)


SCENES = {
    "a new checkpoint": lambda folder: write_checkpoint(state_at(30), folder),
    "the same step again": lambda folder: write_checkpoint(state_at(20, value=-1), folder),
    "pruning": lambda folder: prune_checkpoints(folder, keep_last=1),
}


@pytest.mark.parametrize("scene", SCENES)
def test_a_kill_at_any_write_boundary_leaves_a_complete_checkpoint(tmp_path, scene):
    prepared = tmp_path / "prepared"
    for step in (10, 20):
        write_checkpoint(state_at(step), prepared)
    (prepared / ".tmp-step_000000015-dead").mkdir()
    rehearsal = tmp_path / "rehearsal"
    shutil.copytree(prepared, rehearsal)
    with _counting(lambda n, after: None) as calls:
        SCENES[scene](rehearsal)
    assert calls() > 4
    expected = newest_checkpoint(rehearsal)
    assert expected is not None
    # After a call is before the next one.
    moments = [*((number, False) for number in range(1, calls() + 1)), (calls(), True)]
    for number, after in moments:
        folder = tmp_path / f"{number}-{after}"
        shutil.copytree(prepared, folder)
        assert _killed_in_a_fork(SCENES[scene], folder, number, after)
        newest = newest_checkpoint(folder)
        assert newest is not None
        state = read_checkpoint(newest)
        assert state.step in (10, 20, 30)
        assert state.arrays["policy.w"][0, 0] in (state.step, -1)
        # Only the swap of an existing step may fall back beyond the step that was complete.
        assert state.step >= 20 or scene == "the same step again"
        SCENES[scene](folder)
        assert newest_checkpoint(folder) == folder / expected.name


@pytest.mark.parametrize("scene", ["a new checkpoint", "the same step again"])
def test_a_full_disk_at_any_write_boundary_leaves_the_earlier_checkpoints(tmp_path, scene):
    refusals, reached, number = 0, True, 0
    while reached:
        number, reached = number + 1, False
        folder = tmp_path / str(number)
        for step in (10, 20):
            write_checkpoint(state_at(step), folder)

        def fail(n, after, number=number):
            nonlocal reached
            if n == number and not after:
                reached = True
                raise OSError(errno.ENOSPC, "No space left on device")

        try:
            with _counting(fail):
                SCENES[scene](folder)
        except OSError:
            refusals += 1
        newest = newest_checkpoint(folder)
        assert newest is not None
        assert read_checkpoint(newest).step in (10, 20, 30)
    assert refusals > 4


def test_a_truncated_checkpoint_is_never_chosen(tmp_path):
    whole = write_checkpoint(state_at(10), tmp_path)
    for name in SAVED:
        size = (whole / name).stat().st_size
        for length in sorted({0, 1, size // 2, size - 1}):
            torn = tmp_path / "step_000000020"
            shutil.copytree(whole, torn)
            with (torn / name).open("r+b") as handle:
                handle.truncate(length)
            assert newest_checkpoint(tmp_path) == whole
            shutil.rmtree(torn)


def _killed_in_a_fork(action, folder, number, after):
    child = os.fork()
    if child == 0:

        def strike(n, is_after):
            if n == number and is_after == after:
                os._exit(9)

        try:
            with _counting(strike):
                action(folder)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 9


class _Touch:
    def __init__(self, sentinel):
        self.sentinel = sentinel

    def __reduce__(self):
        return os.system, (f"touch {self.sentinel}",)


def test_a_pickle_in_place_of_any_file_never_runs(tmp_path):
    sentinel = tmp_path / "touched"
    archive = io.BytesIO()
    torch.save({"policy.w": _Touch(sentinel)}, archive)
    array = io.BytesIO()
    np.save(array, np.array([_Touch(sentinel)], dtype=object), allow_pickle=True)
    contents = [pickle.dumps(_Touch(sentinel), p) for p in (0, 2, 5)]
    for content in [*contents, archive.getvalue(), array.getvalue()]:
        for name in SAVED:
            path = write_checkpoint(state_at(10), tmp_path / "run")
            (path / name).write_bytes(content)
            sign(path)
            with pytest.raises(InputError):
                read_checkpoint(path)
            assert newest_checkpoint(tmp_path / "run") is None
            shutil.rmtree(path)
    assert not sentinel.exists()


def sign(path):
    """Put the right checksums into a manifest that can still be read, as an attacker would."""
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
    except ValueError:
        return
    for name in ("state.safetensors", "state.json"):
        content = (path / name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"bytes": len(content), "sha256": digest}
    (path / "manifest.json").write_text(json.dumps(manifest))


STRANGE: list[Any] = [
    None,
    True,
    -1,
    10**30,
    0.5,
    "x",
    [],
    {},
    {"$array": "nothing"},
    {"$tuple": 1},
    {"$x": 1},
]


def test_a_forged_state_restores_or_is_one_error(tmp_path):
    model = build()
    model._setup_learn(TOTAL)
    callbacks = {"adapting": Adapting()}
    original = capture(model, callbacks)
    rng = np.random.default_rng(2)
    messages = []
    for _ in range(150):
        values = json.loads(json.dumps(original.values))
        del values["fingerprint"]
        place = values
        while True:
            key = list(place)[rng.integers(len(place))] if isinstance(place, dict) else 0
            if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.15:
                place[key] = STRANGE[rng.integers(len(STRANGE))]
                break
            place = place[key]
        values["fingerprint"] = original.values["fingerprint"]
        try:
            restore(ResumeState(values, original.arrays), model, callbacks)
        except InputError as error:
            messages.append(str(error))
        restore(original, model, callbacks)
    assert len(messages) > 50
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("position", [-1, 625, 10**9])
def test_a_forged_random_state_cannot_make_numpy_read_foreign_memory(position):
    model = build()
    model._setup_learn(TOTAL)
    state = capture(model, {})
    state.values["random"]["numpy"]["state"]["pos"] = position
    before = np.random.get_state(legacy=False)["state"]["pos"]
    with pytest.raises(InputError, match="NumPy's random generator is damaged"):
        restore(state, model, {})
    assert np.random.get_state(legacy=False)["state"]["pos"] == before
