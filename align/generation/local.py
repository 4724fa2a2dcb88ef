"""Sample replies from a policy in this process."""

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

from align.errors import ModelError, NonFiniteError
from align.models.build import seeded
from align.models.policy import Policy, evaluating
from align.models.save import plain_model
from align.settings import SamplingSettings
from align.types import Prompt, SampledReply

TokenIds = NDArray[np.int32]
Progress = Callable[[int], None]
"""Told after each batch how many replies it brought."""


def sample_replies(
    policy: Policy,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    seed: int,
    progress: Progress | None = None,
) -> list[SampledReply]:
    """One reply to each prompt, in the order of the prompts.

    Depends on the weights, the prompts, the settings and ``seed`` only; the global random state is left
    as it was, and so is the model's mode. No dropout. Temperature 0 takes the most likely token.

    Raises:
        ModelError: a prompt and its reply together have more tokens than the model has positions for.
        NonFiniteError: the policy's logits are NaN or infinite.
    """
    return sample_tokens(
        policy, [policy.chat.prompt_ids(prompt) for prompt in prompts], settings, seed, progress
    )


def sample_tokens(
    policy: Policy,
    prompt_ids: Sequence[TokenIds],
    settings: SamplingSettings,
    seed: int,
    progress: Progress | None = None,
) -> list[SampledReply]:
    """The same from prompts that are tokens already (cut to a length, say).

    Raises:
        ModelError: as ``sample_replies``.
    """
    _check_room(policy, prompt_ids, settings)
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
        logits_processor=LogitsProcessorList([partial(_refuse_non_finite, policy)]),
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


def _refuse_non_finite(policy: Policy, input_ids: Tensor, logits_BV: Tensor) -> Tensor:
    """Before a NaN is drawn from: as the largest logit it would pass for token 0."""
    if not logits_BV.isfinite().all():
        path = plain_model(policy.model).config.name_or_path
        which = f"; the policy is {path}" if path else ""
        raise NonFiniteError(
            f"the logits of the policy are not finite at position {input_ids.shape[1]}{which}"
        )
    return logits_BV


def _reply(policy: Policy, ids: list[int]) -> SampledReply:
    stop = next((place for place, token in enumerate(ids) if token in policy.chat.stop_ids), None)
    kept = ids if stop is None else ids[: stop + 1]
    return SampledReply(policy.chat.decode_reply(kept), tuple(kept), ended=stop is not None)


def _check_room(policy: Policy, prompt_ids: Sequence[TokenIds], settings: SamplingSettings) -> None:
    for row, prompt in enumerate(prompt_ids):
        if policy.positions is not None and len(prompt) + settings.max_new_tokens > policy.positions:
            raise ModelError(
                f"prompt {row} has {len(prompt)} tokens; with "
                f"sampling.max_new_tokens={settings.max_new_tokens} that is more than the "
                f"{policy.positions} that the model has positions for: lower it, or shorten the prompts"
            )


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
