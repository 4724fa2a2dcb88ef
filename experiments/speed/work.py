"""What is measured: the work that both sides do, and the shapes of the model that they do it with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from align.config import build
from align.errors import AlignError, ConfigError
from align.registry import near

Role = Literal["prepare", "ours", "theirs", "sampling", "sets"]


class ChildFailed(AlignError):
    """A measurement did not come to its end; the message ends with what its process said last."""


@dataclass(frozen=True)
class Shape:
    """A causal language model with random weights; ``vocab_size`` is that of its embeddings."""

    family: Literal["llama", "qwen2"]
    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    mlp_size: int
    vocab_size: int


MODELS = {
    "llama-12m": Shape("llama", 384, 6, 6, 6, 1024, 4096),
    "llama-tiny": Shape("llama", 32, 2, 2, 2, 48, 400),
    "qwen2-0.5b": Shape("qwen2", 896, 24, 14, 2, 4864, 151936),
    "qwen2-tiny": Shape("qwen2", 32, 2, 2, 1, 48, 500),
}
"""By what is typed after ``--model``. All tie their embeddings; the tiny ones are for tests."""

MOST_TOKENS = 4096
"""Size of the tokenizer trained on the rows, at most; a model may have embeddings for more."""


@dataclass(frozen=True)
class Work:
    """One set of settings, the same for both sides. Lengths in tokens, sets and rows in pairs."""

    data: str
    dataset: str = "hh_rlhf"
    rows: int = 256
    model: str = "llama-12m"
    precision: Literal["float32", "bfloat16"] = "float32"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 2
    batch_size: int = 8
    max_length: int = 1024
    learning_rate: float = 1e-5
    beta: float = 0.1
    betas: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """What the sweep runs over."""
    sets: tuple[int, int] = (1_000, 100_000)
    """Pairs of the small prepared set and of the large one."""
    draws: int = 100
    """Steps drawn from each set."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ConfigError(
                f"no model named '{self.model}'.{near(self.model, list(MODELS))} Known: {', '.join(MODELS)}"
            )
        if not Path(self.data).exists():
            raise ConfigError(f"--data {self.data}: there is no such file")
        if self.rows < self.batch_size:
            raise ConfigError(f"--rows {self.rows} is less than one batch of {self.batch_size} pairs")

    def shape(self) -> Shape:
        """The model's."""
        return MODELS[self.model]

    def key(self) -> str:
        """What tells tables apart: ``cpu float32``."""
        return f"{self.device} {self.precision}"

    def facts(self) -> dict[str, Any]:
        """What must be the same for two measurements to stand in one table; the file by its name alone."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**plain, "data": Path(self.data).name}


@dataclass(frozen=True)
class Job:
    """What one child process is asked to do."""

    role: Role
    what: str
    """``dpo`` or ``reward``; ``precomputed`` of trl; ``ours`` or ``theirs`` of sampling; ``small`` or
    ``large`` of the sets."""
    work: Work
    world: Path
    """The folder that ``prepare`` filled: models, batches, sets."""
    directory: Path
    """A folder of the child's own."""

    def text(self) -> str:
        """As JSON, for a command line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def of(cls, text: str) -> Job:
        """The inverse of ``text``."""
        found = json.loads(text)
        return cls(
            role=found["role"],
            what=found["what"],
            work=build(Work, found["work"]),
            world=Path(found["world"]),
            directory=Path(found["directory"]),
        )


def world_facts(world: Path) -> dict[str, Any]:
    """What ``prepare`` found out: ``limit`` (rows to read), ``pairs``, ``weights``, ``device``."""
    found: dict[str, Any] = json.loads((world / "facts.json").read_text(encoding="utf-8"))
    return found
