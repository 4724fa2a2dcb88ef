"""The commands themselves: policies and reward models once, then what is trained on collected pairs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align.__main__ import main
from align.errors import AlignError
from align.report.files import read_results
from align.types import Result


@dataclass(frozen=True)
class Size:
    """How large the world, its models and the collections are."""

    pairs: int = 6000
    """Of the embedded world; a prompt has two."""
    hidden: int = 96
    layers: int = 2
    heads: int = 4
    mlp: int = 256
    max_length: int = 160
    """Tokens of prompt and reply."""
    epochs: float = 3.0
    """Of fine-tuning; a weak policy has half a one."""
    reward_epochs: float = 1.5
    limit: int = 512
    """Prompts, demonstrations or pairs that a method starts from; ``active`` takes what validation holds."""
    replies: int = 4
    """That ``best_of_n`` chooses among."""
    chosen: int = 100
    """Pairs that ``active`` chooses."""
    steps: int = 80
    """Of DPO, in batches of 16 pairs."""
    unseen: int = 256
    """Prompts that the policies answer in the end."""


POLICIES = {"sft": ("", 1.0), "weak": ("", 1 / 6), "steered": ("dataset.steered=0.6", 1.0)}
"""Each policy: what its world has beside, and the share of the epochs that it is trained for."""


@dataclass(frozen=True)
class Place:
    """A folder in which each run is made once."""

    work: Path
    size: Size

    def run(self, name: str, *words: str) -> Path:
        """One command to its end; a run that is whole stays, one that was stopped begins anew.

        Raises:
            AlignError: the command failed.
        """
        directory = self.work / name
        if (directory / "results.json").exists():
            return directory
        shutil.rmtree(directory, ignore_errors=True)
        print(f"collect: {name}", file=sys.stderr, flush=True)
        command = [*words, f"run.dir={directory}", f"run.cache={self.work / 'cache'}"]
        code = main(command)
        if code:
            raise AlignError(f"exit code {code} of: python -m align {' '.join(command)}")
        return directory

    @property
    def world(self) -> tuple[str, ...]:
        """Which pairs there are."""
        return f"dataset.pairs={self.size.pairs}", f"dataset.prompts={self.size.pairs // 2}"

    @property
    def room(self) -> str:
        """For whoever loads a model."""
        return f"model.max_length={self.size.max_length}"

    def policy(self, name: str) -> Path:
        """One of ``POLICIES``, trained where it is not there yet."""
        beside, share = POLICIES[name]
        return self.run(
            name,
            "stage=sft",
            *self.world,
            *([beside] if beside else []),
            self.room,
            f"model.scratch.hidden_size={self.size.hidden}",
            f"model.scratch.layers={self.size.layers}",
            f"model.scratch.heads={self.size.heads}",
            f"model.scratch.mlp_size={self.size.mlp}",
            f"training.epochs={self.size.epochs * share:g}",
            "training.learning_rate=0.003",
            "training.precision=float32",
        )

    def reward(self, seed: int) -> Path:
        """A reward model on the world's own pairs, from the fine-tuned weights."""
        return self.run(
            f"reward-{seed}",
            "stage=reward",
            *self.world,
            self.room,
            f"model.path={self.policy('sft')}",
            f"training.epochs={self.size.reward_epochs:g}",
            "training.precision=float32",
            f"seed={seed}",
        )

    def improved(self, method: str, records: Path) -> Path:
        """DPO on collected pairs, as many steps for each method; the evaluation beside what it began with."""
        sft = self.policy("sft")
        trained = self.run(
            f"{method}-dpo/dpo",
            "stage=dpo",
            "dataset=records",
            f"dataset.path={records}",
            f"model.path={sft}",
            self.room,
            f"training.max_steps={self.size.steps}",
            "training.precision=float32",
        )
        return self.run(
            f"{method}-dpo/evaluate",
            "stage=evaluate",
            *self.world,
            f"model.path={trained}",
            f"reference.path={sft}",
            self.room,
            "sampling.temperature=1.0",
            f"evaluation.prompts={self.size.unseen}",
        )


def results_of(run: Path) -> list[Result]:
    """What a run found."""
    return read_results(run / "results.json")


MODELS = ("gpt4", "gpt-3.5-turbo-0301", "text_davinci_003", "text_davinci_001")
"""AlpacaEval's folders of real outputs, the strongest first."""
CONTROLS = ("none", "match", "cap")


def real_outputs(place: Place, folder: Path, control: str, models: Sequence[str] = MODELS) -> list[Result]:
    """``strength`` on real models' replies to AlpacaEval's instructions, under one control of lengths."""
    files = [str(folder / name / "model_outputs.json") for name in models]
    run = place.run(
        f"outputs-{control}",
        "stage=collect",
        "collect=strength",
        "dataset=alpaca_eval_outputs",
        f"dataset.path={files[0]}",
        "dataset.test_fraction=0",
        "dataset.validation_fraction=0",
        "collection.limit=null",
        f"collect.sources=[{','.join(files)}]",
        f"length.how={control}",
    )
    return results_of(run)
