"""The points from which a search begins."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from toy_search import RANGED, ROOMY, optimizer, play, space_of

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


def test_what_is_known_is_passed_over() -> None:
    engine = optimizer(seed=3)
    design, known = engine.proposer.design, set[str]()
    taken = []
    for number in range(12):
        candidate = engine.proposer.one("structure", [], known, generator(0, number, Purpose.PROPOSAL))
        assert candidate.key not in known
        known.add(candidate.key)
        taken.append(candidate)

    stem = Counter(candidate.architecture.structure["stem.width"] for candidate in taken)
    assert abs(stem[8] - stem[16]) <= 4
    assert np.unique([design.point(number)["stem.width"] for number in range(2)]).tolist() == [8, 16]
