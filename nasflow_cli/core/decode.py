"""Decoding: parameters become a graph. Structure is read before operators, and nothing that does not matter is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.cells import Read, Shape, Wiring, adapt_slot, placed, project_slot, wire
from nasflow_cli.core.graph import Block, Cell, NetworkGraph, Node, OperationFacts, simplify
from nasflow_cli.core.parameters import cell_prefix
from nasflow_cli.core.space_config import Granularity, SpaceConfig, StageConfig

ADAPTER = "skip"
"""What stands where an input is only brought to another shape."""

MAX_CELLS = 20_000
"""Cells of a description that are remembered: some tens of MiB."""


class Decoder:
    """One reading of a description. Structure is read first, so that only slots that matter are read after it.

    `known` are the cells of the same description that were read before.
    """

    def __init__(
        self, config: SpaceConfig, facts: Mapping[str, OperationFacts], read: Read, known: KnownCells | None = None
    ) -> None:
        self.config = config
        self.facts = facts
        self.read = read
        self._known = known or KnownCells()
        self._stage = 0
        self._per = {"activation": config.activation.per, "initialisation": config.initialisation.per}
        self._wirings: dict[str, Wiring] = {}
        self._names: dict[str, str] = {}
        self._cells: dict[tuple[object, ...], _Filled] = {}
        self._even: dict[tuple[str, int], _Filled] = {}

    def network(self) -> NetworkGraph:
        """Read everything and return the graph, simplified unless the description says otherwise."""
        config = self.config
        stem_width = int(self.read("stem.width"))
        shapes = [self._shape(number) for number in range(len(config.stages))]
        for number in range(len(config.stages)):
            name = config.stages[number].cell
            for layer in range(shapes[number][0] if config.cells[name].per == "layer" else 1):
                prefix = cell_prefix(config, number, layer)
                if prefix not in self._wirings:
                    self._names[prefix] = name
                    self._wirings[prefix] = wire(prefix, config.cells[name], self.read)
        head_width = int(self.read("head.width")) if config.head.width is not None else 0
        chain = _Chain()
        chain.append("stem", self._single(config.stem.operation, "stem", stem_width, config.stem.stride))
        for self._stage, stage in enumerate(config.stages):
            self._add_stage(chain, stage, *shapes[self._stage])
        return self._with_head(chain, head_width)

    def _shape(self, stage: int) -> tuple[int, int]:
        return int(self.read(f"stages.{stage}.depth")), int(self.read(f"stages.{stage}.width"))

    def _with_head(self, chain: _Chain, head_width: int) -> NetworkGraph:
        activation = str(self.read(self._name("activation", "head"))) if self.config.head_is_activated else None
        initialisation = str(self.read(self._name("initialisation", "head")))
        head = (activation, initialisation, self.config.dropout, head_width)
        order = self.config.activation.order
        flaw = self._flaw() or _unread(chain.blocks if self.config.prune else chain.simplified)
        if self.config.prune:
            return NetworkGraph(tuple(chain.blocks), *head, order, flaw)
        simplified = NetworkGraph(tuple(chain.simplified), *head, order, flaw)
        return NetworkGraph(tuple(chain.blocks), *head, order, flaw, simplified)

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

    def _name(self, kind: str, slot: str) -> str:
        """The parameter of an activation or initialisation, at the granularity that the user named."""
        per: Granularity = self._per[kind]
        if per == "network":
            return kind
        return f"stages.{self._stage}.{kind}" if per == "stage" else f"{slot}.{kind}"

    def _place(self, node: Node, operation: str, slot: str, in_width: int, domains: Iterable[str] = ()) -> _Place:
        """The node with an operation in its slot, and what else is to be chosen: `domains` are its arguments."""
        fact = self.facts[operation]
        projects = fact.projects(in_width, node.width, node.stride)
        # Before the stem's convolution there is none: nothing of the input is to be cut off before it is looked at.
        activated = (fact.activated or projects) and not (slot == "stem" and self.config.activation.order == "before")
        return _Place(
            node,
            operation,
            self._name("activation", slot) if activated else None,
            self._name("initialisation", slot) if fact.weighted or projects else None,
            tuple([(key, f"{node.operation}.{operation}.{key}") for key in sorted(domains)]) if domains else (),
        )

    def _single(self, operation: str, slot: str, width: int, stride: int) -> _Filled:
        place = self._place(Node(slot, (0,), width, stride), operation, slot, width)
        cell = Cell((place.filled({name: self.read(name) for name in place.names}),), (1,))
        fact = self.facts[operation]
        return self._filled(cell, ()) if fact.zero or fact.identity else _Filled(cell, cell)

    def _filled(self, cell: Cell, widths: Sequence[int]) -> _Filled:
        return _Filled(cell, cell if self.config.prune else simplify(cell, self.facts, widths))

    def _cell(self, prefix: str, name: str, chain: _Chain, width: int, stride: int) -> _Filled:
        """The cell at a layer. Layers in the same place share it; where the width alone differs, it is read once."""
        inputs = chain.outputs[: self.config.cells[name].inputs]
        place = (prefix, self._stage, inputs, width, stride)
        if place in self._cells:
            return self._cells[place]
        likeness = (prefix, self._stage if "stage" in self._per.values() else 0)
        even = stride == 1 and inputs[0].width == width and len(set(inputs)) == 1
        if even and likeness in self._even:
            filled = self._even[likeness].at_width(width)
        else:
            filled = self._read_cell(prefix, name, chain, width, stride)
            if even and all(node.width == width for node in filled.cell.nodes):
                self._even[likeness] = filled
        self._cells[place] = filled
        return filled

    def _read_cell(self, prefix: str, name: str, chain: _Chain, width: int, stride: int) -> _Filled:
        """Read the operations, which decide what else there is to read, and that; most cells were read before."""
        wiring, adapter = self._wirings[prefix], adapt_slot(prefix)
        chosen = {slot: str(self.read(f"{slot}.operation")) for slot, _ in wiring.slots if slot != adapter}
        inputs = chain.outputs[: self.config.cells[name].inputs]
        likeness = (prefix, self._stage, wiring, tuple(chosen.values()), inputs, width, stride)
        plan = self._known.plans.get(likeness)
        if plan is None:
            plan = self._plan(prefix, name, chosen, inputs, Shape(width, inputs[0].stride * stride))
            self._known.plans[likeness] = plan
        values = {name: self.read(name) for name in plan.names}
        # True equals 1, and both may be choices of one parameter.
        settings = (*values.values(), *map(type, values.values()))
        if settings not in plan.filled:
            self._known.make_room()
            raw = plan.raw
            nodes = tuple([place.filled(values) for place in plan.places])
            cell = Cell(nodes, raw.output, raw.num_inputs, raw.join, raw.added, raw.cut)
            plan.filled[settings] = self._filled(cell, [shape.width for shape in inputs])
        return plan.filled[settings]

    def _plan(self, prefix: str, name: str, chosen: Mapping[str, str], inputs: Sequence[Shape], target: Shape) -> _Plan:
        """The cell with these operations in its slots, and what is to be read for each of its nodes."""
        config, wiring = self.config.cells[name], self._wirings[prefix]
        adapter, project = adapt_slot(prefix), project_slot(prefix)
        stands = {**chosen, adapter: ADAPTER}
        raw = placed(prefix, config, wiring, stands, inputs, target)
        if config.project is not None:
            stands[project] = config.project.operation
        widths = [shape.width for shape in inputs]
        if self.config.prune:
            # Simplified before activations and arguments are read: what `none` cuts off has none.
            raw = simplify(raw, {slot: self.facts[operation] for slot, operation in stands.items()}, widths)
        all_widths = raw.widths(widths)
        places = []
        for node in raw.nodes:
            slot, operation = node.operation, stands[node.operation]
            domains = config.operations.arguments.get(operation, {}) if slot in chosen else {}
            in_width = raw.in_width(node, all_widths) if self.facts[operation].adapts else node.width
            places.append(self._place(node, operation, project if slot == adapter else slot, in_width, domains))
        names = dict.fromkeys(name for place in places for name in place.names)
        return _Plan(raw, tuple(places), tuple(names), {})


class KnownCells:
    """The cells of a description that were read before. Members of a space share most of theirs."""

    def __init__(self) -> None:
        self.plans: dict[tuple[object, ...], _Plan] = {}
        self._room = MAX_CELLS

    def make_room(self) -> None:
        """Room for one more cell: once there are too many, all are forgotten."""
        if self._room == 0:
            for plan in self.plans.values():
                plan.filled.clear()
            self.plans.clear()
            self._room = MAX_CELLS
        self._room -= 1


@dataclass(frozen=True, slots=True)
class _Place:
    """A node with an operation, and the parameters of what else is chosen for it; None: it has no use for one."""

    node: Node
    operation: str
    activation: str | None
    initialisation: str | None
    arguments: tuple[tuple[str, str], ...]
    """Sorted by the argument's own name, which stands before its parameter."""

    @property
    def names(self) -> list[str]:
        """The parameters to read."""
        domains = (self.activation, self.initialisation)
        return [*(name for _, name in self.arguments), *(name for name in domains if name is not None)]

    def filled(self, values: Mapping[str, Value]) -> Node:
        """The node with what was chosen."""
        node = self.node
        return Node(
            self.operation,
            node.inputs,
            node.width,
            node.stride,
            None if self.activation is None else str(values[self.activation]),
            None if self.initialisation is None else str(values[self.initialisation]),
            tuple([(key, values[name]) for key, name in self.arguments]),
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """A placed cell: what is to be read for its nodes, and the cells that came of it, by what was read."""

    raw: Cell
    places: tuple[_Place, ...]
    names: tuple[str, ...]
    filled: dict[tuple[object, ...], _Filled]


@dataclass(frozen=True, slots=True)
class _Filled:
    """A cell as it is built, and without what cannot matter: the same one, unless the description keeps that."""

    cell: Cell
    simplified: Cell

    def at_width(self, width: int) -> _Filled:
        """The same at another width, of cells in which everything has one width."""
        wider = self.cell.at_width(width)
        return _Filled(wider, wider if self.simplified is self.cell else self.simplified.at_width(width))


class _Chain:
    """The blocks so far, and the shapes of the last two cells' outputs, nearest first."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.simplified: list[Block] = []
        self.outputs = (Shape(0, 1), Shape(0, 1))

    def append(self, name: str, filled: _Filled, copies: int = 1) -> None:
        """Add copies of a cell, all of them on inputs of the same shapes if there are several."""
        cell = filled.cell
        inputs = self.outputs[: cell.num_inputs]
        widths, strides = [shape.width for shape in inputs], [shape.stride for shape in inputs]
        after = Shape(cell.out_width(widths), cell.out_stride(strides))
        _append(self.blocks, Block(name, cell, copies))
        _append(self.simplified, Block(name, filled.simplified, copies))
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
