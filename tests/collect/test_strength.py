"""Strength: files joined by instruction, who is paired with whom, in what order, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scribes import Desk, Scribe, ask, draft, given

from align.collect._bench import Candidates, Collected
from align.collect._loop import Outcomes, collected
from align.collect._sources import OutputFile, read_outputs, source_of
from align.collect.strength import Strength
from align.errors import ConfigError, DataError
from align.generation.address import ServerSettings
from align.models.settings import ModelSettings
from align.types import Message, PreferenceRecord


def outputs(path: Path, **replies: str) -> str:
    rows = [{"instruction": asked, "output": said, "generator": path.stem} for asked, said in replies.items()]
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Three models; the middle one has no reply to B, the weakest says of C what the strongest says."""
    return (
        outputs(tmp_path / "strong.json", A="a strong", B="b strong", C="same"),
        outputs(tmp_path / "middle.json", A=" a mid", C="c middle"),
        outputs(tmp_path / "weak.json", A="a w", B="b weak, and long", C="same", D="not asked"),
    )


def went_through(method: Strength, items: Sequence[Candidates], desk: Desk | None = None) -> Collected:
    each: list[Outcomes] = list(method.open((desk or Desk()).bench())(items, 0))
    return collected(method, each, 0)


def told(found: Collected) -> list[tuple[str, str]]:
    pairs = [record.pair() for record in found.records]
    return [(pair.chosen, pair.rejected) for pair in pairs if pair is not None]


def test_the_stronger_reply_is_preferred_and_what_does_not_match_is_counted(files: tuple[str, ...]) -> None:
    found = went_through(Strength(files, pairs="all"), given("A", "B", "C"))
    assert told(found) == [
        ("a strong", " a mid"),
        ("a strong", "a w"),
        (" a mid", "a w"),
        ("b strong", "b weak, and long"),
        ("same", "c middle"),
        ("same", "same"),  # the loop's check makes an abstention of it
    ]
    assert found.abstained == {"no_reply": 2, "repeated_pair": 1}
    results = {one.metric: one.value for one in Strength(files, pairs="all").report(found, None)}
    assert [results[f"strength/{rank}/unmatched"] for rank in (1, 2, 3)] == [0, 1, 0]
    assert results["strength/1_3/pairs"] == 3
    assert results["strength/1_2/longer_rate"] == 0.5  # of a strong: longer; of same: shorter


def test_a_record_says_who_wrote_what_and_how_far_they_are_apart(files: tuple[str, ...]) -> None:
    (record,) = went_through(Strength(files, pairs="extremes"), given("A")).records
    assert {reply.model for reply in record.replies} == {"strong", "weak"}
    assert record.details == {"ranks": [1, 3]}
    assert record.strength is not None
    assert (record.strength.step, record.strength.of) == (2, 2)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [("adjacent", [(0, 1), (1, 2)]), ("all", [(0, 1), (0, 2), (1, 2)]), ("extremes", [(0, 2)])],
)
def test_who_is_paired_with_whom(pairs: Any, expected: list[tuple[int, int]]) -> None:
    assert Strength(("a", "b", "c"), pairs=pairs).couples() == expected


def gaps(found: Collected) -> list[int]:
    return [record.strength.step for record in found.records if record.strength]


def test_easy_pairs_are_those_of_models_far_apart(files: tuple[str, ...]) -> None:
    items = given("A", "B")
    assert gaps(went_through(Strength(files, pairs="all"), items)) == [1, 2, 1, 2]
    easy = went_through(Strength(files, pairs="all", order="easy_to_hard"), items)
    assert gaps(easy) == [2, 2, 1, 1]
    assert [record.prompt[0].content for record in easy.records] == ["A", "B", "A", "A"], "else as they come"
    hard = went_through(Strength(files, pairs="all", order="hard_to_easy"), items)
    assert gaps(hard) == [1, 1, 2, 2]
    mixed = went_through(Strength(files, pairs="all", order="shuffled"), items)
    assert sorted(map(id_of, mixed.records)) == sorted(map(id_of, easy.records))


def id_of(record: PreferenceRecord) -> str:
    return record.id


def test_policies_and_servers_answer_beside_files(files: tuple[str, ...]) -> None:
    """Both write with a seed of their own: policies that are nearly the same would say the same."""
    policy = Scribe(lambda prompt, seed, place: draft("by a policy", ended=prompt != ask("C")))
    served = Scribe(lambda prompt, seed, place: draft("by a server"))
    desk = Desk(others={"runs/sft": policy, "big": served})
    method = Strength(("http://localhost:8000/v1#big", files[0], "runs/sft"), max_length=64)
    found = went_through(method, given("A", "C"), desk)
    assert told(found) == [("by a server", "a strong"), ("a strong", "by a policy"), ("by a server", "same")]
    assert found.abstained == {"not_ended": 1}
    assert desk.noted == {"source.0": "big", "source.1": files[0], "source.2": "runs/sft"}
    assert policy.seeds != served.seeds


def test_what_a_source_is() -> None:
    assert source_of("a/model_outputs.json") == OutputFile("a/model_outputs.json")
    assert source_of("a.jsonl.gz") == OutputFile("a.jsonl.gz")
    assert source_of("runs/sft") == ModelSettings("runs/sft")
    server = source_of("https://host/v1#big", "MY_KEY")
    assert server == ServerSettings("https://host/v1", "big", "MY_KEY")


def test_whitespace_does_not_part_instructions_and_the_first_of_two_counts(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    rows = [
        {"instruction": "Say A.\n", "output": "first"},
        {"instruction": "Say A.", "output": "second"},
        {"instruction": "Sum up.", "input": "Long text.", "output": "short"},
        {
            "prompt": [{"role": "user", "content": "Hi."}],
            "completion": [{"role": "assistant", "content": "Ho."}],
        },
        {"instruction": "No reply."},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_outputs(str(path))
    assert (found.repeated, found.unread) == (1, {"missing_key": 1})
    asked = [ask(" Say A."), ask("Sum up.\n\nLong text."), ask("Hi."), ask("No reply.")]
    drafts = found.drafts([*asked, (Message("system", "s"), *ask("Hi."))])
    assert [one and one.reply.text for one in drafts] == ["first", "short", "Ho.", None, None]
    assert [one and one.reply.model for one in drafts[:1]] == ["outputs.jsonl"]


def test_a_file_without_replies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outputs.jsonl"
    path.write_text('{"instruction": "A"}\n')
    with pytest.raises(DataError, match=r"holds no replies that can be read \(missing_key 1\)"):
        read_outputs(str(path))


@pytest.mark.parametrize(
    ("sources", "more", "words"),
    [
        (("a",), {}, "a ranking has two models or more"),
        (("a", "b", "a"), {}, "names a twice"),
        (("a", "http://host/v1"), {}, "a server is given with its model, http://host/v1#NAME"),
        (("a", "b", "c"), {"order": "easy_to_hard"}, "all pairs are as many ranks apart"),
        (("a", "b"), {"order": "hard_to_easy", "pairs": "all"}, "all pairs are as many ranks apart"),
    ],
)
def test_what_is_refused(sources: tuple[str, ...], more: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Strength(sources, **more)
