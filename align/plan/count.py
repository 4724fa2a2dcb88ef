"""What a training stage needs, counted by making its passes on tensors without bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from align.distributed.device import compute_dtype
from align.errors import ConfigError
from align.generation.cache import SLACK
from align.generation.decoder import MOST, PASS
from align.models.adapters import held_shape
from align.models.recompute import recompute_activations
from align.models.save import plain_model
from align.models.settings import LOW_RANK, VIRTUAL, AdapterSettings, ModelSettings
from align.models.source import adapter_folder
from align.packing.forward import transformers_model
from align.packing.layout import ReplyGroup
from align.plan.live import Live
from align.plan.made import (
    Asked,
    bytes_of,
    config_of,
    forward_of,
    groups_of,
    made,
    passing,
    without_bytes,
)
from align.plan.needs import Needs
from align.plan.process import alone
from align.plan.settings import PlanSettings
from align.ppo.actor import LinearValue, head_width
from align.stages._common import paths_of
from align.training.freezing import freeze

REPLIES = {"sft": 1, "reward": 2, "dpo": 2, "kto": 1}
"""Replies of one item, by the stage; the other stages that train sample them."""
FOUR_BITS = 4.127 / 32
"""Share of float32 that a weight takes under QLoRA, with its constants (Dettmers et al. 2023, section 3)."""


@dataclass(frozen=True)
class Shape:
    """One rank's pass of training: of ``items`` pairs, examples or prompts; lengths in tokens."""

    items: int
    passes: int
    """A step."""
    prompt: int
    replies: int
    reply: int
    written: int
    """Replies that a rank samples at once; 0 where none are."""


@dataclass(frozen=True)
class Cast:
    """What a training has in memory."""

    policy: Any
    forward: Asked
    critic: Any
    """A network of its own, or a head; None without."""
    values: Asked | None
    """How the former is asked."""
    shared: bool
    """Whether the critic stands on the policy's frozen weights."""

    @property
    def models(self) -> list[nn.Module]:
        """All of them."""
        return [self.policy] if self.critic is None else [self.policy, self.critic]

    @property
    def deep(self) -> list[nn.Module]:
        """Those that have blocks, which a head has not."""
        return self.models if self.values is not None else [self.policy]


def shape_of(name: str, stage: Any, plan: PlanSettings, ranks: int = 1) -> Shape:
    """What a pass of a stage reads, where so many ranks share the batch.

    Raises:
        ConfigError: it is no stage that trains.
    """
    if not hasattr(stage, "training"):
        raise ConfigError(f"of={name}: stage=plan is for stages that train, and {name} trains nothing")
    training, length = stage.training, int(stage.model.max_length)
    batch = training.batch_size
    if name in REPLIES:
        prompt = min(length - 1, max(1, round(plan.prompt_share * length)))
        return Shape(
            *_cut(batch, training.micro_batch_size, ranks), prompt, REPLIES[name], length - prompt, 0
        )
    recipe = getattr(stage, "recipe", None)
    replies = stage.online.replies if recipe is None else recipe.rollout.replies
    written = min(stage.sampling.batch_size, math.ceil(batch * replies / ranks))
    if recipe is not None:
        batch //= recipe.objective.minibatches
    size, passes = _cut(batch, training.micro_batch_size, ranks)
    reply = stage.sampling.max_new_tokens
    # online_dpo makes one pair of a prompt's replies
    return Shape(size, passes, length - reply, replies if recipe is not None else 2, reply, written)


def _cut(batch: int, micro_batch_size: int | None, ranks: int) -> tuple[int, int]:
    """Items of a pass, and passes of a rank, as ``align.training.update.cut`` makes them."""
    size = micro_batch_size or math.ceil(batch / ranks)
    return size, math.ceil(math.ceil(batch / size) / ranks)


def needs_of(name: str, stage: Any, plan: PlanSettings, device: str, ranks: int = 1) -> Needs:
    """What the stage would need on a rank that holds everything, and does its share of the batch.

    Raises:
        ConfigError: it is no stage that trains.
        ModelError: there is no model at a path.
    """
    shape, libraries = shape_of(name, stage, plan, ranks), alone() if device == "cpu" else 0
    scores = name == "reward"
    groups = groups_of(shape.items, shape.prompt, shape.replies, shape.reply)
    with without_bytes() as live:
        cast = _cast(name, stage, device)
        opened = [cast]
        trained, frozen, critic = _weights(cast, quantised=stage.adapter.kind == "qlora")
        largest = _largest(cast.policy)
        with live.peak_of() as looking:
            _look(cast.forward, groups, scores=scores)
        kept, sampling = _sampling(live, cast, stage, shape, device) if shape.written else (0, 0)

        def losses() -> list[Tensor]:
            return _losses(opened[0], groups, scores=scores)

        plain = passing(live, losses, shape.passes, cast.models)
        for one in cast.deep:
            recompute_activations(one)
        recomputed = passing(live, losses, shape.passes, cast.models)
        opened.clear()  # while it is counted, what is let go of must go
    return Needs(
        trained=trained,
        frozen=frozen,
        largest_layer=largest,
        critic=critic,
        reference=trained + frozen - critic if _asks_second_model(name, stage) else 0,
        reference_stays=bool(shape.written),
        reward=_rewards(stage),
        kv_cache=kept,
        sampling=sampling,
        looking=looking[0],
        looks=not shape.written and stage.dataset.validation_fraction > 0,
        passing={False: plain, True: recomputed},
        bucket=stage.deepspeed.bucket_size,
        libraries=libraries,
    )


def _cast(name: str, stage: Any, device: str) -> Cast:
    dtype = compute_dtype(stage.training.precision, device)
    adapter, length = stage.adapter, stage.model.max_length
    padded = stage.training.attention == "padded"
    kind = AdapterSettings(kind="lora", rank=adapter.rank) if adapter.kind == "qlora" else adapter
    room = adapter.virtual_tokens if adapter.kind in VIRTUAL else 0

    def opened(model: ModelSettings, *, scores: bool) -> tuple[Any, Asked]:
        one = made(config_of(model, room), kind, length, scores=scores, device=device)
        freeze(one, stage.training.frozen)
        return one, forward_of(one, dtype, padded=padded)

    policy, forward = opened(stage.model, scores=name == "reward")
    settings = getattr(stage, "critic", None)
    if settings is None:
        return Cast(policy, forward, None, None, shared=False)
    if settings.kind == "shared":
        with torch.device(device):
            head = LinearValue(head_width(plain_model(policy)))
        return Cast(policy, forward, head, None, shared=False)
    start = stage.model if settings.path is None else ModelSettings(settings.path, max_length=length)
    critic, values = opened(start, scores=True)
    return Cast(policy, forward, critic, values, shared=adapter.kind in LOW_RANK and settings.path is None)


def _weights(cast: Cast, *, quantised: bool) -> tuple[int, int, int]:
    """Bytes of what is trained, of what is frozen, and of the critic's part of both."""
    parts = [
        [p for one in cast.models for p in one.parameters() if p.requires_grad is kind]
        for kind in (True, False)
    ]
    trained, frozen = (bytes_of(iter(one)) for one in parts)
    critic = bytes_of(cast.critic.parameters()) if cast.critic is not None else 0
    if cast.shared:
        below = bytes_of(p for p in cast.critic.parameters() if not p.requires_grad)
        frozen, critic = frozen - below, critic - below
    if quantised:
        layers = [one for one in cast.policy.modules() if isinstance(one, LoraLayer)]
        wide = sum(one.get_base_layer().weight.nbytes for one in layers)
        frozen -= round(wide * (1 - FOUR_BITS))
    return trained, frozen, critic


def _largest(model: Any) -> int:
    """Of the blocks and tables, the largest: its weights."""
    whole = transformers_model(model)
    parts: list[nn.Module] = [one for one in whole.modules() if isinstance(one, nn.Embedding)]
    parts += [block for one in whole.modules() if isinstance(one, nn.ModuleList) for block in one]
    return max((bytes_of(one.parameters()) for one in parts), default=0)


def _look(forward: Asked, groups: Sequence[ReplyGroup], *, scores: bool) -> None:
    with torch.no_grad():
        if scores:
            forward.scores(groups)
        else:
            forward.logps(groups)


def _losses(cast: Cast, groups: Sequence[ReplyGroup], *, scores: bool) -> list[Tensor]:
    """What a pass leaves to go back from."""
    if scores:
        return [cast.forward.scores(groups)]
    found = [cast.forward.logps(groups).logps_BT]
    if cast.values is not None:
        found.append(cast.values.scores(groups))
    return found


def _sampling(live: Live, cast: Cast, stage: Any, shape: Shape, device: str) -> tuple[int, int]:
    """Bytes of keys and values at the end of the longest replies, and of what a step takes beside them."""
    whole = transformers_model(cast.policy)
    config, (heads, width) = whole.config.get_text_config(), held_shape(whole)
    slots, end = shape.prompt, shape.prompt + shape.reply
    while slots < end:
        slots += min(shape.reply, max(SLACK, slots // 4))
    layer = 2 * 4 * shape.written * slots * heads * width
    rows = max(1, PASS.get(device, MOST) // shape.prompt)
    with live.peak_of() as reading:
        _look(cast.forward, groups_of(rows, shape.prompt, 1, 1), scores=False)
    logits = 3 * 4 * shape.written * config.vocab_size  # with their exponentials, and those in blocks
    # a layer's memory is there twice while it moves into more
    return layer * config.num_hidden_layers, max(layer, reading[0], logits)


def _asks_second_model(name: str, stage: Any) -> bool:
    if stage.adapter.kind != "none" or name in ("sft", "reward"):
        return False
    recipe, loss = getattr(stage, "recipe", None), getattr(stage, "loss", None)
    if recipe is not None:
        return bool(recipe.asks_reference)
    return loss is None or bool(loss.needs_reference)


def _rewards(stage: Any) -> int:
    """Weights of the models that a reward reads; of adapters on the policy's own weights, the adapters'."""
    found = 0
    for _, path in paths_of(stage.reward, "reward") if hasattr(stage, "reward") else ():
        if Path(path).is_file():  # a template
            continue
        adapter = adapter_folder(path) if stage.adapter.kind in LOW_RANK else None
        if adapter is not None:
            found += sum(one.stat().st_size for one in Path(adapter).glob("*.safetensors"))
            continue
        config = config_of(ModelSettings(path))
        model = made(config, AdapterSettings(), 1, scores=True, device="meta")
        found += bytes_of(model.parameters())
    return found
