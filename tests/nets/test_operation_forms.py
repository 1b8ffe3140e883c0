"""Operations against what was published of them, and against values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasflow_cli.core.registry import OPERATIONS
from nasflow_cli.nets.operations import Slot


def made(name: str, width: tuple[int, int] = (4, 4), stride: int = 1, order: Any = "before", **given: Any) -> nn.Module:
    arguments = {key: value for key, value in given.items() if key not in ("activation", "vectors")}
    slot = Slot(
        in_channels=width[0],
        channels=width[1],
        stride=stride,
        activation=given.get("activation", nn.ReLU),
        order=order,
        vectors=given.get("vectors", False),
    )
    module: nn.Module = OPERATIONS[name].make(slot, **arguments)
    return module


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules() if not list(layer.children())]


def num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def with_weights_of(module: nn.Module, published: nn.Module) -> nn.Module:
    """The published module with random weights, given to ours in the order in which they were registered."""
    for tensor in published.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.1)
    values = list(published.state_dict().values())
    module.load_state_dict(dict(zip(module.state_dict(), values, strict=True)))
    published.eval()
    return module.eval()


def images(channels: int, size: int = 8) -> Tensor:
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(0))


class PublishedBlock(nn.Module):
    """ResNetBasicblock of NAS-Bench-201 (xautodl/models/cell_operations.py)."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()

        def relu_conv_bn(c_in: int, c_out: int, kernel: int, step: int, padding: int) -> nn.Sequential:
            conv = nn.Conv2d(c_in, c_out, kernel, stride=step, padding=padding, bias=False)
            return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(c_out))

        self.conv_a = relu_conv_bn(inplanes, planes, 3, stride, 1)
        self.conv_b = relu_conv_bn(planes, planes, 3, 1, 1)
        self.downsample: nn.Module | None = None
        if stride == 2:
            pool = nn.AvgPool2d(kernel_size=2, stride=2, padding=0)
            self.downsample = nn.Sequential(pool, nn.Conv2d(inplanes, planes, 1, stride=1, padding=0, bias=False))
        elif inplanes != planes:
            self.downsample = relu_conv_bn(inplanes, planes, 1, 1, 0)

    def forward(self, inputs: Tensor) -> Tensor:
        block = self.conv_b(self.conv_a(inputs))
        return (inputs if self.downsample is None else self.downsample(inputs)) + block


class PublishedReduce(nn.Module):
    """FactorizedReduce of DARTS (cnn/operations.py)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, padding=0, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, padding=0, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


def published_sep_conv(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Sequential:
    """SepConv of DARTS (cnn/operations.py)."""
    padding = kernel // 2
    return nn.Sequential(
        nn.ReLU(inplace=False),
        nn.Conv2d(c_in, c_in, kernel_size=kernel, stride=stride, padding=padding, groups=c_in, bias=False),
        nn.Conv2d(c_in, c_in, kernel_size=1, padding=0, bias=False),
        nn.BatchNorm2d(c_in),
        nn.ReLU(inplace=False),
        nn.Conv2d(c_in, c_in, kernel_size=kernel, stride=1, padding=padding, groups=c_in, bias=False),
        nn.Conv2d(c_in, c_out, kernel_size=1, padding=0, bias=False),
        nn.BatchNorm2d(c_out),
    )


@pytest.mark.parametrize(("width", "stride"), [((4, 4), 1), ((4, 6), 1), ((4, 6), 2), ((4, 4), 2)], ids=str)
def test_a_basic_block_is_the_one_of_nasbench201(width: tuple[int, int], stride: int) -> None:
    published = PublishedBlock(*width, stride)
    ours = with_weights_of(made("basic_block", width, stride), published)
    torch.testing.assert_close(ours(images(4)), published(images(4)))


def test_a_skip_at_stride_2_is_the_factorized_reduction_of_darts() -> None:
    published = PublishedReduce(4, 6)
    ours = with_weights_of(made("skip", (4, 6), 2), published)
    torch.testing.assert_close(ours(images(4)), published(images(4)))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_separable_convolution_of_darts_is_the_published_one(kernel: int, stride: int) -> None:
    published = published_sep_conv(4, 6, kernel, stride)
    ours = with_weights_of(made(f"darts_sep_conv{kernel}x{kernel}", (4, 6), stride), published)
    torch.testing.assert_close(ours(images(4)), published(images(4)))


# features.2 and .1 of MobileNetV2; features.4 of MobileNetV3-small; layer1.0 and .1 of ResNet-50; layer1.1 of
# ResNeXt-50 32x4d; layer1.1 of ResNet-18.
@pytest.mark.parametrize(
    ("name", "width", "stride", "arguments", "params"),
    [
        ("mbconv", (16, 24), 2, {}, 5136),
        ("mbconv", (32, 16), 1, {"expansion": 1}, 896),
        ("mbconv", (24, 40), 2, {"kernel": 5, "expansion": 4, "se": True}, 13736),
        ("bottleneck", (64, 256), 1, {}, 75008),
        ("bottleneck", (256, 256), 1, {}, 70400),
        ("bottleneck", (256, 256), 1, {"groups": 32, "ratio": 0.5}, 71168),
        ("basic_block", (64, 64), 1, {}, 73984),
    ],
)
def test_a_block_has_as_many_parameters_as_in_the_public_model(
    name: str, width: tuple[int, int], stride: int, arguments: dict[str, Any], params: int
) -> None:
    assert num_params(made(name, width, stride, **arguments)) == params


ACT, CONV, NORM = "ReLU", "Conv2d", "BatchNorm2d"
INSIDE = [CONV, NORM, ACT, CONV, NORM, ACT, CONV, NORM]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("conv3x3", [ACT, CONV, NORM], [CONV, NORM, ACT]),
        ("sep_conv3x3", [ACT, CONV, CONV, NORM], [CONV, CONV, NORM, ACT]),
        ("depthwise", [ACT, CONV, NORM], [CONV, NORM, ACT]),
        ("mbconv", INSIDE, INSIDE),
        ("bottleneck", [ACT, *INSIDE], [*INSIDE, ACT]),
        ("basic_block", [ACT, CONV, NORM, ACT, CONV, NORM], [CONV, NORM, ACT, CONV, NORM, ACT]),
    ],
)
def test_the_order_says_where_the_activation_stands(name: str, before: list[str], after: list[str]) -> None:
    assert (kinds(made(name)), kinds(made(name, order="after"))) == (before, after)


def test_the_order_of_what_adapts_is_that_of_the_slot() -> None:
    assert kinds(made("skip", (4, 6))) == [ACT, CONV, NORM]
    assert kinds(made("skip", (4, 6), 2, order="after")) == [CONV, CONV, NORM, ACT]
    assert kinds(made("avg_pool3x3", (4, 6), 2)) == [ACT, CONV, NORM, "AvgPool2d"]
    assert kinds(made("max_pool3x3", (4, 6), 2, order="after")) == [CONV, NORM, ACT, "MaxPool2d"]


@pytest.mark.parametrize(
    ("order", "arguments", "layers"),
    [
        ("before", {}, [ACT, "Linear", "BatchNorm1d"]),
        ("after", {"norm": "layer"}, ["Linear", "LayerNorm", ACT]),
        ("before", {"norm": "none", "dropout": 0.1}, [ACT, "Dropout", "Linear"]),
        ("after", {"dropout": 0.1}, ["Linear", "BatchNorm1d", ACT, "Dropout"]),
    ],
)
def test_dropout_stands_behind_the_activation_of_a_linear_layer(
    order: str, arguments: dict[str, Any], layers: list[str]
) -> None:
    assert kinds(made("linear", order=order, vectors=True, **arguments)) == layers


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_a_linear_layer_has_a_bias_exactly_if_no_norm_follows(norm: str) -> None:
    linear = made("linear", vectors=True, norm=norm)[1]
    assert (linear.bias is not None) is (norm == "none")


@pytest.mark.parametrize(
    ("name", "width", "arguments", "groups"),
    [
        ("conv", (8, 12), {"groups": 4}, 4),
        ("conv", (8, 12), {"groups": 8}, 4),
        ("conv", (9, 6), {"groups": 4}, 1),
        ("grouped_conv3x3", (8, 12), {}, 4),
        ("grouped_conv3x3", (6, 4), {}, 2),
        ("grouped_conv3x3", (3, 4), {}, 1),
        ("bottleneck", (8, 48), {"groups": 8}, 4),
        ("depthwise", (6, 6), {}, 6),
        ("mbconv", (4, 6), {}, 24),
    ],
)
def test_groups_are_the_most_that_divide_the_channels(
    name: str, width: tuple[int, int], arguments: dict[str, Any], groups: int
) -> None:
    layers = made(name, width, **arguments).modules()
    assert max(layer.groups for layer in layers if isinstance(layer, nn.Conv2d)) == groups


def test_a_depthwise_convolution_has_a_pointwise_one_only_where_the_width_changes() -> None:
    assert num_params(made("depthwise", (4, 4), 2, kernel=5)) == 4 * 25 + 2 * 4
    assert num_params(made("depthwise", (4, 6), 2)) == 4 * 9 + 4 * 6 + 2 * 6


@pytest.mark.parametrize(
    ("name", "arguments", "reach"),
    [
        ("conv", {"kernel": 5, "dilation": 2}, 4),
        ("conv3x3", {}, 1),
        ("conv7x7", {}, 3),
        ("sep_conv7x7", {}, 3),
        ("dil_conv3x3", {}, 2),
        ("dil_conv5x5", {}, 4),
        ("darts_sep_conv5x5", {}, 4),
        ("mbconv", {"kernel": 5}, 2),
        ("bottleneck", {"kernel": 7}, 3),
        ("basic_block", {}, 2),
    ],
)
def test_an_operation_sees_as_far_as_its_kernels_reach(name: str, arguments: dict[str, Any], reach: int) -> None:
    image = torch.zeros(1, 2, 15, 15)
    image[..., 7, 7] = 1.0
    seen = made(name, (2, 2), activation=nn.Identity, **arguments).eval()(image)[0].sum(0).nonzero()
    assert (seen.min().item(), seen.max().item()) == (7 - reach, 7 + reach)


def test_a_squeezed_block_weighs_channels_and_not_places() -> None:
    gate = next(layer for layer in made("mbconv", se=True).modules() if type(layer).__name__ == "SqueezeExcitation")
    x = torch.rand(2, 24, 5, 5) + 1.0
    share = gate(x) / x
    assert share.std((2, 3)).max() < 1e-5
    assert 0 <= share.min() <= share.max() <= 1


@pytest.mark.parametrize("name", ["mbconv", "bottleneck", "basic_block"])
def test_a_block_whose_branch_ends_in_zero_passes_its_input_on(name: str) -> None:
    block = made(name)
    closing = [layer for layer in block.modules() if getattr(layer, "closes_branch", False)]
    assert len(closing) == 1
    nn.init.zeros_(closing[0].weight)
    assert torch.equal(block(images(4)), images(4))


def test_a_block_of_mobilenet_without_a_sum_has_no_branch_to_close() -> None:
    assert not any(getattr(layer, "closes_branch", False) for layer in made("mbconv", (4, 6)).modules())


GRID = torch.arange(9.0).view(1, 1, 3, 3)  # 0 1 2 / 3 4 5 / 6 7 8


@pytest.mark.parametrize(
    ("name", "stride", "expected"),
    [
        ("avg_pool2x2", 1, [[2.0, 3.0, 3.5], [5.0, 6.0, 6.5], [6.5, 7.5, 8.0]]),
        ("max_pool2x2", 1, [[4.0, 5.0, 5.0], [7.0, 8.0, 8.0], [7.0, 8.0, 8.0]]),
        ("avg_pool2x2", 2, [[2.0, 3.5], [6.5, 8.0]]),
        ("max_pool2x2", 2, [[4.0, 5.0], [7.0, 8.0]]),
        ("avg_pool3x3", 1, [[2.0, 2.5, 3.0], [3.5, 4.0, 4.5], [5.0, 5.5, 6.0]]),
        ("max_pool3x3", 2, [[4.0, 5.0], [7.0, 8.0]]),
    ],
)
def test_a_pool_counts_no_padding(name: str, stride: int, expected: list[list[float]]) -> None:
    assert made(name, (1, 1), stride)(GRID)[0, 0].tolist() == expected


def test_a_max_pool_of_negative_numbers_does_not_see_its_padding() -> None:
    assert made("max_pool2x2", (1, 1))(GRID - 20)[0, 0, 2].tolist() == [-13.0, -12.0, -12.0]


def test_a_skip_at_stride_2_reads_every_second_pixel_and_those_between() -> None:
    reduce = made("skip", (1, 2), 2, activation=nn.Identity)[0]
    for convolution in (reduce.even, reduce.odd):
        nn.init.ones_(convolution.weight)
    assert reduce(GRID)[0].tolist() == [[[0.0, 2.0], [6.0, 8.0]], [[4.0, 0.0], [0.0, 0.0]]]


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_skip_at_stride_2_has_any_number_of_channels(channels: int) -> None:
    assert made("skip", (3, channels), 2)(images(3, 7)).shape == (3, channels, 4, 4)
