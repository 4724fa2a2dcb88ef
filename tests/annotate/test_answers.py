"""Answers: kept once, never changed, taken back by another one; records of them in canonical terms."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from desks import START, Office, number_of, office, open_desk, pair

from align.annotate.types import Answer, Choice, Receipt
from align.config import build
from align.errors import Refused
from align.pairs.candidates import unjudged
from align.pairs.records import read_records
from align.types import Judge, Strength


def _revisions(here: Office) -> list[tuple[object, ...]]:
    with sqlite3.connect(here.path) as connection:
        return connection.execute("SELECT choice, number, key FROM revisions ORDER BY id").fetchall()


def test_a_retry_is_the_same_answer() -> None:
    with office(items=2) as here:
        here.enrol("ann")
        task = here.ask("ann")
        answer = Answer(task.assignment, "k1", "left", seconds=3.0)
        receipt = here.desk.submit("ann", answer)
        assert receipt == Receipt(task.assignment, 1)
        assert here.desk.submit("ann", answer) == receipt
        # a double click: another key, the same content
        assert here.desk.submit("ann", Answer(task.assignment, "k2", "left", seconds=3.1)) == receipt
        assert _revisions(here) == [("left", 1, "k1")]


def test_a_retry_is_known_by_another_process_and_after_a_restart() -> None:
    with office(items=2) as here:
        here.enrol("ann")
        answer = Answer(here.ask("ann").assignment, "k1", "left")
        with closing(open_desk(here.path, here.clock)) as other:
            receipt = other.submit("ann", answer)
        assert here.desk.submit("ann", answer) == receipt
        here.desk.close()
        here.desk = open_desk(here.path, here.clock)
        assert here.desk.submit("ann", answer) == receipt
        assert here.desk.submit("ann", replace(answer, key="k2")) == receipt
        assert len(_revisions(here)) == 1


def test_an_exchange_is_an_answer_and_the_next_item() -> None:
    with office(items=2) as here:
        here.enrol("ann")
        task = here.ask("ann")
        receipt, following = here.desk.exchange("ann", Answer(task.assignment, "k1", "left"))
        assert receipt == Receipt(task.assignment, 1)
        assert following == here.ask("ann") != task
        assert here.desk.exchange("ann", Answer(task.assignment, "k1", "left")) == (receipt, following)
        assert _revisions(here) == [("left", 1, "k1")]


def test_another_content_is_a_new_revision() -> None:
    with office(items=2) as here:
        here.enrol("ann")
        task = here.ask("ann")
        here.desk.submit("ann", Answer(task.assignment, "k1", "left"))
        assert here.desk.submit("ann", Answer(task.assignment, "k2", "left", reason="shorter")).revision == 2
        assert here.desk.submit("ann", Answer(task.assignment, "k3", "tie")).revision == 3
        # a retry of the first that comes late changes nothing
        assert here.desk.submit("ann", Answer(task.assignment, "k1", "left")).revision == 1
        assert [record.preferred for record in here.desk.export()] == ["tie"]
        assert [choice for choice, *_ in _revisions(here)] == ["left", "left", "tie"]
        assert here.desk.status().votes == 1


def test_an_undo_is_a_revision_and_shows_the_item_again() -> None:
    with office(items=3) as here:
        here.enrol("ann")
        task = here.ask("ann")
        assert not task.can_undo
        here.desk.submit("ann", Answer(task.assignment, "k1", "left"))
        following = here.ask("ann")
        assert following.can_undo
        again = here.desk.undo("ann")
        assert (again.assignment, again.left, again.number) == (task.assignment, task.left, 1)
        assert here.ask("ann") == again, "the item that was taken back comes before the one that was open"
        assert [vote.said for vote in here.desk.answers()] == ["undone"]
        assert here.desk.left_out().undone == 1
        # the first submit, sent again by a browser that never heard back, does not undo the undo
        assert here.desk.submit("ann", Answer(task.assignment, "k1", "left")).revision == 1
        assert list(here.desk.export()) == []
        here.desk.submit("ann", Answer(task.assignment, "k2", "left"))
        assert here.ask("ann").assignment == following.assignment
        assert [choice for choice, *_ in _revisions(here)] == ["left", "undone", "left"]


def test_undoing_twice_walks_back_unless_it_is_a_retry() -> None:
    with office(items=3) as here:
        here.enrol("ann")
        first, second = here.work("ann", 2)
        assert here.desk.undo("ann", second.assignment).number == 2
        assert here.desk.undo("ann", second.assignment).number == 2
        assert here.desk.undo("ann").assignment == first.assignment
        with pytest.raises(Refused, match="nothing_to_undo"):
            here.desk.undo("ann")


def test_a_skip_can_be_taken_back() -> None:
    with office(items=1) as here:
        here.enrol("ann", "bob")
        here.say("ann", here.ask("ann"), "skip")
        task = here.desk.undo("ann")
        here.enrol("cid")
        assert here.desk.status().open == 1
        here.prefer("ann", task, "second")
        assert [record.preferred for record in here.desk.export()] == ["second"]


def test_a_skip_taken_back_too_late_is_surplus() -> None:
    with office(items=1) as here:
        here.enrol("ann", "bob")
        here.say("ann", here.ask("ann"), "skip")
        here.work("bob", 1)
        here.prefer("ann", here.desk.undo("ann"), "second")
        assert [record.judge.name for record in here.desk.export()] == ["bob"]
        assert here.desk.left_out().surplus == 1


def test_only_ones_own_items_can_be_answered() -> None:
    with office(items=2) as here:
        here.enrol("ann", "bob")
        task = here.ask("ann")
        with pytest.raises(Refused, match="unknown_assignment"):
            here.desk.submit("bob", Answer(task.assignment, "k", "left"))
        with pytest.raises(Refused, match="unknown_assignment"):
            here.desk.undo("bob", task.assignment)
        assert _revisions(here) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"key": "k" * 65},
        {"key": "a b"},
        {"choice": "middle"},
        {"choice": "tie", "strength": 1},
        {"strength": 0},
        {"criteria": {"helpful": "first"}},
        {"reason": "\ud800"},
        {"reason": "x" * 4001},
        {"seconds": float("nan")},
        {"seconds": -1.0},
    ],
    ids=str,
)
def test_what_is_no_answer_is_refused(wrong: dict[str, object]) -> None:
    fine: dict[str, object] = {"assignment": "a", "key": "k", "choice": "left"}
    Answer(**fine)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="bad_answer"):
        Answer(**{**fine, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_record_is_canonical_whatever_stood_on_the_left(which: str) -> None:
    """Eight items in two blocks of sides: four of each, and the same reply preferred in all."""
    with office(items=8) as here:
        here.enrol("ann")
        other = "second" if which == "first" else "first"
        lefts = []
        for _ in range(8):
            task = here.ask("ann")
            side = "left" if task.left.startswith(which) else "right"
            lefts.append(side)
            here.say(
                "ann",
                task,
                side,
                strength=2,
                criteria={"clear": side, "kind": "tie"},
                reason="so",
                seconds=4.5,
            )
        assert sorted(lefts) == ["left"] * 4 + ["right"] * 4
        records = list(here.desk.export())
        assert [record.preferred for record in records] == [which] * 8
        assert [record.replies[0].text for record in records] == [f"first {n}" for n in range(1, 9)]
        assert {record.details["criteria"]["clear"] for record in records} == {which}
        assert [record.details["left"] == which for record in records] == [side == "left" for side in lefts]
        assert other not in {record.preferred for record in records}


def test_a_record_says_all_that_is_known() -> None:
    with office() as here:
        here.desk.add_items([pair(1, method="contrast", template="abc", details={"gap": 2})])
        here.enrol("ann")
        task = here.ask("ann")
        here.clock.pass_minutes(1)
        here.prefer("ann", task, "second", strength=3, flag="wrong language", reason="a\0b", seconds=61.0)
        record = next(here.desk.export())
        assert record.judge == Judge("human", "ann")
        assert record.replies == pair(1).replies
        assert (record.strength, record.guideline, record.method) == (Strength(3, 3), "v1", "contrast")
        assert record.template == "abc"
        assert record.id == f"{record.pair_id}-{task.assignment}"
        assert record.asked_at is not None
        assert record.asked_at < str(record.judged_at) < "2027-01-15T08:01:01"
        assert record.asked_at.startswith("2027-01-15T08:00:00.0"), START
        assert record.details == {
            "reason": "a\0b",
            "flag": "wrong language",
            "seconds": 61.0,
            "revision": 1,
            "left": "first" if task.left.startswith("first") else "second",
            "source": {
                "id": "source-1",
                "preferred": "first",
                "judge": {"kind": "model", "name": "earlier-judge", "version": None},
                "margin": None,
                "strength": None,
                "details": {"gap": 2},
            },
        }


def test_checks_and_repeats_are_marked_and_left_out() -> None:
    with office(items=30, gold=8, gold_share=0.25, repeat_share=0.2, repeat_distance=3) as here:
        here.enrol("ann")
        tasks = here.work("ann", 20)
        plain, everything = list(here.desk.export()), list(here.desk.export(checks=True))
        left_out = here.desk.left_out()
        assert len(everything) == 20
        assert len(plain) == 20 - left_out.checks - left_out.repeats
        gold = [record for record in everything if record.details.get("not_a_vote") == "gold"]
        assert len(gold) == left_out.checks == sum(number_of(task) > 1000 for task in tasks) == 5
        assert {record.details["right_answer"] for record in gold} == {"first"}
        assert not any("not_a_vote" in record.details for record in plain)


def test_what_people_chose_is_a_dataset(tmp_path: Path) -> None:
    """The run's records are read back as they are, by the reader that every training goes through."""
    from align.pairs.read import records, report_for
    from align.settings import DatasetSettings

    with office(items=6) as here:
        here.enrol("ann")
        choices: list[Choice] = ["left", "right", "tie", "skip", "both_bad", "left"]
        for choice in choices:
            here.say("ann", here.ask("ann"), choice)
        assert here.desk.write(tmp_path) == 5
        written = list(read_records(tmp_path))
        assert written == list(here.desk.export())
    dataset = build(DatasetSettings, {"name": "records", "path": str(tmp_path)})
    report = report_for(dataset)
    assert len(list(records(dataset, report))) == 5
    assert json.loads((tmp_path / "manifest.json").read_text())["preferred"] == {
        "first": sum(record.preferred == "first" for record in written),
        "second": sum(record.preferred == "second" for record in written),
        "tie": 1,
        "both_bad": 1,
    }


def test_nothing_in_a_task_tells_what_the_item_is() -> None:
    with office(items=4, gold=4, gold_share=0.5) as here:
        here.enrol("ann")
        for _ in range(6):
            task = here.ask("ann")
            told = json.dumps(asdict(task))
            for secret in ("model-a", "model-b", "earlier-judge", "gold", "source-", "top_p"):
                assert secret not in told
            assert not any(record.pair_id in told for record in here.desk.export(checks=True))
            here.say("ann", task, "tie")
        assert set(asdict(task)) == {"assignment", "prompt", "left", "right", "number", "can_undo"}


def test_items_are_added_once_and_refusals_are_counted() -> None:
    with office(items=3) as here:
        swapped = pair(2)
        swapped = type(swapped)(**{**vars(swapped), "replies": swapped.replies[::-1]})
        same = type(swapped)(**{**vars(pair(9)), "replies": (pair(9).replies[0],) * 2})
        empty = type(swapped)(**{**vars(pair(9)), "prompt": ()})
        odd, long = pair(6, pair_id="a\0b"), pair(7, pair_id="x" * 300)
        found = here.desk.add_items([pair(4), pair(4), pair(1), swapped, same, empty, odd, long, pair(5)])
        assert found.added == 3
        assert found.refused == {"bad_id": 1, "duplicate": 3, "empty_prompt": 1, "same_replies": 1}
        assert here.desk.status().items == {"ordinary": 6, "gold": 0, "attention": 0}
        imports = [event.details for event in here.desk.events() if event.what == "imported"]
        assert [event["added"] for event in imports] == [3, 0, 3]


def test_pairs_that_nobody_has_judged_are_items_but_never_gold() -> None:
    with office() as here:
        found = here.desk.add_items(unjudged(pair(number)) for number in (1, 2))
        assert found.added == 2
        refused = here.desk.add_items([unjudged(pair(3))], "gold")
        assert (refused.added, dict(refused.refused)) == (0, {"no_answer": 1})
        here.enrol("ann")
        here.work("ann", 2, "second")
        records = list(here.desk.export())
        assert [record.preferred for record in records] == ["second", "second"]
        assert [record.pair_id for record in records] == [unjudged(pair(n)).pair_id for n in (1, 2)]
        assert records[0].details["source"] == {"details": {}}


def test_the_version_grows_with_every_answer() -> None:
    with office(items=3) as here:
        here.enrol("ann")
        before = here.desk.version()
        here.work("ann", 1)
        after = here.desk.version()
        here.desk.undo("ann")
        assert before < after < here.desk.version()
