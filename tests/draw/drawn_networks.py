"""Networks that the drawing tests draw: one of every shape that a space can give."""

from __future__ import annotations

from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node


def node(operation: str, *inputs: int, width: int = 16, **others) -> Node:
    has_weights = "conv" in operation or "linear" in operation
    facts = {"activation": "relu", "initialisation": "kaiming_normal"} if has_weights else {}
    return Node(operation=operation, inputs=inputs, width=width, **(facts | others))


def network(*blocks: Block, **others) -> NetworkGraph:
    return NetworkGraph(blocks=blocks, activation="relu", initialisation="kaiming_normal", **others)


def single(name: str, operation: str, *, depth: int = 1, **others) -> Block:
    return Block(name=name, cell=Cell(nodes=(node(operation, 0, **others),), output=(1,)), depth=depth)


def nasbench201_cell(width: int) -> Cell:
    """Edges 0>1, 0>2, 1>2, 0>3, 1>3, 2>3 of a cell whose node 2 is read as a sum."""
    nodes = (
        node("conv3x3", 0, width=width),
        node("skip", 0, width=width),
        node("conv1x1", 1, width=width),
        node("conv3x3", 0, width=width),
        node("avg_pool3x3", 1, width=width),
        node("conv3x3", 2, 3, width=width, activation="silu"),
    )
    return Cell(nodes=nodes, output=(4, 5, 6))


def nasbench201() -> NetworkGraph:
    blocks = [single("stem", "conv3x3")]
    for stage, width in enumerate((16, 32, 64)):
        if stage:
            blocks.append(Block(name=f"stages.{stage}.transition", cell=residual_cell(width)))
        blocks.append(Block(name=f"stages.{stage}", cell=nasbench201_cell(width), depth=5))
    return network(*blocks)


def residual_cell(width: int) -> Cell:
    nodes = (
        node("conv3x3", 0, width=width, stride=2),
        node("conv3x3", 1, width=width),
        node("avg_pool3x3", 0, width=width, stride=2),
        node("conv1x1", 3, width=width),
    )
    return Cell(nodes=nodes, output=(2,), added=(4,))


def dense() -> NetworkGraph:
    names = ("conv3x3", "sep_conv3x3", "max_pool3x3", "conv1x1", "dil_conv3x3", "conv5x5", "skip")
    nodes = tuple(node(name, *range(at + 1), width=32) for at, name in enumerate(names))
    return network(single("stem", "conv3x3", width=32), Block(name="stages.0", cell=Cell(nodes=nodes, output=(7,))))


def chain() -> NetworkGraph:
    blocks = [single("stem", "conv3x3", width=32, stride=2)]
    for at in range(11):
        arguments = (("expansion", 1 + at % 6), ("kernel", 3 + 2 * (at % 3)), ("squeeze", at % 2 == 0))
        width = 16 + 8 * at
        blocks.append(
            single(f"stages.{at}", "mbconv", depth=1 + at % 4, width=width, stride=1 + at % 2, arguments=arguments)
        )
    return network(*blocks, head_width=1280, dropout=0.2, order="after")


def darts_cell(width: int, stride: int = 1) -> Cell:
    """Eight operations in pairs; an identity sums each pair; the four sums are concatenated."""
    edges = [
        (("sep_conv3x3", 0), ("sep_conv3x3", 1)),
        (("sep_conv3x3", 0), ("skip", 1)),
        (("skip", 1), ("dil_conv3x3", 4)),
        (("sep_conv5x5", 4), ("max_pool3x3", 7)),
    ]
    nodes: list[Node] = []
    for pair in edges:
        for name, value in pair:
            nodes.append(node(name, value, width=width, stride=stride if value < 2 else 1))
        nodes.append(node("skip", len(nodes), len(nodes) + 1, width=width))
    return Cell(nodes=tuple(nodes), output=(4, 7, 10, 13), num_inputs=2, join="concat")


def darts() -> NetworkGraph:
    return network(
        single("stem", "conv3x3", width=48),
        Block(name="stages.0", cell=darts_cell(16), depth=6),
        Block(name="stages.1.transition", cell=darts_cell(32, stride=2)),
        Block(name="stages.1", cell=darts_cell(32), depth=6),
    )


def identity() -> NetworkGraph:
    return network(
        single("stem", "conv3x3"), Block(name="stages.0", cell=Cell(nodes=(), output=(0,)), depth=3), dropout=0.1
    )


def long_names() -> NetworkGraph:
    nodes = (
        node("my_laboratory.depthwise_over_parameterised_conv_with_reparameterisation", 0, width=64),
        node("conv3x3", 0, width=256, activation="hard_swish", initialisation="xavier_uniform", stride=2),
        node(
            "multi_head_self_attention",
            1,
            2,
            2,
            width=64,
            arguments=(("heads", 8), ("relative_position_bias", True), ("window", "shifted every other block")),
        ),
        node("Ünïcode 畳み込み层", 3, width=64),
        node("linear", 4, width=64),
    )
    cell = Cell(nodes=nodes, output=(4, 5), added=(0,), join="concat")
    name = "stages.0.a_block_with_quite_a_long_name_of_its_own"
    return network(single("stem", "patchify", width=64), Block(name=name, cell=cell, depth=2))


def broken() -> NetworkGraph:
    return network(single("stem", "conv3x3"), Block(name="stages.0", cell=Cell(nodes=(), output=())))


def wired_at_random() -> NetworkGraph:
    """Fourteen nodes; each reads up to three values before it, picked by a fixed rule."""
    names = ("conv3x3", "skip", "max_pool3x3", "linear", "gelu_mixer")
    nodes = []
    for at in range(14):
        reads = sorted({(at * 7 + 3) % (at + 1), (at * 5 + 1) % (at + 1), at // 2})
        nodes.append(node(names[at % 5], *reads, width=16 * (1 + at % 2)))
    return network(Block(name="stages.0", cell=Cell(nodes=tuple(nodes), output=(10, 13, 14, 14), join="sum")))


NETWORKS = {
    make.__name__: make for make in (nasbench201, dense, chain, darts, identity, long_names, broken, wired_at_random)
}
