from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from align.errors import ModelError, NonFiniteError
from align.models.forward import reply_scores
from align.models.save import plain_model
from align.models.scalar import ScalarModel, load_scalar, save_scalar
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from align.models.unseen import write_unseen
from align.protocols import KnownRange
from align.registry import component
from align.types import Message
from reward_models.bradley_terry import BradleyTerry

PROMPTS = [(Message("user", "hello " * n),) for n in (1, 4, 2, 3, 1)]
REPLIES = ["yes", "<|pad|>", "how are you?", "", "no " * 9]


def texts() -> Iterator[str]:
    return iter(["hello there, how are you?"] * 20)


@pytest.fixture
def scalar() -> ScalarModel:
    shape = ScratchSettings(hidden_size=32, layers=2, heads=2, mlp_size=48, vocab_size=280)
    settings = ModelSettings(scratch=shape, max_length=64)
    return load_scalar(settings, AdapterSettings(), texts=texts, seed=0)


def test_scores_are_the_models_in_order_whatever_the_batch(scalar: ScalarModel, tmp_path: Path):
    save_scalar(scalar, tmp_path / "rm" / "model")
    scalar.model.eval()
    with torch.no_grad():
        expected = [
            float(
                reply_scores(
                    scalar.model,
                    [scalar.chat.prompt_ids(prompt)],
                    [scalar.chat.reply_ids(prompt, reply)],
                    scalar.pad_id,
                )
            )
            for prompt, reply in zip(PROMPTS, REPLIES, strict=True)
        ]
    assert len(set(expected)) == 5
    for size in (1, 2, 32):
        ready = BradleyTerry(path=str(tmp_path / "rm"), batch_size=size, device="cpu").prepare()
        assert ready.score(PROMPTS, REPLIES) == pytest.approx(expected, abs=1e-5)
    assert ready.score([], []) == []


def test_what_is_asked_twice_is_scored_once(
    scalar: ScalarModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_scalar(scalar, tmp_path / "model")
    ready = BradleyTerry(path=str(tmp_path), batch_size=2, device="cpu").prepare()
    once = ready.score(PROMPTS, REPLIES)
    rows: list[int] = []
    forward = type(ready.forward).scores
    monkeypatch.setattr(
        type(ready.forward), "scores", lambda self, groups: rows.append(len(groups)) or forward(self, groups)
    )
    assert ready.score(PROMPTS * 3, REPLIES * 3) == once * 3
    assert sum(rows) == 5


def test_its_range_is_that_of_unseen_pairs(scalar: ScalarModel, tmp_path: Path):
    save_scalar(scalar, tmp_path / "model")
    assert BradleyTerry(path=str(tmp_path), device="cpu").prepare().score_range is None
    write_unseen(tmp_path / "model", [float(i) for i in range(1001)])
    ready = BradleyTerry(path=str(tmp_path), device="cpu").prepare()
    assert ready.score_range == (1.0, 999.0)
    assert isinstance(ready, KnownRange)


def test_a_score_that_is_not_finite_is_an_error(scalar: ScalarModel, tmp_path: Path):
    with torch.no_grad():
        plain_model(scalar.model.inner).score.weight.fill_(float("nan"))
    save_scalar(scalar, tmp_path / "model")
    with pytest.raises(NonFiniteError, match="gave nan to reply 0 of 5"):
        BradleyTerry(path=str(tmp_path), device="cpu").prepare().score(PROMPTS, REPLIES)


def test_a_prompt_without_room_loses_its_oldest_tokens_and_it_is_said(
    scalar: ScalarModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The score of a cut text is that of its last 64 tokens, asked of the model directly."""
    save_scalar(scalar, tmp_path / "model")
    long = (Message("user", "why " * 40),)
    ready = BradleyTerry(path=str(tmp_path), device="cpu").prepare()
    (score, _) = ready.score([long, PROMPTS[0]], ["yes", "no"])
    assert "cut 1 of 2 prompts from the left to fit 64 tokens" in capsys.readouterr().out
    ids = np.concatenate((ready.scalar.chat.prompt_ids(long), ready.scalar.chat.reply_ids(long, "yes")))
    last = torch.from_numpy(ids[-64:].astype(np.int64)).unsqueeze(0)
    with torch.no_grad():
        assert score == pytest.approx(float(ready.scalar.model(last, torch.ones_like(last))), abs=1e-5)


@pytest.mark.parametrize(("rule", "prompt"), [("truncate_left", "why"), ("error", "why " * 40)])
def test_what_cannot_be_cut_is_named(
    scalar: ScalarModel, tmp_path: Path, rule: Literal["truncate_left", "error"], prompt: str
):
    save_scalar(scalar, tmp_path / "model")
    ready = BradleyTerry(path=str(tmp_path), device="cpu", too_long=rule).prepare()
    replies = ["yes", "q" * 64 if rule == "truncate_left" else "no"]
    with pytest.raises(ModelError, match=r"text 1 has \d+ tokens .* has positions for 64"):
        ready.score([PROMPTS[0], (Message("user", prompt),)], replies)


def test_a_missing_path_is_a_model_error(tmp_path: Path):
    with pytest.raises(ModelError, match="there is no model at"):
        BradleyTerry(path=str(tmp_path / "nope")).prepare()


def test_it_is_found_by_name_and_imports_no_torch():
    assert component("reward", "bradley_terry") is BradleyTerry
    code = "import sys, reward_models.bradley_terry; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
