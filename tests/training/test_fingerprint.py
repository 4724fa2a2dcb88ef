"""Which settings a checkpoint judges: all but those that do not change the path that training takes."""

from __future__ import annotations

from dataclasses import fields

import torch

from align.settings import DeepspeedSettings, TrainingSettings
from align.training.fingerprint import fingerprint_of

ENDS = {"max_steps", "epochs"}
"""Where training ends; that moves the path only where the schedule falls towards its end."""
WATCHES = {"log_every", "save_every", "keep_checkpoints", "eval_every", "early_stopping"}
"""What is looked at, and what is kept."""
LIES_ELSEWHERE = {"offload_activations"}
"""Where numbers lie while they wait, not what they are."""


def test_every_setting_is_judged_or_changes_nothing() -> None:
    found = fingerprint_of(
        settings=TrainingSettings(frozen=("embeddings",), unfreeze_every=2, compile=True),
        seed=0,
        stage="dpo",
        total_steps=10,
        items=5,
        parameters={},
        device=torch.device("cpu"),
        deepspeed=DeepspeedSettings(),
        more={},
    )
    judged = {name.removeprefix("training.") for name in found if name.startswith("training.")}
    changes_nothing = ENDS | WATCHES | LIES_ELSEWHERE
    assert judged.isdisjoint(changes_nothing)
    assert judged | changes_nothing == {field.name for field in fields(TrainingSettings)}
    assert found["steps"] == "10"  # the default schedule falls
