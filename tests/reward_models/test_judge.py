"""A judge behind a stand-in server: what it is asked, how its answers are read, kept, and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from align import registry
from align.compose import run_from
from align.config import build
from align.errors import ConfigError, ServerError
from align.generation.address import ServerSettings
from align.protocols import KnownRange, ScoresInParts
from align.types import Message
from experiments.collect.serving import Said, StandIn, completion, problem, serving
from reward_models.judge import Judge

PROMPT = (
    Message("system", "be kind"),
    Message("user", "hello"),
    Message("assistant", "hi"),
    Message("user", "how {reply} are you?"),
)
REPLIES = ["fine", "bad", "fine", "{lowest} thanks"]


def judge(stand_in: StandIn, **changes: Any) -> Judge:
    server = ServerSettings(url=stand_in.url, model="m", timeout=5.0, pause=0.01, attempts=2, concurrency=4)
    return Judge(server, **changes)


def by_length(body: Mapping[str, Any], _: int) -> Said:
    """One point a letter of the reply."""
    found = re.search(r"\[Reply\]\n(.*)\n\n\[End\]", body["messages"][0]["content"])
    assert found
    return completion(f"It is short.\n**Score:** {min(10, len(found[1]))}/10")


def test_scores_are_what_the_judge_wrote_and_each_question_is_asked_once(tmp_path: Path):
    with serving(by_length) as stand_in:
        scorer = judge(stand_in).prepare(tmp_path)
        assert scorer.score([PROMPT] * 4, REPLIES) == [4, 3, 4, 10]
        assert len(stand_in.asked) == 3
        assert scorer.score([], []) == []
    assert scorer.score_range == (1, 10)
    assert isinstance(scorer, KnownRange)
    assert isinstance(scorer, ScoresInParts)


def test_the_question_holds_the_conversation_the_reply_and_the_scale(tmp_path: Path):
    """Braces in a conversation or a reply are text, also where they spell a place of the template."""
    with serving(lambda *_: completion("Score: 50")) as stand_in:
        scorer = judge(stand_in, lowest=0.0, highest=100.0, max_new_tokens=9).prepare(tmp_path)
        assert scorer.score([PROMPT], ["{lowest} thanks"]) == [50]
    (body,) = stand_in.asked
    (message,) = body["messages"]
    talk = "System: be kind\nUser: hello\nAssistant: hi\nUser: how {reply} are you?"
    assert f"[Conversation]\n{talk}\n\n[Reply]\n{{lowest}} thanks\n\n[End]" in message["content"]
    assert "from 0 (worst) to 100 (best)" in message["content"]
    assert (body["temperature"], body["max_tokens"]) == (0, 9)


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Score: 7", 7),
        ("score 7.5", 7.5),
        ("I thought of Score: 3 first.\nScore: 8/10.", 8),
        ("**Score**: **9**", 9),
        ("Score: 11", None),
        ("Score: -3", None),
        ("Score: N", None),
        ("7", None),
        ("underscore: 7", None),
        ("", None),
    ],
)
def test_how_an_answer_is_read(answer: str, score: float | None):
    assert Judge(ServerSettings("http://h/v1", "m")).read(answer) == score


def test_a_judge_without_a_score_is_reminded(tmp_path: Path):
    def answer(body: Mapping[str, Any], count: int) -> Said:
        return completion("Hm." if len(body["messages"]) < 5 else "Score: 6")

    with serving(answer) as stand_in:
        scorer = judge(stand_in).prepare(tmp_path)
        assert scorer.score([PROMPT], ["fine"]) == [6]
        roles = [[turn["role"] for turn in body["messages"]] for body in stand_in.asked]
        assert roles == [["user"], ["user", "assistant", "user"], ["user", "assistant"] * 2 + ["user"]]
        assert "N a number from 1 to 10" in stand_in.asked[2]["messages"][-1]["content"]
        # the reminded answer was kept, too
        assert judge(stand_in).prepare(tmp_path).score([PROMPT], ["fine"]) == [6]
        assert len(stand_in.asked) == 3


def test_an_answer_that_stays_unreadable_stops_the_run_and_is_not_kept(tmp_path: Path):
    with serving(lambda *_: completion("I would rather not.")) as stand_in:
        scorer = judge(stand_in, reminders=1).prepare(tmp_path)
        words = (
            r"m gave no score from 1 to 10 in 2 answers; the last: 'I would rather not\.'.*reward\.unreadable"
        )
        with pytest.raises(ServerError, match=words):
            scorer.score([PROMPT], ["fine"])
        stand_in.answer = by_length
        assert scorer.score([PROMPT], ["fine"]) == [4]


def test_what_an_unreadable_judgement_scores_may_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def answer(body: Mapping[str, Any], count: int) -> Said:
        return completion("No.") if "\nbad\n" in body["messages"][0]["content"] else by_length(body, count)

    with serving(answer) as stand_in:
        settings = judge(stand_in, reminders=0, unreadable=-2.0)
        found = settings.prepare(tmp_path).score_in_parts([PROMPT] * 3, ["bad", "fine", "bad"])
        assert found.scores == [-2, 4, -2]
        assert found.parts == {"unreadable": [1, 0, 1]}
        assert "2 of 3 judgements could not be read; they score -2" in capsys.readouterr().out
        assert settings.prepare(tmp_path).score_range == (-2, 10)
        # a resumed run gets the same scores without a question
        assert settings.prepare(tmp_path).score([PROMPT] * 2, ["bad", "fine"]) == [-2, 4]
        assert len(stand_in.asked) == 2
        # without a score of its own, it is asked again
        with pytest.raises(ServerError, match="gave no score"):
            judge(stand_in, reminders=0).prepare(tmp_path).score([PROMPT], ["bad"])
        assert len(stand_in.asked) == 3


def test_a_run_that_failed_half_way_asks_only_for_the_rest(tmp_path: Path):
    def failing(body: Mapping[str, Any], count: int) -> Said:
        return problem(400, "out of credit") if count > 2 else by_length(body, count)

    replies = ["a", "bb", "ccc", "dddd"]
    with serving(failing) as stand_in:
        settings = judge(stand_in)
        scorer = settings.prepare(tmp_path)
        scorer.score([PROMPT] * 2, replies[:2])
        with pytest.raises(ServerError, match="out of credit"):
            scorer.score([PROMPT] * 4, replies)
        asked = len(stand_in.asked)
        stand_in.answer = by_length
        assert settings.prepare(tmp_path).score([PROMPT] * 4, replies) == [1, 2, 3, 4]
    assert len(stand_in.asked) == asked + 2


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"temperature": 0.5}, {"highest": 20.0}, {"max_new_tokens": 99}, {"template": "file"}],
)
def test_other_settings_are_another_question(tmp_path: Path, change: dict[str, Any]):
    (tmp_path / "template.txt").write_text("Rate {reply} to {question}\n[Reply]\n{reply}\n\n[End]")
    if "template" in change:
        change = {"template": str(tmp_path / "template.txt")}
    with serving(by_length) as stand_in:
        judge(stand_in).prepare(tmp_path).score([PROMPT], ["fine"])
        judge(stand_in, **change).prepare(tmp_path).score([PROMPT], ["fine"])
        assert len(stand_in.asked) == 2


def test_answers_are_kept_in_the_users_cache_where_nobody_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ALIGN_CACHE", str(tmp_path / "mine"))
    with serving(by_length) as stand_in:
        judge(stand_in).prepare().score([PROMPT], ["fine"])
    (file,) = (tmp_path / "mine" / "judge").iterdir()
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["answers"] == ["It is short.\n**Score:** 4/10"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{replyy} {question}", r"nobody fills \{replyy\}\. Did you mean 'reply'\?"),
        ("{reply}", r"has to hold \{reply\}, and \{conversation\} or \{question\}"),
        ("{question}", r"has to hold \{reply\}"),
        (None, "cannot be read"),
    ],
)
def test_a_template_that_asks_nothing_is_refused(tmp_path: Path, text: str | None, words: str):
    file = tmp_path / "template.txt"
    if text is not None:
        file.write_text(text)
    with serving(by_length) as stand_in, pytest.raises(ConfigError, match=words):
        judge(stand_in, template=str(file)).prepare(tmp_path)


def test_a_template_may_hold_braces_of_its_own(tmp_path: Path):
    (tmp_path / "t.txt").write_text('Answer {"Score": N} for {reply} to {question}')
    with serving(lambda *_: completion('{"Score": 4}')) as stand_in:
        scorer = judge(stand_in, template=str(tmp_path / "t.txt")).prepare(tmp_path)
        assert scorer.score([PROMPT], ["fine"]) == [4]
    asked = stand_in.asked[0]["messages"][0]["content"]
    assert asked == 'Answer {"Score": N} for fine to how {reply} are you?'


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lowest": 5, "highest": 5}, "lowest=5 is not below highest=5"),
        ({"pattern": "(a"}, "is no regular expression"),
        ({"pattern": "score"}, "has 0 groups, one is needed"),
        ({"server": {"url": "http://h/v1"}}, "server.model: is missing"),
    ],
)
def test_mistakes_are_told(values: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        build(Judge, {"server": {"url": "http://h/v1", "model": "m"}, **values})


def test_it_is_typed_on_the_command_line_and_no_key_is():
    words = ["stage=evaluate", "model.path=a", "reference.path=b", "reward=judge"]
    served = ["reward.server.url=http://h/v1", "reward.server.model=my/judge:7b"]
    stage: Any = run_from([*words, *served, "reward.server.key_variable=MY_KEY"], []).stage
    assert stage.reward.server == ServerSettings("http://h/v1", "my/judge:7b", key_variable="MY_KEY")
    with pytest.raises(ConfigError, match="looks like a secret"):
        run_from([*words, *served, "reward.server.key_variable=sk-abcdefghijklmnopqrst"], [])
    assert registry.component("reward", "judge") is Judge
