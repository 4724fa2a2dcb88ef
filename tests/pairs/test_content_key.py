"""The name under which tokens are kept: another one for whatever changes a token, a split or a report."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest
from byte_chat import ByteChat, KeptChat, settings

from align import registry
from align.pairs import content
from align.pairs.content import code_hashes, content_key
from align.pairs.files import content_hash
from align.pairs.records import write_records
from align.protocols import KnownContent
from align.settings import DatasetSettings
from align.types import Judge, Message, PreferenceRecord, Reply

ROOT = Path(__file__).resolve().parents[2]
LINE = '{"prompt": "a", "chosen": "b", "rejected": "c"}\n'


class OtherChat(KeptChat):
    def content_hash(self):
        return "two tokens a byte"


@pytest.fixture
def path(tmp_path):
    """A folder of two splits, of which one is read."""
    for name in ("train", "test", "other"):
        (tmp_path / f"{name}.jsonl").write_text(LINE)
    return tmp_path


def key(path, name="preference", chat=None, max_length=100, wants="pairs", **values):
    dataset = settings(name, path=str(path), **values)
    return content_key(dataset, chat or KeptChat(), max_length, wants)


CHANGES = {
    "the kind of source": {"name": "hh_rlhf"},
    "the tokenizer": {"chat": OtherChat()},
    "the length": {"max_length": 101},
    "the kind of example": {"wants": "demonstrations"},
    "the split": {"split": "other"},
    "the test split": {"test_split": "test"},
    "bad_rows": {"bad_rows": "error"},
    "too_long": {"too_long": "drop"},
    "test_fraction": {"test_fraction": 0.2},
    "validation_fraction": {"validation_fraction": 0.1},
    "split_seed": {"split_seed": 1},
    "limit": {"limit": 1},
    "votes": {"votes": "majority"},
    "ties": {"ties": "half"},
    "folds": {"folds": 5},
    "fold": {"folds": 5, "fold": 1},
}


def test_the_same_has_the_same_key(path):
    assert key(path) == key(path)
    assert len(key(path)) == 64


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_setting_has_its_part_in_the_key(path, change):
    assert len({key(path), key(path, **change)} - {None}) == 2


def test_no_rule_of_reading_is_forgotten():
    rules = {field.name for field in dataclasses.fields(DatasetSettings)} - {"source"}
    assert rules <= CHANGES.keys()


def test_no_field_of_the_toy_world_is_forgotten():
    other = {"pairs": 9, "prompts": 8, "seed": 7, "temperature": 0.6, "flip_rate": 0.25, "difficulty": 0.4,
             "overdone": 0.3, "steered": 0.5}  # fmt: skip
    toy = type(settings("toy").source)
    assert {field.name for field in dataclasses.fields(toy)} == other.keys()
    changes: list[dict[str, float]] = [{}, *({name: value} for name, value in other.items())]
    keys = {content_key(settings("toy", **values), KeptChat(), 100, "pairs") for values in changes}
    assert len(keys - {None}) == len(changes)


@pytest.mark.parametrize("place", range(0, len(LINE), 5))
def test_each_byte_of_the_file_has_its_part_in_the_key(path, place):
    before = key(path)
    file = path / "train.jsonl"
    changed = bytearray(file.read_bytes())
    changed[place] ^= 1
    file.write_bytes(changed)
    assert key(path) != before
    file.write_text(LINE)
    assert key(path) == before


def test_the_version_of_the_store_and_of_libraries_and_python_have_their_part(path, monkeypatch):
    keys = [key(path)]
    with monkeypatch.context() as patch:
        patch.setattr(content, "STORE_VERSION", 99)
        keys.append(key(path))
    with monkeypatch.context() as patch:
        patch.setattr(content.sys, "version", "2.7")
        keys.append(key(path))
    version = metadata.version
    for library in content.LIBRARIES:
        with monkeypatch.context() as patch:
            patch.setattr(
                metadata, "version", lambda name, one=library: "0" if name == one else version(name)
            )
            keys.append(key(path))
    assert len(set(keys)) == len(keys) == 3 + len(content.LIBRARIES)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The project's code in another place, where it may be edited."""
    root = tmp_path / "code"
    for file in code_hashes("data.*"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, root / file)
    monkeypatch.setattr(content, "_ROOT", root)
    return root


@pytest.mark.parametrize("file", sorted(code_hashes("data.preference")))
def test_each_file_of_code_has_its_part_in_the_key(path, copied, monkeypatch, file):
    before = key(path)
    assert before is not None
    with (copied / file).open("a") as code:
        code.write("\n")
    # this process still runs what it has loaded
    assert key(path) is None
    monkeypatch.setattr(content, "_AS_LOADED", code_hashes("data.*"))
    assert key(path) not in (None, before)


def test_the_code_of_another_source_has_no_part(path, copied):
    before = key(path)
    (copied / "data/hh_rlhf.py").write_text("")
    assert key(path) == before
    assert key(path, "hh_rlhf") is None


def test_code_that_cannot_be_read_is_code_that_is_not_known(path, tmp_path, monkeypatch):
    """A package without its sources."""
    monkeypatch.setattr(content, "_ROOT", tmp_path / "nothing")
    assert key(path) is None


def _imported(file):
    """Files of this project that a file names in an import, wherever it stands."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (f"{name.replace('.', '/')}.py" for name in names if name)
    return {one for one in files if (ROOT / one).is_file()}


VALUES_ONLY = {"align/settings.py", "align/config.py", "align/protocols.py"}
"""They say which values there are; the values themselves are in the key."""


@pytest.mark.parametrize("name", registry.known("dataset"))
def test_all_code_that_makes_tokens_is_in_the_key(name):
    covered = set(code_hashes(f"data.{name}"))
    assert f"data/{name}.py" in covered
    waiting = ["align/pairs/prepare.py", "align/models/chat.py", f"data/{name}.py"]
    found: set[str] = set()
    while waiting:
        file = waiting.pop()
        if file not in found | VALUES_ONLY:
            found.add(file)
            waiting += _imported(file)
    assert len(found) > 15
    assert found <= covered, "put it into CODE of align/pairs/content.py"


@pytest.mark.parametrize("name", registry.known("dataset"))
def test_every_source_here_says_what_it_reads(name, path):
    fields = {} if name == "toy" else {"path": str(path / "train.jsonl")}
    source = settings(name, **fields).source
    assert isinstance(source, KnownContent)
    assert source.content_hash() == source.content_hash() is not None


def test_the_labeller_of_the_toy_world_has_its_part(tmp_path, monkeypatch):
    source = settings("toy").source
    before = source.content_hash()
    folder = registry.folder
    shutil.copy(folder("reward") / "gold.py", tmp_path)
    monkeypatch.setattr(registry, "folder", lambda group: tmp_path if group == "reward" else folder(group))
    assert source.content_hash() == before
    with (tmp_path / "gold.py").open("a") as file:
        file.write("\n")
    assert source.content_hash() != before


def test_somebody_elses_source_is_not_known(path):
    @dataclasses.dataclass(frozen=True)
    class Foreign(type(settings("preference", path=str(path)).source)):
        """As ours, but of this module."""

    dataset = DatasetSettings(Foreign(str(path)))
    assert dataset.source.content_hash() is not None
    assert content_key(dataset, KeptChat(), 100, "pairs") is None
    assert content_key(settings("preference", path=str(path)), ByteChat(), 100, "pairs") is None


def test_what_lies_elsewhere_or_nowhere_is_not_known(path):
    os.mkfifo(path / "pipe.jsonl")
    for unknown in ("Anthropic/hh-rlhf", "imdb", path / "nothing.jsonl", path / "pipe.jsonl", "/dev/null"):
        assert content_hash(str(unknown)) is None
    assert content_hash(str(path), split="trian") is None


def test_of_a_folder_counts_what_is_read(path):
    before = content_hash(str(path))
    (path / "test.jsonl").write_text(LINE * 2)
    (path / "README.md").write_text("about")
    assert content_hash(str(path)) == before
    both = content_hash(str(path), test_split="test")
    (path / "test.jsonl").write_text(LINE)
    assert content_hash(str(path), test_split="test") not in (both, before)
    assert content_hash(str(path), split="test", test_split="train") != content_hash(
        str(path), split="train", test_split="test"
    )
    # the same bytes under an ending that is read in another way
    (path / "train.jsonl").rename(path / "train.csv")
    assert content_hash(str(path)) != before


def test_a_folder_of_records_counts_with_its_manifest(tmp_path):
    replies = (Reply("b"), Reply("c"))
    record = PreferenceRecord("1", (Message("user", "a"),), replies, "first", Judge("file", "test"))
    write_records(tmp_path, [record])
    before = content_hash(str(tmp_path))
    assert before is not None
    (tmp_path / "notes.txt").write_text("not read")
    assert content_hash(str(tmp_path)) == before
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "version": 99}))
    assert content_hash(str(tmp_path)) != before


def test_a_saved_folder_counts_whole_unless_a_part_of_it_is_linked(tmp_path):
    folder = tmp_path / "saved"
    (folder / "train").mkdir(parents=True)
    (folder / "dataset_dict.json").write_text("{}")
    (folder / "train" / "data.arrow").write_bytes(b"rows")
    before = content_hash(str(folder))
    (folder / "train" / "data.arrow").write_bytes(b"other rows")
    assert content_hash(str(folder)) not in (None, before)
    (folder / "train").rename(tmp_path / "elsewhere")
    (folder / "train").symlink_to(tmp_path / "elsewhere")
    assert content_hash(str(folder)) is None
