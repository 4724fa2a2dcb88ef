"""Completions of tokens, in the words of several kinds of server, and what is no completion at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from align.errors import ServerError
from align.generation.address import ServerSettings
from align.generation.completions import Completion
from align.generation.server import derived_seed, open_server
from align.settings import SamplingSettings
from experiments.collect.serving import Said, StandIn, problem, serving

SAMPLING = SamplingSettings(max_new_tokens=7, temperature=0.5)
PATH = "/v1/completions"


def nobody(*_: Any) -> Said:
    return problem(500, "not asked")


def settings(stand_in: StandIn, **changes: Any) -> ServerSettings:
    return ServerSettings(
        url=stand_in.url, model="policy", **{"timeout": 5.0, "pause": 0.01, "attempts": 2, **changes}
    )


def said(choice: Mapping[str, Any], model: str | None = None) -> list[Completion]:
    """What becomes of a choice."""
    answer = {"choices": [choice], **({"model": model} if model else {})}
    with serving(nobody, {PATH: lambda *_: Said(answer)}) as stand_in, open_server(settings(stand_in)) as one:
        return one.complete([[1, 2]], SAMPLING, seed=0, stops=(9,), logprobs=True)


def refused(choice: Mapping[str, Any], model: str | None = None) -> str:
    with pytest.raises(ServerError) as caught:
        said(choice, model)
    return str(caught.value)


def test_a_request_says_all_that_decides_the_tokens() -> None:
    """The server's own habits (top-k, penalties out of a model's folder) are switched off by name."""
    answer = Said({"choices": [{"text": "a", "finish_reason": "length"}]})
    with serving(nobody, {PATH: lambda *_: answer}) as stand_in, open_server(settings(stand_in)) as server:
        server.complete([[1, 2], [3]], SAMPLING, seed=5, stops=(9, 8), logprobs=False)
    asked = sorted(stand_in.told, key=lambda one: -len(one[1]["prompt"]))
    common = {
        "model": "policy",
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "stop_token_ids": [9, 8],
        "return_token_ids": True,
    }
    assert asked == [
        (PATH, {**common, "prompt": [1, 2], "seed": derived_seed(5, 0)}),
        (PATH, {**common, "prompt": [3], "seed": derived_seed(5, 1)}),
    ]


def test_log_probabilities_are_asked_for_where_they_are_wanted() -> None:
    answer = Said({"choices": [{"text": "a", "finish_reason": "stop"}]})
    with serving(nobody, {PATH: lambda *_: answer}) as stand_in, open_server(settings(stand_in)) as server:
        server.complete([[1]], SAMPLING, seed=0, stops=(), logprobs=True)
    assert stand_in.told[0][1]["logprobs"] == 1


@pytest.mark.parametrize(
    ("words", "ids", "pieces", "logps"),
    [
        # vLLM with return_token_ids
        (
            {"token_ids": [4, 9], "logprobs": {"tokens": ["x", "</s>"], "token_logprobs": [-1.0, -2.0]}},
            (4, 9),
            ("x", "</s>"),
            (-1.0, -2.0),
        ),
        # vLLM with return_tokens_as_token_ids
        (
            {"logprobs": {"tokens": ["token_id:4", "token_id:9"], "token_logprobs": [-1.0, -2.0]}},
            (4, 9),
            ("token_id:4", "token_id:9"),
            (-1.0, -2.0),
        ),
        # llama.cpp
        (
            {"logprobs": {"content": [{"id": 4, "token": "x", "logprob": -1.0}]}},
            (4,),
            ("x",),
            (-1.0,),
        ),
        # OpenAI's own
        ({"logprobs": {"tokens": ["x"], "token_logprobs": [-1.0]}}, None, ("x",), (-1.0,)),
        ({"logprobs": None}, None, None, None),
        ({"logprobs": {"tokens": ["x"], "token_logprobs": [None]}}, None, ("x",), None),
    ],
)
def test_each_server_names_tokens_in_its_own_words(
    words: dict[str, Any], ids: Any, pieces: Any, logps: Any
) -> None:
    (found,) = said({"text": "x", "finish_reason": "stop", **words}, model="policy")
    assert found == Completion("x", True, ids, pieces, logps)


def test_a_completion_that_was_cut_has_not_ended() -> None:
    assert not said({"text": "x", "finish_reason": "length"})[0].ended


def test_an_empty_reply_that_ended_is_one() -> None:
    assert said({"text": "", "finish_reason": "stop"}) == [Completion("", True, None, None, None)]


def test_what_is_no_completion_is_one_error() -> None:
    assert "gives a reply without a token" in refused({"text": "", "finish_reason": "length"})
    assert "answers what is no completion" in refused({"message": {"content": "x"}})
    assert "gives a reply without text" in refused({"text": None, "finish_reason": "stop"})
    message = refused({"text": "x", "finish_reason": "stop"}, model="other")
    assert "answers as 'other'" in message
    assert "type server.model=other" in message


def told(answer: Said, **changes: Any) -> StandIn:
    with (
        serving(nobody, {"/load": lambda *_: answer}) as stand_in,
        open_server(settings(stand_in, **changes)) as server,
    ):
        server.command("/load", {"from": "here"})
    return stand_in


def test_a_command_goes_to_the_servers_root_and_need_not_be_answered_in_json() -> None:
    assert told(Said("Success: loaded")).told == [("/load", {"from": "here"})]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Said({"success": False, "message": "no such folder"}), "no such folder"),
        (problem(400, "wrong shape"), "did not do what it was told (400: wrong shape)"),
        (problem(503, "loading"), "answers 503: loading; tried 2 times"),
    ],
)
def test_a_command_that_fails_is_one_error(answer: Said, words: str) -> None:
    with pytest.raises(ServerError) as caught:
        told(answer)
    assert words in str(caught.value)
