"""A user's own function as the reward: found by its dotted name, held to giving numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from align import registry
from align.compose import run_from
from align.config import build
from align.errors import ConfigError, ModelError, NonFiniteError
from align.types import Message
from reward_models.function import Function

PROMPTS = [
    (Message("user", "hello"),),
    (Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
]
MODULE = """
import torch

def turns(prompt, reply):
    return 10 * len(prompt) + len(reply)

def tensor(prompt, reply):
    return torch.tensor([float(len(reply))])

def nothing(prompt, reply):
    return "many" if reply == "no" else None

def infinite(prompt, reply):
    return float("inf") if reply == "no" else 0

def broken(prompt, reply):
    return {}["mine"]

limit = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards_lab").mkdir()
    (tmp_path / "my_rewards_lab" / "own.py").write_text(MODULE)
    (tmp_path / "my_rewards_lab" / "lacking.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)


def score(name: str) -> list[float]:
    return Function(f"my_rewards_lab.own.{name}").prepare().score(PROMPTS, ["yes", "no"])


def test_it_is_called_once_a_reply_with_the_prompt_as_messages():
    assert score("turns") == [13, 32]
    assert score("tensor") == [3, 2]
    assert Function("my_rewards_lab.own.turns").prepare().score([], []) == []


def test_what_is_no_number_is_refused():
    with pytest.raises(ModelError, match=r"my_rewards_lab\.own\.nothing returned None for reply 0 \('yes'\)"):
        score("nothing")
    with pytest.raises(ModelError, match=r"returned 'many' for reply 0"):
        Function("my_rewards_lab.own.nothing").prepare().score(PROMPTS[:1], ["no"])
    with pytest.raises(NonFiniteError, match=r"own\.infinite gave inf to reply 1 \('no'\)"):
        score("infinite")


def test_what_it_raises_is_shown_as_it_is():
    with pytest.raises(KeyError, match="mine"):
        score("broken")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        Function("my_rewards_lab.lacking.f").prepare()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("my_rewards_lab.own.turn", r"no function 'turn' there\. Did you mean 'turns'\?"),
        ("my_rewards_lab.own.limit", "no function 'limit' there"),
        ("my_rewards_lab.owns.turns", "there is no module 'my_rewards_lab.owns' to import"),
        ("nobodys.turns", "there is no module 'nobodys' to import; run the command where it lies"),
    ],
)
def test_a_wrong_name_is_told_when_it_is_looked_up(call: str, words: str):
    with pytest.raises(ConfigError, match=words):
        Function(call).prepare()


@pytest.mark.parametrize("call", ["turns", "my lab.turns", "a..b", ""])
def test_what_is_no_name_is_told_at_once(call: str):
    with pytest.raises(ConfigError, match="is no MODULE"):
        build(Function, {"call": call})


def test_it_is_typed_on_the_command_line():
    words = ["stage=evaluate", "model.path=a", "reference.path=b", "reward=function"]
    stage: Any = run_from([*words, "reward.call=my_rewards_lab.own.turns"], []).stage
    assert stage.reward == Function("my_rewards_lab.own.turns")
    assert registry.component("reward", "function") is Function
