"""``training.precision=bfloat16`` through whole runs: the path of float32, up to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
from rollout_runs import words
from safetensors.torch import load_file
from tiny_runs import align, lines, losses, train

pytestmark = pytest.mark.medium

TOLERANCE = {"sft": 0.01, "reward": 0.02, "dpo": 0.01}
"""Of the loss, over six steps. Measured: 0.0014 of 6.4 nats; 0.0043 and 0.0017 of about 0.7."""


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_bfloat16_follows_float32(stage: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    exact = request.getfixturevalue(f"{stage}_run")
    start = None if stage == "sft" else request.getfixturevalue("sft_run")
    rough = train(stage, tmp_path / "rough", "training.precision=bfloat16", start=start)
    assert losses(rough) == pytest.approx(losses(exact), abs=TOLERANCE[stage])
    assert losses(rough) != losses(exact)
    saved = load_file(rough / "model" / "model.safetensors")
    assert {str(one.dtype) for one in saved.values()} == {"torch.float32"}


def test_how_far_sampling_and_training_are_apart_is_logged(tmp_path: Path, sft_run: Path) -> None:
    """Replies' log-probabilities as they were sampled, beside those of the update: equal to rounding in
    float32; in bfloat16, whose steps are 2^-8 wide, a hundred times that and more, and less than a nat."""
    gaps = {}
    for precision in ("float32", "bfloat16"):
        directory = tmp_path / precision
        align(*words("rloo", directory, sft_run, f"training.precision={precision}"))
        gaps[precision] = [line["rollout/logps_gap"] for line in lines(directory)]
    assert len(gaps["bfloat16"]) == 4
    assert 0 < max(gaps["float32"]) < 1e-5
    assert 1e-3 < min(gaps["bfloat16"]) <= max(gaps["bfloat16"]) < 1
