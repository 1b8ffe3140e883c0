"""Decoding: parameters become a graph. Structure is read before operators, and nothing that does not matter is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node, OperationFacts, simplify
from nasflow_cli.core.parameters import cell_edges, is_searched
from nasflow_cli.core.space_config import CellConfig, Granularity, SpaceConfig, StageConfig

Read = Callable[[str], Value]


class Decoder:
    """One reading of a description. Structure is read first, so that only slots that matter are read after it."""

    def __init__(self, config: SpaceConfig, facts: Mapping[str, OperationFacts], read: Read) -> None:
        self.config = config
        self.facts = facts
        self.read = read
        self._stage = 0
        self._skeletons: dict[str, Cell] = {}

    def network(self) -> NetworkGraph:
        """Read everything and return the simplified graph."""
        config = self.config
        width = int(self.read("stem.width"))
        shapes = [self._shape(position) for position in range(len(config.stages))]
        for stage in config.stages:
            if stage.cell not in self._skeletons:
                self._skeletons[stage.cell] = _skeleton(stage.cell, config.cells[stage.cell], self.read)
        blocks = [Block("stem", self._single(config.stem.operation, "stem"), width, config.stem.stride)]
        for self._stage, stage in enumerate(config.stages):
            blocks.extend(self._stage_blocks(stage, width, *shapes[self._stage]))
            width = blocks[-1].width
        return NetworkGraph(
            tuple(blocks), self._domain("activation", "head"), self._domain("initialisation", "head"), config.dropout
        )

    def _shape(self, stage: int) -> tuple[int, int]:
        return int(self.read(f"stages.{stage}.depth")), int(self.read(f"stages.{stage}.width"))

    def _stage_blocks(self, stage: StageConfig, width_before: int, depth: int, width: int) -> Iterator[Block]:
        name = f"stages.{self._stage}"
        if width != width_before or stage.stride != 1:
            slot = f"{name}.transition"
            yield Block(slot, self._single(stage.transition, slot), width, stage.stride)
        yield Block(name, self._cell(stage.cell), width, 1, depth)

    def _domain(self, kind: str, slot: str) -> str:
        """Read an activation or initialisation at the granularity that the user named."""
        per: Granularity = getattr(self.config, kind).per
        name = {"network": kind, "stage": f"stages.{self._stage}.{kind}", "slot": f"{slot}.{kind}"}[per]
        return str(self.read(name))

    def _fill(self, node: Node, slot: str) -> Node:
        fact = self.facts[node.operation]
        return replace(
            node,
            activation=self._domain("activation", slot) if fact.activated else None,
            initialisation=self._domain("initialisation", slot) if fact.weighted else None,
        )

    def _single(self, operation: str, slot: str) -> Cell:
        return Cell((self._fill(Node(operation, (0,)), slot),), (1,))

    def _cell(self, name: str) -> Cell:
        skeleton = self._skeletons[name]
        chosen = {node.operation: str(self.read(f"{node.operation}.operation")) for node in skeleton.nodes}
        # Simplified before activations are read: what `none` cuts off has none.
        live = simplify(skeleton, {slot: self.facts[operation] for slot, operation in chosen.items()})
        nodes = (self._fill(replace(node, operation=chosen[node.operation]), node.operation) for node in live.nodes)
        return Cell(tuple(nodes), live.output)


def _skeleton(name: str, config: CellConfig, read: Read) -> Cell:
    """The cell's slots and what feeds them: a cell whose operations are the names of the slots, dead ones left out."""
    num_nodes = int(read(f"{name}.nodes"))
    edges = [
        (i, j) for i, j in cell_edges(config, num_nodes) if not is_searched(config, j) or read(f"{name}.{i}-{j}.edge")
    ]
    slots: list[Node] = []
    stands_for: list[tuple[int, ...]] = [(0,)]
    for j in range(1, num_nodes + 1):
        sources = [i for i, k in edges if k == j and stands_for[i]]
        if config.slots == "edges":
            slots.extend(Node(f"{name}.{i}-{j}", stands_for[i]) for i in sources)
            stands_for.append(tuple(range(len(slots) - len(sources) + 1, len(slots) + 1)))
        elif sources:
            slots.append(Node(f"{name}.{j}", tuple(value for i in sources for value in stands_for[i])))
            stands_for.append((len(slots),))
        else:
            stands_for.append(())
    read_by_some = {i for i, _ in edges}
    ends = [num_nodes] if config.output == "last" else [j for j in range(1, num_nodes + 1) if j not in read_by_some]
    output = [value for j in ends for value in stands_for[j]] + ([0] if read(f"{name}.residual") else [])
    return simplify(Cell(tuple(slots), tuple(output)), {node.operation: OperationFacts() for node in slots})
