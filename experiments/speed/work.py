"""What is measured: the work that both sides do, and the shapes of the model that they do it with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from align.config import build
from align.errors import AlignError, ConfigError
from align.registry import near

Role = Literal["prepare", "ours", "theirs", "sampling", "sets", "ppo_prepare", "ppo_ours", "ppo_theirs"]

ROOT = Path(__file__).resolve().parents[2]
TRL_PPO = ROOT / ".trl-1.12"
"""Where ``make trl-ppo`` installs the last trl that has PPO, beside the environment."""
TRL_PPO_VERSION = "1.12.0"

PPO_PARTS = ("ppo_short", "ppo_long")
"""With ``Work.prompts``, in this order."""


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
    episodes: int = 128
    """Prompts that are answered in PPO, each once."""
    rollout: int = 64
    """Episodes of one iteration."""
    reply: int = 53
    """Tokens of every reply in PPO."""
    prompts: tuple[int, int] = (128, 512)
    """Tokens of the longest prompts in ``ppo_short`` and in ``ppo_long``; older ones are cut off."""
    epochs: int = 4
    """Passes over an iteration's episodes."""
    minibatches: int = 4
    """Optimiser steps a pass."""
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
        if self.episodes % self.rollout or self.rollout % self.minibatches:
            raise ConfigError(
                f"--episodes {self.episodes} must be whole rollouts of {self.rollout}, and a rollout whole "
                f"minibatches, {self.minibatches} of them"
            )

    def shape(self) -> Shape:
        """The model's."""
        return MODELS[self.model]

    def prompt_tokens(self, part: str) -> int:
        """Of the longest prompts in one of ``PPO_PARTS``."""
        return self.prompts[PPO_PARTS.index(part)]

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
    ``large`` of the sets; of PPO which prompts, and ours also how: ``ppo_short shared`` (``PPO_SIDES``)."""
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


def require_trl_ppo() -> None:
    """Refuses to go on without the trl that has PPO.

    Raises:
        ConfigError: it is not there, or another version is.
    """
    if not (TRL_PPO / f"trl-{TRL_PPO_VERSION}.dist-info").is_dir():
        raise ConfigError(
            f"trl {TRL_PPO_VERSION}, the last with PPO, is not in {TRL_PPO}: make trl-ppo installs it there, "
            f"beside the environment; --only names the parts that do without"
        )


def note_facts(world: Path, facts: dict[str, Any]) -> None:
    """Writes what was found out about the world, beside what was known of it."""
    known = world_facts(world) if (world / "facts.json").exists() else {}
    (world / "facts.json").write_text(json.dumps({**known, **facts}), encoding="utf-8")


def world_facts(world: Path) -> dict[str, Any]:
    """``weights``, ``device``; of the pairs ``limit`` (rows to read) and ``pairs``; of PPO ``ppo_limit``."""
    found: dict[str, Any] = json.loads((world / "facts.json").read_text(encoding="utf-8"))
    return found


def prompts_of(world: Path, part: str) -> list[list[int]]:
    """Tokens of PPO's prompts in the order in which they are drawn."""
    lines = (world / part / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
