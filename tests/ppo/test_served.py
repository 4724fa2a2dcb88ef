"""From what a server wrote to what is trained on, the distance to it, and which weights it should have."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tiny_architectures import texts

from align.config import build
from align.errors import CheckpointError, ConfigError, ServerError
from align.generation.completions import Completion
from align.generation.serving import ServingSettings, hand_over_calls
from align.models.chat import ChatFormat
from align.models.tokenizer import train_tokenizer
from align.ppo.rollout import sampled_logps
from align.ppo.served import ServedRollouts, due_at, read_reply, server_distance
from align.tensors import SampledReply, TokenLogps

CHAT = ChatFormat(train_tokenizer(texts(), 320))
(STOP,) = CHAT.stop_ids
TEXT = "zq qz"
IDS = tuple(CHAT.written_ids(TEXT).tolist())
PIECES = tuple(CHAT.tokenizer.decode([token]) for token in IDS)


def read(text: str = TEXT, *, ended: bool = True, most: int = 12, **said: Any) -> Any:
    return read_reply(
        Completion(text, ended, *(said.get(one) for one in ("ids", "pieces", "logps"))), CHAT, most
    )


def numbers(count: int) -> tuple[float, ...]:
    return tuple(-1.0 - place for place in range(count))


def test_the_servers_tokens_are_what_is_trained_on() -> None:
    """Whatever its text is: a tokenizer may cut the same text in other ways."""
    apart = tuple(token for letter in TEXT for token in CHAT.written_ids(letter).tolist())
    found = read(ids=(*apart, STOP), logps=numbers(len(apart) + 1))
    assert found.reply.token_ids == (*apart, STOP)
    assert found.reply.text == TEXT
    assert found.reply.logps.tolist() == list(numbers(len(apart) + 1))
    assert (found.reply.ended, found.retokenised, found.misspelt, found.cut) == (True, False, False, False)


def test_an_end_that_the_server_does_not_name_is_added_and_its_probability_is_not_known() -> None:
    found = read(ids=IDS, logps=numbers(len(IDS)))
    assert found.reply.token_ids == (*IDS, STOP)
    assert found.reply.logps is None


def test_a_server_that_goes_on_behind_the_end_is_cut_there() -> None:
    found = read(ids=(*IDS, STOP, *IDS), logps=numbers(2 * len(IDS) + 1), ended=False, most=100)
    assert found.reply.token_ids == (*IDS, STOP)
    assert found.reply.ended
    assert found.reply.logps.tolist() == list(numbers(len(IDS) + 1))


def test_text_alone_is_read_by_the_policys_tokenizer() -> None:
    found = read()
    assert found.reply.token_ids == (*IDS, STOP)
    assert (found.retokenised, found.misspelt, found.reply.logps) == (True, False, None)
    assert read(ended=False).reply.token_ids == IDS


def test_numbers_of_a_text_count_where_the_tokens_are_the_same() -> None:
    whole = numbers(len(IDS) + 1)
    assert read(pieces=(*PIECES, "<|eos|>"), logps=whole).reply.logps.tolist() == list(whole)
    assert read(pieces=PIECES, logps=whole[:-1], ended=False).reply.logps.tolist() == list(whole[:-1])
    assert read(pieces=PIECES, logps=whole[:-1]).reply.logps is None, "the end's is not there"
    assert (
        read(pieces=("z", *PIECES[1:]), logps=whole[:-1], ended=False).reply.logps is None or PIECES[0] == "z"
    )
    assert read(pieces=(TEXT,), logps=(-1.0,), ended=False).reply.logps is None


def test_a_text_that_the_tokenizer_does_not_hold_is_told() -> None:
    """Byte-level tokenizers hold every text but the halves of a character, which arrive as U+FFFD."""
    lossy = cast(Any, SimpleNamespace(**{
        name: getattr(CHAT, name) for name in ("stop_ids", "written_ids", "decode_reply", "tokenizer")
    }))  # fmt: skip
    lossy.read_back = lambda text: text.replace("q", "")
    found = read_reply(Completion(TEXT, True, None, None, None), lossy, 12)
    assert (found.retokenised, found.misspelt) == (True, True)


def test_more_tokens_than_a_reply_may_have_are_cut_and_told() -> None:
    found = read(most=len(IDS) - 1, pieces=(*PIECES, "<|eos|>"), logps=numbers(len(IDS) + 1))
    assert found.reply.token_ids == IDS[:-1]
    assert (found.cut, found.reply.ended) == (True, False)
    assert found.reply.logps.tolist() == list(numbers(len(IDS) - 1))


def test_a_text_that_spells_a_special_token_stays_text() -> None:
    assert STOP not in read(f"a {CHAT.tokenizer.eos_token} b", ended=False).reply.token_ids


def test_an_empty_reply_is_its_end() -> None:
    assert read("").reply.token_ids == (STOP,)


def replies(*logps: list[float] | None) -> list[SampledReply]:
    return [
        SampledReply("", (1,) * 2, True, None if one is None else np.array(one, dtype=np.float32))
        for one in logps
    ]


OLD = TokenLogps(torch.tensor([[-1.0, -2.0], [-3.0, -0.5]]), torch.ones(2, 2, dtype=torch.bool))


def test_the_distance_by_hand() -> None:
    """Weights e, 1 over two tokens: k3 is (e - 1 - 1) and 0; (1 + e)^2 / (2 (1 + e^2)) are left."""
    found = server_distance(OLD, replies([-2.0, -2.0], None))
    assert found["server/kl"] == (pytest.approx(math.e - 2), 2.0)
    left = (1 + math.e) ** 2 / (2 * (1 + math.e**2))
    assert found["server/effective"] == (pytest.approx(left), 1.0)


def test_no_number_no_distance() -> None:
    assert server_distance(OLD, replies(None, None)) == {}
    assert sampled_logps(replies(None, None), OLD) is None


def test_a_reply_without_numbers_weighs_one() -> None:
    sampled = sampled_logps(replies(None, [-1.0, -1.0]), OLD)
    assert sampled is not None
    assert sampled.tolist() == [[-1.0, -2.0], [-1.0, -1.0]]


@pytest.mark.parametrize(("step", "every", "due"), [(1, 1, 1), (7, 1, 7), (1, 3, 1), (3, 3, 1), (4, 3, 4)])
def test_which_weights_a_step_samples_from(step: int, every: int, due: int) -> None:
    assert due_at(step, every) == due


@pytest.mark.parametrize(
    ("how", "calls"),
    [
        (
            {"reload": "vllm"},
            [
                ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": "/w/model"}}),
                ("/reset_prefix_cache", {}),
            ],
        ),
        (
            {"reload": "vllm_lora"},
            [
                (
                    "/v1/load_lora_adapter",
                    {"lora_name": "mine", "lora_path": "/w/adapter", "load_inplace": True},
                ),
                ("/reset_prefix_cache", {}),
            ],
        ),
        (
            {"reload": "sglang"},
            [("/update_weights_from_disk", {"model_path": "/w/model", "flush_cache": True})],
        ),
        (
            {"reload": "other", "post": "/load", "body": {"from": "FOLDER", "kind": "whole"}},
            [("/load", {"from": "/w/model", "kind": "whole"})],
        ),
    ],
)
def test_what_each_server_is_told(how: dict[str, Any], calls: list[tuple[str, Any]]) -> None:
    found = hand_over_calls(build(ServingSettings, how), "mine", Path("/w"))
    assert [(one.path, one.body) for one in found] == calls


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"reload": "other", "body": {"a": "FOLDER"}}, "post=/PATH belong together"),
        ({"post": "/load"}, "post=/PATH belong together"),
        ({"reload": "other", "post": "load", "body": {"a": "FOLDER"}}, "begins with /"),
        ({"reload": "other", "post": "/load"}, "body.NAME=FOLDER"),
        ({"body": {"a": "FOLDER"}}, "belong together"),
        ({"reload": "other", "post": "/load", "body": {"a": "b"}}, "has to be FOLDER"),
        ({"refresh_every": 2}, "set reload, or leave it out"),
    ],
)
def test_settings_that_do_not_go_together(how: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match="(?s).*" + words.replace(".", r"\.")):
        build(ServingSettings, how)


class Deaf:
    """A server that hears commands, and refuses them where it is told to."""

    settings = SimpleNamespace(model="mine")

    def __init__(self, refuses: bool = False) -> None:
        self.heard: list[str] = []
        self.refuses = refuses

    def command(self, _: str, body: Any) -> str:
        if self.refuses:
            raise ServerError("no such path")
        self.heard.append(Path(body["model_path"]).parent.name)
        return ""

    def complete(self, *_: Any, **__: Any) -> list[Any]:
        return []


def rollouts(folder: Path, server: Deaf, monkeypatch: pytest.MonkeyPatch, every: int = 3) -> ServedRollouts:
    """Weights are empty folders."""
    monkeypatch.setattr("align.ppo.served.save_policy", lambda _, place: place.mkdir(parents=True))
    policy = cast(Any, SimpleNamespace(chat=CHAT))
    serving = ServingSettings(reload="sglang", refresh_every=every)
    return ServedRollouts(cast(Any, server), serving, policy, folder)


def draw(served: ServedRollouts, *steps: int) -> None:
    for step in steps:
        served.draw([], cast(Any, SimpleNamespace(max_new_tokens=1)), 0, step)


def saved(folder: Path, *steps: int) -> None:
    for step in steps:
        (folder / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)


def test_the_server_is_told_every_so_often_and_old_weights_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint after step 4 goes on with step 5, which samples from the weights before step 4."""
    server = Deaf()
    served = rollouts(tmp_path, server, monkeypatch)
    draw(served, 1, 2, 3, 4)
    assert server.heard == ["step-000001", "step-000004"]
    saved(tmp_path, 4)
    draw(served, 5, 6, 7)
    assert server.heard[2:] == ["step-000007"]
    assert sorted(one.name for one in (tmp_path / "served").iterdir()) == ["step-000004", "step-000007"]


def test_a_resumed_run_hands_over_again_what_the_server_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, 4)
    draw(rollouts(tmp_path, Deaf(), monkeypatch), 4, 5, 6, 7)
    again = Deaf()
    draw(rollouts(tmp_path, again, monkeypatch), 5, 6)
    assert again.heard == ["step-000004"]


def test_weights_that_are_gone_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"step 5 are gone .*step-000004"):
        draw(rollouts(tmp_path, Deaf(), monkeypatch), 5)


def test_a_server_that_loads_nothing_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError, match=r"serving.reload=sglang\): no such path. Usual cause: the server"):
        draw(rollouts(tmp_path, Deaf(refuses=True), monkeypatch), 1)
