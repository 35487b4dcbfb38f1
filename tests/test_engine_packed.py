"""Linear layers in another layout: the same results, and nothing of the module is changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llama_o1.engine.packed import PackedLinears


def layers(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 40, bias=bias), nn.SiLU(), nn.Linear(40, 7, bias=bias))


@pytest.mark.parametrize("rows", [1, 15, 16, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_layers_give_what_plain_ones_do(rows: int, bias: bool) -> None:
    model = layers(bias)
    x = torch.randn(1, rows, 24)
    with torch.no_grad():
        expected = model(x)
        with PackedLinears(model).in_use():
            torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


def test_a_layer_packed_for_few_rows_serves_many() -> None:
    model, packed_for = layers(), torch.randn(16, 24)
    packed = PackedLinears(model)
    with torch.no_grad(), packed.in_use():
        model(packed_for)
        x = torch.randn(500, 24)
        found = model(x)
    torch.testing.assert_close(found, model(x).detach(), atol=1e-5, rtol=1e-5)


def test_weights_that_changed_are_used_once_the_copies_are_forgotten() -> None:
    model, x = layers(), torch.randn(20, 24)
    packed = PackedLinears(model)
    with torch.no_grad():
        with packed.in_use():
            model(x)
        for parameter in model.parameters():
            parameter.mul_(1.5)
        packed.forget()
        expected = model(x)
        with packed.in_use():
            torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


def test_the_module_is_as_before_even_after_an_error() -> None:
    model = layers()
    with pytest.raises(RuntimeError, match="shape"), PackedLinears(model).in_use():
        model(torch.randn(20, 5))
    assert not any("forward" in vars(module) for module in model.modules())
    model(torch.randn(20, 24)).sum().backward()
    assert model[0].weight.grad is not None


def test_only_plain_float32_layers_are_packed() -> None:
    class Other(nn.Linear):
        pass

    x = torch.randn(20, 24)
    for model in (nn.Sequential(Other(24, 8)), layers().to(torch.bfloat16)):
        with torch.no_grad(), PackedLinears(model).in_use():
            assert "forward" not in vars(model[0])
            model(x.to(model[0].weight.dtype))
