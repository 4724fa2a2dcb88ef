"""The principles file: the package's own, and what is refused of a user's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from align.collect._principles import FILE, read_principles
from align.collect._verdict import PROMPTS
from align.collect.critique import CRITIQUE_PLACES, REVISION_PLACES
from align.errors import ConfigError
from align.generation.questions import places_in

ONE = {"name": "n", "principle": "p", "critique": "c", "revision": "r"}


def test_the_packages_own_can_be_read():
    found = read_principles(None)
    assert len(found) == len(FILE.read_text().splitlines()) >= 10


@pytest.mark.parametrize(
    ("name", "known", "needed"),
    [
        ("critique.txt", CRITIQUE_PLACES, {"conversation", "reply", "critique_request"}),
        ("revision.txt", REVISION_PLACES, {"conversation", "reply", "critique", "revision_request"}),
    ],
)
def test_the_packages_own_templates_hold_what_they_have_to(
    name: str, known: tuple[str, ...], needed: set[str]
):
    used = places_in((PROMPTS / name).read_text())
    assert needed <= used <= set(known)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            [{**ONE, "name": ""}],
            r"p\.jsonl:1 has to be a JSON object of texts: name, principle",
        ),
        ([ONE, {**ONE, "more": "x"}], r"p\.jsonl:2 has to be"),
        ([{**ONE, "critique": 3}], "has to be a JSON object"),
        ([["n"]], "has to be a JSON object"),
        ([ONE, ONE], "names 'n' twice"),
        ([], "holds no principle"),
    ],
)
def test_what_is_no_principle_is_told(tmp_path: Path, lines: list[Any], words: str):
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    with pytest.raises(ConfigError, match=words):
        read_principles(str(file))


def test_a_file_that_is_not_there_and_a_line_that_is_no_json(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_principles(str(tmp_path / "absent.jsonl"))
    (tmp_path / "p.jsonl").write_text("{")
    with pytest.raises(ConfigError, match="has to be a JSON object"):
        read_principles(str(tmp_path / "p.jsonl"))
