"""Sampling by transformers' own ``generate``: what any architecture takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from align.errors import NonFiniteError
from align.models.build import seeded
from align.models.policy import Policy, evaluating
from align.models.save import plain_model
from align.settings import SamplingSettings
from align.tensors import SampledReply

TokenIds = NDArray[np.int32]


def generate(
    policy: Policy,
    prompt_ids: Sequence[TokenIds],
    settings: SamplingSettings,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> list[SampledReply]:
    """One reply a prompt, without log-probabilities and values.

    A batch is done when its last row is, and what a row draws depends on what shares its batch.

    Raises:
        NonFiniteError: the policy's logits are NaN or infinite.
    """
    # by length, so that a batch holds little padding; ties keep the prompts' order
    order = sorted(range(len(prompt_ids)), key=lambda row: len(prompt_ids[row]))
    replies: dict[int, SampledReply] = {}
    with torch.no_grad(), evaluating(policy.model), _no_defaults(policy) as model, seeded(seed):
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            drawn = _draw(policy, model, [prompt_ids[row] for row in rows], settings)
            replies.update(zip(rows, drawn, strict=True))
            if progress is not None:
                progress(len(rows))
    return [replies[row] for row in range(len(prompt_ids))]


def refuse_non_finite(policy: Policy, position: int) -> NonFiniteError:
    """The error of logits that are NaN or infinite; ``position`` counts the tokens before."""
    path = plain_model(policy.model).config.name_or_path
    which = f"; the policy is {path}" if path else ""
    return NonFiniteError(f"the logits of the policy are not finite at position {position}{which}")


def _draw(
    policy: Policy, model: Any, prompts: Sequence[TokenIds], settings: SamplingSettings
) -> list[SampledReply]:
    width = max(len(prompt) for prompt in prompts)
    input_ids = np.full((len(prompts), width), policy.pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(prompts), width), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        # on the left, so that every row goes on at the same position
        input_ids[row, width - len(prompt) :] = prompt
        attention_mask[row, width - len(prompt) :] = 1
    written = model.generate(
        input_ids=torch.from_numpy(input_ids).to(policy.device),
        attention_mask=torch.from_numpy(attention_mask).to(policy.device),
        generation_config=_config(policy, settings),
        logits_processor=LogitsProcessorList([partial(_check, policy)]),
    )
    return [_reply(policy, ids) for ids in written[:, width:].tolist()]


def _config(policy: Policy, settings: SamplingSettings) -> GenerationConfig:
    common = {
        "max_new_tokens": settings.max_new_tokens,
        "eos_token_id": list(policy.chat.stop_ids),
        "pad_token_id": policy.pad_id,
        "use_cache": True,
    }
    if settings.temperature == 0:
        return GenerationConfig(**common, do_sample=False)
    # transformers keeps the 50 most likely tokens unless it is told not to
    return GenerationConfig(
        **common, do_sample=True, temperature=settings.temperature, top_p=settings.top_p, top_k=0
    )


def _check(policy: Policy, input_ids: Tensor, logits_BV: Tensor) -> Tensor:
    """Before a NaN is drawn from: as the largest logit it would pass for token 0."""
    if not logits_BV.isfinite().all():
        raise refuse_non_finite(policy, input_ids.shape[1])
    return logits_BV


def _reply(policy: Policy, ids: list[int]) -> SampledReply:
    stop = next((place for place, token in enumerate(ids) if token in policy.chat.stop_ids), None)
    kept = ids if stop is None else ids[: stop + 1]
    return SampledReply(policy.chat.decode_reply(kept), tuple(kept), ended=stop is not None)


@contextmanager
def _no_defaults(policy: Policy) -> Iterator[Any]:
    """The transformers model, without what its checkpoint brings to sampling (a repetition penalty, say)."""
    model = plain_model(policy.model)
    own, own_pad = model.generation_config, model.config.pad_token_id
    model.generation_config = GenerationConfig()
    # generate leaves out a mask that is all ones, and a bos that is also the pad then looks like padding to
    # transformers, which warns of a missing mask
    model.config.pad_token_id = None
    try:
        yield model
    finally:
        model.generation_config, model.config.pad_token_id = own, own_pad
