"""A server whose model is a policy of this project, sampled as it is sampled here; it loads weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from align.generation.local import sample_tokens
from align.models.policy import Policy, load_policy
from align.models.settings import AdapterSettings, ModelSettings
from align.settings import SamplingSettings
from experiments.collect.serving import Said, StandIn, problem, serving

COMPLETIONS, RELOAD = "/v1/completions", "/update_weights_from_disk"
Shape = Callable[[Policy, dict[str, Any], Any], dict[str, Any]]
"""(policy, choice, reply) -> the choice as a kind of server would word it."""


def opened(folder: Path, longest: int) -> Policy:
    return load_policy(
        ModelSettings(path=str(folder), max_length=longest), AdapterSettings(), texts=None, seed=0
    )


class Model:
    """What the server holds: weights from a folder, and which folders they were."""

    def __init__(
        self, folder: Path, shape: Shape | None = None, deaf: bool = False, longest: int = 192
    ) -> None:
        self.longest = longest
        self.policy = opened(folder, longest)
        self.shape = shape
        self.deaf = deaf
        """Says that it has loaded what it was told to, and has not."""
        self.loaded: list[str] = []
        self._lock = threading.Lock()

    def complete(self, body: Mapping[str, Any], _: int) -> Said:
        """The sampler of this project under the request's seed, in the words of vLLM."""
        sampling = SamplingSettings(max_new_tokens=body["max_tokens"], temperature=body["temperature"])
        prompt = np.array(body["prompt"], dtype=np.int32)
        with self._lock:  # threads share a model, and its attention is exchanged while it samples
            (reply,) = sample_tokens(self.policy, [prompt], sampling, body["seed"])
        assert reply.logps is not None
        choice: dict[str, Any] = {
            "text": reply.text,
            "finish_reason": "stop" if reply.ended else "length",
            "token_ids": list(reply.token_ids),
            "logprobs": {"token_logprobs": reply.logps.tolist()} if "logprobs" in body else None,
        }
        if self.shape is not None:
            choice = self.shape(self.policy, choice, reply)
        return Said({"model": body["model"], "choices": [choice]})

    def load(self, body: Mapping[str, Any], _: int) -> Said:
        """As SGLang answers."""
        self.loaded.append(Path(body["model_path"]).parent.name)
        with self._lock:
            if not self.deaf:
                self.policy = opened(Path(body["model_path"]), self.longest)
        return Said({"success": True, "message": "Succeeded to update model weights."})


@contextmanager
def serving_policy(folder: Path, **how: Any) -> Iterator[tuple[StandIn, Model]]:
    """The server's address and what it was told, and its model."""
    model = Model(folder, **how)
    with serving(
        lambda *_: problem(404, "no conversations here"),
        {COMPLETIONS: model.complete, RELOAD: model.load},
    ) as stand_in:
        yield stand_in, model


def words_for(stand_in: StandIn, *more: str) -> list[str]:
    """The options of a stage that takes its replies from there."""
    return [f"server.url={stand_in.url}", "server.model=policy", "server.pause=0.01", *more]
