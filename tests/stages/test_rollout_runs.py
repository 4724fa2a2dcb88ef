"""ppo, rloo and grpo by their commands: the same bits twice, stopped and resumed, however a batch is cut."""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rollout_runs import KINDS, PRODUCTS, last_state, words
from safetensors.torch import load_file
from tiny_runs import align, lines, record

from align.__main__ import main
from align.tracking.metrics import MetricsFile
from align.training import checkpoints

pytestmark = pytest.mark.medium


Ran = Callable[[str], Path]


@pytest.fixture(scope="session")
def ran(runs: Path, sft_run: Path) -> Ran:
    """The run of a kind that nobody stopped, made when it is first asked for."""

    @functools.cache
    def run(kind: str) -> Path:
        align(*words(kind, runs / kind, sft_run))
        return runs / kind

    return run


def assert_same_run(one: Path, other: Path) -> None:
    """Lines, products and the last checkpoint, to the last bit."""
    assert record(one)["state"] == record(other)["state"] == "completed"
    assert lines(one) == lines(other)
    for file in PRODUCTS:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file
    assert last_state(one) == last_state(other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_command_gives_the_same_bits(kind: str, ran: Ran, tmp_path: Path, sft_run: Path) -> None:
    directory = ran(kind)
    torch.manual_seed(123)  # what ran before in this process must not matter
    align(*words(kind, tmp_path / "again", sft_run))
    assert_same_run(tmp_path / "again", directory)


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_finishes_the_iteration_and_the_rest_is_the_same(
    kind: str,
    ran: Ran,
    tmp_path: Path,
    sft_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It arrives when iteration 3 is written down, which would not be saved otherwise."""
    directory = ran(kind)
    write = MetricsFile.write

    def write_and_signal(self: MetricsFile, step: int, values: Any) -> None:
        write(self, step, values)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsFile, "write", write_and_signal)
        assert main(words(kind, tmp_path / "run", sft_run)) == 143
    assert "step 3 of 4 is finished and saved" in capsys.readouterr().err
    assert checkpoints.steps_in(tmp_path / "run" / "checkpoints") == [2, 3]
    assert lines(tmp_path / "run") == lines(directory)[:3]
    align(*words(kind, tmp_path / "run", sft_run, "resume=true"))
    assert_same_run(tmp_path / "run", directory)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_run_remembers_moves(kind: str, ran: Ran) -> None:
    """Otherwise the tests above would compare what stands still."""
    directory = ran(kind)
    found = lines(directory)
    kept = checkpoints.newest(directory / "checkpoints")
    assert kept is not None
    course = kept.state["course"]
    replies = {"rloo": 4, "grpo": 3}.get(kind, 1)
    assert course["moments"]["count"] == 4 * 8 * replies
    if kind == "ppo":
        coefs = [line["kl_coef"] for line in found]
        assert coefs[0] == 0.05
        assert len(set(coefs)) == 4
        assert course["kl_coef"] not in coefs
        assert found[0]["policy/ptx_loss"] > 1
    if kind == "grpo":
        assert len({line["updates"] for line in found}) > 1


def test_four_iterations_are_two_and_two_more(tmp_path: Path, ran: Ran, sft_run: Path) -> None:
    align(*words("ppo", tmp_path / "run", sft_run, "training.max_steps=2"))
    align(*words("ppo", tmp_path / "run", sft_run, "resume=true"))
    assert_same_run(tmp_path / "run", ran("ppo"))


def test_another_seed_is_another_run(tmp_path: Path, ran: Ran, sft_run: Path) -> None:
    align(*words("rloo", tmp_path / "run", sft_run, "seed=1"))
    names = ("rollout/score", "rollout/length", "loss")
    ours, theirs = lines(tmp_path / "run"), lines(ran("rloo"))
    assert [[line[name] for name in names] for line in ours] != [
        [line[name] for name in names] for line in theirs
    ]


@pytest.mark.parametrize("kind", ["ppo", "separate", "rloo"])
def test_a_cut_into_micro_batches_changes_rounding_only(kind: str, tmp_path: Path, sft_run: Path) -> None:
    """Two minibatches of four prompts, whole or one at a time, in two iterations of two epochs."""
    cut = ("training.max_steps=2", "objective.minibatches=2", "objective.entropy_coef=0.01")
    for size in (4, 1):
        align(*words(kind, tmp_path / str(size), sft_run, *cut, f"training.micro_batch_size={size}"))
    ours, theirs = lines(tmp_path / "4"), lines(tmp_path / "1")
    for line, other in zip(ours, theirs, strict=True):
        assert line.keys() == other.keys()
        for name, value in line.items():
            assert other[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    weights, others = (load_file(tmp_path / str(size) / "model" / "model.safetensors") for size in (4, 1))
    assert all(torch.allclose(weights[name], others[name], rtol=0, atol=2e-4) for name in weights)


def test_recomputed_activations_change_no_bit(tmp_path: Path, ran: Ran, sft_run: Path) -> None:
    align(*words("ppo", tmp_path / "run", sft_run, "training.gradient_checkpointing=true"))
    assert [line["loss"] for line in lines(tmp_path / "run")] == [line["loss"] for line in lines(ran("ppo"))]


@pytest.mark.parametrize("kind", KINDS)
def test_results_say_what_unseen_prompts_gained(kind: str, ran: Ran) -> None:
    directory = ran(kind)
    stage = KINDS[kind][0].removeprefix("stage=")
    found = {one["metric"]: one for one in json.loads((directory / "results.json").read_text())}
    before, after = (found[f"{stage}/score_{when}"]["value"] for when in ("before", "after"))
    assert found[f"{stage}/score_gained"]["value"] == pytest.approx(after - before)
    assert found[f"{stage}/score_gained"]["n"] == 6
    samples = [json.loads(line) for line in (directory / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 6
