"""Who sees what next, with a clock that is set by hand."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from desks import number_of, office, open_desk

from align.annotate.places import votes_wanted
from align.annotate.settings import AllocationSettings
from align.annotate.types import Finished, Paused, Progress
from align.errors import ConfigError, Refused


def test_the_least_annotated_comes_first() -> None:
    with office(items=3, overlap=2) as here:
        here.enrol("ann", "bob", "cid", "dan")
        seen = [number_of(here.ask(name)) for name in ("ann", "bob", "cid", "dan")]
        assert seen == [1, 2, 3, 1]  # a lease counts like an answer; among equals, the order of import
        here.work("bob", 1)
        assert number_of(here.ask("bob")) == 3, "1 is full, 2 was bob's own"


def test_an_item_is_full_at_its_overlap() -> None:
    with office(items=1, overlap=2) as here:
        here.enrol("ann", "bob", "cid")
        here.work("ann", 1)
        here.ask("bob")
        assert here.desk.serve("cid") == Finished("DONE")
        assert here.desk.serve("ann") == Finished("DONE"), "nobody votes twice on an item"


def test_a_reload_shows_the_same_item_and_sides() -> None:
    with office(items=5) as here:
        here.enrol("ann")
        task = here.ask("ann")
        here.clock.pass_minutes(10)
        assert here.ask("ann") == task


def test_a_lease_that_ran_out_is_given_to_the_next() -> None:
    with office(items=1, lease_minutes=30) as here:
        here.enrol("ann", "bob")
        mine = here.ask("ann")
        here.clock.pass_minutes(29)
        assert here.desk.serve("bob") == Finished("DONE")
        here.clock.pass_minutes(2)
        assert number_of(here.ask("bob")) == 1
        assert here.desk.serve("ann") == Finished("DONE")
        # the answer that comes too late is kept and acknowledged, and is no second vote
        here.prefer("ann", mine, "first")
        here.work("bob", 1)
        assert Counter(vote.surplus for vote in here.desk.answers()) == {True: 1, False: 1}
        assert [record.judge.name for record in here.desk.export()] == ["bob"]
        assert here.desk.left_out().surplus == 1
        assert here.desk.status().votes == 1


def test_a_reload_lengthens_a_lease_that_is_half_over() -> None:
    with office(items=1, lease_minutes=30) as here:
        here.enrol("ann", "bob")
        here.ask("ann")
        here.clock.pass_minutes(20)
        here.ask("ann")
        here.clock.pass_minutes(20)
        assert here.desk.serve("bob") == Finished("DONE")


def test_who_comes_back_late_gets_the_item_back_where_nobody_took_it() -> None:
    with office(items=2, lease_minutes=30) as here:
        here.enrol("ann", "bob")
        task = here.ask("ann")
        here.clock.pass_minutes(31)
        assert number_of(here.ask("bob")) == 1
        here.clock.pass_minutes(31)  # bob's is over, too
        assert here.ask("ann") == task
        assert here.desk.status().open == 1
        assert number_of(here.ask("bob")) == 2


def test_a_late_answer_counts_where_there_is_room() -> None:
    with office(items=1, lease_minutes=30) as here:
        here.enrol("ann", "bob")
        task = here.ask("ann")
        here.clock.pass_minutes(31)
        here.prefer("ann", task, "second")
        assert here.desk.serve("bob") == Finished("DONE")
        assert [record.preferred for record in here.desk.export()] == ["second"]


@pytest.mark.parametrize(
    ("votes", "wanted"),
    [
        ({}, 3),
        ({"first": 2}, 3),
        ({"first": 3}, 3),
        ({"first": 2, "second": 1}, 4),  # one ahead, two are asked for
        ({"first": 3, "second": 1}, 4),  # two ahead
        ({"first": 2, "second": 2}, 5),
        ({"first": 3, "second": 2}, 5),  # still one ahead, and no vote more to ask for
        ({"first": 1, "second": 1, "tie": 1}, 4),
        ({"tie": 4, "both_bad": 2}, 6),
    ],
)
def test_votes_are_wanted_until_one_answer_leads(votes: dict[str, int], wanted: int) -> None:
    settings = AllocationSettings(overlap=3, extra_votes=2, vote_margin=2)
    assert votes_wanted(Counter(votes), settings) == wanted
    assert votes_wanted(Counter(votes), AllocationSettings(overlap=3)) == 3


def test_people_who_disagree_are_joined_by_others() -> None:
    with office(items=1, overlap=2, extra_votes=1) as here:
        here.enrol("ann", "bob", "cid", "dan")
        here.work("ann", 1, "first")
        assert here.desk.status().wanted == 2
        here.work("bob", 1, "second")
        assert here.desk.status().wanted == 3
        here.work("cid", 1, "second")
        assert here.desk.serve("dan") == Finished("DONE")
        assert here.desk.status().complete == 1


def test_people_who_agree_are_not() -> None:
    with office(items=1, overlap=2, extra_votes=1) as here:
        here.enrol("ann", "bob", "cid")
        here.work("ann", 1, "first")
        here.work("bob", 1, "first")
        assert here.desk.serve("cid") == Finished("DONE")


def test_the_sides_are_balanced_for_each_annotator() -> None:
    with office(items=30, overlap=2, repeat_share=0.2, repeat_distance=4) as here:
        here.enrol("ann", "bob")
        for name in ("ann", "bob"):
            tasks = here.work(name, 30)
            for count in range(1, 31):
                lefts = sum(task.left.startswith("first") for task in tasks[:count])
                assert abs(lefts - count / 2) <= 1


def test_gold_comes_at_its_share_and_looks_like_the_rest() -> None:
    with office(items=40, gold=12, gold_share=0.25) as here:
        here.enrol("ann")
        tasks = here.work("ann", 40)
        gold = [task.number for task in tasks if number_of(task) > 1000]
        assert [(number - 1) // 4 for number in gold] == list(range(10)), "one in each four"
        assert len({number_of(task) for task in tasks}) == 40, "nothing twice"
        assert len(set(gold)) == 10
        assert {(number - 1) % 4 for number in gold} != {0}, "not at a place that could be learnt"
        assert [task.number for task in tasks] == list(range(1, 41))
        kinds = Counter(vote.kind for vote in here.desk.answers())
        assert kinds == {"ordinary": 30, "gold": 10}
        assert (here.desk.annotators()[0].gold_right, here.desk.annotators()[0].gold_answered) == (10, 10)


def test_gold_has_no_overlap_and_runs_out_for_each_annotator_alone() -> None:
    with office(items=20, gold=1, gold_share=0.5) as here:
        here.enrol("ann", "bob")
        for name in ("ann", "bob"):
            assert sum(number_of(task) > 1000 for task in here.work(name, 8)) == 1


def test_repeats_are_far_apart_and_the_other_way_round() -> None:
    with office(items=60, repeat_share=0.25, repeat_distance=6) as here:
        here.enrol("ann")
        tasks = here.work("ann", 40)
        shown: dict[int, list[int]] = {}
        for place, task in enumerate(tasks):
            shown.setdefault(number_of(task), []).append(place)
        twice = [places for places in shown.values() if len(places) > 1]
        assert len(twice) >= 8, "9 or 10 windows of four had something to repeat"
        for first, second in twice:  # a third showing would not unpack
            assert second - first > 6
            assert tasks[first].left == tasks[second].right
        assert here.desk.left_out().repeats == len(twice)
        assert here.desk.status().votes == 40 - len(twice)


def test_repeats_that_cannot_come_are_refused_at_the_door() -> None:
    with pytest.raises(ConfigError, match="repeats nothing"):
        AllocationSettings(repeat_share=0.1, items_per_annotator=10, repeat_distance=9)
    AllocationSettings(repeat_share=0.1, items_per_annotator=11, repeat_distance=9)


def test_attention_checks_come_with_the_desk() -> None:
    with office(items=20, overlap=2, attention_share=0.2, attention_failures=2) as here:
        here.enrol("ann", "bob")
        asked = [here.ask("ann")]
        while len(asked) < 20:
            word = asked[-1].prompt[0].content.split('"')
            right = word[1] if len(word) > 1 else "first"
            here.prefer("ann", asked[-1], right)
            asked.append(here.ask("ann"))
        checks = [task for task in asked if '"' in task.prompt[0].content]
        assert [(task.number - 1) // 5 for task in checks] == [0, 1, 2, 3]
        assert here.desk.annotators()[0].attention_failed == 0
        wrong = 0
        while wrong < 2:
            task = here.ask("bob")
            said = task.prompt[0].content.split('"')
            if len(said) == 1:
                here.prefer("bob", task, "first")
            else:
                wrong += 1
                here.say("bob", task, "right" if task.left == said[1] else "left")
        assert isinstance(here.desk.serve("bob"), Paused)


def test_a_limit_ends_an_annotators_work() -> None:
    with office(items=9, overlap=3, items_per_annotator=4) as here:
        here.enrol("ann")
        assert here.desk.progress("ann") == Progress(done=0, total=4, left=4)
        here.work("ann", 2)
        here.say("ann", here.ask("ann"), "skip")
        here.ask("ann")
        assert here.desk.progress("ann") == Progress(done=3, total=4, left=1)
        here.work("ann", 1)
        assert here.desk.serve("ann") == Finished("DONE")
        assert here.desk.progress("ann") == Progress(done=4, total=4, left=0)


def test_progress_counts_what_is_left_for_one() -> None:
    with office(items=5, overlap=1) as here:
        here.enrol("ann", "bob")
        here.work("ann", 2)
        here.ask("bob")
        assert here.desk.progress("ann") == Progress(done=2, total=4, left=2)
        assert here.desk.progress("bob") == Progress(done=0, total=3, left=3)


def test_a_skip_gives_the_place_up_for_good() -> None:
    with office(items=1) as here:
        here.enrol("ann", "bob")
        here.say("ann", here.ask("ann"), "skip")
        assert here.desk.serve("ann") == Finished("DONE")
        assert number_of(here.ask("bob")) == 1
        assert here.desk.left_out().skipped == 1


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    """From a copy of the database, a new desk goes on as the first one does."""
    settings = {"overlap": 2, "gold_share": 0.25, "repeat_share": 0.2, "repeat_distance": 4}
    with office(items=30, gold=6, **settings) as here:
        here.enrol("ann")
        here.work("ann", 7)
        task = here.ask("ann")
        with sqlite3.connect(here.path) as connection:
            connection.execute("VACUUM INTO ?", [str(tmp_path / "copy.sqlite")])
        went_on = here.work("ann", 12)
        with closing(open_desk(tmp_path / "copy.sqlite", here.clock, **settings)) as desk:
            here.desk, first = desk, here.desk
            assert here.ask("ann") == task
            again = here.work("ann", 12)
            here.desk = first
    assert [replace(one, assignment="") for one in again] == [replace(one, assignment="") for one in went_on]


def test_other_settings_hold_for_the_items_that_are_there() -> None:
    with office(items=2, overlap=1) as here:
        here.enrol("ann", "bob")
        here.work("ann", 2)
        assert here.desk.status().complete == 2
        here.desk.close()
        here.desk = open_desk(here.path, here.clock, overlap=2)
        assert (here.desk.status().complete, here.desk.status().wanted) == (0, 4)
        here.work("bob", 2)
        assert here.desk.status().complete == 2
        assert [event.what for event in here.desk.events()].count("settings") == 2


def test_a_pause_holds_for_one_or_for_all_and_takes_no_answer_away() -> None:
    with office(items=9) as here:
        here.enrol("ann", "bob")
        task = here.ask("ann")
        here.desk.pause("lunch", "ann")
        assert here.desk.serve("ann") == Paused("lunch")
        here.ask("bob")
        here.prefer("ann", task, "first")
        here.desk.pause("the server moves")
        assert here.desk.serve("bob") == Paused("the server moves")
        assert here.desk.status().paused == "the server moves"
        here.desk.resume()
        assert here.desk.serve("ann") == Paused("lunch")
        here.desk.resume("ann")
        assert number_of(here.ask("ann")) == 3
        assert [event.what for event in here.desk.events()][-4:] == ["paused", "paused", "resumed", "resumed"]


def test_wrong_answers_on_gold_pause_an_annotator_until_somebody_looked() -> None:
    with office(items=40, gold=12, gold_share=0.5, pause_below=0.6, judged_after=3) as here:
        here.enrol("ann")
        wrong = 0
        while wrong < 3:
            task = here.ask("ann")
            here.prefer("ann", task, "second")
            wrong += number_of(task) > 1000
        pause = here.desk.serve("ann")
        assert isinstance(pause, Paused)
        assert "gold" not in pause.reason
        assert here.desk.annotators()[0].paused == "0 of 3 gold items right, under pause_below=0.6"
        here.desk.resume("ann")
        # what was forgiven does not count again: two more wrong ones are fewer than three
        while wrong < 5:
            task = here.ask("ann")
            here.prefer("ann", task, "second")
            wrong += number_of(task) > 1000
        here.ask("ann")


def test_nobody_is_served_who_was_not_let_in() -> None:
    with office(items=1) as here, pytest.raises(Refused, match="unknown_annotator"):
        here.desk.serve("stranger")
