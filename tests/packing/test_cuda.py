"""The kernels for CUDA on CUDA: against segments in float32, and whole models against texts alone."""

from __future__ import annotations

import pytest
import torch
from groups import PAIRS, alone, made_up
from tiny_architectures import ARCHITECTURES, random_causal

from align.models.build import seeded
from align.packing.cuda import flex, varlen
from align.packing.forward import Packed
from align.packing.layout import lay_out
from align.packing.probe import open_forward
from align.packing.segments import Rule, segments

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")

CUDA = torch.device("cuda")


@pytest.mark.parametrize("kernel", [varlen, flex, segments])
@pytest.mark.parametrize("window", [None, 6])
def test_kernels_in_bfloat16_and_their_gradients(kernel, window: int | None):
    """Within a hundredth or two of float32, as 8 bits of mantissa are."""
    layout = lay_out(made_up((11, (9, 13, 4)), (3, (1, 7, 2)), (1, (5, 4, 130)))).to(CUDA)
    rule = Rule(0.3, 0.0, window, None)
    with seeded(0):
        drawn = [torch.randn(4, len(layout.input_ids_T), 64, device=CUDA) for _ in range(4)]
    found = []
    for one, dtype in ((segments, torch.float32), (kernel, torch.bfloat16)):
        inputs = [value.to(dtype).requires_grad_() for value in drawn[:3]]
        out = one(*inputs, layout, rule)
        found.append((out.float(), *torch.autograd.grad((out.float() * drawn[3]).sum(), inputs)))
    for exact, rough in zip(*found, strict=True):
        assert float((exact - rough.float()).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral", "gpt2"])
def test_in_bfloat16_one_kernel_takes_the_row(architecture: str):
    """Weights stay in float32: what is narrowed is done by autocast, and by the kernel."""
    model = random_causal(architecture).to(CUDA)
    exact = open_forward(model, 0, say=pytest.fail)
    with torch.no_grad():
        expected = exact.logps(PAIRS).logps_BT
        rough = open_forward(model, 0, dtype=torch.bfloat16, say=pytest.fail).logps(PAIRS).logps_BT
    assert model.config._attn_implementation == "align_varlen"
    assert 0 < float((rough - expected).abs().max()) < 0.1


NO_CAPPED_FLEX = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13)
"""torch 2.11 fails to compile flex attention of unlike lengths with a soft cap (``unbacked_bindings``)."""


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("attention", ["auto", "flex"])
def test_a_packed_row_equals_each_text_alone(architecture: str, attention):
    if NO_CAPPED_FLEX and (architecture, attention) == ("gemma2", "flex"):
        pytest.skip("this torch compiles no flex attention with a soft cap: attention=flex is refused")
    model = random_causal(architecture).to(CUDA)
    forward = open_forward(model, 0, attention=attention, say=pytest.fail)
    assert isinstance(forward, Packed)
    with torch.no_grad():
        logps = forward.logps(PAIRS)
        expected = alone(model, PAIRS)
    for row, own in enumerate(expected):
        torch.testing.assert_close(logps.logps_BT[row, : len(own)], own, atol=1e-5, rtol=0)
