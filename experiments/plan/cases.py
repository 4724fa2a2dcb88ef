"""What is planned and then run: stages, sizes and settings, on pairs that fill ``model.max_length``."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

LENGTH = 512
REPLY_WORDS = 254
"""One token each, and the end of turn: half of ``LENGTH``."""
PAIRS = 60

SIZES = {
    "small": (256, 4, 704),
    "medium": (512, 6, 1408),
    "large": (768, 8, 2112),
}
"""Width, blocks, width of the feed-forward."""


@dataclass(frozen=True)
class Case:
    """One run."""

    stage: str
    size: str
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For tables."""
        return " ".join((self.stage, self.size, *(word.removeprefix("training.") for word in self.words)))

    def command(self, data: Path) -> list[str]:
        """The words of the run, after ``stage=`` and before ``run.dir=``."""
        width, blocks, mlp = SIZES[self.size]
        sampled = self.stage in ("ppo", "grpo")
        return [
            "dataset=preference",
            f"dataset.path={data}",
            "dataset.test_fraction=0.05",
            "model=tiny",
            f"model.max_length={LENGTH}",
            f"model.scratch.hidden_size={width}",
            f"model.scratch.layers={blocks}",
            "model.scratch.heads=8",
            f"model.scratch.mlp_size={mlp}",
            "model.scratch.vocab_size=2048",
            "training.batch_size=4",
            "training.micro_batch_size=2",
            "training.precision=float32",
            *(("reward=gold", f"sampling.max_new_tokens={LENGTH // 2}") if sampled else ()),
            *(("objective.minibatches=2", "objective.epochs=1", "evaluation.prompts=4") if sampled else ()),
            *self.words,
        ]


CASES = (
    Case("sft", "small"),
    Case("sft", "large"),
    Case("reward", "medium"),
    Case("dpo", "small"),
    Case("dpo", "medium"),
    Case("dpo", "large"),
    Case("dpo", "medium", ("training.gradient_checkpointing=true",)),
    Case("dpo", "large", ("training.gradient_checkpointing=true",)),
    Case("dpo", "medium", ("adapter=lora",)),
    Case("dpo", "medium", ("adapter=prefix",)),
    Case("dpo", "medium", ("training.attention=padded",)),
    Case("kto", "medium"),
    Case("ppo", "medium"),
    Case("ppo", "medium", ("critic.kind=separate",)),
    Case("grpo", "medium", ("rollout.replies=4",)),
    *(
        Case("dpo", "medium", ("launch.nproc=2", f"deepspeed={choice}"))
        for choice in ("none", "zero1", "zero2", "zero3")
    ),
)


def write_pairs(path: Path) -> None:
    """Prompts too long for any model here, which are cut, and replies of ``REPLY_WORDS`` words."""
    rng = random.Random(0)
    syllables = [one + other for one in "bdfgklmnprstvz" for other in "aeiou"]
    words = ["".join(rng.choices(syllables, k=2)) for _ in range(300)]

    def text(count: int) -> str:
        return " ".join(rng.choices(words, k=count))

    rows = [
        {"prompt": text(LENGTH), "chosen": text(REPLY_WORDS), "rejected": text(REPLY_WORDS)}
        for _ in range(PAIRS)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
