from __future__ import annotations

import pytest
import torch
from torch import Tensor

from align.models.build import seeded
from align.models.logprobs import token_logps
from align.packing import head as room
from align.packing.head import chunked_logps


def test_chunks_give_the_whole_and_never_hold_it(monkeypatch: pytest.MonkeyPatch):
    """70 tokens of a vocabulary of 50 in chunks of at most 1,000 logits: 20 tokens, four chunks."""
    with seeded(0):
        hidden = torch.randn(70, 8, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(50, 8, dtype=torch.float64, requires_grad=True)
        labels, probe = torch.randint(50, (70,)), torch.randn(70, dtype=torch.float64)
    sizes: list[int] = []

    def head(chunk: Tensor) -> Tensor:
        sizes.append(len(chunk))
        return torch.tanh(chunk @ weight.T / 3) * 3

    monkeypatch.setitem(room.CHUNK, "cpu", 1000)
    got = chunked_logps(head, hidden, labels, 50, temperature=0.7)
    assert sizes == [20, 20, 20, 10]
    ours = torch.autograd.grad((got * probe).sum(), (hidden, weight))
    assert sizes[4:] == [10, 20, 20, 20]  # once more, on the way back
    expected = token_logps(head(hidden), labels, 0.7)
    theirs = torch.autograd.grad((expected * probe).sum(), (hidden, weight))
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(chunked_logps(head, hidden, labels, 50, temperature=0.7), expected)


def test_what_fits_one_chunk_is_computed_once():
    sizes: list[int] = []

    def head(chunk: Tensor) -> Tensor:
        sizes.append(len(chunk))
        return chunk * torch.ones(3, 1)

    hidden = torch.randn(3, 3, requires_grad=True)
    chunked_logps(head, hidden, torch.tensor([0, 1, 2]), 3).sum().backward()
    assert sizes == [3]
