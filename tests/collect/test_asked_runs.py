"""Whole commands that ask a model behind a server: a judge and a critic, on the embedded world."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from stand_in_server import Said, StandIn, completion, problem, serving
from tiny_runs import align
from toy_server import Answer, critic, judging, mended, part

from align.__main__ import main
from align.collect._principles import read_principles
from align.pairs.records import read_records
from align.types import PreferenceRecord
from reward_models.gold import Gold

WORLD = ("dataset.prompts=400", "dataset.validation_fraction=0", "sampling.max_new_tokens=100")


def words(method: str, stand_in: StandIn, directory: Path, *more: str, limit: int = 40) -> list[str]:
    """The command; a judge has a server of its own, a critic is the one who writes."""
    where = "collect.server" if method == "judge" else "server"
    settings = [f"{where}.url={stand_in.url}", f"{where}.model=m", f"{where}.pause=0.01"]
    sizes = [f"dataset.pairs={limit * 2}", f"collection.limit={limit}", "collection.chunk=16"]
    from_dataset = ["collect.replies=dataset"] if method == "critique" else []
    places = [f"run.dir={directory / method}", f"run.cache={directory / 'cache'}"]
    return ["stage=collect", f"collect={method}", *settings, *sizes, *WORLD, *from_dataset, *places, *more]


def results(directory: Path) -> dict[str, float]:
    return {one["metric"]: one["value"] for one in json.loads((directory / "results.json").read_text())}


def labels_right(records: list[PreferenceRecord]) -> float:
    """Share of the labels that the gold agrees with."""
    right = 0.0
    for record in records:
        pair = record.pair()
        assert pair is not None
        chosen, rejected = Gold().score([pair.prompt] * 2, [pair.chosen, pair.rejected])
        right += chosen > rejected
    return right / len(records)


@pytest.mark.medium
def test_a_judge_who_errs_by_chance_is_as_right_as_the_formula_says(tmp_path: Path):
    """Each order errs with 0.2: 2 * 0.2 * 0.8 disagree, 0.64 / 0.68 of the rest are right."""
    count, error = 300, 0.2
    with serving(judging(error)) as stand_in:
        align(*words("judge", stand_in, tmp_path, limit=count))
    found, records = results(tmp_path / "judge"), list(read_records(tmp_path / "judge"))
    decisive = [record for record in records if record.preferred != "tie"]
    apart = 2 * error * (1 - error)
    asked = len(decisive) + found["collect/abstained/orders_disagree"]
    assert asked + (len(records) - len(decisive)) == count
    assert abs(found["judge/orders_disagree"] - apart) < 4 * (apart * (1 - apart) / asked) ** 0.5
    expected = (1 - error) ** 2 / (1 - apart)
    sampling_error = (expected * (1 - expected) / len(decisive)) ** 0.5
    assert found["labels/accuracy"] == pytest.approx(labels_right(decisive))
    assert abs(found["labels/accuracy"] - expected) < 4 * sampling_error
    assert abs(found["labels/expected_accuracy"] - expected) < 0.05
    assert {record.judge.name for record in records} == {"m"}
    assert all("Verdict" in answer for record in decisive for answer in record.details["answers"])


def test_answers_that_cannot_be_read_are_counted_and_are_no_ties(tmp_path: Path):
    """A judge who mumbles is reminded once; then the pair is given up, and the answer is quoted."""
    with serving(judging(0.0, mumbles=1.0)) as stand_in:
        align(*words("judge", stand_in, tmp_path, limit=5))
        assert len(stand_in.asked) == 5 * 2 * 2
        reminded = [body for body in stand_in.asked if len(body["messages"]) == 3]
        assert len(reminded) == 10
        assert "no verdict that could be read" in reminded[0]["messages"][2]["content"]
    found = results(tmp_path / "judge")
    assert found["collect/abstained/unreadable"] == 5
    assert found["collect/pairs"] == 0
    assert not list(read_records(tmp_path / "judge"))
    assert "Both have their merits." in (tmp_path / "judge" / "outcomes.jsonl").read_text()


def test_a_judge_who_always_says_a_labels_nothing(tmp_path: Path):
    with serving(judging(0.0, bias=1.0)) as stand_in:
        align(*words("judge", stand_in, tmp_path, limit=5))
    found = results(tmp_path / "judge")
    assert found["collect/abstained/orders_disagree"] == 5
    assert (found["judge/first_shown"], found["labels/expected_accuracy"]) == (1.0, 0.5)


def test_a_tie_is_one_only_where_both_orders_say_so(tmp_path: Path):
    """A judge who says "tie" in one order of the first pair, and in both of all others."""
    shown: set[str] = set()

    def answer(body: Mapping[str, Any], _: int) -> Said:
        text = body["messages"][0]["content"]
        shown.add(part(text, "Conversation"))
        first = part(text, "Conversation") == min(shown)
        lesser = part(text, "Reply A") < part(text, "Reply B")
        return completion("Verdict: A" if first and lesser else "Verdict: tie")

    with serving(answer) as stand_in:
        align(*words("judge", stand_in, tmp_path, "collect.server.concurrency=1", limit=1))
        assert results(tmp_path / "judge")["collect/abstained/orders_disagree"] == 1
        stand_in.answer = lambda *_: completion("Verdict: tie")
        align(*words("judge", stand_in, tmp_path / "ties", limit=3))
    assert [record.preferred for record in read_records(tmp_path / "ties" / "judge")] == ["tie"] * 3


def test_a_critics_revision_is_preferred_where_it_changed_anything(tmp_path: Path):
    """Labels are right exactly as often as the critic really mends; what it gives back is no pair."""
    with serving(critic(lazy=0.3)) as stand_in:
        align(*words("critique", stand_in, tmp_path, limit=60))
    records, found = list(read_records(tmp_path / "critique")), results(tmp_path / "critique")
    said = {one.name: one.principle for one in read_principles(None)}
    assert found["collect/abstained/unchanged"] + len(records) == 60
    assert found["collect/abstained/unchanged"] >= 5
    for record in records:
        pair = record.pair()
        assert pair is not None
        assert pair.chosen == mended(pair.prompt[-1].content, pair.rejected)
        (principle,) = record.details["principles"]
        assert found[f"critique/{principle}_pairs"] >= 1
        assert record.details["critiques"] == [f"It could be better: {said[principle]}"]
    assert found["labels/accuracy"] == pytest.approx(labels_right(records))


def test_a_critic_may_answer_first_and_go_on_for_several_rounds(tmp_path: Path):
    """Sampled: one request for the reply, then a critique and a revision a round, by other principles."""
    more = ("collect.replies=sampled", "collect.rounds=2")
    with serving(critic()) as stand_in:
        align(*words("critique", stand_in, tmp_path, *more, limit=6))
        assert len(stand_in.asked) == 6 * (1 + 2 * 2)
    records = list(read_records(tmp_path / "critique"))
    assert len(records) == 6
    for record in records:
        pair = record.pair()
        assert pair is not None
        assert pair.rejected.startswith("Maybe try again.")
        assert len(set(record.details["principles"])) == len(record.details["critiques"]) == 2


@pytest.mark.medium
@pytest.mark.parametrize(("method", "answer"), [("judge", judging(0.1)), ("critique", critic())])
def test_a_run_that_failed_half_way_asks_only_for_the_rest(tmp_path: Path, method: str, answer: Answer):
    """The server refuses in the middle of a chunk; then each question was answered once, as without it."""
    failing_at = 25

    def failing(body: Mapping[str, Any], count: int) -> Said:
        return problem(400, "out of credit") if count >= failing_at else answer(body, count)

    with serving(failing) as stand_in:
        one_by_one = f"{'collect.' if method == 'judge' else ''}server.concurrency=1"
        command = words(method, stand_in, tmp_path, one_by_one, limit=20)
        assert main(command) == 4
        assert len(stand_in.asked) == failing_at
        stand_in.answer = answer
        align(*command, "resume=true")
        asked = [json.dumps(body, sort_keys=True) for body in stand_in.asked]
        refused = asked.pop(failing_at - 1)
        assert set(Counter(asked).values()) == {1}
        assert refused in asked
        align(*words(method, stand_in, tmp_path / "at once", limit=20))
    for name in ("records.jsonl", "outcomes.jsonl"):
        whole = tmp_path / "at once" / method / name
        assert (tmp_path / method / name).read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("method", "answer"), [("judge", judging(0.1)), ("critique", critic())])
def test_a_killed_run_asks_nothing_twice(tmp_path: Path, method: str, answer: Answer):
    """SIGKILL while the 30th request is under way: it alone is made again, and the pairs are the same."""
    killed_at = 30
    process: list[subprocess.Popen[bytes]] = []

    def killing(body: Mapping[str, Any], count: int) -> Said:
        if count == killed_at:
            os.kill(process[0].pid, signal.SIGKILL)
        return answer(body, count)

    with serving(killing) as stand_in:
        one_by_one = f"{'collect.' if method == 'judge' else ''}server.concurrency=1"
        command = words(method, stand_in, tmp_path, one_by_one, limit=20)
        process.append(subprocess.Popen([sys.executable, "-m", "align", *command]))
        assert process[0].wait(timeout=120) == -signal.SIGKILL
        align(*command, "resume=true")
        counts = Counter(json.dumps(body, sort_keys=True) for body in stand_in.asked)
        again = [question for question, count in counts.items() if count > 1]
        assert again == [json.dumps(stand_in.asked[killed_at - 1], sort_keys=True)]
        align(*words(method, stand_in, tmp_path / "at once", limit=20))
    for name in ("records.jsonl", "outcomes.jsonl"):
        whole = tmp_path / "at once" / method / name
        assert (tmp_path / method / name).read_bytes() == whole.read_bytes()
