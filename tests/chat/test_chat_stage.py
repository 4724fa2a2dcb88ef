"""The command on real models, driven through a pipe."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import align, train

from align.generation.sampler import Sampler, open_sampler
from align.models.policy import load_policy
from align.models.settings import AdapterSettings, ModelSettings
from align.settings import SamplingSettings

pytestmark = pytest.mark.medium


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("sft", tmp_path_factory.mktemp("chat") / "sft")


def test_a_streamed_reply_is_the_one_that_is_drawn(checkpoint: Path) -> None:
    policy = load_policy(
        ModelSettings(path=str(checkpoint), max_length=192), AdapterSettings(), texts=None, seed=0
    )
    sampler = open_sampler(policy)
    prompt = np.array([5, 9, 20, 31], dtype=np.int32)
    for temperature in (0.0, 1.0):
        settings = SamplingSettings(max_new_tokens=12, temperature=temperature)
        (drawn,) = sampler.draw([prompt], settings, seed=3)
        looks = list(sampler.stream(prompt, settings, seed=3))
        assert looks[-1] == list(drawn.token_ids)
        assert [len(one) for one in looks] == list(range(1, len(drawn.token_ids) + 1))
    # where transformers' generate writes, there is one look
    other = Sampler(policy, "is refused here")
    settings = SamplingSettings(max_new_tokens=12, temperature=0.0)
    (drawn,) = other.draw([prompt], settings, seed=3)
    assert list(other.stream(prompt, settings, seed=3)) == [list(drawn.token_ids)]


def test_two_checkpoints_answer_what_is_piped_in(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same weights twice: with one seed for both, their replies are the same."""
    monkeypatch.setattr("sys.stdin", io.StringIO("How do I clean a carpet?\n/regenerate\n"))
    align(
        "stage=chat",
        f"model.path={checkpoint}",
        f"against={checkpoint}",
        "sampling.max_new_tokens=8",
        "model.max_length=192",
        f"run.dir={tmp_path}/out",
    )
    rows = [json.loads(line) for line in (tmp_path / "out" / "chat.jsonl").read_text().splitlines()]
    assert [row["attempt"] for row in rows] == [0, 1]
    for row in rows:
        ours, theirs = row["replies"].values()
        assert ours == theirs
    assert "[A: sft]" in capsys.readouterr().out
    inputs = json.loads((tmp_path / "out" / "run.json").read_text())["inputs"]
    assert {"model", "against"} <= set(inputs)
