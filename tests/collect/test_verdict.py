"""What a judge's answers say, alone and in both orders."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from benches import bench, found, toy_records

from align.collect._bench import Abstained, Writer
from align.collect._verdict import Settled, judge_template, question, read_verdict, settled
from align.collect.judge import Judge
from align.config import build
from align.errors import ConfigError
from align.evaluation.statistics import wilson
from align.generation.address import ServerSettings
from align.models.settings import ModelSettings
from align.types import Message

PATTERN = Judge.pattern
SERVER = {"server": {"url": "http://h/v1", "model": "m"}}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("It is short.\nVerdict: A", "A"),
        ("**Verdict: B**", "B"),
        ("Verdict: [[A]].\n", "A"),
        ("verdict - reply b", "B"),
        ("VERDICT: TIE", "tie"),
        ("Verdict: a tie.", "tie"),
        ("Verdict: A\nNo, wait.\nVerdict: B", "B"),
        ("Verdict:\nA", "A"),
        ("Verdict: A\n\nI hope this helps.", "A"),
        ("Verdict: A draw", None),
        ("Verdict: a bit of both", None),
        ("Verdict: both", None),
        ("A", None),
        ("", None),
    ],
)
def test_how_an_answer_is_read(answer: str, letter: str | None):
    assert read_verdict(PATTERN, answer) == letter


def test_a_pattern_of_ones_own():
    assert read_verdict(r'"better": "(\w+)"', '{"better": "b"}') == "B"
    assert read_verdict(r'"better": "(\w+)"', '{"better": "neither"}') is None


@pytest.mark.parametrize(
    ("straight", "turned", "outcome"),
    [
        ("A", "B", Settled("first")),
        ("B", "A", Settled("second")),
        ("tie", "tie", Settled("tie")),
        ("A", "A", Abstained("orders_disagree", "A, A")),
        ("B", "B", Abstained("orders_disagree", "B, B")),
        ("A", "tie", Abstained("orders_disagree", "A, tie")),
        ("tie", "A", Abstained("orders_disagree", "tie, A")),
        (None, "A", Abstained("unreadable", "unreadable, A")),
        ("tie", None, Abstained("unreadable", "tie, unreadable")),
        (None, None, Abstained("unreadable", "unreadable, unreadable")),
    ],
)
def test_two_orders_make_one_verdict_or_none(straight, turned, outcome):
    """An answer that nobody can read is never a tie, nor are two orders that disagree."""
    assert settled(straight, turned) == outcome


def test_a_question_shows_each_reply_under_its_letter():
    prompt = (Message("system", "Be brief."), Message("user", "How {reply_b}?"))
    template = "{conversation}|{question}|{reply_a}|{reply_b}|{other braces}"
    assert question(template, prompt, "first {question}", "second") == (
        "System: Be brief.\nUser: How {reply_b}?|How {reply_b}?|first {question}|second|{other braces}"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{reply_a} {reply_c} {question}", r"nobody fills \{reply_c\}\. Did you mean 'reply_"),
        ("{reply_a} {question}", r"has to hold \{reply_a\}, \{reply_b\}, and \{conversation\} or"),
        ("{reply_a} {reply_b}", "has to hold"),
        (None, "cannot be read"),
    ],
)
def test_a_template_that_does_not_ask_is_refused(tmp_path: Path, text: str | None, words: str):
    file = tmp_path / "template.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        judge_template(str(file), "judge.txt")


@pytest.mark.parametrize("name", ["judge.txt", "judge_letter.txt"])
def test_the_packages_own_templates_can_be_used(name: str):
    assert "{reply_b}" in judge_template(None, name)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "a judge is behind a server or here"),
        ({**SERVER, "path": "run"}, "a judge is behind a server or here"),
        ({**SERVER, "verdict": "letter"}, "log-probabilities, which no server gives"),
        ({"path": "run", "max_length": 100}, "max_new_tokens=512 leaves no room in max_length=100"),
        ({**SERVER, "pattern": "(a"}, "is no regular expression"),
        ({**SERVER, "pattern": "a"}, "has 0 groups, one is needed"),
    ],
)
def test_mistakes_are_told(values, words: str):
    with pytest.raises(ConfigError, match=words):
        build(Judge, values)


def opened_at(path: Path, **settings: object) -> ModelSettings:
    """The settings with which a judge in this process is opened."""
    places: list[ModelSettings] = []

    class Opened(Exception):
        pass

    def open_writer(_: str, place: ModelSettings | ServerSettings) -> Writer:
        assert isinstance(place, ModelSettings)
        places.append(place)
        raise Opened

    with pytest.raises(Opened):
        build(Judge, {"path": str(path), **settings}).open(replace(bench(), open_writer=open_writer))
    return places[0]


def test_a_judge_in_this_process_reads_as_much_as_it_was_built_for(tmp_path: Path):
    for built_for, room in ((300, 300), (9000, 2048)):
        config = {"model_type": "llama", "max_position_embeddings": built_for}
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert opened_at(tmp_path, max_new_tokens=200).max_length == room
    assert opened_at(tmp_path, max_length=700, max_new_tokens=200).max_length == 700


def test_an_answer_leaves_a_question_room(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 300}))
    with pytest.raises(ConfigError, match="max_new_tokens=512 leaves no room in max_length=300: lower"):
        build(Judge, {"path": str(tmp_path)}).open(bench())


def test_a_letter_needs_a_few_tokens_only(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 300}))
    assert opened_at(tmp_path, verdict="letter").max_length == 300


def test_what_is_expected_of_the_labels_by_hand():
    """70 agreements and 30 disagreements: 2e(1 - e) = 0.3, so e = (1 - sqrt 0.4)/2, and (1 - e)^2 / 0.7.

    Of the disagreements 20 named the first shown twice: (70/2 + 20) of 100 verdicts.
    """
    records = [(record,) for record in toy_records(70)]
    apart = [(Abstained("orders_disagree", "A, A"),)] * 20 + [(Abstained("orders_disagree", "B, B"),)] * 10
    others = [(Abstained("orders_disagree", "A, tie"),), (Abstained("unreadable", "A, unreadable: ''"),)]
    results = {
        one.metric: one for one in build(Judge, SERVER).report(found([*records, *apart, *others]), None)
    }
    assert results["judge/orders_disagree"].value == 0.3
    assert results["judge/first_shown"].value == pytest.approx(0.55)
    error = (1 - math.sqrt(0.4)) / 2
    expected = results["labels/expected_accuracy"]
    assert expected.value == pytest.approx((1 - error) ** 2 / 0.7)
    worst = (1 - math.sqrt(1 - 2 * wilson(30, 100).high)) / 2
    assert expected.ci_low == pytest.approx((1 - worst) ** 2 / (1 - wilson(30, 100).high))
    assert expected.ci_low < expected.value < expected.ci_high


def test_a_judge_who_errs_by_half_is_right_half_the_time_and_of_another_nothing_is_expected():
    """Independent errors never disagree on more than half: of one who always says A they explain nothing."""
    apart = [(Abstained("orders_disagree", "A, A"),)] * 20
    (_, first) = build(Judge, SERVER).report(found(apart), None)
    assert first.value == 1.0
    half = [*apart, *((record,) for record in toy_records(20))]
    (_, first, expected) = build(Judge, SERVER).report(found(half), None)
    assert (first.value, expected.value) == (0.75, pytest.approx(0.5))
    assert build(Judge, SERVER).report(found([]), None) == []


def test_the_bench_has_nobody_for_a_judge_of_the_datasets_pairs():
    judge = build(Judge, SERVER)
    assert (judge.starts_from, judge.needs) == ("pairs", ())
    sampled = build(Judge, {**SERVER, "candidates": "sampled"})
    assert (sampled.starts_from, sampled.needs) == ("prompts", ("writer",))
    with pytest.raises(AssertionError, match="nobody writes here"):
        judge.open(bench())
