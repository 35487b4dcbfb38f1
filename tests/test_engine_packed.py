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
@pytest.mark.parametrize("width", [24, 512])  # 300 rows of 512 by 512 numbers are no small product
def test_packed_layers_give_what_plain_ones_do(rows: int, bias: bool, width: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(width, width, bias=bias), nn.SiLU(), nn.Linear(width, 7, bias=bias))
    for x in (torch.randn(1, rows, width), torch.randn(rows, width)):
        with torch.no_grad():
            expected = model(x)
            with PackedLinears(model).in_use():
                torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [15, 16, 300])
def test_layers_of_one_input_give_what_each_does_side_by_side(rows: int) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(256, 384), nn.Linear(256, 128)
    x = torch.randn(rows, 256)
    with torch.no_grad():
        packed, out = PackedLinears(nn.ModuleList([first, second])), torch.empty(rows, 512)
        expected = torch.cat((first(x), second(x)), -1)
        for found in (packed.outputs(x, (first, second)), packed.outputs(x, (first, second), out)):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_layer_packed_for_few_rows_serves_many() -> None:
    torch.manual_seed(0)
    model, packed_for = nn.Sequential(nn.Linear(512, 512)), torch.randn(64, 512)
    packed = PackedLinears(model)
    with torch.no_grad(), packed.in_use():
        model(packed_for)
        x = torch.randn(500, 512)
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
