"""A network's source computes what the network computes, and stands alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nasflow_cli.core.errors import NasflowError
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node
from nasflow_cli.core.registry import ACTIVATIONS, OPERATIONS
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import SpaceConfig
from nasflow_cli.nets.builder import Network
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.nets.source import InputFacts, network_source, state_names

Export = Callable[..., nn.Module]
Trained = Callable[..., Network]
GraphOf = Callable[..., NetworkGraph]
Plugin = Callable[[str, str], ModuleType]

OURS = [
    name
    for name in OPERATIONS
    if OPERATIONS[name].make.__module__.startswith("nasflow_cli.") and OPERATIONS[name].facts.get("takes") != "vectors"
]
ACTIVATED = [name for name in ACTIVATIONS if ACTIVATIONS[name].make.__module__.startswith("torch.")]

SPACE = {
    "stem": {"operation": "conv3x3", "width": 4, "stride": 1},
    "cells": {
        "free": {"nodes": [2, 3, 4], "operations": OURS, "residual": [True, False]},
        "dense": {"nodes": 3, "edges": "all", "slots": "edges", "operations": OURS, "output": "last"},
    },
    "stages": [
        {"cell": "free", "depth": [1, 3], "width": 4},
        {"cell": "dense", "depth": 2, "width": [4, 6], "stride": 2, "transition": "sep_conv3x3"},
    ],
    "activation": {"choices": ACTIVATED, "per": "slot"},
    "dropout": 0.2,
}


LANGUAGE: dict[str, dict[str, Any]] = {
    "two inputs, concatenated": {
        "stem": {"width": 4},
        "cells": {
            "pair": {
                "nodes": 3,
                "inputs": 2,
                "edges": 2,
                "slots": "edges",
                "operations": ["none", "skip", "max_pool3x3", "darts_sep_conv3x3", "dil_conv3x3"],
                "output": "all",
                "join": "concat",
                "project": {"operation": "conv1x1", "per": "cell"},
            }
        },
        "stages": [
            {"cell": "pair", "width": 4, "depth": 2, "transition": None},
            {"cell": "pair", "width": 6, "depth": [1, 2], "stride": 2, "transition": None},
        ],
        "head": {"activated": False},
    },
    "shares of the width": {
        "stem": {"width": 6},
        "cells": {
            "cell": {
                "nodes": 4,
                "operations": ["conv3x3", "conv1x1", "max_pool3x3"],
                "output": "free",
                "join": "split",
                "project": {"operation": "conv1x1", "per": "edge"},
            }
        },
        "stages": [
            {"cell": "cell", "width": 7, "depth": 2},
            {"cell": "cell", "width": 9, "stride": 2, "transition": "max_pool2x2"},
        ],
        "activation": {"choices": ["relu", "prelu"], "order": "after"},
    },
    "arguments and a wide head": {
        "stem": {"width": 4},
        "cells": {
            "block": {
                "nodes": 1,
                "per": "layer",
                "operations": ["skip", {"mbconv": {"kernel": [3, 5], "expansion": [1, 2], "se": [False, True]}}],
            },
            "residual": {"nodes": 2, "operations": [{"bottleneck": {"groups": [1, 2]}}, "depthwise"], "residual": True},
        },
        "stages": [
            {"cell": "block", "depth": 3, "width": [4, 6], "stride": 2, "transition": None},
            {"cell": "residual", "width": 6, "transition": None},
        ],
        "head": {"width": [8, 12]},
        "activation": {"choices": ["relu", "silu"], "per": "slot", "order": "after"},
    },
}


def sampled(seed: int, description: Mapping[str, Any] = SPACE) -> NetworkGraph:
    space = SearchSpace(SpaceConfig.model_validate_json(json.dumps(description)), operation_facts())
    return space.graph(space.sample(np.random.default_rng(seed)))


def node(operation: str, *inputs: int, width: int = 4, stride: int = 1, act: str | None = None) -> Node:
    """A node with a relu where its operation has a use for an activation."""
    activated = OPERATIONS[operation].facts.get("activated")
    return Node(operation, inputs, width, stride, act or ("relu" if activated else None))


def with_added(num_parts: int, num_added: int) -> Cell:
    """So many 1x1 convolutions of one channel side by side, and one of their width added to them again and again."""
    nodes = (*(node("conv1x1", 0, width=1) for _ in range(num_parts)), node("conv1x1", 0, width=num_parts))
    return Cell(nodes, tuple(range(1, num_parts + 1)), join="concat", added=(num_parts + 1,) * num_added)


PAIR = Cell((node("conv3x3", 0), node("conv1x1", 1), node("max_pool3x3", 2)), (3, 4), num_inputs=2)
WRITTEN: dict[str, tuple[Cell, ...]] = {
    "two inputs of which the first cell reads the stem twice": (PAIR, PAIR, PAIR),
    "the far input alone": (PAIR, Cell((node("conv3x3", 1),), (2,), num_inputs=2), PAIR),
    "inputs that leave as they are": (PAIR, Cell((), (1, 0, 1), num_inputs=2), PAIR),
    "a cell that passes its input on between those of two": (PAIR, Cell((), (0,)), PAIR),
    "a cell of one input between those of two": (PAIR, Cell((node("conv3x3", 0),), (1,)), PAIR),
    "a concatenation": (Cell((node("conv3x3", 0), node("max_pool3x3", 1), node("skip", 0)), (2, 1, 3), join="concat"),),
    "two inputs, concatenated, halved": (
        Cell((node("conv3x3", 0), node("conv1x1", 1)), (3, 2), num_inputs=2, join="concat"),
        Cell(
            (node("conv1x1", 0, stride=2), node("skip", 1, stride=2, act="prelu"), node("conv3x3", 3, 2)),
            (4, 3, 2),
            num_inputs=2,
            join="concat",
        ),
        Cell(
            (node("conv1x1", 0), node("skip", 1, stride=2, act="relu"), node("sep_conv3x3", 2, 3)),
            (4, 4),
            num_inputs=2,
            join="concat",
        ),
    ),
    "a concatenation to which the input is added": (
        Cell((node("conv3x3", 0, width=1), node("conv1x1", 0, width=3)), (2, 1), join="concat", added=(0,)),
    ),
    "a concatenation of one to which the input is added": (
        Cell((node("conv3x3", 0), node("conv1x1", 1)), (2,), join="concat", added=(0, 0)),
    ),
    "nothing but what is added": (Cell((node("conv3x3", 0), node("conv1x1", 0)), (), join="concat", added=(1, 2)),),
    "cut for narrower readers": (
        Cell(
            (
                node("conv1x1", 0, width=3),
                node("conv3x3", 1, width=3),
                node("max_pool3x3", 1, 2, width=1),
                node("conv1x1", 0),
            ),
            (2, 3),
            join="concat",
            added=(4,),
            cut=True,
        ),
    ),
}


def images(channels: int = 1, side: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (6, channels, side, side), generator=generator, dtype=torch.uint8)


def num_params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def assert_same(network: Network, copy: nn.Module, pixels: torch.Tensor) -> None:
    with torch.inference_mode():
        ours, theirs = network((pixels.float() - 77.0) / 33.0), copy(pixels)
    assert ours.std() > 1e-4  # a network that says nothing would agree with anything
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    assert num_params(copy) == num_params(network)


@pytest.mark.parametrize("seed", range(12))
def test_a_sampled_network_and_its_source_give_equal_outputs(seed: int, trained: Trained, exported: Export) -> None:
    network = trained(sampled(seed), seed=seed)

    copy = exported(network)

    if network.graph.is_connected:
        assert_same(network, copy, images())
    else:
        torch.testing.assert_close(copy(images()), network(images().float()))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", LANGUAGE)
def test_a_sampled_network_of_any_form_and_its_source_give_equal_outputs(
    name: str, seed: int, trained: Trained, exported: Export
) -> None:
    network = trained(sampled(seed, LANGUAGE[name]), seed=seed)

    copy = exported(network)

    if network.graph.is_connected:
        assert_same(network, copy, images())
    else:
        torch.testing.assert_close(copy(images()), network(images().float()))


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_network_of_such_cells_and_its_source_give_equal_outputs(
    name: str, order: str, trained: Trained, exported: Export, graph_of: GraphOf
) -> None:
    network = trained(graph_of(*WRITTEN[name], order=order))

    assert_same(network, exported(network), images())


def test_repeated_cells_of_two_inputs_read_each_other_in_the_source_too(trained: Trained, exported: Export) -> None:
    stem = Block("stem", Cell((node("conv3x3", 0),), (1,)))
    network = trained(NetworkGraph((stem, Block("a", PAIR, 3), Block("b", PAIR)), "relu", "default"))

    assert_same(network, exported(network), images())


@pytest.mark.parametrize("activation", ["gelu", None])
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("head_width", [0, 9])
def test_every_head_is_the_network_s_in_the_source(
    head_width: int, order: str, activation: str | None, trained: Trained, exported: Export, graph_of: GraphOf
) -> None:
    graph = graph_of(PAIR, activation=activation, order=order, head_width=head_width, dropout=0.3)
    network = trained(graph)

    assert_same(network, exported(network), images())


def test_the_sampled_networks_hold_every_operation_and_activation() -> None:
    nodes = [node for seed in range(12) for block in sampled(seed).blocks for node in block.cell.nodes]

    assert {node.operation for node in nodes} == {*OURS} - {"none", "skip"}
    assert {node.activation for node in nodes if node.activation} == {*ACTIVATED}


def test_sums_keep_their_multiplicities_and_identities_and_zeros_stay(
    trained: Trained, exported: Export, graph_of: GraphOf
) -> None:
    cell = Cell(
        (node("conv3x3", 0), node("conv1x1", 0, 1, 1, act="prelu"), node("none", 1), node("skip", 2)),
        (0, 2, 2, 3, 4),
    )
    network = trained(graph_of(cell))

    assert_same(network, exported(network), images())


def test_a_cell_that_passes_its_input_on_twice_doubles_it_in_every_copy(trained: Trained, exported: Export) -> None:
    blocks = (Block("stem", Cell((node("conv3x3", 0),), (1,))), Block("s", Cell((), (0, 0)), 3))
    network = trained(NetworkGraph(blocks, "tanh", "default"))

    copy = exported(network)

    assert_same(network, copy, images())


def test_an_identity_cell_and_a_cell_without_output_are_kept_as_they_are(
    trained: Trained, exported: Export, graph_of: GraphOf
) -> None:
    network = trained(graph_of(Cell((), (0,)), Cell((), ())))

    copy = exported(network)

    torch.testing.assert_close(copy(images()), network(images().float()))


def test_colour_images_and_many_odd_class_names_survive(
    trained: Trained, source_of: Callable[..., str], imported: Callable[[str], ModuleType], chain: Callable[..., Cell]
) -> None:
    classes = ['a "quoted" cat', "back\\slash", "línea\n2", "\udcff", *(f"class {i}" for i in range(40))]
    network = trained(NetworkGraph((Block("stem", chain("conv3x3")),), "relu", "default"), 3, len(classes))

    source = source_of(network, shape=(3, 8, 10), classes=classes).encode("utf-8", "backslashreplace").decode()
    module = imported(source)

    assert list(module.CLASSES) == classes
    assert (module.INPUT_SHAPE, module.Network().stem[1].in_channels) == ((3, 8, 10), 3)


def test_block_names_that_python_or_torch_have_taken_are_changed(trained: Trained, exported: Export) -> None:
    cell = Cell((node("conv3x3", 0),), (1,))
    names = ("head", "class", "forward", "0", "a-b", "a_b", "mean")
    network = trained(NetworkGraph(tuple(Block(name, cell) for name in names), "relu", "default"))

    assert_same(network, exported(network), images())


def test_the_source_is_formatted_and_lints_clean(
    tmp_path: Path, trained: Trained, source_of: Callable[..., str], graph_of: GraphOf
) -> None:
    wide = tuple(node("conv1x1", *range(i + 1)) for i in range(16))
    graphs = {
        **{f"network{seed}": sampled(seed) for seed in range(3)},
        "wide": graph_of(Cell(wide, (0,) * 3 + tuple(range(17)))),
        "unread": graph_of(Cell((node("conv1x1", 0),), (2,), num_inputs=2), PAIR),
        "unread_at_all": graph_of(Cell((node("conv1x1", 0),), (2,), num_inputs=2)),
        **{f"joined{n}": graph_of(Cell(wide[: n - 1], tuple(range(1, n)), join="concat")) for n in range(2, 18)},
        **{f"added{n}": graph_of(with_added(n, 3)) for n in range(2, 18)},
        "many": graph_of(with_added(16, 40)),
        **{name: graph_of(*WRITTEN[name]) for name in WRITTEN},
    }
    for name, graph in graphs.items():
        (tmp_path / f"{name.replace(' ', '_')}.py").write_text(source_of(trained(graph)), encoding="utf-8")

    ruff = [sys.executable, "-m", "ruff"]
    form, lint = (
        subprocess.run([*ruff, *what, "--isolated", "--line-length=120", tmp_path], capture_output=True, check=False)
        for what in (["format", "--diff"], ["check", "--select=E,F,W,I,UP,B"])
    )

    assert form.returncode == 0, form.stdout
    assert lint.returncode == 0, lint.stdout


def test_every_entry_of_the_state_has_one_name_in_the_source(
    trained: Trained, source_of: Callable[..., str], imported: Callable[[str], ModuleType]
) -> None:
    network = trained(sampled(3))

    names = state_names(network)

    assert list(names) == list(network.state_dict())
    assert sorted(names.values()) == sorted(imported(source_of(network)).Network().state_dict())


def test_the_file_run_as_a_program_classifies_an_image(
    tmp_path: Path, trained: Trained, exported: Export, graph_of: GraphOf, chain: Callable[..., Cell]
) -> None:
    network = trained(graph_of(chain("conv3x3")))
    exported(network)
    Image.fromarray(images()[0, 0].numpy()).save(tmp_path / "one.png")
    label = int(network((images()[:1].float() - 77.0) / 33.0).argmax(1))

    run = [sys.executable, "-I", str(tmp_path / "network.py")]
    said = subprocess.run([*run, str(tmp_path / "one.png")], capture_output=True, text=True, check=True).stdout
    described = subprocess.run(run, capture_output=True, text=True, check=True).stdout

    assert f"one.png: {'abc'[label]} (" in said
    assert f"{num_params(network):,} parameters, images (1, 8, 8) to logits (3,)" in described


BLOCKS = '''
"""Parts that a plug-in shares."""
from __future__ import annotations
import math
from torch import nn

LIMIT = 0.5


class Gate(nn.Module):
    def __init__(self, channels, squeeze=4, limit=LIMIT):
        super().__init__()
        self.channels, self.squeeze, self.limit = channels, squeeze, limit
        self.down = nn.Linear(channels, max(1, channels // squeeze))
        self.up = nn.Linear(max(1, channels // squeeze), channels)

    def forward(self, x):
        return x * soft(self.up(self.down(x.mean((2, 3)))), self.limit)[..., None, None]


def soft(x, limit):
    return (x / math.sqrt(2.0)).sigmoid().clamp(max=limit)
'''

OPERATION = '''
from dataclasses import dataclass
import torch.nn.functional as F
from torch import Tensor, nn
from nasflow_cli.core.registry import ACTIVATIONS, OPERATIONS
from nasflow_cli.nets.operations import Slot, conv_bn
from gate_blocks import Gate as Squeeze


@ACTIVATIONS.register("square")
class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) ** 2 * SHARE


@OPERATIONS.register("gated", weighted=True, activated=True)
class Gated(nn.Module):
    """Keeps its slot."""

    def __init__(self, slot: Slot, *, gate: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.slot, self.gate = slot, gate
        self.body = conv_bn(slot, 3)
        self.squeeze = Squeeze(slot.channels)
        self.bias = nn.Parameter(slot_zero(slot)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.squeeze(self.body(x)) + self.bias


def slot_zero(slot):
    import torch
    return torch.zeros(slot.channels, 1, 1)


SHARE = 0.25
'''


def test_a_plugins_classes_are_exported_with_all_that_they_need(
    trained: Trained, exported: Export, graph_of: GraphOf, plugin: Plugin
) -> None:
    plugin("gate_blocks", BLOCKS)
    plugin("gated_operation", OPERATION)
    cell = Cell((node("gated", 0, act="square"), node("gated", 0, 1, act="gelu")), (1, 2))
    network = trained(graph_of(cell, activation="square"))

    assert_same(network, exported(network), images())


def test_a_plugins_source_brings_no_import_of_nasflow_or_of_the_plugin(
    trained: Trained, source_of: Callable[..., str], graph_of: GraphOf, plugin: Plugin
) -> None:
    plugin("gate_blocks", BLOCKS)
    plugin("gated_operation", OPERATION)

    source = source_of(trained(graph_of(Cell((node("gated", 0, act="square"),), (1,)))))

    assert "nasflow_cli" not in source
    assert "import gate_blocks" not in source
    assert "register" not in source.replace("register_buffer", "")
    assert source.count("class Gate(nn.Module):") == 1


def replaced(network: Network, module: nn.Module) -> Network:
    """Put another module in the first slot behind the stem."""
    network.cells[1].nodes[0] = module
    return network


@pytest.fixture
def one_slot(trained: Trained, graph_of: GraphOf, chain: Callable[..., Cell]) -> Network:
    return trained(graph_of(chain("conv1x1")))


def test_named_children_padding_modes_and_numbers_that_are_not_finite_are_written(
    one_slot: Network, exported: Export
) -> None:
    layers = OrderedDict(
        pad=nn.Hardtanh(-1.0, float("inf")),
        conv=nn.Conv2d(4, 4, (3, 1), padding="same", padding_mode="circular", groups=2),
        norm=nn.GroupNorm(2, 4, affine=False),
        inner=nn.Sequential(nn.Sequential(), nn.Threshold(0.1, 20)),
    )
    network = replaced(one_slot, nn.Sequential(layers))

    assert_same(network, exported(network), images())


def test_an_argument_that_is_a_module_or_a_function_is_written(
    one_slot: Network, exported: Export, plugin: Plugin
) -> None:
    made = plugin(
        "residual_plugin",
        "from torch import nn\n"
        "class Residual(nn.Module):\n"
        "    def __init__(self, inner, before, scales=(1.0,)):\n"
        "        super().__init__()\n"
        "        self.inner, self.before, self._scales = inner, before, scales\n"
        "    def forward(self, x):\n"
        "        return x + self.inner(self.before(x)) * self._scales[0]\n",
    )
    network = replaced(one_slot, made.Residual(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ELU(0.5)), torch.tanh, (0.5,)))

    assert_same(network, exported(network), images())


def refusal(network: Network) -> str:
    with pytest.raises(NasflowError) as caught:
        network_source(network, InputFacts(shape=(1, 8, 8), mean=[0.0], std=[1.0]), ("a", "b", "c"), "Refused")
    return str(caught.value)


def test_a_module_that_does_not_keep_its_argument_is_refused_by_name(one_slot: Network, plugin: Plugin) -> None:
    made = plugin(
        "forgetful",
        "from torch import nn\n"
        "class Forgets(nn.Module):\n"
        "    def __init__(self, factor):\n"
        "        super().__init__()\n"
        "        self.double = 2 * factor\n"
        "    def forward(self, x):\n"
        "        return self.double * x\n",
    )

    said = refusal(replaced(one_slot, made.Forgets(2.0)))

    assert "forgetful.Forgets" in said
    assert "self.factor = factor" in said


def test_an_argument_that_cannot_be_written_is_refused_by_name(one_slot: Network, plugin: Plugin) -> None:
    made = plugin(
        "tensorial",
        "from torch import nn\n"
        "class Scale(nn.Module):\n"
        "    def __init__(self, by):\n"
        "        super().__init__()\n"
        "        self.by = by\n",
    )

    said = refusal(replaced(one_slot, made.Scale(torch.ones(3))))

    assert "Scale's argument 'by': a Tensor cannot be written as text" in said


def test_a_class_whose_source_is_gone_is_refused(one_slot: Network, plugin: Plugin, tmp_path: Path) -> None:
    made = plugin("vanished", "from torch import nn\nclass Lost(nn.Module):\n    pass\n")
    (tmp_path / "plugins" / "vanished.py").unlink()

    said = refusal(replaced(one_slot, made.Lost()))

    assert "cannot export vanished: its source is not there" in said


def test_a_class_made_while_the_program_runs_is_refused(one_slot: Network) -> None:
    class Local(nn.Module):
        pass

    assert "define it at the top level of a module" in refusal(replaced(one_slot, Local()))


def test_a_plugin_that_uses_a_module_as_a_whole_is_told_to_import_names(one_slot: Network, plugin: Plugin) -> None:
    plugin("gate_blocks", BLOCKS)
    made = plugin("whole_user", "import gate_blocks\nfrom torch import nn\nclass Uses(gate_blocks.Gate):\n    pass\n")

    assert "import the names that it needs" in refusal(replaced(one_slot, made.Uses(4)))


def test_two_plugins_with_one_name_for_two_things_are_refused(
    trained: Trained, graph_of: GraphOf, chain: Callable[..., Cell], plugin: Plugin
) -> None:
    text = "from torch import nn\nclass Same(nn.Module):\n    pass\n"
    network = trained(graph_of(chain("conv1x1", "conv1x1")))
    network.cells[1].nodes[0] = plugin("first_same", text).Same()
    network.cells[1].nodes[1] = plugin("second_same", text).Same()

    said = refusal(network)

    assert "'Same' would mean two things" in said
    assert "first_same.Same" in said


def test_a_plugins_class_called_network_is_refused(one_slot: Network, plugin: Plugin) -> None:
    made = plugin("network_plugin", "from torch import nn\nclass Network(nn.Module):\n    pass\n")

    assert "'Network' would mean two things" in refusal(replaced(one_slot, made.Network()))
