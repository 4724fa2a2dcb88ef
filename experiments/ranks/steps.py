"""The same training on one rank and on two, by each way of parting it: how far their steps are apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.ranks.command import ended

STEPS = 30
WORLD = (
    "dataset.pairs=600",
    "dataset.prompts=300",
    "model.max_length=160",
    "model.scratch.hidden_size=64",
    "model.scratch.layers=2",
    "model.scratch.heads=4",
    "model.scratch.mlp_size=160",
    "model.scratch.vocab_size=512",
)
TRAINING = (
    f"training.max_steps={STEPS}",
    "training.batch_size=8",
    "training.log_every=1",
    "training.precision=float32",
)
RANKS = ("launch.nproc=2",)
KINDS = {
    "none": ("deepspeed=none",),
    "zero1": ("deepspeed=zero1",),
    "zero2": ("deepspeed=zero2",),
    "zero3": ("deepspeed=zero3", "deepspeed.whole_below=0"),
    "zero2_offload": ("deepspeed=zero2_offload",),
    "zero3_offload": ("deepspeed=zero3_offload", "deepspeed.whole_below=0"),
}
"""Each weight is in parts under ZeRO 3, however small."""
CASES = {
    **{f"dpo {kind}": ("dpo", words) for kind, words in KINDS.items()},
    "dpo zero3, activations recomputed": ("dpo", (*KINDS["zero3"], "training.gradient_checkpointing=true")),
    "dpo zero2, lora": ("dpo", (*KINDS["zero2"], "adapter=lora")),
    "sft zero3": ("sft", KINDS["zero3"]),
    "reward zero3": ("reward", KINDS["zero3"]),
}
"""Name -> stage, and the words that part it over two ranks."""
DRAWN = {"adapter=lora", "training.gradient_checkpointing=true"}
"""Words that one rank is told as well."""


def measured(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Per case the largest difference of a step's loss from one rank's, relative above 1, and the steps."""
    found: dict[str, Any] = {}
    alone: dict[tuple[str, ...], list[float]] = {}
    for name, (stage, words) in CASES.items():
        both = tuple(word for word in words if word in DRAWN)
        if (stage, *both) not in alone:
            place = folder / f"alone-{len(alone)}"
            ended(f"stage={stage}", *WORLD, *TRAINING, *both, f"run.dir={place}", folder=folder)
            alone[stage, *both] = losses(place)
        place = folder / name.replace(" ", "_").replace(",", "")
        ended(f"stage={stage}", *WORLD, *TRAINING, *words, *RANKS, f"run.dir={place}", folder=folder)
        one, two = alone[stage, *both], losses(place)
        apart = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(one, two, strict=True))
        found[name] = {"difference": apart, "steps": len(two), "moved": abs(one[0] - one[-1])}
        say(f"  {name}: {apart:.2g} over {len(two)} steps")
    return found


def losses(run: Path) -> list[float]:
    """Each step's, from ``metrics.jsonl``."""
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["loss"] for line in text.splitlines()]
