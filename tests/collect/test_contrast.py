"""Contrast: which turns get which affix, who is preferred, and what a policy that obeys would reach."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from scribes import Desk, Scribe, ask, draft, given

from align.collect._affixes import SHIPPED, Affixes, asked_for, read_affixes
from align.collect._bench import Abstained, Candidates, Collected, Draft, Truth
from align.collect._expected import obedient
from align.collect.contrast import Contrast
from align.errors import ConfigError
from align.types import Judge, Location, Message, PreferenceRecord, Prompt, Reply, Row


def test_earlier_replies_had_the_opposite_affix() -> None:
    """RLCD's box: "Human: a Assistant (bad): b Human: c Assistant (good):", as turns before the replies."""
    prompt = (
        Message("system", "s"),
        Message("user", "a"),
        Message("assistant", "b"),
        Message("user", "c"),
    )
    assert [one.content for one in asked_for(prompt, "good", "bad")] == ["s", "a (bad)", "b", "c (good)"]
    assert [one.role for one in asked_for(prompt, "good", "bad")] == [one.role for one in prompt]
    assert asked_for(ask("c"), "bad", "good") == ask("c (bad)")


def test_the_shipped_sets_hold_several_different_pairs() -> None:
    for name in json.loads(SHIPPED.read_text()):
        pairs = read_affixes(name)
        assert len(pairs) >= 3
        texts = [text for pair in pairs for text in (pair.positive, pair.negative)]
        assert len(set(texts)) == len(texts), "each side asks for one thing only"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("helpfull", None, "no affixes named 'helpfull'. Did you mean 'helpful'? Known: harmless, helpful"),
        ("missing.json", None, "missing.json cannot be read"),
        ("mine.json", "{", "mine.json cannot be read"),
        ("mine.json", "[]", "is no list of pairs"),
        ("mine.json", '[["a", "a "]]', "is no list of pairs of different texts"),
        ("mine.json", '[["a", ""]]', "is no list of pairs"),
        ("mine.json", '[["a", "b", "c"]]', "is no list of pairs"),
        ("mine.json", '{"helpful": [["a", "b"]]}', "is no list of pairs"),
    ],
)
def test_what_is_no_set_of_affixes_is_refused(
    name: str, content: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read_affixes.cache_clear()
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(ConfigError, match=words.replace(".", r"\.").replace("?", r"\?")):
        Contrast(affixes=name)
    read_affixes.cache_clear()


@pytest.fixture
def affixes(tmp_path: Path) -> str:
    path = tmp_path / "affixes.json"
    path.write_text('[["good", "bad"], ["long", "short"]]')
    return str(path)


def obeys(prompt: Prompt, seed: int, place: int) -> Draft:
    """Says what it was asked for; told to be bad about C, it is cut."""
    said = prompt[-1].content
    return draft(said, ended=said != "C (bad)")


def test_the_reply_to_the_positive_prompt_is_preferred(affixes: str) -> None:
    desk = Desk(Scribe(obeys))
    found = Contrast(affixes=affixes).open(desk.bench())(given(*"ABDE"), seed=1)
    used = set()
    for (record,), name in zip(found, "ABDE", strict=True):
        assert isinstance(record, PreferenceRecord)
        pair = record.pair()
        assert pair is not None
        assert pair.prompt == ask(name), "without its affix"
        two = (pair.chosen, pair.rejected)
        assert two in ((f"{name} (good)", f"{name} (bad)"), (f"{name} (long)", f"{name} (short)"))
        assert two == tuple(
            f"{name} ({record.details['affixes'][side]})" for side in ("positive", "negative")
        )
        assert record.judge == Judge("function", "contrast", affixes)
        assert record.margin is None
        used.add(two[0][3:-1])
    assert used == {"good", "long"}, "a pair of affixes is drawn for each prompt"
    assert desk.noted == {"affixes": affixes}


def test_a_cut_reply_makes_no_pair(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text('[["good", "bad"]]')
    ((outcome,),) = Contrast(affixes=str(path)).open(Desk(Scribe(obeys)).bench())(given("C"), seed=1)
    assert outcome == Abstained("not_ended", "the reply to the negative prompt was cut")


def test_rescored_the_reward_says_who_is_preferred(affixes: str) -> None:
    """The longer reply scores higher: the bad one about A, the good one about B, neither about C."""
    lengths = {"A": (1, 3), "B": (4, 1), "C": (2, 2)}

    def say(prompt: Prompt, seed: int, place: int) -> Draft:
        return draft("x" * lengths[prompt[-1].content[0]][place % 2])

    method = Contrast(affixes=affixes, label="reward")
    assert method.needs == ("writer", "reward")
    found = [one for (one,) in method.open(Desk(Scribe(say)).bench())(given(*"ABC"), seed=1)]
    first, second, third = found
    assert isinstance(first, PreferenceRecord)
    assert isinstance(second, PreferenceRecord)
    assert (first.details["chosen_by"], first.margin) == ("negative", 2.0)
    assert (second.details["chosen_by"], second.margin) == ("positive", 3.0)
    assert first.judge == Judge("function", "lengths")
    assert third == Abstained("tie", "both score 2")
    results = method.report(Collected([first, second], [], Counter(), []), None)
    assert {one.metric: one.value for one in results}["labels/prompt_agreement"] == 0.5


@dataclass(frozen=True)
class Coin:
    """A source of two pairs a prompt, whose labeller prefers a pair's first reply three times out of four."""

    offers: ClassVar[Literal["pairs"]] = "pairs"
    reward: ClassVar[str] = "gold"
    pairs: tuple[tuple[str, str, str], ...]

    def rows(self) -> Iterator[Row]:
        for number, (prompt, first, second) in enumerate(self.pairs, 1):
            yield Row(Location("coin", number), {"prompt": prompt, "replies": (first, second)})

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        first, second = map(Reply, values["replies"])
        return PreferenceRecord(
            "", ask(values["prompt"]), (first, second), "first", Judge("function", "coin")
        )

    def preference_probability(self, prompt: Prompt, first: str, second: str) -> float:
        return 0.75


class Letters:
    """Gold by hand: a letter's place in the alphabet."""

    def score(self, prompts: Any, replies: Any) -> list[float]:
        return [float(ord(reply)) for reply in replies]


def test_what_obedience_would_reach_by_hand() -> None:
    """P: good from (d, a), bad from (c, b), and the other way round; Q: ties count half; R has one pair.

    P, first way: d 3/4 or a 1/4 against b 3/4 or c 1/4 (the side that is not preferred): d wins always,
    a never, 3/4. Other way: c 3/4 or b 1/4 against a 3/4 or d 1/4: wins over a, 3/4. Q: all alike, 1/2.
    """
    source = Coin((("P", "d", "a"), ("Q", "e", "e"), ("R", "x", "y"), ("P", "c", "b"), ("Q", "e", "e")))
    (expected,) = obedient(Truth(source, Letters()))
    assert expected.metric == "labels/expected_accuracy"
    assert expected.n == 2
    assert expected.value == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert obedient(Truth(Coin((("P", "d", "a"),)), Letters())) == []


def test_affixes_have_their_opposites() -> None:
    pair = Affixes("good", "bad")
    assert (pair.opposite("good"), pair.opposite("bad")) == ("bad", "good")


def test_it_starts_from_a_prompt_of_several_turns(affixes: str) -> None:
    prompt = (Message("user", "A"), Message("assistant", "Yes."), Message("user", "B"))
    desk = Desk(Scribe(obeys))
    ((record,),) = Contrast(affixes=affixes).open(desk.bench())([Candidates(prompt)], seed=1)
    assert isinstance(record, PreferenceRecord)
    assert record.prompt == prompt
    assert desk.writer is not None
    first, second = desk.writer.asked
    assert first[0].content == second[-1].content.replace("B", "A")
