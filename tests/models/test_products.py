"""Linear layers by oneDNN: numbers and gradients of torch's own, only where a processor gains by it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from align.models import products
from align.models.products import Linear, mkl_is_slow, product, quicken

AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f sha_ni\n"
OLDER_AMD = AMD.replace(" avx512f", "")
INTEL = AMD.replace("AuthenticAMD", "GenuineIntel")
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\n"


@pytest.fixture
def slow(monkeypatch):
    """As on a processor where the usual library is slow, and for products of any size."""
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "SMALLEST", 0)


@pytest.fixture
def asked(monkeypatch):
    """Shapes that oneDNN was asked to multiply."""
    shapes = []

    def counted(one, other, bias=None):
        shapes.append((*one.shape, len(other)))
        return product(one, other, bias)

    monkeypatch.setattr(products, "product", counted)
    return shapes


def of_float64(layer, inputs, gradient):
    """Output and gradients in float64, by torch's own layer."""
    wide = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None).double()
    wide.load_state_dict(layer.state_dict())
    inputs = inputs.detach().double().requires_grad_()
    out = wide(inputs)
    out.backward(gradient.double())
    return [out, inputs.grad, *(one.grad for one in wide.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 24)])
def test_numbers_and_gradients_are_those_of_the_layer(slow, asked, shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias)
    quicken(layer)
    assert type(layer) is Linear
    inputs = torch.randn(shape, requires_grad=True)
    out = layer(inputs)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    found = [out, inputs.grad, *(one.grad for one in layer.parameters())]
    for one, other in zip(found, of_float64(layer, inputs, gradient), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
    assert asked == [(32, 24, 40), (32, 40, 24), (40, 32, 24)], "filled up to 32 rows"


def test_what_is_frozen_gets_no_gradient_and_costs_none(slow, asked):
    layer = nn.Linear(8, 6).requires_grad_(False)
    quicken(layer)
    inputs = torch.randn(3, 8, requires_grad=True)
    layer(inputs).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is None
    assert len(asked) == 2
    with torch.no_grad():
        layer(inputs)
    assert len(asked) == 3


def test_frozen_weights_keep_no_activations(slow):
    """Only weights that get a gradient need what they were multiplied with."""
    layer, inputs = Linear(6, 4), torch.randn(5, 6, requires_grad=True)
    for trained in (True, False):
        layer.weight.requires_grad_(trained)
        kept = []

        def keep(tensor, kept=kept):
            kept.append(tensor.shape)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(inputs)
        assert (torch.Size((32, 6)) in kept) == trained


def test_strides_do_not_matter():
    one, other = torch.randn(9, 30), torch.randn(30, 12)
    wanted = (one.double() @ other.double()).float()
    torch.testing.assert_close(product(one, other.t()), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(product(one[::2], other.t()), wanted[::2], rtol=1e-5, atol=1e-5)
    turned = product(other.t(), one)
    torch.testing.assert_close(turned, wanted.t(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "full"), [(1, 32), (32, 32), (33, 64), (255, 256), (256, 256), (257, 512)])
def test_many_numbers_of_rows_share_few_shapes(rows, full):
    given = torch.ones(rows, 3)
    found = products.filled(given)
    assert found.shape == (full, 3)
    assert found.sum() == 3 * rows
    assert torch.equal(found[:rows], given)


def test_small_products_other_types_and_autocast_stay_with_torch(slow, asked, monkeypatch):
    layer = nn.Linear(16, 16)
    quicken(layer)
    inputs = torch.randn(4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(inputs).dtype == torch.bfloat16
    assert copy.deepcopy(layer).double()(inputs.double()).dtype == torch.float64
    monkeypatch.setattr(products, "SMALLEST", 4 * 16 * 16 + 1)
    layer(inputs)
    assert asked == []
    monkeypatch.setattr(products, "SMALLEST", 4 * 16 * 16)
    layer(inputs)
    assert asked == [(32, 16, 16)]


def test_a_quick_model_is_saved_and_copied_as_it_was(slow):
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 2)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quicken(model)
    assert [type(one) for one in model.modules() if isinstance(one, nn.Linear)] == [Linear, Linear]
    assert list(model.state_dict()) == list(before)
    assert isinstance(copy.deepcopy(model)[0], Linear)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "slow"),
    [
        (AMD, "x86_64", True),
        (OLDER_AMD, "x86_64", False),
        (INTEL, "x86_64", False),
        (ARM, "aarch64", False),
        (None, "x86_64", False),
    ],
)
def test_only_processors_of_other_makers_with_avx512_gain(tmp_path, monkeypatch, cpuinfo, machine, slow):
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    monkeypatch.setattr(products, "_CPUINFO", path)
    monkeypatch.setattr(products.platform, "machine", lambda: machine)
    mkl_is_slow.cache_clear()
    try:
        assert mkl_is_slow() is slow
    finally:
        mkl_is_slow.cache_clear()


def test_layers_stay_as_they_are_where_nothing_is_gained(monkeypatch):
    monkeypatch.setattr(products, "mkl_is_slow", lambda: False)
    layer = nn.Linear(4, 4)
    quicken(layer)
    assert type(layer) is nn.Linear
