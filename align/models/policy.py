"""A policy: a causal language model with its tokenizer, its chat format and the reference it started from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from align.errors import ModelError
from align.models.adapters import with_adapter
from align.models.build import Origin, Texts, load_weights, longest_input, origin
from align.models.chat import ChatFormat
from align.models.save import plain_model, save_model
from align.models.settings import VIRTUAL, AdapterSettings, ModelSettings
from align.models.source import is_scalar
from align.models.virtual import count_of, virtual_of


@dataclass
class Policy:
    """A model that writes replies.

    ``model`` is the transformers causal model in float32, wrapped by peft under an adapter.
    ``max_length`` is ``model.max_length``: tokens of prompt and reply together.
    """

    model: Any
    tokenizer: PreTrainedTokenizerBase
    chat: ChatFormat
    device: torch.device
    max_length: int
    _load_start: Callable[[], Any] = field(repr=False)
    _start: Any = field(default=None, repr=False)

    @property
    def pad_id(self) -> int:
        """The id that fills batches; masks, not this id, say what is padding."""
        return int(self.tokenizer.pad_token_id)

    @property
    def positions(self) -> int | None:
        """Tokens of text that the architecture has positions for, or None where it does not say."""
        whole = plain_model(self.model)
        longest = longest_input(whole.config)
        return longest if longest is None else longest - count_of(whole)

    @contextmanager
    def reference(self) -> Iterator[Any]:
        """The model as it was when this policy was loaded: in eval mode, without gradients.

        Under an adapter it is the same weights with it off, at no cost in memory (virtual tokens that the
        policy began with stand before its texts, too). Otherwise a second
        model is loaded from the same place at the first use, and stays until ``drop_reference``: a stage
        that never asks never pays for it.
        """
        with torch.no_grad():
            virtual = virtual_of(plain_model(self.model))
            if virtual is not None:
                with evaluating(self.model), virtual.as_at_the_start():
                    yield self.model
                return
            if isinstance(self.model, PeftModel):
                with evaluating(self.model), self.model.disable_adapter():
                    yield self.model
                return
            if self._start is None:
                self._start = self._load_start().to(self.device).eval().requires_grad_(False)
            yield self._start

    def drop_reference(self) -> None:
        """Frees the second model, say once its log-probabilities are cached."""
        self._start = None


def load_policy(
    model: ModelSettings,
    adapter: AdapterSettings,
    *,
    texts: Texts | None,
    seed: int,
    device: torch.device | str = "cpu",
) -> Policy:
    """The policy that the settings ask for, in float32 on ``device``, in training mode.

    ``texts`` gives the dataset's own text, for the tokenizer of a model from scratch. ``seed`` draws all
    weights that no checkpoint holds. The global random state is left as it was.

    Raises:
        ModelError: nothing to load at ``model.path``, a reward model where a policy belongs, weights that
            are missing from the checkpoint, or a chat template that cannot be used.
    """
    made = origin(model, texts, room=adapter.virtual_tokens if adapter.kind in VIRTUAL else 0)
    base = _causal(made, seed, adapter.kind)
    chat = ChatFormat(made.tokenizer)
    base.generation_config.eos_token_id = list(chat.stop_ids)
    base.generation_config.pad_token_id = made.tokenizer.pad_token_id
    adapted = with_adapter(base, made, adapter, "CAUSAL_LM", seed)

    def start() -> Any:
        return with_adapter(_causal(made, seed), made, AdapterSettings(), "CAUSAL_LM", seed)

    place = torch.device(device)
    return Policy(adapted.to(place).train(), made.tokenizer, chat, place, model.max_length, start)


def save_policy(policy: Policy, directory: Path) -> None:
    """Writes ``directory`` in Hugging Face layout, so that ``AutoModelForCausalLM`` loads it alone.

    An adapter is merged into those weights where it can be, and is kept as it is in ``adapter`` beside it.
    """
    save_model(policy.model, policy.tokenizer, directory)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside (no dropout), and the mode of every module as it was afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _causal(made: Origin, seed: int, kind: str = "none") -> Any:
    if made.source is not None and is_scalar(made.config):
        raise ModelError(
            f"{made.source.weights} is a reward model, not a policy: "
            "give the directory of a run of sft, dpo or ppo"
        )
    loaded, missing = load_weights(AutoModelForCausalLM, made, seed, kind)
    if made.source is not None and missing:
        raise ModelError(
            f"{made.source.weights} is no causal language model: it lacks {', '.join(sorted(missing)[:3])}"
        )
    return loaded
