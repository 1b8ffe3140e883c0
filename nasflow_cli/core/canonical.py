"""Canonical forms of labelled directed acyclic graphs with multiplicities: equal exactly for isomorphic ones.

Colour refinement over both edge directions; classes that it cannot split are split by trying each member in turn and
keeping the smallest description (individualisation and refinement, McKay 1981).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

Leaves = list[tuple[int, ...]]
_Counts = list[list[tuple[int, int]]]


@lru_cache(maxsize=65_536)
def canonical_labels(
    labels: tuple[str, ...], reads: tuple[tuple[int, ...], ...], outputs: tuple[tuple[int, ...], ...]
) -> str:
    """Return a string shared exactly by isomorphic graphs.

    `labels` and what each value `reads` are by value; `outputs` are several bags of values that leave the graph.
    """
    read, read_by, leaves = _counts(reads, outputs)
    start = _ranks(list(zip(labels, leaves, strict=True)))
    return _smallest(start, labels, read, read_by, leaves)


def refined_colours(
    labels: tuple[str, ...], reads: tuple[tuple[int, ...], ...], outputs: tuple[tuple[int, ...], ...]
) -> list[int]:
    """A colour for each value that does not depend on how the values are numbered. Equal ones may still differ."""
    read, read_by, leaves = _counts(reads, outputs)
    return _refine(_ranks(list(zip(labels, leaves, strict=True))), read, read_by)


def _counts(
    reads: tuple[tuple[int, ...], ...], outputs: tuple[tuple[int, ...], ...]
) -> tuple[_Counts, _Counts, Leaves]:
    """What each value reads and is read by, with multiplicities, and how often it leaves the graph in each bag."""
    read: _Counts = [sorted(Counter(values).items()) for values in reads]
    read_by: _Counts = [[] for _ in reads]
    for value, counts in enumerate(read):
        for source, times in counts:
            read_by[source].append((value, times))
    bags = [Counter(bag) for bag in outputs]
    return read, read_by, [tuple(bag[value] for bag in bags) for value in range(len(reads))]


def _ranks(signatures: Sequence[object]) -> list[int]:
    order = {signature: rank for rank, signature in enumerate(sorted(set(signatures)))}  # type: ignore[type-var]
    return [order[signature] for signature in signatures]


def _refine(colours: list[int], reads: _Counts, read_by: _Counts) -> list[int]:
    classes = len(set(colours))
    while classes < len(colours):
        colours = _ranks(
            [
                (
                    colours[value],
                    tuple(sorted((colours[other], times) for other, times in reads[value])),
                    tuple(sorted((colours[other], times) for other, times in read_by[value])),
                )
                for value in range(len(colours))
            ]
        )
        if len(set(colours)) == classes:
            break
        classes = len(set(colours))
    return colours


def _smallest(colours: list[int], labels: Sequence[str], reads: _Counts, read_by: _Counts, leaves: Leaves) -> str:
    colours = _refine(colours, reads, read_by)
    sizes = Counter(colours)
    tied = next((colour for colour in sorted(sizes) if sizes[colour] > 1), None)
    if tied is None:
        order = sorted(range(len(colours)), key=colours.__getitem__)
        place = {value: i for i, value in enumerate(order)}  # colours may have gaps after a split; places have none
        rows = [[labels[v], sorted((place[o], t) for o, t in reads[v]), leaves[v]] for v in order]
        return json.dumps(rows)
    members = [value for value in range(len(colours)) if colours[value] == tied]
    # Twins (same inputs, same readers) are interchangeable: trying one of them is trying all.
    distinct = {(tuple(reads[v]), tuple(read_by[v])): v for v in reversed(members)}
    forms = []
    for chosen in distinct.values():
        split = [2 * colour + (value != chosen and colour == tied) for value, colour in enumerate(colours)]
        forms.append(_smallest(split, labels, reads, read_by, leaves))
    return min(forms)
