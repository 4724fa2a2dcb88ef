"""Whole or absent; damage of every kind is found before anything is used."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align.errors import CheckpointError
from align.training import checkpoints
from align.training.checkpoints import Checkpoint, damage, folder_of, newest, read, steps_in, write


def make(step: int, best_step: int | None = None) -> Checkpoint:
    """A checkpoint that can be told from that of any other step; floats that decimals do not hold."""
    weights = {"w": torch.full((3, 2), step / 3), "empty": torch.zeros(0), "half": torch.ones(2).bfloat16()}
    moments = {"step/w": torch.tensor(float(step)), "exp_avg/w": torch.randn(3, 2)}
    state = {"seconds": 0.1 + 0.2, "step": step, "text": "é"}
    return Checkpoint(step, {"weights": weights, "optimiser": moments}, state, best_step)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    tensors = all(
        torch.equal(tensor, other.tensors[stem][name]) and tensor.dtype == other.tensors[stem][name].dtype
        for stem, group in one.tensors.items()
        for name, tensor in group.items()
    )
    return tensors and (one.step, one.state, one.best_step) == (other.step, other.state, other.best_step)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    checkpoint = make(100, best_step=100)
    path = write(tmp_path, checkpoint, keep=2)
    assert path == tmp_path / "step-000100"
    assert same(read(path), checkpoint)
    assert [one.name for one in tmp_path.iterdir()] == ["step-000100"]


def test_tensors_that_are_not_contiguous_are_written_too(tmp_path: Path) -> None:
    turned = torch.arange(6.0).reshape(2, 3).T
    path = write(tmp_path, Checkpoint(1, {"weights": {"w": turned}}, {}), keep=1)
    assert torch.equal(read(path).tensors["weights"]["w"], turned)


def test_the_newest_stay(tmp_path: Path) -> None:
    for step in (1, 2, 10, 1_000_000):
        write(tmp_path, make(step), keep=2)
    assert steps_in(tmp_path) == [10, 1_000_000]
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 1_000_000


def test_the_best_of_a_kept_one_stays(tmp_path: Path) -> None:
    """Best are 1, 1, 1, 4: with two kept, 1 goes when no kept checkpoint refers to it any more."""
    seen = []
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 4), (5, 4)):
        write(tmp_path, make(step, best), keep=2)
        seen.append(steps_in(tmp_path))
    assert seen == [[1], [1, 2], [1, 2, 3], [1, 3, 4], [4, 5]]


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    assert newest(tmp_path / "checkpoints") is None
    assert newest(tmp_path) is None


def test_leftovers_of_a_killed_save_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".step-000002.partial"
    leftover.mkdir()
    (leftover / "weights.safetensors").write_bytes(b"half")
    assert newest(tmp_path) is None
    assert not leftover.exists()


def flip(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped weight": (lambda p: flip(p / "weights.safetensors"), "weights.safetensors has changed"),
    "flipped moment": (lambda p: flip(p / "optimiser.safetensors"), "optimiser.safetensors has changed"),
    "flipped state": (lambda p: flip(p / "state.json", 20), "state.json has changed"),
    "cut short": (lambda p: os.truncate(p / "weights.safetensors", 100), "has 100 bytes instead of"),
    "empty": (lambda p: os.truncate(p / "optimiser.safetensors", 0), "has 0 bytes instead of"),
    "longer": (lambda p: (p / "state.json").open("a").write(" "), "bytes instead of"),
    "missing": (lambda p: (p / "optimiser.safetensors").unlink(), "optimiser.safetensors is missing"),
    "stranger": (lambda p: (p / "more.safetensors").write_bytes(b""), "more.safetensors is not in its"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "it has no manifest.json"),
    "cut manifest": (lambda p: os.truncate(p / "manifest.json", 30), "manifest.json cannot be read"),
    "other manifest": (lambda p: (p / "manifest.json").write_text("[1]"), "manifest.json cannot be read"),
    "other version": (
        lambda p: (p / "manifest.json").write_text('{"version": 9, "files": {}}'),
        "its layout has version 9",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_newest_is_passed_over_with_a_warning(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    harm, told = DAMAGES[kind]
    write(tmp_path, make(1), keep=2)
    harm(write(tmp_path, make(2), keep=2))
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step 2 is damaged" in caplog.text
    assert told in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000002.damaged"]
    assert damage(write(tmp_path, make(2), keep=2)) is None  # its name is free again


@pytest.mark.parametrize("kind", DAMAGES)
def test_none_whole_is_an_error_and_stays_one(tmp_path: Path, kind: str) -> None:
    harm, told = DAMAGES[kind]
    harm(write(tmp_path, make(2), keep=2))
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole") as error:
            newest(tmp_path)
        assert told in str(error.value)


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), file=st.integers(0, 3))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_changes_what_is_read(tmp_path: Path, where: float, bit: int, file: int) -> None:
    """Of any file, at any place: it is found, or (blanks of the manifest) it changes nothing."""
    whole = make(3)
    path = folder_of(tmp_path, 3)
    if not path.exists():
        write(tmp_path, whole, keep=1)
    victim = sorted(path.iterdir())[file]
    before = victim.read_bytes()
    changed = bytearray(before)
    changed[int(where * len(before))] ^= 1 << bit
    victim.write_bytes(bytes(changed))
    try:
        assert damage(path) is not None or (victim.name == "manifest.json" and json.loads(changed))
        if damage(path) is None:
            assert json.loads(changed) == json.loads(before)
    finally:
        victim.write_bytes(before)


def test_one_whose_best_weights_are_damaged_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step, best in ((1, 1), (2, 2), (3, 2)):
        write(tmp_path, make(step, best), keep=9)
    flip(folder_of(tmp_path, 2) / "weights.safetensors")
    found = newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "the best weights, of step 2: weights.safetensors has changed" in caplog.text


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, make(1), keep=1)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints, "sync", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*step-000002: .*No space left.*resume=true"):
        write(tmp_path, make(2), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert damage(folder_of(tmp_path, 1)) is None


def test_a_damaged_older_one_does_not_disturb_a_save(tmp_path: Path) -> None:
    path = write(tmp_path, make(1), keep=3)
    (path / "state.json").write_text("{")
    write(tmp_path, make(2), keep=3)
    assert steps_in(tmp_path) == [1, 2]


def test_reading_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, make(1), keep=1)
    flip(path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"is damaged: weights.safetensors has changed"):
        read(path)


def test_the_manifest_comes_last_and_everything_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of what reaches the disk: files, manifest, folder, name, parent."""
    order: list[str] = []
    paths: dict[int, str] = {}
    real_open, real_fsync, real_rename = os.open, os.fsync, os.rename

    def spy_open(path: object, *args: object) -> int:
        handle = real_open(path, *args)  # type: ignore[arg-type]
        paths[handle] = Path(str(path)).name
        return handle

    def spy_rename(source: Path, target: Path) -> None:
        order.append(f"{source.name} -> {target.name}")
        real_rename(source, target)

    monkeypatch.setattr(os, "open", spy_open)
    monkeypatch.setattr(os, "rename", spy_rename)
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append(paths[handle]), real_fsync(handle)))
    write(tmp_path / "checkpoints", make(1), keep=1)
    assert order == [
        "optimiser.safetensors",
        "state.json",
        "weights.safetensors",
        "manifest.json",
        ".step-000001.partial",
        ".step-000001.partial -> step-000001",
        "checkpoints",
    ]
