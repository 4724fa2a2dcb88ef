"""A client of OpenAI's chat API, against a stand-in here that answers well, late, badly or never."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from stand_in_server import Said, StandIn, completion, problem, serving

from align.config import build
from align.errors import ConfigError, ServerError
from align.generation.address import ServerSettings
from align.generation.http import Turns
from align.generation.server import ServedReply, derived_seed, open_server
from align.settings import SamplingSettings
from align.types import Message, Prompt

SAMPLING = SamplingSettings(max_new_tokens=7, temperature=0.5, top_p=0.9)


def prompt(text: str) -> Prompt:
    return (Message("system", "be brief"), Message("user", text))


def settings(stand_in: StandIn, **changes: Any) -> ServerSettings:
    fast = {"timeout": 5.0, "pause": 0.01, "attempts": 3, **changes}
    return ServerSettings(url=stand_in.url, model="judge-small", **fast)


def echo(body: Mapping[str, Any], _: int) -> Said:
    return completion(f"re: {body['messages'][-1]['content']}")


def refusal(stand_in: StandIn, **changes: Any) -> str:
    with (
        open_server(settings(stand_in, **changes)) as server,
        pytest.raises(ServerError) as caught,
    ):
        server.sample_replies([prompt("a")], SAMPLING, seed=0)
    return str(caught.value)


def test_a_request_says_all_that_decides_the_reply():
    with serving(echo) as stand_in, open_server(settings(stand_in)) as server:
        assert server.sample_replies([prompt("a")], SAMPLING, seed=3) == [ServedReply("re: a", ended=True)]
    assert stand_in.asked == [
        {
            "model": "judge-small",
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"}],
            "max_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": derived_seed(3, 0),
        }
    ]
    assert stand_in.keys == [None]


def test_replies_come_in_the_order_of_the_prompts_whatever_comes_first():
    """The first prompts are answered last; never more are under way than may be, and more than one is."""
    texts = [str(i) for i in range(12)]

    def answer(body: Mapping[str, Any], _: int) -> Said:
        text = body["messages"][-1]["content"]
        return completion(text, delay=0.06 - 0.005 * int(text))

    counted: list[int] = []
    with serving(answer) as stand_in, open_server(settings(stand_in, concurrency=4)) as server:
        replies = server.sample_replies(
            [prompt(text) for text in texts], SAMPLING, seed=0, progress=counted.append
        )
        assert server.sample_replies([], SAMPLING, seed=0) == []
    assert [reply.text for reply in replies] == texts
    assert 1 < stand_in.busiest <= 4
    assert sum(counted) == 12
    seeds = {body["messages"][-1]["content"]: body["seed"] for body in stand_in.asked}
    assert seeds == {text: derived_seed(0, place) for place, text in enumerate(texts)}
    assert len(set(seeds.values())) == 12


def test_several_replies_to_one_conversation_have_seeds_of_their_own():
    served = serving(lambda body, _: completion(str(body["seed"])))
    with served as stand_in, open_server(settings(stand_in)) as server:
        few, many = (server.chat(prompt("a"), SAMPLING, n=n, seed=5) for n in (2, 4))
    assert many[:2] == few
    assert [one.text for one in many] == [str(derived_seed(5, place)) for place in range(4)]


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (completion("cut", "length"), ServedReply("cut", ended=False)),
        (completion(None, "length"), ServedReply("", ended=False)),
        (completion("", "stop"), ServedReply("", ended=True)),
        (completion("…", "content_filter"), ServedReply("…", ended=False)),
    ],
)
def test_how_a_reply_ended(said: Said, reply: ServedReply):
    with serving(lambda *_: said) as stand_in, open_server(settings(stand_in)) as server:
        assert server.chat(prompt("a"), SAMPLING) == [reply]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status: int):
    def answer(body: Mapping[str, Any], count: int) -> Said:
        return problem(status, "busy") if count < 3 else echo(body, count)

    with serving(answer) as stand_in, open_server(settings(stand_in)) as server:
        assert server.chat(prompt("a"), SAMPLING)[0].text == "re: a"
    assert len(stand_in.asked) == 3
    assert stand_in.asked[0] == stand_in.asked[2]


def test_a_server_that_stays_busy_is_an_error_that_quotes_it():
    with serving(lambda *_: problem(503, "no slot\nleft")) as stand_in:
        text = refusal(stand_in)
    assert text == (
        f"{stand_in.url} (model judge-small) answers 503: no slot left; tried 3 times (server.attempts)"
    )
    assert len(stand_in.asked) == 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_pause_that_a_server_asks_for_is_kept(form: str):
    """A date has whole seconds: one that is 1.5 s ahead is 0.5 to 1.5 s away."""

    def answer(body: Mapping[str, Any], count: int) -> Said:
        later = datetime.now(UTC) + timedelta(seconds=1.5)
        after = "0.4" if form == "seconds" else format_datetime(later, usegmt=True)
        return problem(429, "slowly", Retry_After=after) if count == 1 else echo(body, count)

    with serving(answer) as stand_in, open_server(settings(stand_in, pause=30.0)) as server:
        start = time.monotonic()
        server.chat(prompt("a"), SAMPLING)
        assert 0.4 <= time.monotonic() - start < 5


def test_a_pause_that_is_too_long_is_an_error():
    with serving(lambda *_: problem(429, "quota", Retry_After="3600")) as stand_in:
        text = refusal(stand_in)
    assert "answers 429: quota; it asks to wait 3600 s, longer than server.longest_pause=60" in text
    assert len(stand_in.asked) == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (problem(401, "bad key"), r"asks for a key: name its environment variable .* \(401: bad key\)"),
        (problem(400, "too many tokens"), r"refuses the request \(400: too many tokens\)"),
        (
            problem(404, "The model does not exist"),
            r"no such model or address \(The model does not exist\)\. Did you mean 'judge-large'\? "
            r"It serves: judge-large, judge-tiny",
        ),
        (Said("<html>proxy</html>"), "answers what is no JSON: <html>proxy</html>"),
        (Said('{"choices": ['), "answers what is no JSON"),
        (Said([1]), r"answers what is no chat completion: \[1\]"),
        (Said({"choices": []}), "answers what is no chat completion"),
        (Said({"error": None}), "answers what is no chat completion"),
        (completion(None), r"gives a reply without text \(finish_reason 'stop'\)"),
    ],
)
def test_what_trying_again_would_not_change_is_told_at_once(said: Said, words: str):
    with serving(lambda *_: said) as stand_in:
        stand_in.models = Said({"data": [{"id": "judge-large"}, {"id": "judge-tiny"}]})
        with open_server(settings(stand_in)) as server, pytest.raises(ServerError, match=words):
            server.chat(prompt("a"), SAMPLING)
    assert len(stand_in.asked) == 1


def test_an_address_without_models_may_lack_its_version():
    with serving(lambda *_: problem(404, "Not Found")) as stand_in:
        stand_in.models = Said("Not Found", 404)
        text = refusal(stand_in)
    assert text.endswith(f"server.url={stand_in.url} should end with the API's version, as in .../v1")


def test_a_server_that_says_nothing_is_given_up():
    with serving(lambda *_: completion("late", delay=1.0)) as stand_in:
        text = refusal(stand_in, timeout=0.1, attempts=2)
    assert "gave no answer within 0.1 s (raise server.timeout); tried 2 times" in text


def test_a_broken_connection_is_tried_again():
    def answer(body: Mapping[str, Any], count: int) -> Said:
        return Said(None) if count == 1 else echo(body, count)

    with serving(answer) as stand_in, open_server(settings(stand_in)) as server:
        assert server.chat(prompt("a"), SAMPLING)[0].text == "re: a"


def test_nobody_there_is_told_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    start = time.monotonic()
    with pytest.raises(
        ServerError, match=r"nothing answers at http://127.* start the server, or give another"
    ):
        open_server(ServerSettings(url=url, model="m", pause=30.0))
    assert time.monotonic() - start < 5


def test_a_server_that_goes_away_is_waited_for():
    def answer(body: Mapping[str, Any], count: int) -> Said:
        return replace(echo(body, count), headers={"Connection": "close"})

    with serving(answer) as stand_in:
        server = open_server(settings(stand_in, attempts=2))
        server.chat(prompt("a"), SAMPLING)
    with pytest.raises(ServerError, match=r"cannot be reached any more .*tried 2 times"):
        server.chat(prompt("a"), SAMPLING)
    server.close()


def test_the_first_failure_stops_the_others():
    """Of a hundred requests, two at a time, those under way are the last; nobody waits for the slow one."""

    def answer(body: Mapping[str, Any], _: int) -> Said:
        if body["messages"][-1]["content"] == "3":
            return problem(400, "not this one")
        return completion("ok", delay=0.02 if int(body["messages"][-1]["content"]) < 3 else 1.5)

    with serving(answer) as stand_in, open_server(settings(stand_in, concurrency=2)) as server:
        start = time.monotonic()
        with pytest.raises(ServerError, match="not this one"):
            server.sample_replies([prompt(str(i)) for i in range(100)], SAMPLING, seed=0)
        assert time.monotonic() - start < 1
        assert len(stand_in.asked) <= 6
        stand_in.answer = echo
        assert server.chat(prompt("a"), SAMPLING)[0].text == "re: a"


def test_pauses_of_the_others_end_with_the_first_failure():
    refused = threading.Event()

    def answer(body: Mapping[str, Any], _: int) -> Said:
        if body["messages"][-1]["content"] == "busy":
            return problem(503, "busy")
        refused.wait(0.3)
        return problem(400, "no")

    before = set(threading.enumerate())
    with serving(answer) as stand_in, open_server(settings(stand_in, pause=20.0)) as server:
        with pytest.raises(ServerError, match="400: no"):
            server.sample_replies([prompt("busy"), prompt("bad")], SAMPLING, seed=0)
        for one in set(threading.enumerate()) - before:
            if one.name == "server":
                one.join(timeout=5)
                assert not one.is_alive()


def test_turns_are_evenly_apart():
    """At 120 a minute one begins every half second; a pause is not made up for by a burst."""
    turns = Turns(120.0)
    assert [turns.wait(100.0), turns.wait(100.0), turns.wait(100.2)] == pytest.approx([0.0, 0.5, 0.8])
    assert [turns.wait(110.0), turns.wait(110.1)] == pytest.approx([0.0, 0.4])
    free = Turns(None)
    assert [free.wait(100.0), free.wait(100.0)] == [0.0, 0.0]


def test_requests_a_minute_hold_for_all_threads_and_for_attempts():
    """1,200 a minute: five requests, of which one is made twice, take five gaps of 50 ms at least."""
    began: list[float] = []

    def answer(body: Mapping[str, Any], count: int) -> Said:
        began.append(time.monotonic())
        return problem(503, "busy") if count == 2 else echo(body, count)

    with serving(answer) as stand_in, open_server(settings(stand_in, per_minute=1200.0)) as server:
        server.sample_replies([prompt(str(i)) for i in range(5)], SAMPLING, seed=0)
    assert len(began) == 6
    assert max(began) - min(began) > 5 * 0.05 - 0.02


def test_the_key_comes_from_the_environment_and_shows_nowhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", "topsecretkey")
    with serving(lambda *_: problem(401, "no")) as stand_in:
        keyed = settings(stand_in, key_variable="MY_KEY")
        text = refusal(stand_in, key_variable="MY_KEY")
        assert stand_in.keys == ["Bearer topsecretkey"]
        assert "refuses the key in MY_KEY (401: no)" in text
        assert "topsecret" not in text + repr(keyed)
        stand_in.models = problem(403, "not yours")
        with pytest.raises(ServerError, match="refuses the key in MY_KEY"):
            open_server(keyed)
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(ConfigError, match="environment variable MY_KEY is not set"):
            open_server(keyed)


def test_the_runs_random_numbers_are_left_alone():
    state = random.getstate()
    served = serving(lambda _, count: problem(500, "x") if count == 1 else completion("y"))
    with served as stand_in, open_server(settings(stand_in)) as server:
        server.chat(prompt("a"), SAMPLING)
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"url": "localhost:8000"}, "is no http address, for example"),
        ({"url": "http://h/v1/chat/completions"}, "ends before /chat/completions"),
        ({"url": "http://me:pass@h/v1"}, "holds a user or a password"),
        ({"url": "http://h/v1", "key_variable": "sk-abc"}, "takes the NAME of an environment variable"),
        ({"url": "http://h/v1", "concurrency": 0}, "concurrency: takes an integer at least 1"),
    ],
)
def test_mistakes_in_the_settings_are_told(values: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        build(ServerSettings, {"model": "m", **values})
