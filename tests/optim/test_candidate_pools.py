"""What competes for a new slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hpbandster.core.dispatcher import Job
from toy_search import LOPSIDED, RANGED, ROOMY, TINY, is_connected, merit, search_config, space_of

from nasflow_cli.core.architecture import Architecture
from nasflow_cli.core.graph import NetworkGraph
from nasflow_cli.core.space import part
from nasflow_cli.core.trial import HALVES, History, Phase
from nasflow_cli.optim.bohb import HalfBOHB
from nasflow_cli.optim.density import Vector
from nasflow_cli.optim.proposals import (
    NUM_SINGLES,
    Candidate,
    ExhaustedError,
    NoRanker,
    Outlook,
    Proposer,
)

PHASES: tuple[Phase, ...] = (*HALVES, "both")
OTHER: dict[Phase, Phase] = {"structure": "operators", "operators": "structure"}
WAYS: dict[str, Callable[..., list[Candidate]]] = {
    "a pool": Proposer.pool,
    "one": lambda made, *given: [made.one(*given)],
}
"""How candidates are made: many for a ranker to choose from, or the one that is taken."""
way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
Way = Callable[..., list[Candidate]]


def proposer(
    description: dict[str, Any],
    *,
    num_results: int = 0,
    feasible: Any = is_connected,
    seed: int = 0,
    **changes: Any,
) -> Proposer:
    """A proposer whose searches know so many results of random members."""
    space, config = space_of(description), search_config(**{"pool": 40, **changes})
    searches = {half: HalfBOHB(space.half(half), config.density, i) for i, half in enumerate(PHASES)}
    rng = np.random.default_rng(7)
    for number in range(num_results):
        architecture = space.sample(rng)
        for half in PHASES:
            job = Job((0, 0, number), config=part(architecture, half), budget=1)
            job.result = {"loss": -merit(architecture), "info": {}}
            searches[half].new_result(job)
    return Proposer(config, space, searches, feasible, seed)


def members(made: Proposer, count: int, seed: int = 3) -> list[Architecture]:
    """Connected members."""
    rng = np.random.default_rng(seed)
    found: list[Architecture] = []
    while len(found) < count:
        architecture = made.space.sample(rng)
        if made.space.graph(architecture).is_connected:
            found.append(architecture)
    return found


class Unasked(HalfBOHB):
    """A search that nothing is to be asked of."""

    def propose(self, count: int, rng: np.random.Generator) -> Any:
        raise AssertionError("it was asked")


@way
def test_the_other_search_is_asked_only_for_what_no_elite_holds(way: Way) -> None:
    made = proposer(ROOMY, num_results=40)
    elites = members(made, 4)
    made.searches["structure"] = Unasked(made.space.half("structure"), made.config.density, 0)

    beside_elites = way(made, "operators", elites, set(), np.random.default_rng(0))

    assert {str(c.architecture.structure) for c in beside_elites} <= {str(elite.structure) for elite in elites}
    with pytest.raises(AssertionError, match="it was asked"):
        way(made, "operators", [], set(), np.random.default_rng(0))


def is_narrow(graph: NetworkGraph) -> bool:
    """A constraint that half the members break."""
    widths = [node.width for block in graph.blocks for node in block.cell.nodes]
    return graph.is_connected and widths[-1] == 16


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("num_results", [0, 40])
def test_every_candidate_is_complete_feasible_and_new(phase: Phase, num_results: int) -> None:
    made = proposer(ROOMY, num_results=num_results, feasible=is_narrow)
    elites = members(made, 4)
    known = {made.space.graph(elite).key() for elite in elites}

    pool = made.pool(phase, elites, known, np.random.default_rng(0))

    assert 10 < len(pool) <= 40
    assert len({candidate.key for candidate in pool}) == len(pool)
    for candidate in [*pool, *(made.one(phase, elites, known, np.random.default_rng(seed)) for seed in range(20))]:
        assert candidate.architecture in made.space
        assert candidate.graph == made.space.graph(candidate.architecture)
        assert candidate.key == candidate.graph.key()
        assert candidate.key not in known
        assert is_narrow(candidate.graph)


@pytest.mark.parametrize("phase", PHASES)
def test_a_pool_is_mixed_from_the_density_random_draws_and_edits(phase: Phase) -> None:
    made = proposer(ROOMY, num_results=40, pool=100, density={"samples": 300, "min_points": 4})

    sources = [candidate.source for candidate in made.pool(phase, members(made, 4), set(), np.random.default_rng(0))]

    assert {source: sources.count(source) > 5 for source in sources} == dict.fromkeys(
        ("density", "random", "edit"), True
    )
    assert sources.count("density") <= 50
    assert sources.count("random") <= 20
    assert sources.count("edit") <= 30


@way
def test_before_any_result_every_candidate_is_random(way: Way) -> None:
    pool = way(proposer(ROOMY), "structure", [], set(), np.random.default_rng(0))

    assert {candidate.source for candidate in pool} == {"random"}


@pytest.mark.parametrize("phase", HALVES)
def test_the_held_half_is_that_of_an_elite_wherever_the_elite_has_the_slot(phase: Phase) -> None:
    made = proposer(ROOMY, num_results=40)
    elites = members(made, 3)
    held = [getattr(elite, OTHER[phase]) for elite in elites]

    pool = made.pool(phase, elites, set(), np.random.default_rng(0))
    pool += [made.one(phase, elites, set(), np.random.default_rng(seed)) for seed in range(20)]

    for candidate in pool:
        half = getattr(candidate.architecture, OTHER[phase])
        agreeing = [h for h in held if all(h[name] == half[name] for name in half.keys() & h.keys())]
        assert agreeing, candidate
        if phase == "operators":
            assert half in held  # a structure never has slots that the elite's own structure lacks
    used = {tuple(getattr(c.architecture, OTHER[phase]).items()) for c in pool}
    assert len(used) > 1


def test_a_joint_search_holds_nothing() -> None:
    made = proposer(ROOMY, num_results=40, edit_fraction=0.0)
    elites = members(made, 1)

    pool = made.pool("both", elites, set(), np.random.default_rng(0))

    for half in HALVES:
        assert len({tuple(getattr(candidate.architecture, half).items()) for candidate in pool}) > 5


@pytest.mark.parametrize("phase", PHASES)
def test_an_edit_changes_one_or_two_parameters_of_what_the_turn_searches(phase: Phase) -> None:
    made = proposer(ROOMY, edit_fraction=1.0, random_fraction=0.0)
    elite = members(made, 1)[0]

    pool = made.pool(phase, [elite], set(), np.random.default_rng(0))

    changes = set()
    for candidate in pool:
        before, after = part(elite, phase), part(candidate.architecture, phase)
        changes.add(sum(before[name] != after[name] for name in before.keys() & after.keys()))
    assert {1, 2} <= changes <= {0, 1, 2}  # what has gone is no change of what is left
    assert {candidate.source for candidate in pool} == {"edit"}


@pytest.mark.parametrize(("edit", "random"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.5)])
@pytest.mark.parametrize("size", [1, 2, 16])
def test_a_pool_is_never_larger_than_it_was_asked_to_be(edit: float, random: float, size: int) -> None:
    made = proposer(ROOMY, num_results=40, pool=size, edit_fraction=edit, random_fraction=random)

    pool = made.pool("operators", members(made, 4), set(), np.random.default_rng(0))

    assert 1 <= len(pool) <= size


def test_equal_generators_make_equal_pools_and_others_do_not() -> None:
    made = proposer(ROOMY, num_results=40)
    elites = members(made, 4)

    first, again, other = (made.pool("structure", elites, set(), np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert first == again
    assert [c.key for c in first] != [c.key for c in other]


@way
def test_a_half_with_few_members_does_not_end_the_search_of_a_large_space(way: Way) -> None:
    made = proposer(LOPSIDED)
    elites = members(made, 3)
    fill = made.space.sample_half("operators", np.random.default_rng(0))
    known = {
        made.space.graph(made.space.complete({"stem.width": width}, elite.structure, elite.operators, fill)).key()
        for width in (8, 16)
        for elite in elites
    }

    pool = way(made, "structure", elites, known, np.random.default_rng(0))

    assert pool
    assert not known & {candidate.key for candidate in pool}


@way
def test_a_space_whose_members_are_all_known_is_exhausted(way: Way) -> None:
    made = proposer(TINY)
    known = {made.space.graph(architecture).key() for architecture in members(made, 200)}

    with pytest.raises(ExhaustedError):
        way(made, "operators", [], known, np.random.default_rng(0))

    assert len(known) == 6


@way
def test_the_last_member_of_a_space_is_found(way: Way) -> None:
    made = proposer(TINY, pool=1)
    every = {made.space.graph(architecture).key(): architecture for architecture in members(made, 200)}
    last = sorted(every)[0]

    elites = [every[key] for key in sorted(every)[3:]]
    pool = way(made, "structure", elites, set(every) - {last}, np.random.default_rng(0))

    assert [candidate.key for candidate in pool] == [last]


@way
def test_a_space_without_a_feasible_member_is_exhausted(way: Way) -> None:
    made = proposer(ROOMY, feasible=lambda graph: False)

    with pytest.raises(ExhaustedError):
        way(made, "structure", [], set(), np.random.default_rng(0))


@way
def test_a_rare_feasible_member_is_found_by_a_pool_of_one(way: Way) -> None:
    made = proposer(RANGED, pool=1, feasible=lambda graph: graph.blocks[0].cell.nodes[0].width < 5)

    assert len(way(made, "operators", [], set(), np.random.default_rng(0))) == 1


@pytest.mark.parametrize("phase", HALVES)
def test_one_candidate_is_the_best_draw_of_the_density_that_is_feasible_and_new(phase: Phase) -> None:
    made = proposer(ROOMY, num_results=60, random_fraction=0.0, feasible=is_narrow)
    elite = members(made, 1)[0]
    rng = np.random.default_rng(5)
    rng.random()  # what decides on a random choice
    draws = made.searches[phase].propose(NUM_SINGLES, rng)
    known: set[str] = set()
    taken = []
    while (candidate := made.one(phase, [elite], known, np.random.default_rng(5))).source == "density":
        known.add(candidate.key)
        taken.append(candidate)

    def place(candidate: Candidate) -> int:
        """The draw that a candidate was made of: the first that has its values."""
        half = getattr(candidate.architecture, phase)
        return next(i for i, draw in enumerate(draws) if all(draw[name] == value for name, value in half.items()))

    places = [place(candidate) for candidate in taken]
    assert all(is_narrow(candidate.graph) for candidate in taken)
    assert len(places) >= 2
    assert places == sorted(set(places))
    if phase == "operators":  # beside the elite's structure nothing is left open: each draw is one member
        graphs = [made.space.member(draw, elite.structure, {}, {})[1] for draw in draws]
        assert [candidate.key for candidate in taken] == list(
            dict.fromkeys(graph.key() for graph in graphs if is_narrow(graph))
        )


@pytest.mark.parametrize(("fraction", "count", "within"), [(0.0, 0, 0), (0.2, 20, 10), (1.0, 100, 0)])
def test_a_share_of_the_single_candidates_is_random(fraction: float, count: int, within: int) -> None:
    made = proposer(ROOMY, num_results=60, random_fraction=fraction, edit_fraction=0.0)
    elites = members(made, 4)

    sources = [made.one("operators", elites, set(), np.random.default_rng(seed)).source for seed in range(100)]

    assert set(sources) <= {"random", "density"}
    assert abs(sources.count("random") - count) <= within


def test_equal_generators_make_the_same_candidate_and_others_do_not() -> None:
    made = proposer(ROOMY, num_results=40)
    elites = members(made, 4)

    first, again, *others = (made.one("structure", elites, set(), np.random.default_rng(s)) for s in (1, 1, 2, 3, 4))

    assert first == again
    assert len({candidate.key for candidate in (first, *others)}) > 1


def closeness(target: Architecture) -> Callable[[Sequence[Candidate]], Vector]:
    """A ranker that likes what agrees with one member in more places."""
    wanted = {**target.structure, **target.operators}

    def merits(pool: Sequence[Candidate]) -> Vector:
        values = [{**each.architecture.structure, **each.architecture.operators} for each in pool]
        return np.array(
            [sum(wanted.get(name) == value for name, value in each.items()) for each in values], dtype=float
        )

    return merits


def test_what_a_ranker_likes_is_found_although_no_draw_is_likely_to_hit_it() -> None:
    made = proposer(ROOMY, pool=16)
    merits = closeness(members(made, 1, seed=11)[0])
    firsts, lasts = [], []
    for seed in range(5):
        pool = made.pool("both", [], set(), np.random.default_rng(seed))
        best, ranked = made.best("both", [], set(), merits, np.random.default_rng(seed))
        firsts.append(merits(pool).max())
        lasts.append(merits([best])[0])
        assert len(pool) < ranked <= 16 * (1 + made.config.refinements)

    assert np.mean(lasts) > np.mean(firsts) + 1


def test_without_refinements_the_best_of_the_pool_is_taken() -> None:
    made = proposer(ROOMY, refinements=0)
    merits = closeness(members(made, 1, seed=11)[0])

    best, ranked = made.best("both", [], set(), merits, np.random.default_rng(0))

    pool = made.pool("both", [], set(), np.random.default_rng(0))
    assert (best, ranked) == (pool[int(merits(pool).argmax())], len(pool))


@pytest.mark.parametrize("phase", PHASES)
def test_what_joins_a_pool_is_new_feasible_and_edits_what_the_turn_searches(phase: Phase) -> None:
    made = proposer(ROOMY, feasible=is_narrow, pool=12)
    elites = members(made, 2)
    known = {made.space.graph(elite).key() for elite in elites}
    shown: list[Candidate] = []

    def merits(pool: Sequence[Candidate]) -> Vector:
        shown.extend(pool)
        return np.zeros(len(pool))

    made.best(phase, elites, known, merits, np.random.default_rng(0))

    assert len({candidate.key for candidate in shown}) == len(shown) > 12
    assert not known & {candidate.key for candidate in shown}
    assert all(is_narrow(candidate.graph) for candidate in shown)
    if phase == "operators":
        held = [elite.structure for elite in elites]
        assert all(candidate.architecture.structure in held for candidate in shown)


def test_no_ranker_chooses_and_expects_nothing() -> None:
    pool = proposer(ROOMY).pool("operators", [], set(), np.random.default_rng(0))

    assert NoRanker().outlook(History(), 0) == Outlook(why="off", chooses=False, fitted_on=0, correlation=None)
    assert NoRanker().merits(pool, 1, History(), 0).tolist() == [0.0] * len(pool)
    assert NoRanker().predicted(pool[0], 1, History()) is None
