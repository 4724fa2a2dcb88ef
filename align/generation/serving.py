"""What a server needs beside its address where replies to learn from come from it.

A served model keeps its weights while the policy moves. Either it is told to load them every so often
(``reload``), or what it says is another policy's and is weighted so (``rollout.importance_cap``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from align.errors import ConfigError
from align.settings import PositiveInt

FOLDER = "FOLDER"
"""Stands in ``serving.body`` for the folder that the server is to load."""


@dataclass(frozen=True)
class ServingSettings:
    """How a served model follows the policy that is trained on its replies."""

    logprobs: Literal["raw", "tempered", "none"] = "raw"
    """Of what the server's log-probabilities are: of its logits as they are (vLLM), of those divided by the
    temperature (SGLang, vLLM with ``--logprobs-mode processed_logprobs``); ``none`` asks for none."""
    reload: Literal["none", "vllm", "vllm_lora", "sglang", "other"] = "none"
    """How the server is told to load the policy's weights, from a folder that it can read, too."""
    refresh_every: PositiveInt = 1
    """Iterations from one time to the next."""
    post: str | None = None
    """For ``reload=other``: the path that is posted to, from the server's root: ``/load``."""
    body: Mapping[str, str] = field(default_factory=dict)
    """For ``reload=other``: what is sent there as JSON; ``FOLDER`` stands for the weights' folder."""

    def __post_init__(self) -> None:
        if (self.reload == "other") != (self.post is not None):
            raise ConfigError("reload=other and post=/PATH belong together: give both, or neither")
        if self.post is not None and not self.post.startswith("/"):
            raise ConfigError(f"post={self.post!r} is a path from the server's root, and begins with /")
        if (self.reload == "other") != bool(self.body):
            raise ConfigError(
                f"reload=other and body belong together: give body.NAME={FOLDER}, so that the server is told "
                f"what to load, or neither"
            )
        if self.reload == "other" and FOLDER not in self.body.values():
            raise ConfigError(f"body names no folder: one of its values has to be {FOLDER}")
        if self.reload == "none" and self.refresh_every != 1:
            raise ConfigError("refresh_every is for a server that loads weights: set reload, or leave it out")


@dataclass(frozen=True)
class Call:
    """One request that is part of a hand-over: JSON posted to a path from the server's root."""

    path: str
    body: Mapping[str, Any]


def hand_over_calls(serving: ServingSettings, model: str, folder: Path) -> tuple[Call, ...]:
    """The requests that make a server load ``folder/model`` (or ``folder/adapter``), in order.

    vLLM's cache of prompts knows nothing of new weights and is
    emptied by a request of its own; SGLang empties its own while it loads.
    """
    weights, adapter = str(folder / "model"), str(folder / "adapter")
    emptied = Call("/reset_prefix_cache", {})
    if serving.reload == "vllm":
        arguments = {"method": "reload_weights", "kwargs": {"weights_path": weights}}
        return Call("/collective_rpc", arguments), emptied
    if serving.reload == "vllm_lora":
        named = {"lora_name": model, "lora_path": adapter, "load_inplace": True}
        return Call("/v1/load_lora_adapter", named), emptied
    if serving.reload == "sglang":
        return (Call("/update_weights_from_disk", {"model_path": weights, "flush_cache": True}),)
    assert serving.post is not None, "refused by the settings"
    body = {name: weights if value == FOLDER else value for name, value in serving.body.items()}
    return (Call(serving.post, body),)


NEEDS = {
    "vllm": "start vLLM with VLLM_SERVER_DEV_MODE=1",
    "vllm_lora": "start vLLM with --enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=True and "
    "VLLM_SERVER_DEV_MODE=1",
    "sglang": "the server has to read the run's folder under the same path",
    "other": "look at serving.post and serving.body",
}
"""What a server that refuses a hand-over usually lacks."""
