"""Whether packing gives an architecture's own numbers: asked by comparing them, at the start of every run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from align.distributed.device import autocast
from align.errors import ModelError
from align.models.batch import pad_replies
from align.models.build import longest_input, quiet
from align.models.policy import evaluating
from align.models.scalar import LastTokenScores, reads_last_token
from align.models.virtual import virtual_of
from align.packing.attention import set_attention
from align.packing.forward import Forward, Packed, Padded, packed_hidden, rows, transformers_model
from align.packing.head import Head, head_of
from align.packing.layout import Layout, ReplyGroup, lay_out
from align.packing.work import Cost, cost_of

Attention = Literal["auto", "segments", "varlen", "flex", "padded"]

KNOWN_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers whose attention is told all that decides what it sees."""
PROBE_TOKENS = 20
"""Prompt and reply of the probe, at most."""


class CannotPack(Exception):
    """Why an architecture cannot be packed, as the end of 'because it ...'."""


def open_forward(
    model: Any,
    pad_id: int,
    *,
    attention: Attention = "auto",
    dtype: torch.dtype = torch.float32,
    say: Callable[[str], None] = print,
) -> Forward:
    """A model made ready to train or score on groups of replies.

    Packed if its numbers agree with those of a plain padded pass on a few made-up tokens, else padded, and
    ``say`` is told why in one line. From then on the model attends through the packed kernel, which serves
    plain inputs as SDPA does.

    Args:
        model: ``Policy.model`` or ``ScalarModel.model``.
        attention: a kernel, ``padded``, or ``auto``: varlen on CUDA in bfloat16, else segments.
        dtype: what products are computed in.

    Raises:
        ModelError: a kernel was asked for by name and does not give the architecture's numbers.
    """
    whole = transformers_model(model)
    reasons: list[str] = []
    if attention != "padded":
        for kernel in _candidates(attention, whole.device, dtype):
            try:
                return _packed(model, kernel, pad_id, dtype)
            except CannotPack as reason:
                reasons.append(f"{kernel}: {type(whole).__name__} {reason}")
        if attention != "auto":
            raise ModelError(
                f"training.attention={attention} cannot be used ({reasons[0]}): "
                f"give training.attention=auto, which takes what can"
            )
        refuse_prefix(whole, reasons[0])
        say(f"note: pairs are padded, not packed ({'; '.join(reasons)}): slower, the same numbers")
    refuse_prefix(whole, "training.attention=padded leaves attention as it is")
    return Padded(model, pad_id, _cost(model, promised_windows(whole)), dtype)


def refuse_prefix(whole: Any, why: str) -> None:
    """Learnt keys and values are put in by the kernels of this project.

    Raises:
        ModelError: the model has some, and none of these kernels can be used.
    """
    virtual = virtual_of(whole)
    if virtual is not None and virtual.shape is not None:
        raise ModelError(
            f"adapter=prefix needs an attention that can be exchanged ({why}): give training.attention=auto, "
            f"or take adapter=prompt, which any architecture can"
        )


def _candidates(attention: Attention, device: torch.device, dtype: torch.dtype) -> tuple[str, ...]:
    if attention != "auto":
        return (attention,)
    return ("varlen", "segments") if device.type == "cuda" and dtype == torch.bfloat16 else ("segments",)


def _packed(model: Any, kernel: str, pad_id: int, dtype: torch.dtype) -> Packed:
    """Raises ``CannotPack``; the model then attends as it did before."""
    whole = transformers_model(model)
    refuse_by_shape(model, whole)
    groups = made_up(whole, seed=0)
    # the flash kernel takes half precision only; the others show their numbers best in float32
    precision = dtype if kernel == "varlen" else torch.float32
    expected = _plain_hidden(whole, groups, pad_id, precision)
    exact = expected if precision == torch.float32 else _plain_hidden(whole, groups, pad_id, torch.float32)
    noise = apart_by(expected, exact)
    elsewhere = [
        ReplyGroup(other.prompt_ids, one.replies)
        for one, other in zip(groups, made_up(whole, seed=1), strict=True)
    ]
    change = apart_by(expected, _plain_hidden(whole, elsewhere, pad_id, precision))
    before = whole.config._attn_implementation
    try:
        with quiet():
            set_attention(whole, kernel)
        windows = _compare(whole, groups, expected, change, noise, precision)
        head = checked_head(model, whole, groups)
    except CannotPack:
        whole.set_attn_implementation(before)
        raise
    except Exception as error:  # whatever a foreign architecture raises, it means that packing is not for it
        whole.set_attn_implementation(before)
        raise CannotPack(f"refuses packed rows ({type(error).__name__}: {first_line(error)})") from error
    return Packed(model, head, _cost(model, windows), dtype)


def refuse_by_shape(model: Any, whole: Any) -> None:
    """What numbers on a few tokens could not show."""
    if isinstance(model, LastTokenScores) and not reads_last_token(whole):
        raise CannotPack("pools all tokens of a text into its score")
    unknown = set(getattr(whole.config.get_text_config(), "layer_types", None) or ()) - KNOWN_LAYERS
    if unknown:
        raise CannotPack(f"has layers of the kind {', '.join(sorted(unknown))}")
    if not isinstance(getattr(whole, whole.base_model_prefix or "", None), torch.nn.Module):
        raise CannotPack("keeps its layers where nobody can call them alone")


def made_up(whole: Any, seed: int) -> list[ReplyGroup]:
    """Two groups of two replies of made-up tokens."""
    config = whole.config.get_text_config()
    room = min(PROBE_TOKENS, longest_input(config) or PROBE_TOKENS)
    rng = np.random.default_rng(seed)

    def draw(length: int) -> Any:
        return rng.integers(config.vocab_size, size=max(1, length), dtype=np.int32)

    shapes = ((room // 2, room - room // 2, room // 4), (room // 4, room // 4, room // 2))
    return [ReplyGroup(draw(prompt), (draw(one), draw(two))) for prompt, one, two in shapes]


def _plain_hidden(whole: Any, groups: list[ReplyGroup], pad_id: int, dtype: torch.dtype) -> Tensor:
    """Hidden states (tokens, H) at the place before each reply token, then at its own, reply after reply."""
    prompts, replies = rows(groups)
    batch = pad_replies(prompts, replies, pad_id).to(whole.device)
    backbone = getattr(whole, whole.base_model_prefix)
    with torch.no_grad(), evaluating(whole), autocast(whole.device, dtype):
        hidden = backbone(
            input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, use_cache=False
        ).last_hidden_state
    own = batch.reply_mask_BT
    ahead = torch.zeros_like(own)
    ahead[:, :-1] = own[:, 1:]
    return torch.cat([torch.cat((hidden[row, ahead[row]], hidden[row, own[row]])) for row in range(len(own))])


def _packed_hidden(whole: Any, groups: list[ReplyGroup], dtype: torch.dtype) -> tuple[Tensor, Layout]:
    """The same from a packed row."""
    layout = lay_out(groups).to(whole.device)
    with torch.no_grad(), evaluating(whole), autocast(whole.device, dtype):
        hidden_TH = packed_hidden(whole, layout)
    places = []
    for reply in range(len(layout.last_N)):
        predictors = layout.predictors_R[layout.replies_R == reply]
        places += [predictors, predictors[1:], layout.last_N[reply : reply + 1]]
    return hidden_TH[torch.cat(places)], layout


def _compare(
    whole: Any, groups: list[ReplyGroup], expected: Tensor, change: float, noise: float, dtype: torch.dtype
) -> list[int | None]:
    """How far back each layer looks, once the hidden states agree.

    They may differ by rounding; that must be little beside ``change``, what another prompt makes of them,
    so that a token that sees too much or too little is found in any model that looks at its prompt. Where
    half precision itself lies farther (``noise``) from float32, as it does where weights are random and many
    layers deep, twice that is allowed.
    """
    found, layout = _packed_hidden(whole, groups, dtype)
    apart, scale = apart_by(found, expected), float(expected.abs().max())
    share, rounding = (0.01, 1e-5) if dtype == torch.float32 else (0.1, 0.02)
    if not apart <= max(share * change, rounding * scale, 2 * noise):
        raise CannotPack(
            f"gives other hidden states for packed rows than for padded ones: {apart:.1e} apart, where "
            f"another prompt changes them by {change:.1e}"
        )
    windows, promised = list(layout.windows.values()), promised_windows(whole)
    if sorted(map(str, windows)) != sorted(map(str, promised)):
        raise CannotPack(f"does not tell its attention how far back to look ({promised} in its config)")
    return windows


def checked_head(model: Any, whole: Any, groups: list[ReplyGroup]) -> Head | None:
    """The output head, once it gives the model's own logits."""
    if isinstance(model, LastTokenScores):
        return None
    head = head_of(whole)
    if head is None:
        raise CannotPack("has no output head of its own")
    ids = torch.from_numpy(groups[0].prompt_ids.astype(np.int64)).unsqueeze(0).to(whole.device)
    with torch.no_grad(), evaluating(whole):
        hidden = getattr(whole, whole.base_model_prefix)(input_ids=ids, use_cache=False).last_hidden_state
        logits = whole(input_ids=ids, use_cache=False).logits
        if apart_by(head(hidden), logits) > 1e-5 * float(logits.abs().max()):
            raise CannotPack("makes more of its logits than its output head and the caps that we know")
    return head


def promised_windows(whole: Any) -> list[int | None]:
    """How far back each layer looks, by the config."""
    text = whole.config.get_text_config()
    window = getattr(text, "sliding_window", None)
    if getattr(text, "use_sliding_window", True) is False:
        window = None
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        return [window] * int(getattr(text, "num_hidden_layers", 0))
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _cost(model: Any, windows: list[int | None]) -> Cost:
    whole, scores = transformers_model(model), isinstance(model, LastTokenScores)
    head = getattr(whole, "score", None) if scores else whole.get_output_embeddings()
    return cost_of(whole, head, windows, scores=scores)


def apart_by(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max()) if one.shape == other.shape else float("inf")


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no message"])[0]
