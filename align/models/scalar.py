"""A scalar model: one score a reply, read at its last token. Reward models and, later, value heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from align.errors import ModelError
from align.models.adapters import with_adapter
from align.models.build import Origin, Texts, load_weights, longest_input, origin, seeded
from align.models.chat import ChatFormat
from align.models.save import plain_model, save_model
from align.models.settings import VIRTUAL, AdapterSettings, ModelSettings
from align.models.source import adapter_task, is_scalar
from align.models.virtual import count_of


class LastTokenScores(nn.Module):
    """A sequence-classification model that reads its score where the attention mask says.

    transformers looks for the last token whose id is not the padding's; that goes wrong where padding is
    unset, or a text ends with that id. Here decoders are read at the last position of the mask. Encoders
    have a pooling of their own, which looks at the mask already.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores (B,) of rows (B, T); ``attention_mask`` is 0 where there is padding, on either side.

        They have the weights' dtype, also under autocast.
        """
        wide = next(self.parameters()).dtype
        whole = plain_model(self.inner)
        if not reads_last_token(whole):
            logits: Tensor = whole(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits.squeeze(-1).to(wide)
        positions_T = torch.arange(input_ids.shape[1], device=input_ids.device)
        last_B = (attention_mask * positions_T).argmax(-1)
        return self.at(input_ids, attention_mask, last_B.unsqueeze(-1)).squeeze(-1)

    def at(self, input_ids: Tensor, attention_mask: Tensor, places_BP: Tensor) -> Tensor:
        """What the head reads at given places of each row (B, P): a critic's values, in the weights' dtype.

        Raises:
            ModelError: an encoder, whose head reads a whole text.
        """
        wide = next(self.parameters()).dtype
        whole = plain_model(self.inner)
        if not reads_last_token(whole):
            raise ModelError(f"{type(whole).__name__} has no head that reads one position: no critic")
        backbone = getattr(whole, whole.base_model_prefix)
        hidden_BTH = backbone(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        rows_B1 = torch.arange(len(input_ids), device=input_ids.device).unsqueeze(-1)
        # one sum a reply, in full: with the 8 bits of bfloat16, replies of like worth would tie
        with torch.autocast(input_ids.device.type, enabled=False):
            read: Tensor = whole.score(hidden_BTH[rows_B1, places_BP].to(wide)).squeeze(-1)
        return read

    @property
    def config(self) -> Any:
        """The transformers config of the model inside."""
        return plain_model(self.inner).config

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Passed on to the model inside."""
        self.inner.activation_checkpointing_enable(**options)

    def activation_checkpointing_disable(self) -> None:
        """Passed on to the model inside."""
        self.inner.activation_checkpointing_disable()


@dataclass(frozen=True)
class ScalarModel:
    """A model that scores replies.

    ``model`` maps ``(input_ids, attention_mask)`` to scores (B,); ``model.inner`` is the transformers
    model, wrapped by peft under an adapter.
    """

    model: LastTokenScores
    tokenizer: PreTrainedTokenizerBase
    chat: ChatFormat
    device: torch.device
    max_length: int

    @property
    def pad_id(self) -> int:
        """The id that fills batches; masks, not this id, say what is padding."""
        return int(self.tokenizer.pad_token_id)

    @property
    def positions(self) -> int | None:
        """Tokens of text that the architecture has positions for, or None where it does not say."""
        longest = longest_input(self.model.config)
        return longest if longest is None else longest - count_of(plain_model(self.model.inner))


def load_scalar(
    model: ModelSettings,
    adapter: AdapterSettings,
    *,
    texts: Texts | None,
    seed: int,
    device: torch.device | str = "cpu",
    trained: bool = False,
) -> ScalarModel:
    """The scalar model that the settings ask for, in float32 on ``device``, in training mode.

    From a causal checkpoint (a policy's run directory) the backbone is kept and the head is new; from a
    scalar one the head is kept too; any sequence-classification backbone will do. A new head is drawn
    from N(0, 1/(d+1)), d the width it reads (Huang et al. 2024, section 4.1), its bias is 0. Under an
    adapter the head is trained and saved whole.

    Raises:
        ModelError: nothing to load at ``model.path``; weights other than the head's are missing; with
            ``trained`` (to score, not to train), the checkpoint has no scalar head.
    """
    made = origin(model, texts, room=adapter.virtual_tokens if adapter.kind in VIRTUAL else 0)
    labels = made.config.num_labels
    if trained and is_scalar(made.config) and labels != 1:
        raise ModelError(f"{model.path} gives {labels} scores a reply, a reward model gives 1")
    made.config.num_labels = 1
    base, missing = load_weights(
        AutoModelForSequenceClassification, made, seed, adapter.kind, ignore_mismatched_sizes=True
    )
    _check(base, made, missing, trained)
    draw_head(base, missing, seed)
    chat = ChatFormat(made.tokenizer)
    adapted = with_adapter(base, made, adapter, "SEQ_CLS", seed)
    place = torch.device(device)
    scorer = LastTokenScores(adapted).to(place).train()
    return ScalarModel(scorer, made.tokenizer, chat, place, model.max_length)


def save_scalar(scalar: ScalarModel, directory: Path) -> None:
    """Writes ``directory`` in Hugging Face layout, so that ``AutoModelForSequenceClassification`` loads it.

    It then gives the same scores on batches padded on the right. An adapter is merged into those weights
    where it can be, and is kept as it is, head included, in ``adapter`` beside it.
    """
    save_model(scalar.model.inner, scalar.tokenizer, directory)


def reads_last_token(whole: Any) -> bool:
    """Whether a sequence-classification model is a decoder: its head, ``score``, reads one position."""
    return isinstance(getattr(whole, "score", None), nn.Module)


def _check(base: Any, made: Origin, missing: set[str], trained: bool) -> None:
    """Only a head (and an encoder's pooler, which belongs to it) may be new, and only for training."""
    if made.source is None:
        return
    inside = f"{base.base_model_prefix}."
    lacking = sorted(name for name in missing if name.startswith(inside) and "pooler" not in name)
    if lacking:
        raise ModelError(f"{made.source.weights} does not hold the model's weights: {', '.join(lacking[:3])}")
    head_in_adapter = made.source.adapter is not None and adapter_task(made.source.adapter) == "SEQ_CLS"
    if trained and missing and not head_in_adapter:
        raise ModelError(
            f"{made.source.weights} has no head that gives scores: "
            "train one with stage=reward, and give its run directory"
        )


def draw_head(base: Any, missing: set[str], seed: int) -> None:
    """Draws the last linear layer from ``seed``, where its weight is among the ``missing`` names."""
    with seeded(seed), torch.no_grad():
        for name, layer in base.named_modules():
            if isinstance(layer, nn.Linear) and layer.out_features == 1 and f"{name}.weight" in missing:
                layer.weight.normal_(std=1 / math.sqrt(layer.in_features + 1))
                if layer.bias is not None:
                    layer.bias.zero_()
