"""Our own sampler: rows that are done leave, prompts that wait enter, each step one pass over what is alive.

Legend: N replies, M tokens of a reply at most, B rows alive, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align.errors import ModelError
from align.generation.choose import choose
from align.generation.decoder import Decoder, attending
from align.generation.plain import generate, refuse_non_finite
from align.generation.probe import why_not
from align.models.policy import Policy, evaluating
from align.models.save import plain_model
from align.models.virtual import led
from align.packing.head import Head, head_of
from align.packing.probe import refuse_prefix
from align.report.console import say as say_once
from align.settings import SamplingSettings
from align.tensors import SampledReply

TokenIds = NDArray[np.int32]
Progress = Callable[[int], None]
"""Told how many replies were finished since it was told before."""
ValueHead = Callable[[Tensor], Tensor]
"""Last hidden states (B, H), after the final norm, to values (B,)."""

TOGETHER = 4
"""Where steps are recorded, a pass over prompts costs as much as several of them: newcomers wait until one
row in so many is free."""
_refusals: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()
"""What the probe said of each model that is still in memory."""


@dataclass(frozen=True)
class Sampler:
    """A policy made ready to write; ``open_sampler`` makes it."""

    policy: Policy
    refusal: str | None
    """Why transformers' ``generate`` writes instead; None where ours does."""

    def draw(
        self,
        prompt_ids: Sequence[TokenIds],
        settings: SamplingSettings,
        seed: int,
        progress: Progress | None = None,
        value_head: ValueHead | None = None,
        places: Sequence[int] | None = None,
    ) -> list[SampledReply]:
        """One reply to each prompt, in the order of the prompts.

        A reply depends on the weights, its prompt, its place in the list, the settings and ``seed`` only, up
        to rounding: not on what else is drawn. No dropout; global random states, the model's mode and its
        attention are left as they were. Temperature 0 takes the most likely token.

        Args:
            settings: ``batch_size`` rows are alive at once.
            value_head: applied to the very hidden states that the output head reads; fills ``values``.
            places: the prompts of the list that are answered, in ascending order; none answers all.

        Raises:
            ModelError: an empty prompt, or a prompt and its reply together have more tokens than the model
                has positions for.
            NonFiniteError: the policy's logits are NaN or infinite.
        """
        _check_room(self.policy, prompt_ids, settings)
        prompt_ids = led(plain_model(self.policy.model), prompt_ids)
        if self.refusal is not None:
            asked = prompt_ids if places is None else [prompt_ids[place] for place in places]
            return generate(self.policy, asked, settings, seed, progress)
        whole = plain_model(self.policy.model)
        head = head_of(whole)
        assert head is not None, "the probe has used it"
        with torch.no_grad(), evaluating(self.policy.model), attending(whole):
            writing = _Writing(self.policy, head, prompt_ids, settings, seed, value_head, places)
            while writing.goes_on:
                finished = writing.step()
                if finished and progress is not None:
                    progress(finished)
        return writing.replies()

    def stream(self, prompt_ids: TokenIds, settings: SamplingSettings, seed: int) -> Iterator[list[int]]:
        """The reply that ``draw`` would give to this prompt alone, token by token: all its tokens so far.

        Where transformers' ``generate`` writes, there is one look, at the end.

        Raises:
            ModelError, NonFiniteError: as ``draw``.
        """
        _check_room(self.policy, [prompt_ids], settings)
        if self.refusal is not None:
            yield list(generate(self.policy, [prompt_ids], settings, seed)[0].token_ids)
            return
        whole = plain_model(self.policy.model)
        head = head_of(whole)
        assert head is not None, "the probe has used it"
        with evaluating(self.policy.model), attending(whole):
            writing = _Writing(self.policy, head, [prompt_ids], settings, seed, None, None)
            while writing.goes_on:
                # not held while the caller works: it is the whole process's, and another may be streaming
                with torch.no_grad():
                    writing.step()
                yield writing.tokens(0)


def open_sampler(policy: Policy, say: Callable[[str], None] = say_once) -> Sampler:
    """A sampler for a policy, after a probe whose result is remembered as long as the model lives.

    Where single steps do not give the model's own numbers, transformers' ``generate`` writes, ``say`` is told
    why in one line, and replies come without log-probabilities and values.
    """
    whole = plain_model(policy.model)
    if whole not in _refusals:
        _refusals[whole] = why_not(whole)
        if _refusals[whole] is not None:
            refuse_prefix(whole, str(_refusals[whole]))
            say(
                f"note: replies are written by transformers' generate, because {type(whole).__name__} "
                f"{_refusals[whole]}: slower, and without log-probabilities"
            )
    return Sampler(policy, _refusals[whole])


class _Writing:
    """All that is being written. Rows alive are numbered as the decoder's."""

    def __init__(
        self,
        policy: Policy,
        head: Head,
        prompt_ids: Sequence[TokenIds],
        settings: SamplingSettings,
        seed: int,
        value_head: ValueHead | None,
        places: Sequence[int] | None,
    ) -> None:
        count, most = len(prompt_ids), settings.max_new_tokens
        self._policy, self._head, self._settings = policy, head, settings
        self._value_head = value_head
        self._prompts = prompt_ids
        self._asked = range(count) if places is None else places
        # longest first: memory is at its most in the beginning, where running out of it costs least;
        # like prompts beside each other, so that they are read once
        self._waiting = sorted(
            self._asked, key=lambda place: (len(prompt_ids[place]), prompt_ids[place].tobytes(), -place)
        )
        # by place in the list, whatever its length: each row of numbers is a prompt's own
        self._uniforms_NM = np.random.default_rng(seed).random((count, most))
        self._decoder = Decoder(plain_model(policy.model), min(len(self._asked), settings.batch_size), most)
        self._stops = np.array(policy.chat.stop_ids)
        self._place_B: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._tokens_B = torch.zeros(0, dtype=torch.int64, device=policy.device)
        self._tokens_NM = np.zeros((count, most), dtype=np.int32)
        self._counts_N: NDArray[np.int64] = np.zeros(count, dtype=np.int64)
        self._ended_N: NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        self._written: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        """Of each step, the replies that got a token, and which token of theirs it was."""
        self._logps: list[Tensor] = []
        self._values: list[Tensor] = []

    @property
    def goes_on(self) -> bool:
        return bool(self._waiting) or len(self._place_B) > 0

    def step(self) -> int:
        """One token for each row alive, after as many newcomers as there is room for; how many are done."""
        newcomers = [self._waiting.pop() for _ in range(self._enter())]
        hidden_BH = self._decoder.step(self._tokens_B, [self._prompts[place] for place in newcomers])
        self._place_B = np.concatenate((self._place_B, np.array(newcomers, dtype=np.int64)))
        step_B = self._counts_N[self._place_B]
        uniforms_B = torch.from_numpy(self._uniforms_NM[self._place_B, step_B]).to(hidden_BH.device)
        found = choose(self._head(hidden_BH), uniforms_B, self._settings.temperature, self._settings.top_p)
        # the step's one wait for the device
        tokens_B = torch.where(found.finite_B, found.tokens_B, -1).cpu().numpy()
        if tokens_B.min() < 0:
            row = int(tokens_B.argmin())
            raise refuse_non_finite(self._policy, int(self._decoder.read_N[row]))
        self._written.append((self._place_B, step_B))
        self._logps.append(found.logps_B)
        if self._value_head is not None:
            self._values.append(self._value_head(hidden_BH))
        self._tokens_NM[self._place_B, step_B] = tokens_B
        self._counts_N[self._place_B] += 1
        ended_B = np.isin(tokens_B, self._stops)
        self._ended_N[self._place_B] = ended_B
        self._tokens_B = found.tokens_B
        return self._let_go(ended_B | (step_B + 1 == self._settings.max_new_tokens))

    def _enter(self) -> int:
        """How many enter: all that there is room for, and where prompts are dear beside a step, several."""
        alive, waiting = len(self._place_B), len(self._waiting)
        room = min(self._settings.batch_size - alive, waiting)
        enough = self._settings.batch_size // TOGETHER if self._decoder.records else 1
        return room if not alive or room >= min(enough, waiting) else 0

    def _let_go(self, done_B: NDArray[np.bool_]) -> int:
        finished = int(done_B.sum())
        if finished:
            order_B = self._decoder.leave(done_B, for_good=not self._waiting)
            self._place_B = self._place_B[order_B]
            self._tokens_B = self._tokens_B[torch.from_numpy(order_B).to(self._tokens_B.device)]
        return finished

    def tokens(self, place: int) -> list[int]:
        """What one reply has so far."""
        found: list[int] = self._tokens_NM[place, : self._counts_N[place]].tolist()
        return found

    def replies(self) -> list[SampledReply]:
        """What was written, in the order of the prompts."""
        logps_NM = self._by_reply(self._logps)
        values_NM = self._by_reply(self._values) if self._value_head is not None else None
        found = []
        for place in self._asked:
            count = int(self._counts_N[place])
            ids = self._tokens_NM[place, :count].tolist()
            found.append(
                SampledReply(
                    self._policy.chat.decode_reply(ids),
                    tuple(ids),
                    bool(self._ended_N[place]),
                    logps_NM[place, :count].copy(),
                    None if values_NM is None else values_NM[place, :count].copy(),
                )
            )
        return found

    def _by_reply(self, steps: Sequence[Tensor]) -> NDArray[np.float32]:
        found = np.zeros(self._tokens_NM.shape, dtype=np.float32)
        if steps:
            places, orders = (np.concatenate(one) for one in zip(*self._written, strict=True))
            found[places, orders] = torch.cat(list(steps)).float().cpu().numpy()
        return found


def _check_room(policy: Policy, prompt_ids: Sequence[TokenIds], settings: SamplingSettings) -> None:
    positions = policy.positions  # looked up through the model's config: dear for each of thousands
    for row, prompt in enumerate(prompt_ids):
        if not len(prompt):
            raise ModelError(f"prompt {row} is empty: there is nothing to predict its reply from")
        if positions is not None and len(prompt) + settings.max_new_tokens > positions:
            raise ModelError(
                f"prompt {row} has {len(prompt)} tokens; with "
                f"sampling.max_new_tokens={settings.max_new_tokens} that is more than the "
                f"{positions} that the model has positions for: lower it, or shorten the prompts"
            )
