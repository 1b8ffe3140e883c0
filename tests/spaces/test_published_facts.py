"""What is published of the spaces that ship, and what can be worked out by hand, held to our descriptions of them."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pytest
from shipped_spaces import ROOT, changed, experiment, space

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.domain import parse_domain
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.cost import Cost, cost

CIFAR10 = (3, 32, 32)
THEIR_WORDS = {
    **{"none": "none", "skip_connect": "skip", "avg_pool_3x3": "avg_pool3x3"},
    **{"nor_conv_1x1": "conv1x1", "nor_conv_3x3": "conv3x3"},
}
EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]


def member(described: SearchSpace, values: Mapping[str, Value]) -> NetworkGraph:
    """The member with these values; what else is active takes its first choice."""
    rest = {name: parameter.domain.values[0] for name, parameter in described.parameters.items()}
    return described.member(values, rest)[1]


def cost_of(name: str, values: Mapping[str, Value]) -> Cost:
    return cost(member(space(name), values), CIFAR10, 10)


# NAS-Bench-201 (Dong and Yang 2020)


def table() -> list[dict[str, str]]:
    with gzip.open(ROOT / "configs" / "tables" / "nb201_cifar10.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_nasbench201_has_its_members_and_both_halves_search_among_them() -> None:
    described = space("nasbench201")

    assert (described.size("structure") or 0) * (described.size("operators") or 0) == 15_625 == len(table())
    assert described.size("structure") == 125


def test_every_tenth_cell_of_nasbench201_has_the_parameters_and_flops_of_the_table() -> None:
    for row in table()[::10]:
        graph = member(
            space("nasbench201"), {f"cell.{i}-{j}.operation": THEIR_WORDS[row[f"op_{j}_{i}"]] for i, j in EDGES}
        )

        about = cost(graph, CIFAR10, 10)

        assert about.params == int(row["params"])
        # The benchmark counts the classifier's 10 biases as multiply-adds; torch's counter does not.
        assert about.flops + 2 * 10 == int(row["flops"])


# NAS-Bench-101 (Ying et al. 2019): cells as their paper and code write them


def nasbench101(edges: Sequence[tuple[int, int]], operations: Sequence[str]) -> dict[str, Value]:
    """The parameters of a cell whose vertices are numbered as there, from 0 (input) to the last (output)."""
    last, num_inner = len(operations) + 1, 5
    values: dict[str, Value] = {
        f"cell.{i}-{j}.edge": (i, j) in edges for j in range(2, num_inner + 1) for i in range(j) if j < last
    }
    values.update({f"cell.{i}-out.edge": (i, last) in edges for i in range(last)})
    values.update({f"cell.{i}.operation": name for i, name in enumerate(operations, start=1)})
    return values


INCEPTION_LIKE = [(0, 1), (0, 2), (0, 3), (0, 5), (1, 6), (2, 6), (3, 4), (4, 6), (5, 6)]
NARROW_CHAIN = [(0, 1), (1, 2), (2, 3), (3, 4), (1, 5), (2, 5), (3, 5), (4, 5)]
WIDE_CHAIN = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (0, 2), (0, 3), (0, 4)]


@pytest.mark.parametrize(
    ("edges", "operations", "params"),
    [
        pytest.param(
            INCEPTION_LIKE, ["conv1x1", "conv3x3", "conv3x3", "conv3x3", "max_pool3x3"], 2_694_282, id="the README's"
        ),
        pytest.param(NARROW_CHAIN, ["max_pool3x3"] * 4, 227_274, id="the smallest"),
        pytest.param(WIDE_CHAIN, ["conv3x3"] * 5, 49_979_274, id="the largest"),
    ],
)
def test_cells_of_nasbench101_have_the_published_parameters(
    edges: Sequence[tuple[int, int]], operations: Sequence[str], params: int
) -> None:
    assert cost_of("nasbench101", nasbench101(edges, operations)).params == params


def test_nasbench101_has_the_published_number_of_distinct_cells_of_each_size() -> None:
    """Up to three inner vertices: the limit of nine edges leaves out the one cell of five vertices that has ten."""
    config = experiment("nasbench101").space
    cell = config.cells["cell"].model_copy(update={"nodes": parse_domain(3)})
    stage = config.stages[0].model_copy(update={"depth": parse_domain(1)})
    one_stage = changed("nasbench101", cells={"cell": cell}, stages=(stage,))
    keys: dict[int, set[str]] = defaultdict(set)

    for graph in every_member(one_stage):
        # Only the projections read the input itself.
        num_inner = sum(node.inputs != (0,) for node in graph.blocks[-1].cell.nodes)
        keys[num_inner + 2].add(graph.key())

    assert {size: len(found) for size, found in keys.items()} == {2: 1, 3: 6, 4: 84, 5: 2_441}


def every_member(described: SearchSpace) -> Iterator[NetworkGraph]:
    """The graph of every member that is connected and has no flaw."""
    waiting: list[dict[str, Value]] = [{}]
    while waiting:
        values = waiting.pop()
        try:
            graph = described.decode(values.__getitem__)
        except KeyError as missing:
            name = missing.args[0]
            waiting += [{**values, name: value} for value in described.parameters[name].domain.values]
        else:
            if graph.flaw is None and graph.is_connected:
                yield graph


# DARTS (Liu et al. 2019)

DARTS_WORDS = {
    "sep3": "darts_sep_conv3x3",
    "dil3": "dil_conv3x3",
    "max": "max_pool3x3",
    "skip": "skip",
}
DARTS_V2 = {
    "normal": [("sep3", 0), ("sep3", 1)] * 2 + [("sep3", 1), ("skip", 0), ("skip", 0), ("dil3", 2)],
    "reduction": [("max", 0), ("max", 1), ("skip", 2), ("max", 1), ("max", 0), ("skip", 2), ("skip", 2), ("max", 1)],
}


def darts(cell: str, genes: Sequence[tuple[str, int]]) -> Iterator[tuple[str, Value]]:
    """The parameters of a genotype. There, state 0 is the older input; here, value 1 is."""
    for number in range(4):
        pair = sorted(({0: 1, 1: 0}.get(state, state), name) for name, state in genes[2 * number : 2 * number + 2])
        yield f"{cell}.{number + 2}.inputs", "+".join(str(value) for value, _ in pair)
        yield from ((f"{cell}.{number + 2}.{n}.operation", DARTS_WORDS[name]) for n, (_, name) in enumerate(pair))


def test_the_published_cells_of_darts_have_the_published_parameters() -> None:
    values = dict(entry for cell, genes in DARTS_V2.items() for entry in darts(cell, genes))
    assert space("darts").parameters.keys() <= values.keys()

    assert cost_of("darts", values).params == 3_349_342


def test_darts_has_180_wirings_of_each_cell_and_8_operations_on_8_edges() -> None:
    described = space("darts")

    assert described.size("structure") == 180**2
    assert described.size("operators") == (8**8) ** 2


# Chains and stages, worked out by hand


def norm(channels: int) -> int:
    return 2 * channels


def mbconv(width_in: int, width: int, kernel: int, expansion: int, se: bool) -> int:
    inner = width_in * expansion
    expand = width_in * inner + norm(inner)
    squeezed = inner // 4
    excite = inner * squeezed + squeezed + squeezed * inner + inner if se else 0
    return expand + inner * kernel**2 + norm(inner) + excite + inner * width + norm(width)


def test_blocks_of_mobilenet_have_the_parameters_worked_out_by_hand() -> None:
    choices = [(3, 3, False), (5, 6, True), (7, 4, True), (3, 4, True), (5, 3, False)]
    widths = [16, 24, 48, 96, 192]
    values: dict[str, Value] = {"head.width": 960}
    expected = 3 * 16 * 9 + norm(16)
    for stage, ((kernel, expansion, se), width, before) in enumerate(zip(choices, widths, [16, *widths], strict=False)):
        depth = 2
        values[f"stages.{stage}.depth"], values[f"stages.{stage}.width"] = depth, width
        for layer in range(depth):
            slot = f"stages.{stage}.layer{layer}.1"
            values[f"{slot}.operation"] = "mbconv"
            values.update({f"{slot}.mbconv.kernel": kernel, f"{slot}.mbconv.expansion": expansion})
            values[f"{slot}.mbconv.se"] = se
            expected += mbconv(before if layer == 0 else width, width, kernel, expansion, se)
    expected += widths[-1] * 960 + norm(960) + 960 * 10 + 10

    assert cost_of("mobilenet", values).params == expected


def bottleneck(width_in: int, width: int, inner: int, kernel: int, groups: int) -> int:
    convolutions = width_in * inner + inner * (inner // groups) * kernel**2 + inner * width
    shortcut = width_in * width + norm(width)
    return convolutions + norm(inner) + norm(inner) + norm(width) + shortcut


def test_blocks_of_resnet_have_the_parameters_worked_out_by_hand() -> None:
    values: dict[str, Value] = {"stem.width": 32}
    stages = [(64, 0.5, 3, 4), (96, 1.0, 5, 8), (256, 0.25, 3, 1)]
    expected, before = 3 * 32 * 9 + norm(32), 32
    for stage, (width, ratio, kernel, groups) in enumerate(stages):
        values.update({f"stages.{stage}.depth": 3, f"stages.{stage}.width": width})
        slot = f"stages.{stage}.cell.1.bottleneck"
        values.update({f"{slot}.ratio": ratio, f"{slot}.kernel": kernel, f"{slot}.groups": groups})
        inner = int(width * ratio)
        expected += bottleneck(before, width, inner, kernel, groups)
        # Behind the first block nothing changes, and the shortcut is the input.
        expected += 2 * (bottleneck(width, width, inner, kernel, groups) - width * width - norm(width))
        before = width

    assert cost_of("resnet", values).params == expected + 256 * 10 + 10


def test_groups_of_resnet_divide_every_inner_width_so_that_no_choice_is_another_in_disguise() -> None:
    config = experiment("resnet").space
    arguments = config.cells["block"].operations.arguments["bottleneck"]

    inner = [
        float(str(width)) * float(str(ratio))
        for stage in config.stages
        for width in stage.width.values
        for ratio in arguments["ratio"].values
    ]

    assert all(width % int(groups) == 0 for width in inner for groups in arguments["groups"].values)


def test_a_perceptron_has_the_parameters_and_flops_worked_out_by_hand() -> None:
    values: dict[str, Value] = {"stem.width": 64}
    norms = ("layer", "none")
    for stage, (depth, width) in enumerate([(2, 128), (3, 32)]):
        values.update({f"stages.{stage}.depth": depth, f"stages.{stage}.width": width})
        values[f"stages.{stage}.cell.1.linear.norm"] = norms[stage]
    stem, first, second = 13 * 64, 64 * 128, 128 * 32  # a stage's width is made by its transition
    layers = 2 * 128 * 128, 3 * 32 * 32

    about = cost(member(space("mlp"), values), (13,), 3)

    transitions = stem + norm(64) + first + norm(128) + second + norm(32)
    # With a layer norm behind it a linear layer needs no bias; without a norm it has one. The head: norm and classes.
    assert about.params == transitions + layers[0] + 2 * norm(128) + layers[1] + 3 * 32 + norm(32) + 32 * 3 + 3
    assert about.flops == 2 * (stem + first + second + sum(layers) + 32 * 3)
