"""Counts what is published of the spaces that ship, by going through all of it.

    python scripts/count_spaces.py [nasbench201] [nasbench101] [darts] [--json]

NAS-Bench-201: all 15,625 members, each against the table's parameters and FLOPs. NAS-Bench-101: all wirings, the
distinct cells of each size (by our keys, and by Burnside's lemma beside them), and the least and most parameters.
DARTS: the number of cells. A few minutes in all. Exits with 1 where a number is not the published one.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nasflow_cli import assemble
from nasflow_cli.core.architecture import Value
from nasflow_cli.core.canonical import canonical_labels
from nasflow_cli.core.cells import Wiring, wire
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.cost import cost
from nasflow_cli.nets.operations import operation_facts

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
IMAGE, NUM_CLASSES = (3, 32, 32), 10
NB201_WORDS = {"skip_connect": "skip", "nor_conv_1x1": "conv1x1", "nor_conv_3x3": "conv3x3"}
NB201_WORDS |= {"avg_pool_3x3": "avg_pool3x3", "none": "none"}
NB201_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NB101_SIZES = {2: 1, 3: 6, 4: 84, 5: 2_441, 6: 62_010, 7: 359_082}
"""Distinct cells by number of vertices, input and output among them (Ying et al. 2019)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One number of a space beside the published one, or the one that tests work out where it says so."""

    space: str
    what: str
    found: int
    expected: int


def space_of(name: str) -> SearchSpace:
    """A space that ships."""
    return SearchSpace(assemble.load(CONFIGS / "spaces" / f"{name}.yaml", []).space, operation_facts())


def member(space: SearchSpace, values: Mapping[str, Value]) -> NetworkGraph:
    """The member with these values; what else is active takes its first choice."""
    return space.member(values, {name: p.domain.values[0] for name, p in space.parameters.items()})[1]


def nasbench201() -> Iterator[Finding]:
    """Every member beside its row of the table."""
    space = space_of("nasbench201")
    with gzip.open(CONFIGS / "tables" / "nb201_cifar10.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    params, flops = Counter[bool](), Counter[bool]()
    keys = set()
    for row in rows:
        graph = member(space, {f"cell.{i}-{j}.operation": NB201_WORDS[row[f"op_{j}_{i}"]] for i, j in NB201_EDGES})
        about = cost(graph, IMAGE, NUM_CLASSES)
        params[about.params == int(row["params"])] += 1
        # The benchmark counts the classifier's biases as well.
        flops[about.flops + 2 * NUM_CLASSES == int(row["flops"])] += 1
        keys.add(graph.key() if graph.is_connected else "nothing")
    size = (space.size("structure") or 0) * (space.size("operators") or 0)
    yield Finding(space="nasbench201", what="members", found=size, expected=15_625)
    yield Finding(space="nasbench201", what="parameters as in the table", found=params[True], expected=15_625)
    yield Finding(space="nasbench201", what="FLOPs as in the table", found=flops[True], expected=15_625)
    # 6,466 strings are published, for 5,425 computations: tests/core/test_nasbench201_cells.py shows the difference.
    yield Finding(space="nasbench201", what="computations (6,466 strings published)", found=len(keys), expected=5_425)


def nasbench101() -> Iterator[Finding]:
    """Every wiring of up to 7 vertices and 9 edges, each with every labelling."""
    space = space_of("nasbench101")
    wirings = distinct_wirings(space)
    operations = space.parameters["cell.1.operation"].domain.values
    by_key, by_burnside = Counter[int](), Counter[int]()
    for wiring in wirings:
        num_vertices = len(wiring.slots) + 2
        by_burnside[num_vertices] += burnside(wiring, len(operations))
        by_key[num_vertices] += len(
            {labelled(wiring, labels) for labels in itertools.product(operations, repeat=len(wiring.slots))}
        )
    for size, expected in NB101_SIZES.items():
        what = f"distinct cells of {size} vertices"
        yield Finding(space="nasbench101", what=what, found=by_key[size], expected=expected)
        yield Finding(space="nasbench101", what=f"{what} (Burnside)", found=by_burnside[size], expected=expected)
    yield Finding(space="nasbench101", what="distinct cells", found=sum(by_key.values()), expected=423_624)
    ends: tuple[tuple[Callable[..., int], str, int], ...] = (
        (min, "max_pool3x3", 227_274),
        (max, "conv3x3", 49_979_274),
    )
    for end, operation, expected in ends:
        params = [cost(graph_of(space, wiring, operation), IMAGE, NUM_CLASSES).params for wiring in wirings]
        what = f"{end.__name__} of the parameters"
        yield Finding(space="nasbench101", what=what, found=end(params), expected=expected)


def distinct_wirings(space: SearchSpace) -> list[Wiring]:
    """One of each class of isomorphic connected wirings with at most as many edges as the description allows."""
    config = space.config.cells["cell"]
    limit = config.max_edges or sys.maxsize
    names = [name for name in space.parameters if name.endswith(".edge")]
    seen: dict[Wiring, None] = {}
    for bits in itertools.product((False, True), repeat=len(names)):
        values: dict[str, Value] = {
            "cell.nodes": space.domains["cell.nodes"].choices[0],
            **dict(zip(names, bits, strict=True)),
        }
        wiring = wire("cell", config, values.__getitem__)
        if wiring.num_edges <= limit and (wiring.output or wiring.added):
            seen.setdefault(wiring)
    return list({labelled(wiring, ("",) * len(wiring.slots)): wiring for wiring in seen}.values())


def labelled(wiring: Wiring, labels: tuple[Value, ...]) -> str:
    """The canonical form of a wiring with something in each slot."""
    words = ("input", *map(str, labels))
    return canonical_labels(words, ((), *(reads for _, reads in wiring.slots)), (wiring.output, wiring.added))


def burnside(wiring: Wiring, num_labels: int) -> int:
    """How many labellings differ: the mean over all automorphisms of the labellings that one leaves as they are."""
    inner = range(1, len(wiring.slots) + 1)
    reads = {number: sorted(values) for number, (_, values) in enumerate(wiring.slots, start=1)}
    fixed = []
    for order in itertools.permutations(inner):
        image = {0: 0, **dict(zip(inner, order, strict=True))}
        keeps = all(sorted(image[value] for value in reads[number]) == reads[image[number]] for number in inner)
        if keeps and sorted(image[value] for value in wiring.output) == sorted(wiring.output):
            fixed.append(int(num_labels ** num_cycles(image, inner)))
    return sum(fixed) // len(fixed)


def num_cycles(image: Mapping[int, int], inner: range) -> int:
    """Cycles of a permutation."""
    left, found = set(inner), 0
    while left:
        number, found = left.pop(), found + 1
        while (number := image[number]) in left:
            left.remove(number)
    return found


def graph_of(space: SearchSpace, wiring: Wiring, operation: str) -> NetworkGraph:
    """The member that is wired so, with one operation everywhere; slots keep their order."""
    values: dict[str, Value] = {name: False for name in space.parameters if name.endswith(".edge")}
    for node, (_, reads) in enumerate(wiring.slots, start=1):
        values.update({f"cell.{value}-{node}.edge": True for value in reads})
    values.update({f"cell.{value}-out.edge": True for value in (*wiring.output, *wiring.added)})
    values.update({name: operation for name in space.parameters if name.endswith(".operation")})
    return member(space, values)


def darts() -> Iterator[Finding]:
    """The number of pairs of cells."""
    space = space_of("darts")
    yield Finding(space="darts", what="wirings", found=space.size("structure") or 0, expected=180**2)
    yield Finding(space="darts", what="operations on them", found=space.size("operators") or 0, expected=8**16)


COUNTS: dict[str, Callable[[], Iterator[Finding]]] = {
    "nasbench201": nasbench201,
    "nasbench101": nasbench101,
    "darts": darts,
}


def main() -> int:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("spaces", nargs="*", metavar="SPACE", help=f"of {', '.join(COUNTS)}; all by default")
    parser.add_argument("--json", action="store_true", help="one document instead of lines")
    options = parser.parse_args()
    if unknown := set(options.spaces) - set(COUNTS):
        parser.error(f"nothing is published of {', '.join(sorted(unknown))}; there are {', '.join(COUNTS)}")
    found: list[Finding] = []
    for name in options.spaces or COUNTS:
        for finding in COUNTS[name]():
            found.append(finding)
            if not options.json:
                same = "as expected" if finding.found == finding.expected else f"expected: {finding.expected:,}"
                print(f"{finding.space:<13}{finding.what:<42}{finding.found:>22,}  {same}", flush=True)
    if options.json:
        print(json.dumps({"schema_version": 1, "findings": [asdict(finding) for finding in found]}, indent=1))
    return int(any(finding.found != finding.expected for finding in found))


if __name__ == "__main__":
    sys.exit(main())
