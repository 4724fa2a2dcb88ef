"""What model a stage starts from, and what of it is trained; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from align.errors import ConfigError
from align.settings import Fraction, Positive, PositiveInt


@dataclass(frozen=True)
class ScratchSettings:
    """A Llama-shaped model with random weights, and a tokenizer trained on the dataset's own text."""

    hidden_size: PositiveInt = 192
    """Width; divisible by ``heads`` into even parts."""
    layers: PositiveInt = 3
    """Transformer blocks."""
    heads: PositiveInt = 6
    """Attention heads."""
    mlp_size: PositiveInt = 512
    """Width of the gated feed-forward."""
    vocab_size: PositiveInt = 2048
    """Tokens in the byte-level BPE vocabulary, at most (a small text yields fewer)."""

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ConfigError(f"hidden_size={self.hidden_size} is not divisible by heads={self.heads}")
        if self.hidden_size // self.heads % 2:
            raise ConfigError(
                f"hidden_size={self.hidden_size} gives each of heads={self.heads} an odd width of "
                f"{self.hidden_size // self.heads}; positions are rotated in pairs, so it must be even"
            )


@dataclass(frozen=True)
class ModelSettings:
    """The model that a stage starts from (``model=tiny``, ``model=hf``)."""

    path: str | None = None
    """A run directory of an earlier stage, a Hugging Face folder, or a Hub name; none builds ``scratch``."""
    scratch: ScratchSettings | None = None
    """Shape of the model built on the spot where ``path`` is none."""
    max_length: PositiveInt = 512
    """Tokens of prompt and reply together, at most; longer ones follow ``dataset.too_long``."""
    chat_template: str | None = None
    """A jinja file, or ``raw`` (contents joined, no markers); none takes the tokenizer's, or a plain one."""
    dropout: Fraction = 0.0
    """Dropout probability while training, written to every dropout field that the architecture has."""

    def __post_init__(self) -> None:
        if self.path is None and self.scratch is None:
            raise ConfigError("path is none and there is no scratch: give model.path, or take model=tiny")


LOW_RANK = ("lora", "dora", "qlora")
"""Kinds of adapters that are updates of weights, and can be merged into them."""


VIRTUAL = ("prompt", "prefix")
"""Kinds of adapters that are tokens before each text."""


_ONLY_FOR = {"rank": LOW_RANK, "alpha": LOW_RANK, "dropout": LOW_RANK, "target_modules": LOW_RANK} | {
    "virtual_tokens": VIRTUAL
}


@dataclass(frozen=True)
class AdapterSettings:
    """What is trained of the model (``adapter=none``: everything; else an adapter, the weights are frozen).

    The reference is then the model without it.
    """

    kind: Literal["none", "lora", "dora", "qlora", "prompt", "prefix"] = "none"
    """``lora``: low-rank updates (Hu et al. 2021); ``dora``: of directions, with lengths of their own (Liu et
    al. 2024); ``qlora``: lora on weights in four bits (Dettmers et al. 2023; CUDA); ``prompt``, ``prefix``:
    virtual tokens before each text, by their embeddings (Lester et al. 2021) or by their keys and values (Li
    & Liang 2021)."""
    rank: PositiveInt = 16
    """Rank r of the updates."""
    alpha: Positive = 32.0
    """Scale: updates are multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout probability on the adapter's input."""
    target_modules: tuple[str, ...] | None = None
    """Names of the linear layers that get an adapter; none takes all but the heads."""
    virtual_tokens: PositiveInt = 16
    """Tokens before each text; each takes a position beside ``model.max_length``."""

    def __post_init__(self) -> None:
        for name, kinds in _ONLY_FOR.items():
            changed = getattr(self, name) != getattr(AdapterSettings, name)
            if changed and self.kind not in (*kinds, "none"):
                raise ConfigError(
                    f"{name} is for adapter={'|'.join(kinds)}: leave it out of adapter={self.kind}"
                )
