"""Where a model comes from: a run directory, a Hugging Face folder, an adapter, or a Hub name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import AutoConfig, PreTrainedConfig

from align.errors import ModelError
from align.registry import near

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True)
class ModelSource:
    """What ``model.path`` stands for.

    ``weights`` and ``tokenizer`` are folders or Hub names in Hugging Face layout; ``adapter`` is the
    folder of an adapter that belongs on top of ``weights``, or None.
    """

    weights: str
    tokenizer: str
    adapter: str | None = None


def find_model(path: str) -> ModelSource:
    """Resolves ``model.path``.

    A folder that holds ``model/config.json`` is a run directory, one that holds ``config.json`` a Hugging
    Face folder, and an ``adapter_config.json`` beside that is an adapter on its weights. One that holds only
    ``adapter_config.json`` (or a run directory with only ``adapter/``) is an adapter on the base that it
    names. What is no folder is a Hub name, unless it looks like a path.

    Raises:
        ModelError: nothing of the kind is there, with the nearest name that is.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        return _hub_source(path, folder)
    if not folder.is_dir():
        raise ModelError(
            f"model path {path} is a file; it takes a run directory, a model folder or a Hub name"
        )
    for place in (folder / "model", folder):
        if (place / "config.json").is_file():
            own = str(place.resolve())
            return ModelSource(own, own, own if (place / "adapter_config.json").is_file() else None)
    adapter = adapter_folder(path)
    if adapter is not None:
        return _adapter_source(Path(adapter))
    hint = " (a run that did not finish?)" if (folder / "config.yaml").is_file() else ""
    raise ModelError(
        f"model path {path} holds neither model/config.json nor config.json nor adapter_config.json{hint}"
    )


def read_config(source: ModelSource) -> PreTrainedConfig:
    """The architecture's config.

    Raises:
        ModelError: it cannot be read, or a Hub name cannot be reached.
    """
    try:
        return AutoConfig.from_pretrained(source.weights)
    except (OSError, ValueError, KeyError) as error:
        raise cannot_load(source.weights, error) from error


def cannot_load(path: str, error: Exception) -> ModelError:
    """The one line for a library's refusal to load a model."""
    reason = " ".join(str(error).split())
    if not Path(path).is_dir():
        reason = f"no such folder, and the Hub does not give it ({reason[:160]})"
    return ModelError(f"no model can be loaded from {path}: {reason[:300]}")


def is_scalar(config: Any) -> bool:
    """Whether a checkpoint was saved with a sequence-classification head."""
    return any("ForSequenceClassification" in name for name in config.architectures or [])


def adapter_folder(path: str) -> str | None:
    """The adapter in a folder, or the one that a run directory keeps beside its merged weights, if any."""
    folder = Path(path).expanduser()
    for place in (folder / "adapter", folder):
        if (place / "adapter_config.json").is_file():
            return str(place.resolve())
    return None


def adapter_task(adapter: str) -> str:
    """What an adapter was trained for: ``CAUSAL_LM`` or ``SEQ_CLS``."""
    return str(_adapter_config(Path(adapter)).get("task_type"))


def adapter_kind(adapter: str) -> str:
    """The word after ``adapter=`` that makes an adapter of its kind; ``lora`` for all low-rank updates."""
    kind = str(_adapter_config(Path(adapter)).get("peft_type"))
    known = {"LORA": "lora", "PROMPT_TUNING": "prompt", "PREFIX_TUNING": "prefix"}
    if kind not in known:
        raise ModelError(f"the adapter in {adapter} is of the kind {kind}; known are {', '.join(known)}")
    return known[kind]


def _hub_source(path: str, folder: Path) -> ModelSource:
    parent = folder.parent
    siblings = sorted(one.name for one in parent.iterdir() if one.is_dir()) if parent.is_dir() else []
    close = near(folder.name, siblings)
    a_path = path.startswith((".", "/", "~")) or (len(folder.parts) > 1 and parent.is_dir())
    if a_path or not _HUB_NAME.fullmatch(path):
        close = close.replace("'", f"'{parent}/", 1) if close and len(folder.parts) > 1 else close
        raise ModelError(f"there is no model at {path}.{close}")
    return ModelSource(weights=path, tokenizer=path)


def _adapter_source(place: Path) -> ModelSource:
    base = _adapter_config(place).get("base_model_name_or_path")
    if not base:
        raise ModelError(
            f"the adapter in {place} does not name its base model; give the merged model instead"
        )
    below = find_model(str(base))
    if below.adapter is not None:
        raise ModelError(f"the adapter in {place} stands on another adapter, {base}; merge that one first")
    own_tokenizer = (place / "tokenizer_config.json").is_file()
    return ModelSource(below.weights, str(place) if own_tokenizer else below.tokenizer, str(place))


def _adapter_config(place: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((place / "adapter_config.json").read_text(encoding="utf-8")))
