"""Typed settings: one dataclass a concern, one docstring a field with its meaning and unit.

Every field stands in a yaml of ``conf/`` with the same default (a test compares them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from align.config import REST, Range
from align.errors import ConfigError
from align.protocols import Source

PositiveInt = Annotated[int, Range(low=1)]
NaturalInt = Annotated[int, Range(low=0)]
Positive = Annotated[float, Range(low=0, low_open=True)]
NonNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1, high_open=True)]


@dataclass(frozen=True)
class DatasetSettings:
    """Where records come from, and the rules they are read by; the other keys are the source's own."""

    source: Annotated[Source, REST]
    """The component named by ``dataset.name``, with its own settings."""
    bad_rows: Literal["drop", "error"] = "drop"
    """What a row that cannot make a record does: ``drop`` goes on without it (counted), ``error`` stops."""
    too_long: Literal["drop", "truncate_left", "error"] = "truncate_left"
    """What a prompt that leaves no room for its reply does: drop it, cut its oldest tokens, or stop."""
    test_fraction: Fraction = 0.1
    """Share of the prompts (not rows) held out for testing."""
    validation_fraction: Fraction = 0.05
    """Share of the prompts held out for early stopping."""
    folds: Annotated[int, Range(low=2)] | None = None
    """Parts the prompts in so many test sets, of which this run takes one; in place of ``test_fraction``."""
    fold: NaturalInt = 0
    """Which of them, from 0."""
    split_seed: NaturalInt = 0
    """Draws the split; apart from ``seed``, so that runs over seeds share their test set."""
    limit: PositiveInt | None = None
    """Reads this many rows (judgements, where a row holds several) at most; none reads all."""
    votes: Literal["each", "majority", "reliable"] = "each"
    """What several judges' judgements of one pair make: ``each`` a pair; or one together, what more than half
    of the votes say (``majority``), or more than half of the posterior of Dawid and Skene (``reliable``)."""
    ties: Literal["drop", "half", "both"] = "drop"
    """What a tie makes: no pair; one in a direction drawn by the hash of its id; one in each direction."""

    def __post_init__(self) -> None:
        if self.source.offers != "pairs" and (self.votes, self.ties) != ("each", "drop"):
            raise ConfigError("votes and ties are for datasets of pairs: leave them out")
        if self.fold >= (self.folds or 1):
            raise ConfigError(f"fold={self.fold}, and folds={self.folds}: folds are counted from 0")
        if self.test_fraction + self.validation_fraction >= 1:
            raise ConfigError("test_fraction + validation_fraction leaves nothing to train on")


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained; the same for every stage."""

    max_steps: PositiveInt | None = None
    """Optimiser steps; none follows ``epochs``."""
    epochs: Positive = 1.0
    """Passes over the training split, where ``max_steps`` is none."""
    batch_size: PositiveInt = 32
    """Pairs or examples an optimiser step, over all devices."""
    micro_batch_size: PositiveInt | None = None
    """Pairs or examples of one pass on one device; none takes the whole batch. Must divide ``batch_size``."""
    attention: Literal["auto", "segments", "varlen", "flex", "padded"] = "auto"
    """How a prompt and its replies share a row without padding: a segment at a time (any device), in one
    kernel (``varlen``, ``flex``: CUDA), or not at all (``padded``). ``auto`` takes what the device and the
    architecture can do."""
    shuffle: bool = True
    """Draws the order of the examples anew each epoch; false takes them in the order of the data, which is
    what a curriculum asks for (and groups no lengths)."""
    length_window: PositiveInt = 8
    """Batches within which examples of like length share a padded batch; 1 groups nothing."""
    learning_rate: Positive = 1e-3
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """What the rate does after warm-up: stays, or falls to zero at the last step."""
    warmup_steps: NaturalInt = 0
    """Steps over which the rate rises from zero."""
    weight_decay: NonNegative = 0.0
    """Decoupled decay, on matrices only (not on norms and biases)."""
    adam_betas: tuple[Fraction, ...] = (0.9, 0.999)
    """Decay of AdamW's two moments."""
    max_grad_norm: Positive = 1.0
    """Gradients are scaled down to this global norm."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about a third more time."""
    offload_activations: bool = False
    """Keeps activations in the host's memory between forward and backward pass; on accelerators."""
    compile: bool = False
    """Compiles the model's blocks (torch.compile): minutes at the start, faster steps, as exact as before."""
    frozen: tuple[str, ...] = ()
    """What stays as it is: ``embeddings``, ``first_6_blocks``, names of parameters (``*`` for any part)."""
    unfreeze_every: PositiveInt | None = None
    """Steps until the next block below joins, the top one first (Howard & Ruder 2018); none trains all."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the forward pass multiplies in; weights, optimiser, losses and sums stay float32. ``auto`` is
    bfloat16 where the device multiplies it fast (CUDA from Ampere on, CPUs with AMX or AVX512-BF16)."""
    log_every: PositiveInt = 10
    """Steps between lines of ``metrics.jsonl``."""
    save_every: PositiveInt | None = None
    """Steps between checkpoints; none writes one at the end only (and at SIGTERM)."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints that stay on disk; two, so that a damaged newest one has a predecessor."""
    eval_every: PositiveInt | None = None
    """Steps between looks at the validation split; none looks at the end of each epoch."""
    early_stopping: PositiveInt | None = None
    """Looks without a better validation value before training stops and the best weights are taken."""

    def __post_init__(self) -> None:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ConfigError(
                f"micro_batch_size={self.micro_batch_size} does not divide batch_size={self.batch_size}"
            )
        if len(self.adam_betas) != 2:
            raise ConfigError(f"adam_betas takes two numbers, got {len(self.adam_betas)}")

    def accumulation(self) -> int:
        """Passes an optimiser step on one device; exact by construction."""
        return self.batch_size // (self.micro_batch_size or self.batch_size)


@dataclass(frozen=True)
class DeepspeedSettings:
    """What each rank holds of a model in training (``deepspeed=none``, ``zero1`` ... ``zero3_offload``)."""

    stage: Literal[0, 1, 2, 3] = 0
    """Stage of ZeRO (Rajbhandari et al. 2020): 0, every rank holds everything; from 1 on the optimiser's
    moments are parted between the ranks, from 2 on gradients as well, at 3 weights, too."""
    offload: bool = False
    """Keeps the optimiser's moments and float32 weights in the processor's memory, and updates them there
    (stage 2 and 3); at 3 the parted weights as well."""
    bucket_size: PositiveInt = 50_000_000
    """Numbers that are sent together, at most: larger buckets are faster, and take memory."""
    whole_below: NaturalInt = 100_000
    """Parameters of at most this many numbers stay whole on every rank at stage 3: norms and biases, say."""

    def __post_init__(self) -> None:
        if self.bucket_size % 2:
            raise ConfigError(f"bucket_size={self.bucket_size} is odd, and DeepSpeed takes an even number")
        if self.offload and self.stage < 2:
            raise ConfigError(f"offload=true is for stage 2 and 3, not for stage {self.stage}")


@dataclass(frozen=True)
class SamplingSettings:
    """How replies are drawn from a policy."""

    max_new_tokens: PositiveInt = 64
    """Tokens of a reply, at most; one that has not ended by then is cut and marked so."""
    temperature: NonNegative = 0.7
    """Divides the logits, of policy and reference alike; 0 takes the most likely token."""
    top_p: Annotated[float, Range(low=0, high=1, low_open=True)] = 1.0
    """Samples from the smallest set of tokens that holds this probability."""
    batch_size: PositiveInt = 64
    """Replies drawn at once."""


@dataclass(frozen=True)
class RunSettings:
    """Where a run writes, and where runs share what they computed."""

    dir: str
    """The run's directory; must be empty or absent unless ``resume=true``."""
    cache: str = "~/.cache/align"
    """Where what is computed once is kept for later runs, by content; may be deleted at any time."""

    def __post_init__(self) -> None:
        if not self.cache.strip():
            raise ConfigError("cache is empty: give a folder with run.cache=DIR, or unset ALIGN_CACHE")


@dataclass(frozen=True)
class ReferenceSettings:
    """The policy that another is compared with."""

    path: str
    """A run directory of an earlier stage, a Hugging Face folder, or a Hub name."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is looked at."""

    prompts: PositiveInt = 256
    """Unseen prompts that each policy answers, at most."""
    shown: NaturalInt = 3
    """Replies printed side by side at the end."""


@dataclass(frozen=True)
class BestOfNSettings:
    """What ``stage=best_of_n`` chooses among."""

    n: Annotated[int, Range(low=2)] = 16
    """Replies to choose among; one more is drawn to compare the best with."""
    prompts: PositiveInt | None = 512
    """Prompts that are answered, at most; none takes all of the split."""
    split: Literal["train", "validation", "test"] = "train"
    """Split that the prompts come from."""
    chunk: PositiveInt = 32
    """Prompts whose replies are written down together: what a kill loses at most."""


@dataclass(frozen=True)
class CollectionSettings:
    """What ``stage=collect`` takes, and how it goes through it."""

    limit: PositiveInt | None = 512
    """Prompts (or pairs, or demonstrations, where a method starts from those) at most; none takes all."""
    split: Literal["train", "validation", "test"] = "train"
    """Split that they come from."""
    chunk: PositiveInt = 32
    """How many are worked on and written down together: what a kill loses at most."""


@dataclass(frozen=True)
class ConvertSettings:
    """What ``stage=convert`` writes."""

    format: Literal[
        "records", "trl_standard", "trl_conversational", "hh", "prompt_completion", "unpaired"
    ] = "records"
    """The format: this project's records, which lose nothing, or one that others read."""


@dataclass(frozen=True)
class CompareSettings:
    """How ``stage=compare`` sets runs side by side."""

    baseline: str | None = None
    """Group (``loss.beta=0.1``) or run directory that the others are held against; none takes the first."""
    stage: str | None = None
    """Compares the runs of this stage and leaves the others out; none refuses runs of several stages."""
    most_pairs: PositiveInt = 100
    """Pairs of policies that are tested against each other; where there are more, each only against the
    baseline: every further test costs the others power."""


@dataclass(frozen=True)
class ListingSettings:
    """What ``stage=runs`` shows of each run."""

    metrics: NaturalInt = 2
    """Metrics of each run, at most: win rates first, then gains, drift, accuracies."""
    steps: bool = False
    """Whether the steps of pipelines are listed too."""


@dataclass(frozen=True)
class ChatSettings:
    """How ``stage=chat`` talks."""

    system: str | None = None
    """What the models are told before the conversation; none tells them nothing."""
    transcript: str = "chat.jsonl"
    """File in the run's directory that each exchange is written to."""


@dataclass(frozen=True)
class ShowSettings:
    """What ``stage=show`` prints."""

    examples: PositiveInt = 3
    """Examples of the training split."""
