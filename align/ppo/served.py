"""Replies to learn from that a server writes, and the policy's weights on their way to it.

What is trained on are tokens: the server's own where it names them, else those of its text, read by the
policy's tokenizer. Each of the latter is counted, and so is a text that those tokens do not spell. The reward
judges what is trained on. Legend: N replies, T tokens.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from align.errors import CheckpointError, ServerError
from align.generation.completions import Completion
from align.generation.server import Server
from align.generation.serving import NEEDS, ServingSettings, hand_over_calls
from align.models.chat import ChatFormat
from align.models.policy import Policy, save_policy
from align.models.save import save_adapter
from align.ppo.rollout import sampled_logps
from align.ppo.shaping import kl_NT
from align.settings import SamplingSettings
from align.tensors import SampledReply, TokenLogps
from align.training import checkpoints

TokenIds = NDArray[np.int32]
Metrics = dict[str, tuple[float, float]]


@dataclass
class ServedRollouts:
    """A server that answers in the policy's place, and is told of its weights."""

    server: Server
    serving: ServingSettings
    policy: Policy
    directory: Path
    """The run's: weights go to ``served/`` in it."""
    loaded: int | None = None
    """The step whose weights the server was told to load; None before this sitting has told it anything."""

    def draw(
        self, prompt_ids: Sequence[TokenIds], sampling: SamplingSettings, seed: int, step: int
    ) -> tuple[list[SampledReply], Metrics]:
        """One reply to each prompt, and what a line of metrics says of how they came.

        Raises:
            ServerError: see ``Server.complete``; the server does not load the weights.
            CheckpointError: weights that a resumed run has to hand over again are gone.
        """
        looks = self._hand_over(step)
        found = self.server.complete(
            [ids.tolist() for ids in prompt_ids],
            sampling,
            seed,
            self.policy.chat.stop_ids,
            logprobs=self.serving.logprobs != "none",
        )
        read = [read_reply(one, self.policy.chat, sampling.max_new_tokens) for one in found]
        count = float(len(read))
        for name in ("retokenised", "misspelt", "cut"):
            looks[f"server/{name}"] = (float(sum(getattr(one, name) for one in read)), count)
        if self.serving.logprobs != "none":
            looks["server/unmatched"] = (float(sum(one.reply.logps is None for one in read)), count)
        return [one.reply for one in read], looks

    def _hand_over(self, step: int) -> Metrics:
        """Sees that the server has the weights that this step samples from: those of every so many steps.

        A resumed run hands over again what the one before it had, whatever the server has seen since.
        """
        if self.serving.reload == "none":
            return {}
        due = due_at(step, self.serving.refresh_every)
        place = self._folder(due)
        if due == step:
            self._write(place)
        elif not place.exists():
            raise CheckpointError(
                f"the weights that the server has to have in step {step} are gone ({place}): "
                f"start anew in another run.dir"
            )
        if self.loaded != due:
            self._tell(place)
            self.loaded = due
            self._tidy(due)
        return {"server/age": (float(step - due), 1.0)}

    def _folder(self, step: int) -> Path:
        return self.directory / "served" / f"step-{step:06d}"

    def _write(self, place: Path) -> None:
        if self.serving.reload != "vllm_lora":
            save_policy(self.policy, place / "model")
            return
        save_adapter(self.policy.model, self.policy.tokenizer, place / "adapter")

    def _tell(self, place: Path) -> None:
        try:
            for call in hand_over_calls(self.serving, self.server.settings.model, place.resolve()):
                self.server.command(call.path, call.body)
        except ServerError as error:
            reload = self.serving.reload
            raise ServerError(
                f"the server does not take the policy's weights (serving.reload={reload}): {error}. "
                f"Usual cause: {NEEDS[reload]}"
            ) from error

    def _tidy(self, current: int) -> None:
        """Leaves what the server has, and what it would have to have after a resumption."""
        every = self.serving.refresh_every
        steps = checkpoints.steps_in(self.directory / "checkpoints")
        kept = {self._folder(due_at(step + 1, every)) for step in steps} | {self._folder(current)}
        for place in (self.directory / "served").glob("step-*"):
            if place not in kept:
                shutil.rmtree(place)


@dataclass(frozen=True)
class Read:
    """A completion as a reply, and what was done to it."""

    reply: SampledReply
    retokenised: bool
    """Whether its tokens are not the server's, which named none."""
    misspelt: bool
    """Whether these tokens spell another text: the tokenizer does not hold all that the server wrote."""
    cut: bool
    """Whether it had more tokens than a reply may have, and lost the last ones."""


def due_at(step: int, every: int) -> int:
    """The step at whose beginning the weights were taken that ``step`` (from 1) samples from."""
    return (step - 1) // every * every + 1


def read_reply(said: Completion, chat: ChatFormat, most: int) -> Read:
    """The tokens to train on, and the server's log-probabilities where there is one for each of them."""
    logps = said.logps
    if said.token_ids is not None:
        ids = _until_stop(said.token_ids, chat.stop_ids)
        if logps is not None and len(logps) != len(said.token_ids):
            logps = None
        misspelt = False
    else:
        ids = tuple(chat.written_ids(said.text).tolist())
        misspelt = chat.read_back(said.text) != said.text
        if logps is not None and not _same_tokens(ids, said, chat):
            logps = None
    if said.ended and (not ids or ids[-1] not in chat.stop_ids):
        ids = (*ids, chat.stop_ids[0])
    cut = len(ids) > most
    ids = ids[:most]
    if logps is not None and len(logps) < len(ids):
        logps = None  # the server does not say how likely the end was
    return Read(
        SampledReply(
            chat.decode_reply(ids),
            ids,
            ids[-1] in chat.stop_ids,
            None if logps is None else np.array(logps[: len(ids)], dtype=np.float32),
        ),
        retokenised=said.token_ids is None,
        misspelt=misspelt,
        cut=cut,
    )


def server_distance(old: TokenLogps, replies: Sequence[SampledReply]) -> Metrics:
    """How far the policy is from what wrote the replies, by tokens whose log-probability the writer gave.

    ``server/kl``: KL(server || policy) in nats a token, by k3. ``server/effective``: the share of tokens that
    unbounded importance weights would leave, (sum w)^2 / (n sum w^2) with w = policy / server (Kong 1992).
    """
    sampled_NT = sampled_logps(replies, old)
    if sampled_NT is None:
        return {}
    known_N = torch.tensor([one.logps is not None for one in replies], device=old.mask_BT.device)
    mask_NT = old.mask_BT & known_N.unsqueeze(-1)
    tokens = float(mask_NT.sum())
    weights = (old.logps_BT - sampled_NT)[mask_NT].double().exp()
    return {
        "server/kl": (float(kl_NT(sampled_NT, old.logps_BT, "k3", mask_NT).double().sum()), tokens),
        "server/effective": (float(weights.sum() ** 2 / (tokens * (weights**2).sum())), 1.0),
    }


def _until_stop(ids: Sequence[int], stops: Sequence[int]) -> tuple[int, ...]:
    """Up to and with the first token that ends a reply here; a server may have gone on."""
    end = next((place + 1 for place, token in enumerate(ids) if token in stops), len(ids))
    return tuple(ids[:end])


def _same_tokens(ids: Sequence[int], said: Completion, chat: ChatFormat) -> bool:
    """Whether the tokens of the text are, one by one, what the server wrote; its own end may follow."""
    pieces = said.pieces or ()
    if len(pieces) < len(ids):
        return False
    spelt = [chat.tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ids]
    return list(pieces[: len(ids)]) == spelt
