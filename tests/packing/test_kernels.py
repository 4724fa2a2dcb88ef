"""Every kernel computes what a dense mask over the row gives; those for CUDA as far as a CPU can tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.attention.varlen as torch_varlen
from groups import made_up
from torch import Tensor

from align.models.build import seeded
from align.packing import cuda
from align.packing.cuda import flex, varlen
from align.packing.layout import Layout, lay_out
from align.packing.segments import Rule, segments

LAYOUT = lay_out(made_up((11, (9, 13, 4)), (3, (1, 7, 2)), (1, (5, 4, 30))))
HEADS, WIDTH = 2, 8


def drawn() -> list[Tensor]:
    with seeded(0):
        return [torch.randn(HEADS, len(LAYOUT.input_ids_T), WIDTH, requires_grad=True) for _ in range(3)]


def dense(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Attention by its definition: who may see whom is asked for each two tokens of the row."""
    owner = [
        (number, part)
        for number, (prompt, replies) in enumerate(layout.groups)
        for part, size in enumerate((prompt, *replies))
        for _ in range(size)
    ]
    allowed = torch.zeros(len(owner), len(owner), dtype=torch.bool)
    for at, (group, part) in enumerate(owner):
        for seen in range(at + 1):
            same = owner[seen] in ((group, 0), (group, part))
            back = int(layout.positions_T[at] - layout.positions_T[seen])
            allowed[at, seen] = same and (rule.window is None or back < rule.window)
    scores = query @ key.transpose(1, 2) * rule.scale
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ value


RULES = {
    "plain": Rule(0.3, 0.0, None, None),
    "window": Rule(0.3, 0.0, 6, None),
    "softcap": Rule(0.3, 0.0, None, 0.5),
    "both": Rule(0.3, 0.0, 6, 0.5),
    "wide window": Rule(0.3, 0.0, 1000, None),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_segments_and_their_gradients(rule: Rule):
    inputs, probe = drawn(), torch.randn(HEADS, len(LAYOUT.input_ids_T), WIDTH)
    got, expected = segments(*inputs, LAYOUT, rule), dense(*inputs, LAYOUT, rule)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    ours = torch.autograd.grad((got * probe).sum(), inputs)
    theirs = torch.autograd.grad((expected * probe).sum(), inputs)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_flex(rule: Rule):
    """Without gradients, which flex attention has on CUDA only."""
    with torch.no_grad():
        inputs = drawn()
        torch.testing.assert_close(
            flex(*inputs, LAYOUT, rule), dense(*inputs, LAYOUT, rule), atol=1e-6, rtol=1e-5
        )


@pytest.mark.parametrize("name", ["plain", "window", "wide window"])
def test_varlen_hands_the_kernel_the_right_spans(name: str, monkeypatch: pytest.MonkeyPatch):
    """The kernel itself runs on CUDA only; in its place stands its documented meaning, in plain torch."""

    def kernel(
        query: Tensor, key: Tensor, value: Tensor, ends_q: Tensor, ends_k: Tensor, max_q: int, max_k: int,
        *, scale: float, window_size: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        assert (max_q, max_k) == (int(ends_q.diff().max()), int(ends_k.diff().max()))
        assert ends_q.dtype == ends_k.dtype == torch.int32
        assert window_size[1] == 0
        found = []
        bounds: Any = zip(ends_q[:-1], ends_q[1:], ends_k[:-1], ends_k[1:], strict=True)
        for q0, q1, k0, k1 in bounds:
            scores = torch.einsum("qhd,khd->hqk", query[q0:q1], key[k0:k1]) * scale
            # queries are aligned with the last keys
            back = torch.arange(q1 - q0)[:, None] + (k1 - k0) - (q1 - q0) - torch.arange(k1 - k0)
            seen = (back >= 0) & ((back <= window_size[0]) | (window_size[0] < 0))
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
            found.append(torch.einsum("hqk,khd->qhd", weights, value[k0:k1]))
        return torch.cat(found)

    monkeypatch.setattr(torch_varlen, "varlen_attn", kernel)
    inputs, rule = drawn(), RULES[name]
    torch.testing.assert_close(
        varlen(*inputs, LAYOUT, rule), dense(*inputs, LAYOUT, rule), atol=1e-6, rtol=1e-5
    )


def test_what_autocast_leaves_wide_is_narrowed_to_the_values(monkeypatch: pytest.MonkeyPatch):
    """Positions are turned in float32 under autocast: queries and keys arrive so, and values in bfloat16."""
    query, key, value = (one.detach() for one in drawn())
    expected = dense(query, key, value, LAYOUT, RULES["plain"])
    told: list[torch.dtype] = []

    def kernel(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **more: Any) -> Tensor:
        told.extend(one.dtype for one in (query, key, value))
        return query

    with torch.no_grad():
        found = flex(query, key, value.bfloat16(), LAYOUT, RULES["plain"])
        monkeypatch.setattr(torch_varlen, "varlen_attn", kernel)
        varlen(query, key, value.bfloat16(), LAYOUT, RULES["plain"])
    assert found.dtype == torch.bfloat16
    assert float((found.float() - expected).abs().max()) < 0.05
    assert told == [torch.bfloat16] * 3


def test_kernels_refuse_what_they_cannot_compute():
    with pytest.raises(ValueError, match="neither soft caps nor dropout"):
        varlen(*drawn(), LAYOUT, RULES["softcap"])
    with pytest.raises(ValueError, match="no dropout"):
        flex(*drawn(), LAYOUT, Rule(0.3, 0.1, None, None))


def test_dropout_drops_weights_and_keeps_the_mean():
    """Of 3,000 draws at 0.5 a mean is within 5 standard errors of what it is without dropout."""
    inputs, rule = [one.detach() for one in drawn()], Rule(0.3, 0.5, None, 5.0)
    exact = segments(*inputs, LAYOUT, Rule(0.3, 0.0, None, 5.0))
    with seeded(1):
        draws = torch.stack([segments(*inputs, LAYOUT, rule) for _ in range(300)])
    errors = draws.std(0) / 300**0.5
    apart = ((draws.mean(0) - exact) / errors.clamp_min(1e-6)).abs()
    assert float(draws.std(0).max()) > 0.1
    assert float((apart < 5).float().mean()) > 0.999


def test_masks_are_made_once_a_row():
    layout = lay_out(made_up((11, (9, 13)), (3, (1, 7))))
    for _layer in range(3):
        segments(*[one[:, : len(layout.input_ids_T)] for one in drawn()], layout, RULES["window"])
    # of each pair: its first segment, and the second reply behind the prompt
    assert len(layout.made) == 4
    assert cuda.spans_of(layout, torch.device("cpu")) is cuda.spans_of(layout, torch.device("cpu"))
