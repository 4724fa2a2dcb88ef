"""Going through what is given: each item once, the same bytes wherever it was stopped, every loss counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from scribes import ask, given

from align.collect._bench import Abstained, Bench, Candidates, Outcome, judged
from align.collect._loop import Outcomes, collected, outcomes
from align.errors import AlignError, CheckpointError
from align.pairs.check import pair_id, prompt_id, record_id
from align.protocols import Collecting
from align.types import Judge, PreferenceRecord, Prompt, Reply

ME = Judge("function", "test")
ITEMS = given(*(f"Question {n}?\u2028" for n in range(7)))
CHUNK, SEED = 3, 5


def record(prompt: Prompt, better: str, worse: str) -> PreferenceRecord:
    return judged(prompt, Reply(better, "a", {"temperature": 0.7}, 1), Reply(worse, "b"), ME, "test")


class Method:
    """Item n has a pair where n is odd, two where it is 4, and half a character in a detail elsewhere."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.seeds: list[int] = []
        self.stops_at = stops_at

    def __call__(self, items: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        if len(self.seeds) == self.stops_at:
            raise KeyboardInterrupt
        self.seeds.append(seed)
        return [self.one(item, seed) for item in items]

    def one(self, item: Candidates, seed: int) -> tuple[Outcome, ...]:
        number = int(item.prompt[0].content.split()[1].rstrip("?"))
        if number == 4:
            return tuple(record(item.prompt, f"good {seed} {i}", "bad") for i in range(2))
        if number % 2:
            return (record(item.prompt, f"good {seed}", f"bad {number}"),)
        return (Abstained("not_ended", "half \ud83d"),)


def went_through(path: Path, method: Collecting, items: Sequence[Candidates] = ITEMS) -> list[Outcomes]:
    return outcomes(path, items, CHUNK, SEED, method, lambda _count: None)


def test_what_is_read_is_what_came(tmp_path: Path) -> None:
    path, again = tmp_path / "outcomes.jsonl", Method()
    first = went_through(path, Method())
    assert [len(one) for one in first] == [1, 1, 1, 1, 2, 1, 1]
    content = path.read_bytes()
    assert went_through(path, again) == first
    assert again.seeds == []
    assert path.read_bytes() == content


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path, chunks: int) -> None:
    whole, broken, method = tmp_path / "whole", tmp_path / "broken", Method()
    expected = went_through(whole, method)
    with pytest.raises(KeyboardInterrupt):
        went_through(broken, Method(stops_at=chunks))
    again = Method()
    assert went_through(broken, again) == expected
    assert again.seeds == method.seeds[chunks:]
    assert broken.read_bytes() == whole.read_bytes()


def test_a_file_that_a_kill_cut_anywhere_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = went_through(whole, Method())
    content = whole.read_bytes()
    for end in range(0, len(content), 41):
        broken.write_bytes(content[:end])
        assert went_through(broken, Method()) == expected
        assert broken.read_bytes() == content


def test_other_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    went_through(path, Method())
    with pytest.raises(CheckpointError, match=r"outcomes\.jsonl:2 is about something else"):
        went_through(path, Method(), [ITEMS[0], *ITEMS[2:]])
    with pytest.raises(CheckpointError, match=r"outcomes\.jsonl:4 is about something else"):
        went_through(path, Method(), ITEMS[:3])


def test_other_replies_to_the_same_prompt_are_other_data(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    one = Candidates(ask("Question 1?"), (Reply("Yes."), Reply("No.")))
    went_through(path, Method(), [one])
    with pytest.raises(CheckpointError, match="about something else"):
        went_through(path, Method(), [replace(one, replies=(Reply("No."), Reply("Yes.")))])


def test_a_method_that_leaves_an_item_out_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(AlignError, match="the method made 2 of 3"):
        went_through(tmp_path / "outcomes", lambda items, seed: [(Abstained("tie"),)] * (len(items) - 1))


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [
        ("Same.", "Same.", "same_replies"),
        (" ", "Yes.", "empty_reply"),
        ("half \ud83d", "Yes.", "not_unicode"),
    ],
)
def test_what_a_reader_would_refuse_is_an_abstention(
    tmp_path: Path, better: str, worse: str, reason: str
) -> None:
    path, item = tmp_path / "outcomes", ITEMS[:1]

    def method(items: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        return [
            (PreferenceRecord("", one.prompt, (Reply(better), Reply(worse)), "first", ME),) for one in items
        ]

    found = went_through(path, method, item)
    assert [one.reason for each in found for one in each if isinstance(one, Abstained)] == [reason]
    assert went_through(path, Method(stops_at=0), item) == found, "and comes back as it was"


@dataclass(frozen=True)
class Bare:
    """A collector without wishes of its own."""

    starts_from: ClassVar[Literal["prompts"]] = "prompts"
    needs: ClassVar[tuple[Literal["writer", "reward"], ...]] = ()

    def open(self, bench: Bench) -> Collecting:
        raise NotImplementedError


@dataclass(frozen=True)
class Backwards(Bare):
    """One that turns the order round and leaves the last pair out."""

    def arrange(self, records: Sequence[PreferenceRecord], seed: int) -> list[Outcome]:
        return [*reversed(records[:-1]), Abstained("not_wanted")]


PAIRS = [record(ask(f"Question {n}?"), "Yes.", "No.") for n in range(3)]


def test_every_loss_is_counted_and_no_pair_stands_twice() -> None:
    turned = judged(PAIRS[1].prompt, Reply("No."), Reply("Yes."), ME, "test")
    each: list[Outcomes] = [
        (PAIRS[0],),
        (Abstained("tie"), PAIRS[1]),
        (turned,),
        (PAIRS[2], Abstained("tie")),
    ]
    found = collected(Bare(), each, SEED)
    assert found.records == PAIRS, "the first judgement of a pair stays"
    assert found.abstained == {"tie": 2, "repeated_pair": 1}


def test_a_method_arranges_its_pairs() -> None:
    found = collected(Backwards(), [(one,) for one in PAIRS], SEED)
    assert found.records == [PAIRS[1], PAIRS[0]]
    assert found.abstained == {"not_wanted": 1}


def test_a_record_has_its_ids_and_says_who_is_preferred() -> None:
    one = record(ask("Which?"), "This one.", "That one.")
    pair = one.pair()
    assert pair is not None
    assert (pair.chosen, pair.rejected) == ("This one.", "That one.")
    assert (one.id, one.prompt_id, one.pair_id) == (record_id(one), prompt_id(one.prompt), pair_id(one))


def test_the_place_of_a_reply_tells_nothing_of_the_preference() -> None:
    """The same two texts stand the same way whichever is preferred; over many pairs it is a coin."""
    firsts = 0
    for number in range(400):
        one, other = (
            judged(ask(f"{number}"), Reply(a), Reply(b), ME, "test") for a, b in (("x", "y"), ("y", "x"))
        )
        assert [reply.text for reply in one.replies] == [reply.text for reply in other.replies]
        assert one.preferred != other.preferred
        firsts += one.preferred == "first"
    assert abs(firsts - 200) < 4 * 10  # four standard deviations of 400 coins
