"""Log-probabilities and scores of groups of replies: packed where the architecture allows it, else padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from align.distributed.device import autocast
from align.models.forward import reply_logps, reply_outlook, reply_scores, reply_values
from align.models.save import plain_model
from align.models.scalar import LastTokenScores
from align.models.virtual import led
from align.packing.head import Head, chunked_logps, chunked_logps_and_entropies
from align.packing.layout import Layout, ReplyGroup, check_groups, lay_out
from align.packing.work import Cost, work_of
from align.tensors import Outlook, TokenLogps, Work

ValueHead = Callable[[Tensor], Tensor]
"""Last hidden states (..., H) -> values (...)."""


class Forward(Protocol):
    """A model ready to be asked about groups of replies.

    Results have one row a reply: row ``i * B + b`` is reply i of group b, so that pairs come as ``2B`` rows,
    chosen then rejected. They are float32, carry gradients, and do not depend on what shares a batch, up to
    rounding.
    """

    def logps(self, groups: Sequence[ReplyGroup], temperature: float = 1.0) -> TokenLogps:
        """Log-probabilities (N, T), in nats, of each reply's tokens given its prompt; of a causal model.

        ``temperature`` divides the logits, as it does while sampling.

        Raises:
            ModelError: an empty prompt or reply, or groups with unlike numbers of replies.
        """

    def outlook(
        self,
        groups: Sequence[ReplyGroup],
        temperature: float = 1.0,
        *,
        value_head: ValueHead | None = None,
        entropies: bool = False,
    ) -> Outlook:
        """``logps``, and from the same pass what a value head reads where each token is about to be chosen.

        Raises:
            ModelError: as ``logps``.
        """

    def scores(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """Scores (N,) read at each reply's last token; of a scalar model.

        Raises:
            ModelError: as ``logps``.
        """

    def values(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """A scalar model's output (N, T) where each reply token is about to be chosen, 0 behind the end.

        Raises:
            ModelError: as ``logps``; the architecture has no head that reads one position.
        """

    def work(self, groups: Sequence[ReplyGroup]) -> Work:
        """What a forward and backward pass over these groups takes."""


@dataclass(frozen=True)
class Packed:
    """All groups in one row, each prompt once, no padding (``lay_out``)."""

    model: Any
    """A transformers causal model or ``LastTokenScores`` that attends through ``set_attention``."""
    head: Head | None
    """The causal model's output head; None for scalar models."""
    cost: Cost
    dtype: torch.dtype

    def logps(self, groups: Sequence[ReplyGroup], temperature: float = 1.0) -> TokenLogps:
        """See ``Forward``. The head sees reply positions only, a chunk at a time."""
        return self.outlook(groups, temperature).logps

    def outlook(
        self,
        groups: Sequence[ReplyGroup],
        temperature: float = 1.0,
        *,
        value_head: ValueHead | None = None,
        entropies: bool = False,
    ) -> Outlook:
        """See ``Forward``."""
        assert self.head is not None, "a scalar model gives no log-probabilities"
        layout, whole = self._layout(groups), transformers_model(self.model)
        vocabulary = whole.config.get_text_config().vocab_size
        values_NT = entropies_NT = None
        with autocast(whole.device, self.dtype):
            hidden_RH = packed_hidden(whole, layout).index_select(0, layout.predictors_R)
            read = (self.head, hidden_RH, layout.labels_R, vocabulary, temperature)
            if entropies:
                logps_R, entropies_R = chunked_logps_and_entropies(*read)
                entropies_NT = layout.by_reply(entropies_R).logps_BT
            else:
                logps_R = chunked_logps(*read)
        if value_head is not None:
            values_NT = layout.by_reply(value_head(hidden_RH.float())).logps_BT
        return Outlook(layout.by_reply(logps_R), values_NT, entropies_NT)

    def scores(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """See ``Forward``."""
        layout, whole = self._layout(groups), transformers_model(self.model)
        with autocast(whole.device, self.dtype):
            hidden_NH = packed_hidden(whole, layout).index_select(0, layout.last_N)
        # one sum a reply, in full: with the 8 bits of bfloat16, replies of like worth would tie
        scores: Tensor = whole.score(hidden_NH.float())
        return scores.squeeze(-1)

    def values(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """See ``Forward``."""
        layout, whole = self._layout(groups), transformers_model(self.model)
        with autocast(whole.device, self.dtype):
            hidden_RH = packed_hidden(whole, layout).index_select(0, layout.predictors_R)
        values_R = whole.score(hidden_RH.float()).squeeze(-1)
        return layout.by_reply(values_R).logps_BT

    def work(self, groups: Sequence[ReplyGroup]) -> Work:
        """See ``Forward``."""
        return work_of(groups, self.cost, slots=None)

    def _layout(self, groups: Sequence[ReplyGroup]) -> Layout:
        whole = transformers_model(self.model)
        prompts = led(whole, [one.prompt_ids for one in groups])
        behind = [ReplyGroup(prompt, one.replies) for prompt, one in zip(prompts, groups, strict=True)]
        return lay_out(behind).to(whole.device)


@dataclass(frozen=True)
class Padded:
    """One row a reply, its prompt before it, filled up to the longest: what any architecture takes."""

    model: Any
    pad_id: int
    cost: Cost
    dtype: torch.dtype

    def logps(self, groups: Sequence[ReplyGroup], temperature: float = 1.0) -> TokenLogps:
        """See ``Forward``."""
        with autocast(transformers_model(self.model).device, self.dtype):
            return reply_logps(self.model, *rows(groups), self.pad_id, temperature)

    def outlook(
        self,
        groups: Sequence[ReplyGroup],
        temperature: float = 1.0,
        *,
        value_head: ValueHead | None = None,
        entropies: bool = False,
    ) -> Outlook:
        """See ``Forward``."""
        with autocast(transformers_model(self.model).device, self.dtype):
            return reply_outlook(
                self.model, *rows(groups), self.pad_id, temperature, value_head, entropies=entropies
            )

    def scores(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """See ``Forward``."""
        with autocast(transformers_model(self.model).device, self.dtype):
            return reply_scores(self.model, *rows(groups), self.pad_id)

    def values(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """See ``Forward``."""
        with autocast(transformers_model(self.model).device, self.dtype):
            return reply_values(self.model, *rows(groups), self.pad_id)

    def work(self, groups: Sequence[ReplyGroup]) -> Work:
        """See ``Forward``."""
        longest = max(len(one.prompt_ids) + max(map(len, one.replies)) for one in groups)
        return work_of(groups, self.cost, slots=sum(len(one.replies) for one in groups) * longest)


def transformers_model(model: Any) -> Any:
    """The transformers model inside a policy's or scalar model's ``model``."""
    return plain_model(model.inner if isinstance(model, LastTokenScores) else model)


def packed_hidden(whole: Any, layout: Layout) -> Tensor:
    """Last hidden states (T, H) of a packed row."""
    backbone = getattr(whole, whole.base_model_prefix)
    outputs = backbone(
        input_ids=layout.input_ids_T.unsqueeze(0),
        position_ids=layout.positions_T.unsqueeze(0),
        # four dimensions pass through as they are, so that no mask of T x T is made
        attention_mask=layout.input_ids_T.new_ones((1, 1, 1, 1)),
        use_cache=False,
        packed=layout,
    )
    hidden: Tensor = outputs.last_hidden_state[0]
    return hidden


def rows(groups: Sequence[ReplyGroup]) -> tuple[list[Any], list[Any]]:
    """Prompts and replies, one a row, in the order that ``Forward`` gives."""
    check_groups(groups)
    count = len(groups[0].replies)
    prompts = [one.prompt_ids for one in groups] * count
    return prompts, [one.replies[order] for order in range(count) for one in groups]
