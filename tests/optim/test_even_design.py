"""The points from which a search begins."""

from __future__ import annotations

from collections import Counter

import pytest
from toy_search import RANGED, ROOMY, optimizer, play, space_of

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.seeds import Purpose, generator
from nasflow_cli.optim.design import STRETCHES, EvenDesign


@pytest.mark.parametrize("rounds", [1, 3])
def test_each_choice_of_each_parameter_comes_equally_often(rounds: int) -> None:
    design = EvenDesign(space_of(ROOMY).half("both"), 0)

    for parameter in design.parameters:
        choices = parameter.domain.choices
        values = Counter(design.point(number)[parameter.name] for number in range(rounds * len(choices)))
        assert values == dict.fromkeys(choices, rounds)


def test_each_stretch_of_a_range_comes_equally_often() -> None:
    design = EvenDesign(space_of(RANGED).half("structure"), 0)

    for parameter in design.parameters:
        places = [parameter.domain.to_unit(design.point(number)[parameter.name]) for number in range(2 * STRETCHES)]
        stretches = Counter(int(min(place, 0.999) * STRETCHES) for place in places)
        # An integer near the end of a stretch is rounded into the next one.
        assert sum(abs(count - 2) for count in stretches.values()) <= 4
        assert len(set(places)) > STRETCHES


def test_parameters_are_not_in_step_with_each_other() -> None:
    design = EvenDesign(space_of(ROOMY).half("both"), 0)
    points = [design.point(number) for number in range(30)]
    names = [p.name for p in design.parameters if p.domain.choices == ("conv3x3", "conv1x1", "avg_pool3x3", "none")]

    assert len(names) > 1
    assert len({tuple(point[name] for name in names) for point in points}) > 10


def test_a_design_depends_on_its_seed_alone() -> None:
    parameters = space_of(ROOMY).half("both")
    first, again, other = (EvenDesign(parameters, seed) for seed in (1, 1, 2))

    later = again.point(7)
    assert [first.point(number) for number in range(8)] == [*(again.point(number) for number in range(7)), later]
    assert [first.point(number) for number in range(8)] != [other.point(number) for number in range(8)]


def test_a_search_begins_with_the_points_of_its_design() -> None:
    engine = optimizer(seed=3, trials=9, random_fraction=1.0, edit_fraction=0.0)
    history = play(engine, workers=9)

    design = EvenDesign(engine.space.half("both"), 3)
    points = [design.point(number) for number in range(40)]
    for trial in history.trials[:9]:
        values = {**trial.architecture.structure, **trial.architecture.operators}
        assert any(values.items() <= point.items() for point in points)


def narrow(graph: NetworkGraph) -> bool:
    """About one member in four."""
    widths = [node.width for block in graph.blocks for node in block.cell.nodes]
    return graph.is_connected and (widths[0], widths[-1]) == (8, 16)


def test_each_network_has_a_point_of_its_own_and_where_that_will_not_do_points_that_no_other_has_tried() -> None:
    made = optimizer(seed=3, random_fraction=1.0, edit_fraction=0.0).proposer
    made.is_feasible = narrow
    known: set[str] = set()
    tried: list[set[int]] = []
    point = made.design.point
    own = 0
    for number in range(24):
        tried.append(set())

        def noted(at: int, to: set[int] = tried[-1]) -> dict[str, Value]:
            to.add(at)
            return point(at)

        made.design.point = noted  # type: ignore[method-assign]
        candidate = made.one("both", [], known, generator(0, number, Purpose.PROPOSAL))
        known.add(candidate.key)
        own += len(tried[-1]) == 1
        assert number in tried[-1]

    assert 2 <= own <= 12
    assert sum(map(len, tried)) == len(set().union(*tried)) > 40
