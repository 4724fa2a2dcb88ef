"""Whether decoding by steps gives an architecture's own numbers: asked once a model, by comparing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align.generation.decoder import Decoder, attending
from align.models.build import longest_input
from align.models.policy import evaluating
from align.packing.probe import (
    CannotPack,
    apart_by,
    checked_head,
    first_line,
    made_up,
    promised_windows,
    refuse_by_shape,
)

TokenIds = NDArray[np.int32]
ROOM = 20
"""Tokens of each row of the probe, at most."""


def why_not(whole: Any) -> str | None:
    """Why a transformers causal model cannot be decoded by ``Decoder``, as the end of 'because it ...'.

    None where it can. The model is as it was before.
    """
    try:
        refuse_by_shape(whole, whole)
        with torch.no_grad(), evaluating(whole):
            checked_head(whole, whole, made_up(whole, seed=0))
            _compare(whole)
    except CannotPack as reason:
        return str(reason)
    except Exception as error:  # whatever a foreign architecture raises, it means that decoding is not for it
        return f"refuses single steps ({type(error).__name__}: {first_line(error)})"
    return None


def _compare(whole: Any) -> None:
    """Raises ``CannotPack`` where hidden states differ from plain passes by more than rounding.

    The bound follows what other prompts make of them, as in ``align.packing.probe``.
    """
    prompts, replies = _made_up(whole, seed=0)
    expected = _plain(whole, prompts, replies)
    elsewhere = _plain(whole, _made_up(whole, seed=1)[0], replies)
    found, windows = _decoded(whole, prompts, replies)
    change = max(map(apart_by, expected, elsewhere))
    apart, scale = max(map(apart_by, found, expected)), max(float(one.abs().max()) for one in expected)
    share, rounding = (0.1, 0.02) if expected[0].dtype.itemsize < 4 else (0.01, 1e-5)
    if not apart <= max(share * change, rounding * scale):
        raise CannotPack(
            f"gives other hidden states step by step than at once: {apart:.1e} apart, where other prompts "
            f"change them by {change:.1e}"
        )
    promised = promised_windows(whole)
    if sorted(map(str, windows)) != sorted(map(str, promised)):
        raise CannotPack(f"does not tell its attention how far back to look ({promised} in its config)")


def _made_up(whole: Any, seed: int) -> tuple[list[TokenIds], list[TokenIds]]:
    """Prompts, and what is written behind them; longest prompts first, as the sampler gives them."""
    config = whole.config.get_text_config()
    room = min(ROOM, longest_input(config) or ROOM)
    draw = np.random.default_rng(seed).integers
    lengths = [max(1, room * share // 20) for share in (10, 10, 8, 3)]
    prompts = [draw(config.vocab_size, size=length, dtype=np.int32) for length in lengths]
    replies = [
        np.random.default_rng(row).integers(config.vocab_size, size=max(1, room // 2 - row), dtype=np.int32)
        for row in range(len(prompts))
    ]
    return prompts, replies


def _plain(whole: Any, prompts: Sequence[TokenIds], replies: Sequence[TokenIds]) -> list[Tensor]:
    """Hidden states at each prompt's last token and at the reply's, a text at a time."""
    backbone, found = getattr(whole, whole.base_model_prefix), []
    for prompt, reply in zip(prompts, replies, strict=True):
        ids = torch.from_numpy(np.concatenate((prompt, reply)).astype(np.int64)).unsqueeze(0)
        hidden = backbone(input_ids=ids.to(whole.device), use_cache=False).last_hidden_state[0]
        found.append(hidden[len(prompt) - 1 :])
    return found


def _decoded(
    whole: Any, prompts: Sequence[TokenIds], replies: Sequence[TokenIds]
) -> tuple[list[Tensor], list[int | None]]:
    """The same by steps: two rows at a time, the next prompt enters when a row is done; and the windows."""
    found: list[list[Tensor]] = [[] for _ in prompts]
    decoder, who, entered = Decoder(whole, rows=3, ahead=4), np.zeros(0, dtype=np.int64), 0
    with attending(whole):
        while len(who) or entered < len(prompts):
            newcomers = range(entered, min(len(prompts), entered + 3 - len(who)))
            read = [int(replies[one][len(found[one]) - 1]) for one in who.tolist()]
            entered = newcomers.stop
            hidden = decoder.step(
                torch.tensor(read, dtype=torch.int64, device=whole.device),
                [prompts[one] for one in newcomers],
            )
            who = np.concatenate((who, np.array(newcomers, dtype=np.int64)))
            for one, state in zip(who.tolist(), hidden, strict=True):
                found[one].append(state)
            gone = np.array([len(found[one]) > len(replies[one]) for one in who.tolist()])
            if gone.any():
                who = who[decoder.leave(gone, for_good=entered == len(prompts))]
    return [torch.stack(states) for states in found], list(decoder.windows.values())
