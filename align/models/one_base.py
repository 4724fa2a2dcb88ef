"""Scalar models on a policy's own frozen weights: an adapter and a head of their own, no weight twice.

Each has its own tree of modules, whose parameters below the adapters are the policy's very tensors. So no
adapter is ever switched: the policy's, a critic's and a reward's are each always on in their own tree, in
passes that recompute activations, too, and the reference switches off the policy's alone.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoModelForSequenceClassification

from align.models.adapters import with_adapter
from align.models.build import Origin, quiet, seeded
from align.models.chat import ChatFormat
from align.models.policy import Policy
from align.models.products import quicken
from align.models.save import backbone_fingerprint, backbone_of, plain_model, saved_base
from align.models.scalar import LastTokenScores, ScalarModel, draw_head, reads_last_token
from align.models.settings import AdapterSettings
from align.models.source import adapter_folder, adapter_kind, adapter_task
from align.models.tokenizer import load_tokenizer
from align.models.virtual import virtual_of
from align.protocols import RewardModel, Scorer

_fingerprints: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""Of the frozen weights of each policy that is still in memory: an ensemble asks once a member."""


class Apart(Exception):
    """Why a scalar model cannot stand on a policy's weights, as the end of 'because ...'."""


@runtime_checkable
class OnBase(Protocol):
    """A reward whose models may stand on a policy's frozen weights."""

    def prepare_on(self, policy: Policy, cache: Path | None = None) -> Scorer:
        """As ``prepare``; what can share the policy's weights does, and what cannot says why."""


def prepared(reward: RewardModel, policy: Policy | None, cache: Path | None = None) -> Scorer:
    """A reward ready to score, on the weights of a policy with an adapter where it can stand there."""
    if policy is not None and isinstance(policy.model, PeftModel) and isinstance(reward, OnBase):
        return reward.prepare_on(policy, cache)
    return reward.prepare(cache)


def new_scalar(policy: Policy, adapter: AdapterSettings, seed: int) -> ScalarModel:
    """A new adapter and a new head, drawn from ``seed`` as ``load_scalar`` draws them, in training mode.

    Raises:
        Apart: the policy has no adapter of its own, or its architecture has no such head.
        ModelError: no layer has one of the names in ``adapter.target_modules``.
    """
    tree = _tree(policy, seed)
    adapted = with_adapter(
        tree, Origin(tree.config, policy.tokenizer, None, policy.max_length), adapter, "SEQ_CLS", seed
    )
    return _scalar(adapted, policy, policy.chat)


def saved_scalar(policy: Policy, path: str, *, trainable: bool = False, dropout: float = 0.0) -> ScalarModel:
    """The adapter and head of a run of ``stage=reward`` that was trained on the policy's frozen weights.

    Its tokenizer and chat format are its own. It is in eval mode and frozen, or ``trainable``, in training
    mode, with ``dropout`` on the adapter's input.

    Raises:
        Apart: there is no such adapter at ``path``, it was trained on other weights, or as ``new_scalar``.
    """
    folder = _fitting(policy, path)
    tree = _tree(policy, seed=0)
    config = PeftConfig.from_pretrained(folder)
    config.lora_dropout = dropout
    with quiet():
        adapted = PeftModel.from_pretrained(
            tree, folder, config=config, is_trainable=trainable, torch_device=str(policy.device)
        )
    scalar = _scalar(adapted, policy, ChatFormat(load_tokenizer(folder, None)))
    scalar.model.train(trainable)
    return scalar


def _scalar(adapted: Any, policy: Policy, chat: ChatFormat) -> ScalarModel:
    scorer = LastTokenScores(adapted).to(policy.device).train()
    return ScalarModel(scorer, chat.tokenizer, chat, policy.device, policy.max_length)


def _fitting(policy: Policy, path: str) -> str:
    """The folder of a reward model's adapter on the policy's frozen weights."""
    folder = adapter_folder(path)
    if folder is None or adapter_task(folder) != "SEQ_CLS":
        raise Apart("it is no adapter (stage=reward adapter=lora makes one)")
    if adapter_kind(folder) != "lora":
        raise Apart("its virtual tokens are not the policy's")
    base = saved_base(Path(folder))
    if base is None:
        raise Apart("its adapter does not say which weights it was trained on")
    if policy.model not in _fingerprints:
        _fingerprints[policy.model] = backbone_fingerprint(policy.model)
    if base != _fingerprints[policy.model]:
        raise Apart("its adapter was trained on other weights than the policy starts from")
    return folder


def _tree(policy: Policy, seed: int) -> Any:
    """A sequence classifier whose backbone is the policy's with the adapter off; its head is new."""
    if not isinstance(policy.model, PeftModel):
        raise Apart("the policy has no adapter: all its weights move")
    causal = plain_model(policy.model)
    if virtual_of(causal) is not None:
        raise Apart("the policy's virtual tokens stand before every text that these weights read")
    config = copy.deepcopy(causal.config)
    config.num_labels = 1
    try:
        with seeded(seed), quiet(), torch.device("meta"):
            # the architecture's own attention: the policy's may have been exchanged by now
            tree = AutoModelForSequenceClassification.from_config(
                config, dtype=torch.float32, attn_implementation=None
            )
    except ValueError as error:
        raise Apart(f"{type(causal).__name__} has no kin with a scalar head") from error
    quicken(tree)
    ours, theirs = backbone_of(tree), backbone_of(causal)
    if ours is None or theirs is None or not reads_last_token(tree):
        raise Apart(f"{type(tree).__name__} has no head that reads one position of {type(causal).__name__}")
    _share(theirs, ours)
    tree.score.to_empty(device="cpu")
    draw_head(tree, {f"score.{name}" for name, _ in tree.score.named_parameters()}, seed)
    absent = [name for name, one in (*tree.named_parameters(), *tree.named_buffers()) if one.is_meta]
    if absent:
        raise Apart(f"{type(tree).__name__} has weights that the policy lacks: {', '.join(absent[:3])}")
    return tree


def _share(source: nn.Module, target: nn.Module) -> None:
    """Puts the source's own parameters and buffers, without its adapters, into the target's modules."""
    twins = dict(source.named_modules())
    for path, module in target.named_modules():
        twin = twins.get(path)
        twin = twin.get_base_layer() if isinstance(twin, LoraLayer) else twin
        if twin is None or type(twin) is not type(module):
            raise Apart(f"its {path or 'backbone'} is {type(module).__name__}, not {type(twin).__name__}")
        for name, parameter in twin.named_parameters(recurse=False):
            setattr(module, name, parameter)
        for name, buffer in twin.named_buffers(recurse=False):
            setattr(module, name, buffer)
