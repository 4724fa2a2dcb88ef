"""One Hugging Face folder out of a run, one of its checkpoints, or a model with an adapter; on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from align.errors import CheckpointError, ModelError
from align.models.build import quiet
from align.models.policy import load_policy
from align.models.save import plain_model, save_model, whole_folder
from align.models.scalar import load_scalar
from align.models.settings import AdapterSettings, ModelSettings
from align.models.source import adapter_task, find_model, is_scalar, read_config
from align.pairs.read import texts
from align.run import Run, read_record
from align.training import checkpoints

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_TOKENS = 64
"""Tokens of the text that an exported model is compared on."""


@dataclass(frozen=True)
class Opened:
    """A model with its adapter merged in, float32, in eval mode, and the step that it is of, if of one."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    is_scalar: bool
    step: int | None = None


def open_finished(path: str) -> Opened:
    """The model of a finished run, of a Hugging Face folder or of a Hub name, its adapter merged in.

    Raises:
        ModelError: there is none, or its adapter cannot be merged.
    """
    source = find_model(path)
    adapter = source.adapter
    if adapter is None and (Path(source.weights) / "adapter_config.json").is_file():
        adapter = source.weights
    if adapter is not None:
        _refuse_virtual(adapter)
    config = read_config(source)
    scores = is_scalar(config) or (adapter is not None and adapter_task(adapter) == "SEQ_CLS")
    # no text is cut here: 1 fits the positions of any model
    settings = ModelSettings(path=path, max_length=1)
    if scores:
        scalar = load_scalar(settings, AdapterSettings(), texts=None, seed=0, trained=True)
        return _merged(scalar.model.inner, scalar.tokenizer, is_scalar=True)
    policy = load_policy(settings, AdapterSettings(), texts=None, seed=0)
    return _merged(policy.model, policy.tokenizer, is_scalar=False)


def open_checkpoint(original: Run, step: int | None) -> Opened:
    """The model of a run as it was at a checkpoint's step; the newest one where none is given.

    The model that the run began with is loaded as the run did, then the checkpoint's weights.

    Raises:
        CheckpointError: there is no such checkpoint, or it is not of this run's model.
        ModelError, DataError: what the run began with is gone.
    """
    folder = original.directory / "checkpoints"
    steps = checkpoints.steps_in(folder)
    if step is None:
        step = steps[-1] if steps else None
    if step not in steps:
        raise CheckpointError(
            f"{folder} holds no checkpoint of step {step}: it has {', '.join(map(str, steps)) or 'none'}"
        )
    assert step is not None
    saved = checkpoints.read(checkpoints.folder_of(folder, step)).tensors["weights"]
    stage: Any = original.stage
    if not hasattr(stage, "training"):
        raise CheckpointError(
            f"{original.directory} is a run of stage={original.stage_name}: no model is in it"
        )
    arguments: dict[str, Any] = {"texts": lambda: texts(stage.dataset), "seed": original.seed}
    if original.stage_name == "reward":
        scalar = load_scalar(stage.model, stage.adapter, **arguments)
        _put(scalar.model, saved, step)
        return _merged(scalar.model.inner, scalar.tokenizer, is_scalar=True, step=step)
    policy = load_policy(stage.model, stage.adapter, **arguments)
    _put(policy.model, _of_policy(saved), step)
    return _merged(policy.model, policy.tokenizer, is_scalar=False, step=step)


def write_export(opened: Opened, directory: Path, dtype: str, quantise: Literal["none", "int8"]) -> float:
    """Writes the folder; returns by how much what it computes differs from the model in memory, at most.

    That is in nats of a token's log-probability, or in units of a score, over a text of its own tokens.
    ``int8`` needs torchao, see ``can_quantise``.
    """
    ids = _some_tokens(opened)
    with torch.no_grad():
        before = _outputs(opened.model, ids)
    opened.model.to(DTYPES[dtype])
    save_model(opened.model, opened.tokenizer, directory)
    if quantise == "int8":
        _quantise(opened, directory, dtype)
    with quiet(), torch.no_grad():
        again = type(opened.model).from_pretrained(directory).eval()
        after = _outputs(again, ids)
    return float((after - before).abs().max())


def _quantise(opened: Opened, directory: Path, dtype: str) -> None:
    """Linear layers in 8 bits with one scale a row; embeddings and heads stay as they are."""
    with quiet():
        from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    heads = ["score", "classifier", "lm_head"]
    with quiet():
        small = type(opened.model).from_pretrained(
            directory,
            dtype=DTYPES[dtype],
            quantization_config=TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=heads),
        )
        with whole_folder(directory) as aside:
            small.save_pretrained(aside)
            opened.tokenizer.save_pretrained(aside)


def can_quantise() -> bool:
    """Whether torchao is installed."""
    from importlib.util import find_spec

    return find_spec("torchao") is not None


def _merged(
    model: Any, tokenizer: PreTrainedTokenizerBase, *, is_scalar: bool, step: int | None = None
) -> Opened:
    whole = model.merge_and_unload() if isinstance(model, PeftModel) else plain_model(model)
    return Opened(whole.eval(), tokenizer, is_scalar, step)


def _of_policy(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A policy's weights out of those that were trained with it (a critic's)."""
    if not any(name.startswith("policy.") for name in saved):
        return dict(saved)
    return {name.removeprefix("policy."): one for name, one in saved.items() if name.startswith("policy.")}


def _put(model: torch.nn.Module, saved: Mapping[str, Tensor], step: int) -> None:
    current = model.state_dict()
    strangers = [
        name for name, one in saved.items() if name not in current or one.shape != current[name].shape
    ]
    if strangers or not saved:
        raise CheckpointError(
            f"the checkpoint of step {step} is of another model: {', '.join(strangers[:4]) or 'it is empty'}"
        )
    model.load_state_dict(dict(saved), strict=False)


def _refuse_virtual(adapter: str) -> None:
    kind = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8")).get("peft_type")
    if kind in ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"):
        raise ModelError(
            f"the adapter in {adapter} is {kind}: tokens before the prompt, which no weight of the model can "
            f"take up. Use the run's own folder, with peft"
        )


def _some_tokens(opened: Opened) -> Tensor:
    known = int(opened.model.get_input_embeddings().weight.shape[0])
    return torch.randint(known, (1, _TOKENS), generator=torch.Generator().manual_seed(0))


def _outputs(model: Any, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
    return logits if logits.dim() == 2 else logits.log_softmax(-1)


def original_run(path: str) -> Run | None:
    """The run in a directory as it was composed, None where there is none."""
    from align.typed import typed_run

    record = read_record(Path(path))
    if record is None:
        return None
    config = {**record["config"], "run": {**record["config"]["run"], "dir": path}}
    return typed_run(config, "", record.get("command", ()))
