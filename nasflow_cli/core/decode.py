"""Decoding: parameters become a graph. Structure is read before operators, and nothing that does not matter is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nasflow_cli.core.cells import Placing, Read, Shape, Wiring, adapt_slot, project_slot, wire
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node, OperationFacts, simplify
from nasflow_cli.core.parameters import cell_prefix
from nasflow_cli.core.space_config import Granularity, SpaceConfig, StageConfig

ADAPTER = "skip"
"""What stands where an input is only brought to another shape."""


class Decoder:
    """One reading of a description. Structure is read first, so that only slots that matter are read after it."""

    def __init__(self, config: SpaceConfig, facts: Mapping[str, OperationFacts], read: Read) -> None:
        self.config = config
        self.facts = facts
        self.read = read
        self._stage = 0
        self._wirings: dict[str, Wiring] = {}
        self._names: dict[str, str] = {}
        self._cells: dict[tuple[object, ...], Cell] = {}

    def network(self) -> NetworkGraph:
        """Read everything and return the graph, simplified unless the description says otherwise."""
        config = self.config
        stem_width = int(self.read("stem.width"))
        shapes = [self._shape(number) for number in range(len(config.stages))]
        for number in range(len(config.stages)):
            for layer in range(shapes[number][0]):
                prefix = cell_prefix(config, number, layer)
                if prefix not in self._wirings:
                    name = self._names[prefix] = config.stages[number].cell
                    self._wirings[prefix] = wire(prefix, config.cells[name], self.read)
        head_width = int(self.read("head.width")) if config.head.width is not None else 0
        chain = _Chain(config.prune, self.facts)
        chain.append("stem", self._single(config.stem.operation, "stem", stem_width, config.stem.stride))
        for self._stage, stage in enumerate(config.stages):
            self._add_stage(chain, stage, *shapes[self._stage])
        return self._with_head(chain, head_width)

    def _shape(self, stage: int) -> tuple[int, int]:
        return int(self.read(f"stages.{stage}.depth")), int(self.read(f"stages.{stage}.width"))

    def _with_head(self, chain: _Chain, head_width: int) -> NetworkGraph:
        graph = NetworkGraph(
            blocks=tuple(chain.blocks),
            activation=self._domain("activation", "head") if self.config.head_is_activated else None,
            initialisation=self._domain("initialisation", "head"),
            dropout=self.config.dropout,
            head_width=head_width,
            order=self.config.activation.order,
            flaw=self._flaw() or _unread(chain.blocks if self.config.prune else chain.simplified),
        )
        if self.config.prune:
            return graph
        return replace(graph, simplified=replace(graph, blocks=tuple(chain.simplified)))

    def _flaw(self) -> str | None:
        for prefix, wiring in self._wirings.items():
            name = self._names[prefix]
            limit = self.config.cells[name].max_edges
            if limit is not None and wiring.num_edges > limit:
                return f"cell {name!r} has {wiring.num_edges} edges, and at most {limit} are allowed"
        return None

    def _add_stage(self, chain: _Chain, stage: StageConfig, depth: int, width: int) -> None:
        name = f"stages.{self._stage}"
        stride = stage.stride
        if stage.transition is not None:
            before = chain.outputs[0].width
            new_width = width if self.facts[stage.transition].weighted else before
            if new_width != before or stride != 1:
                slot = f"{name}.transition"
                chain.append(slot, self._single(stage.transition, slot, new_width, stride))
            stride = 1
        config = self.config.cells[stage.cell]
        for layer in range(depth):
            # Once every input has the stage's shape, what follows in a stage that repeats one cell is the same.
            rest = depth - layer if layer >= config.inputs and config.per != "layer" else 1
            prefix = cell_prefix(self.config, self._stage, layer)
            chain.append(name, self._cell(prefix, stage.cell, chain, width, stride if layer == 0 else 1), rest)
            if rest > 1:
                break

    def _domain(self, kind: str, slot: str) -> str:
        """Read an activation or initialisation at the granularity that the user named."""
        per: Granularity = getattr(self.config, kind).per
        name = {"network": kind, "stage": f"stages.{self._stage}.{kind}", "slot": f"{slot}.{kind}"}[per]
        return str(self.read(name))

    def _fill(self, node: Node, slot: str, in_width: int) -> Node:
        fact = self.facts[node.operation]
        projects = fact.projects(in_width, node.width, node.stride)
        # Before the stem's convolution there is none: nothing of the input is to be cut off before it is looked at.
        activated = (fact.activated or projects) and not (slot == "stem" and self.config.activation.order == "before")
        return Node(
            node.operation,
            node.inputs,
            node.width,
            node.stride,
            self._domain("activation", slot) if activated else None,
            self._domain("initialisation", slot) if fact.weighted or projects else None,
            node.arguments,
        )

    def _single(self, operation: str, slot: str, width: int, stride: int) -> Cell:
        return Cell((self._fill(Node(operation, (0,), width, stride), slot, width),), (1,))

    def _cell(self, prefix: str, name: str, chain: _Chain, width: int, stride: int) -> Cell:
        """The cell at a layer; layers in the same place share it."""
        place = (prefix, self._stage, chain.outputs[: self.config.cells[name].inputs], width, stride)
        if place not in self._cells:
            self._cells[place] = self._read_cell(prefix, name, chain, width, stride)
        return self._cells[place]

    def _read_cell(self, prefix: str, name: str, chain: _Chain, width: int, stride: int) -> Cell:
        config, wiring = self.config.cells[name], self._wirings[prefix]
        chosen = {adapt_slot(prefix): ADAPTER}
        searched = [slot for slot, _ in wiring.slots if slot not in chosen]
        chosen.update({slot: str(self.read(f"{slot}.operation")) for slot in searched})
        raw = Placing(prefix, config, chain.outputs, width, stride).cell(wiring, chosen)
        if config.project is not None:
            chosen[project_slot(prefix)] = config.project.operation
        widths = [shape.width for shape in chain.outputs]
        if self.config.prune:
            # Simplified before activations and arguments are read: what `none` cuts off has none.
            raw = simplify(raw, {slot: self.facts[operation] for slot, operation in chosen.items()}, widths)
        all_widths = raw.widths(widths)
        nodes = []
        for node in raw.nodes:
            slot, operation = node.operation, chosen[node.operation]
            domains = config.operations.arguments.get(operation, {}) if slot in searched else {}
            arguments = tuple((key, self.read(f"{slot}.{operation}.{key}")) for key in sorted(domains))
            filled = Node(operation, node.inputs, node.width, node.stride, arguments=arguments)
            home = project_slot(prefix) if slot == adapt_slot(prefix) else slot
            nodes.append(self._fill(filled, home, raw.in_width(node, all_widths)))
        return Cell(tuple(nodes), raw.output, raw.num_inputs, raw.join, raw.added, raw.cut)


class _Chain:
    """The blocks so far, and the shapes of the last two cells' outputs, nearest first."""

    def __init__(self, prune: bool, facts: Mapping[str, OperationFacts]) -> None:
        self.blocks: list[Block] = []
        self.simplified: list[Block] = []
        self.outputs = (Shape(0, 1), Shape(0, 1))
        self._prune = prune
        self._last: tuple[Cell, list[int], Cell] | None = None
        self._facts = facts

    def append(self, name: str, cell: Cell, copies: int = 1) -> None:
        """Add copies of a cell, all of them on inputs of the same shapes if there are several."""
        inputs = self.outputs[: cell.num_inputs]
        widths = [shape.width for shape in inputs]
        after = Shape(cell.out_width(widths), cell.out_stride([shape.stride for shape in inputs]))
        _append(self.blocks, Block(name, cell, copies))
        if not self._prune:
            if self._last is None or self._last[:2] != (cell, widths):
                self._last = (cell, widths, simplify(cell, self._facts, widths))
            _append(self.simplified, Block(name, self._last[2], copies))
        self.outputs = (after, after if name == "stem" or copies > 1 else self.outputs[0])


def _append(blocks: list[Block], block: Block) -> None:
    last = blocks[-1] if blocks else None
    if last is not None and last.name == block.name and last.cell == block.cell:
        blocks[-1] = Block(block.name, block.cell, last.depth + block.depth)
    else:
        blocks.append(block)


def _unread(blocks: Sequence[Block]) -> str | None:
    """Say that some cell's output is read by no later one, as can be where cells read the two before them."""
    if all(block.cell.num_inputs == 1 for block in blocks):
        return None
    cells = [block.cell for block in blocks for _ in range(block.depth)]
    read = [False] * (len(cells) - 1) + [True]
    for number in range(len(cells) - 1, 0, -1):
        cell = cells[number]
        used = {*cell.output, *cell.added}.union(*(node.inputs for node in cell.nodes))
        for value in range(cell.num_inputs):
            # In front of the stem there is nothing: the first cell behind it reads it twice.
            read[max(number - 1 - value, 0)] |= read[number] and value in used
    return None if all(read) else f"nothing reads cell {read.index(False)} of the chain"
