"""All 15,625 cells of NAS-Bench-201 (Dong and Yang 2020): how many computations they are.

Exact isomorphism, with zeros cut away and skips replaced by what they pass on, leaves 5,425. The published 6,466 counts
the strings of NAS-Bench-201's own code (`to_unique_str`), reproduced here: it keeps zeros apart inside sums, and it
writes a node that is read twice as it writes two nodes with equal inputs, whose weights are their own.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from functools import cache

from described_spaces import DESCRIPTIONS, FACTS, NB201, described

from nasflow_cli.core.graph import Cell, Node, canonical_form, simplify

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
Operations = tuple[str, ...]


def cell_of(operations: Operations) -> Cell:
    """The cell with an operation on each edge; what flows into a node is summed there."""
    nodes: list[Node] = []
    sums: dict[int, list[int]] = defaultdict(list, {0: [0]})
    for (i, j), operation in zip(EDGES, operations, strict=True):
        nodes.append(Node(operation, tuple(sums[i]), 16))
        sums[j].append(len(nodes))
    return simplify(Cell(tuple(nodes), tuple(sums[3])), FACTS, [16])


def published_string(operations: Operations) -> str:
    """NAS-Bench-201's description of a cell: the string of its last node."""
    strings = {0: "0"}
    for node in (1, 2, 3):
        terms = []
        for (i, j), operation in zip(EDGES, operations, strict=True):
            if j != node:
                continue
            if operation == "none" or strings[i] == "#":
                terms.append("#")
            elif operation == "skip":
                terms.append(strings[i])
            else:
                terms.append(f"({strings[i]})@{operation}")
        strings[node] = "+".join(sorted(terms))
    return strings[3]


@cache
def every_cell() -> dict[Operations, tuple[Cell, str]]:
    """All cells with their canonical forms."""
    cells = {operations: cell_of(operations) for operations in itertools.product(NB201, repeat=6)}
    return {operations: (cell, canonical_form(cell)) for operations, cell in cells.items()}


def are_isomorphic(a: Cell, b: Cell) -> bool:
    """Whether some renaming of the nodes makes one cell the other: all are tried."""
    if len(a.nodes) != len(b.nodes) or len(a.output) != len(b.output):
        return False
    for order in itertools.permutations(range(1, len(b.nodes) + 1)):
        name = (0, *order)
        if Counter(name[value] for value in a.output) == Counter(b.output) and all(
            node.label == b.nodes[name[i] - 1].label
            and Counter(name[value] for value in node.inputs) == Counter(b.nodes[name[i] - 1].inputs)
            for i, node in enumerate(a.nodes, start=1)
        ):
            return True
    return False


def test_there_are_5425_computations() -> None:
    assert len(every_cell()) == 15_625
    assert len({form for _, form in every_cell().values()}) == 5_425


def test_the_published_6466_are_strings_and_not_computations() -> None:
    assert len({published_string(operations) for operations in every_cell()}) == 6_466


def test_trying_every_renaming_agrees_with_the_canonical_form() -> None:
    rng = random.Random(0)
    classes: dict[str, list[Cell]] = defaultdict(list)
    look_alikes: dict[tuple[object, ...], list[tuple[Cell, str]]] = defaultdict(list)
    for cell, form in every_cell().values():
        classes[form].append(cell)
        likeness = (sorted(node.label for node in cell.nodes).__str__(), len(cell.output))
        look_alikes[likeness].append((cell, form))
    same = [rng.sample(cells, 2) for cells in rng.sample([c for c in classes.values() if len(c) > 1], 150)]
    assert all(are_isomorphic(a, b) for a, b in same)
    groups = [group for group in look_alikes.values() if len({form for _, form in group}) > 1 and group[0][0].nodes]
    others = [rng.sample(rng.choice(groups), 2) for _ in range(300)]
    assert all(are_isomorphic(a, b) == (x == y) for (a, x), (b, y) in others)
    assert sum(x != y for (_, x), (_, y) in others) > 150


def test_the_published_strings_tell_apart_cells_that_compute_the_same() -> None:
    # In both, what leaves is one convolution of the input; in the second, through a node that sums it with nothing.
    direct = ("none", "none", "none", "conv3x3", "none", "none")
    detour = ("none", "conv3x3", "none", "none", "none", "skip")
    assert cell_of(direct) == cell_of(detour) == Cell((Node("conv3x3", (0,), 16),), (1,))
    assert published_string(direct) != published_string(detour)


def test_the_published_strings_merge_one_node_read_twice_with_two_nodes() -> None:
    shared = ("conv3x3", "none", "skip", "none", "skip", "skip")
    doubled = ("conv3x3", "conv3x3", "none", "none", "skip", "skip")
    assert published_string(shared) == published_string(doubled)
    assert cell_of(shared) == Cell((Node("conv3x3", (0,), 16),), (1, 1))
    assert cell_of(doubled) == Cell((Node("conv3x3", (0,), 16), Node("conv3x3", (0,), 16)), (1, 2))
    assert canonical_form(cell_of(shared)) != canonical_form(cell_of(doubled))


def test_the_space_that_yaml_describes_has_the_same_cells() -> None:
    space = described(DESCRIPTIONS["NAS-Bench-201: operations on all edges"])
    assert space.size("operators") == 15_625
    for operations in random.Random(1).sample(sorted(every_cell()), 200):
        values = {f"cell.{i}-{j}.operation": operation for (i, j), operation in zip(EDGES, operations, strict=True)}
        cell = space.graph(space.complete(values, {"stem.width": 4})).blocks[-1].cell
        bare = Cell(tuple(Node(node.operation, node.inputs, 16) for node in cell.nodes), cell.output)
        assert canonical_form(bare) == every_cell()[operations][1]
