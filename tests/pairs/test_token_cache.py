"""Tokens kept for later runs: the same as made anew, whole or absent, and never those of something else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from byte_chat import ByteChat, KeptChat, settings

from align.errors import AlignError
from align.files import sha256_of
from align.pairs import cache as kept
from align.pairs.prepare import prepare

HERE = Path(__file__).resolve().parent
FROM_THE_CACHE = "  tokens from the cache: "

ROWS = [
    {"prompt": f"question {i % 30}", "chosen": f"yes {i}", "rejected": "no" * (i % 5 + 1)} for i in range(60)
]
BAD = [{"prompt": "x" * 90, "chosen": "a" * 20, "rejected": "b"}, {"prompt": "no replies"}, ROWS[0]]
"""One that is cut at 100 tokens, one that is refused, and a duplicate."""


class SilentChat(KeptChat):
    """Whoever asks it for tokens did not find them in the cache."""

    def prompt_ids(self, prompt):
        raise AssertionError("a row was tokenised")


@pytest.fixture
def pairs(tmp_path):
    return write(tmp_path / "pairs.jsonl", ROWS + BAD)


@pytest.fixture
def job(tmp_path, pairs):
    """A run that prepares ``pairs`` with a cache: (its directory) -> (what it made, what it said)."""

    def start(name, chat=None, cache=tmp_path / "cache", wants="pairs", **values):
        said = []
        dataset = settings("preference", **{"path": pairs, **values})
        made = prepare(dataset, chat or KeptChat(), 100, tmp_path / name, wants, said.append, cache=cache)
        return made, said

    return start


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def files(directory):
    """Name -> SHA-256 of every file of a run's directory, hidden ones too."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): sha256_of(path) for path in found}


def entries(tmp_path):
    """The folders of the cache, and beside them nothing."""
    return sorted((tmp_path / "cache" / "tokens").iterdir())


def texts(store):
    return [(store.text(i), store[i].chosen_ids.tolist()) for i in range(len(store))]


@pytest.mark.parametrize("wants", ["pairs", "demonstrations", "unpaired"])
def test_a_run_is_the_same_with_and_without(job, tmp_path, wants):
    plain, said = job("plain", cache=None, wants=wants)
    first, said_first = job("first", wants=wants)
    again, said_again = job("again", SilentChat(), wants=wants)
    names = ["data/test.arrow", "data/train.arrow", "data/validation.arrow", "data_report.json"]
    assert sorted(files(tmp_path / "plain")) == names
    assert files(tmp_path / "plain") == files(tmp_path / "first") == files(tmp_path / "again")
    assert plain.fingerprint == first.fingerprint == again.fingerprint
    assert len(again.train) > 30
    assert [one.id for one in again.test] == [one.id for one in plain.test]
    (entry,) = entries(tmp_path)
    # each says its own directory, and the last one where it found the tokens
    assert [line.replace("/first/", "/plain/") for line in said_first] == said
    assert [line.replace("/again/", "/plain/") for line in said_again] == [*said, f"{FROM_THE_CACHE}{entry}"]
    assert any("data_report.json" in line for line in said)


def test_the_files_of_a_run_and_of_the_cache_share_their_bytes(job, tmp_path):
    job("first")
    job("again", SilentChat())
    (entry,) = entries(tmp_path)
    for name, place in kept.FILES.items():
        assert (
            len({(folder / place).stat().st_ino for folder in (tmp_path / "first", tmp_path / "again")}) == 1
        )
        assert (entry / name).stat().st_nlink == 3


def test_where_links_are_refused_there_are_copies(job, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    job("plain", cache=None)
    job("first")
    job("again", SilentChat())
    (entry,) = entries(tmp_path)
    assert {path.stat().st_nlink for path in entry.iterdir()} == {1}
    assert files(tmp_path / "plain") == files(tmp_path / "first") == files(tmp_path / "again")


def test_a_run_that_is_continued_finds_its_own(job, tmp_path):
    """Its files are links to the very files that take their place: ``rename`` leaves both names there."""
    job("run")
    before = files(tmp_path / "run")
    _, said = job("run", SilentChat())
    assert said[-1].startswith(FROM_THE_CACHE)
    assert files(tmp_path / "run") == before


def test_the_cache_may_be_deleted_at_any_time(job, tmp_path, monkeypatch):
    made, _ = job("first")
    held = texts(made.train)
    shutil.rmtree(tmp_path / "cache")
    assert texts(made.train) == held
    job("again")
    share = kept.share

    def deleted_meanwhile(source, path):
        if path.is_relative_to(tmp_path / "late"):
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        share(source, path)

    monkeypatch.setattr(kept, "share", deleted_meanwhile)
    late, said = job("late")
    assert texts(late.train) == held
    assert not any("note" in line or FROM_THE_CACHE in line for line in said)


DAMAGES = {
    "cut": lambda path: os.truncate(path, path.stat().st_size - 2),
    "flipped": lambda path: path.write_bytes(_flipped(path.read_bytes())),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "other": lambda path: path.write_text('{"entry": [], "sha256": 3}'),
}


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*kept.FILES, kept.MANIFEST])
def test_a_damaged_entry_is_said_and_made_anew(job, tmp_path, name, damage):
    job("plain", cache=None)
    job("first")
    (entry,) = entries(tmp_path)
    broken = entry / name
    whole = broken.read_bytes()
    broken.unlink()  # the run's file is the same one: only the cache's is damaged here
    broken.write_bytes(whole)
    DAMAGES[damage](broken)
    _, said = job("again")
    assert said[0].startswith(f"note: the tokens kept in {entry} are damaged (")
    assert said[0].endswith("): they are made anew")
    assert not any(FROM_THE_CACHE in line for line in said)
    assert files(tmp_path / "again") == files(tmp_path / "plain")
    assert entries(tmp_path) == [entry]
    assert broken.read_bytes() == whole
    job("later", SilentChat())


def test_an_entry_that_cannot_be_read_is_said_and_stays(job, tmp_path, monkeypatch):
    job("first")

    def refuse(source, path):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(kept, "share", refuse)
        _, said = job("again")
    (entry,) = entries(tmp_path)
    assert (
        said[0] == f"note: the tokens kept in {entry} cannot be used (Permission denied): they are made anew"
    )
    assert files(tmp_path / "again") == files(tmp_path / "first")
    job("later", SilentChat())


def test_a_cache_that_cannot_be_written_to_stops_nothing(job, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    _, said = job("run")
    (line,) = [line for line in said if "note" in line]
    assert line.startswith(f"note: the tokens are not kept for later runs: {tmp_path / 'cache'}")
    job("plain", cache=None)
    assert files(tmp_path / "run") == files(tmp_path / "plain")


FAILURES = {
    "bad rows": {"bad_rows": "error"},
    "too long": {"too_long": "error"},
    "no file": {"path": "nowhere/to/be.jsonl"},
    "no split": {"test_fraction": 0.98, "validation_fraction": 0.0199},
    "a pipe of no rows": {"path": "/dev/null"},
}


@pytest.mark.parametrize("values", FAILURES.values(), ids=FAILURES)
def test_what_fails_fails_alike_and_keeps_nothing(job, tmp_path, values):
    said = []
    for name, cache in (("plain", None), ("kept", tmp_path / "cache")):
        with pytest.raises(AlignError) as error:
            job(name, cache=cache, **values)
        said.append((type(error.value), str(error.value)))
    assert said[0] == said[1]
    assert files(tmp_path / "plain") == files(tmp_path / "kept")
    assert "data_report.json" in files(tmp_path / "kept")
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_written_to_while_it_is_read_is_not_kept(job, tmp_path, pairs):
    class Meddler(KeptChat):
        def prompt_ids(self, prompt):
            with open(pairs, "a") as file:
                file.write("\n")
            return super().prompt_ids(prompt)

    job("first", Meddler())
    assert not (tmp_path / "cache").exists()


def test_a_chat_format_that_does_not_say_what_it_is_keeps_nothing(job, tmp_path):
    job("run", ByteChat())
    assert not (tmp_path / "cache").exists()


def test_two_jobs_that_make_the_same_both_end_well(job, tmp_path):
    """The second one starts and ends while the first one is reading."""

    class Overtaken(KeptChat):
        others = 0

        def prompt_ids(self, prompt):
            if not self.others:
                self.others += 1
                _, said = job("second")
                assert not any("note" in line or FROM_THE_CACHE in line for line in said)
            return super().prompt_ids(prompt)

    _, said = job("first", Overtaken())
    assert not any("note" in line or FROM_THE_CACHE in line for line in said)
    assert files(tmp_path / "first") == files(tmp_path / "second")
    assert len(entries(tmp_path)) == 1
    job("third", SilentChat())


def test_what_a_killed_job_left_half_written_goes_after_a_day(job, tmp_path):
    old, new = (tmp_path / "cache" / "tokens" / f".{name}.part" for name in ("old", "new"))
    for folder, hours in ((old, 25), (new, 23)):
        folder.mkdir(parents=True)
        (folder / "train.arrow").write_bytes(b"half")
        os.utime(folder, (time.time() - hours * 3600,) * 2)
    job("run")
    assert new.is_dir()
    assert not old.exists()


def _program(*arguments):
    root = str(HERE.parents[1])
    return {
        "args": [sys.executable, *map(str, arguments)],
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(HERE)])},
        "stdout": subprocess.PIPE,
        "text": True,
    }


@pytest.mark.slow
def test_killed_before_any_of_its_steps_it_leaves_nothing_or_all(job, tmp_path, pairs):
    job("plain", cache=None)
    expected = {Path(name).name: digest for name, digest in files(tmp_path / "plain").items()}
    folder = tmp_path / "kills"
    folder.mkdir()
    answer = subprocess.run(**_program(HERE / "killed_preparing.py", folder, pairs), check=True)
    outcomes = json.loads(answer.stdout)
    assert len(outcomes) > 30
    for outcome in outcomes:
        assert outcome["made"] == expected
        assert len(outcome["kept"]) == 1
    # nothing was kept before the last rename, and everything after it
    found = [outcome["found"] for outcome in outcomes]
    assert found == sorted(found)
    assert not found[0]
    assert found[-1]


@pytest.mark.medium
def test_four_processes_at_once_all_end_well(tmp_path, pairs):
    code = (
        "import sys, time; from pathlib import Path; from byte_chat import KeptChat, settings\n"
        "from align.pairs.prepare import prepare\n"
        "root, name, start = Path(sys.argv[1]), sys.argv[2], sys.argv[4]\n"
        "dataset = settings('preference', path=sys.argv[3])\n"
        "time.sleep(max(0, float(start) - time.time()))\n"
        "prepare(dataset, KeptChat(), 100, root / name, 'pairs', cache=root / 'cache')\n"
    )
    start = time.time() + 4
    jobs = [subprocess.Popen(**_program("-c", code, tmp_path, name, pairs, start)) for name in "abcd"]
    said = [one.communicate(timeout=60)[0] for one in jobs]
    assert [one.returncode for one in jobs] == [0, 0, 0, 0]
    assert not any("note" in one for one in said)
    assert len({json.dumps(files(tmp_path / name), sort_keys=True) for name in "abcd"}) == 1
    assert len(entries(tmp_path)) == 1
