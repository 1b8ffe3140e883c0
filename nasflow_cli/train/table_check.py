"""Holds the settings of a table to its header and to the space, and samples of the space to its rows.

Everything here runs before a run directory exists. Refuses nothing itself: it returns what is wrong, and where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.evaluator_config import TableConfig
from nasflow_cli.core.experiment_file import Mistake
from nasflow_cli.core.load import Where
from nasflow_cli.core.registry import nearest
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import ConstraintsConfig
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.optim.plan import rung_budgets
from nasflow_cli.train.table import NotInTableError, Table
from nasflow_cli.train.table_file import column_names

COMPARED = 20
"""Members without a row that are compared with every row for the nearest miss."""


def table_mistakes(config: ExperimentConfig) -> Iterator[Mistake]:
    """What is wrong with an experiment's table, each with its place in the document; nothing where it has none.

    Reads the table's header. Raises MissingError or DataError when it cannot be read.
    """
    if config.table is not None:
        yield from _columns(config.table)
        yield from _parameters(config.table, SearchSpace(config.space, operation_facts()))
        yield from _budgets(config, config.table)
        yield from _constraints(config, config.table)
        if config.search.confirm.top:
            yield ("search", "confirm", "top"), "a table gives a network the same score each time; remove `confirm`"


def _columns(table: TableConfig) -> Iterator[Mistake]:
    known = column_names(table.path)
    named: list[tuple[Where, str]] = []
    for section in ("architecture", "scores", "cost", "metrics"):
        named += [((section, str(key)), column) for key, column in getattr(table, section).items()]
    if table.test is not None:
        named.append((("test",), table.test))
    for where, column in named:
        times = known.count(column)
        if times == 0:
            listing = ", ".join(known[:30]) + (", ..." if len(known) > 30 else "")
            yield ("evaluator", *where), f"there is no column {column!r}{nearest(column, known)} (there are: {listing})"
        elif times > 1:
            yield ("evaluator", *where), f"the column {column!r} stands {times} times in the table; rename all but one"
    taken: dict[str, str] = {}
    for name, column in table.architecture.items():
        first = taken.setdefault(column, name)
        if first != name:
            yield ("evaluator", "architecture", name), f"the column {column!r} already stands for {first!r}"


def _parameters(table: TableConfig, space: SearchSpace) -> Iterator[Mistake]:
    domains = space.domains
    for name in table.architecture:
        if name not in domains:
            known = list(domains)
            message = (
                f"the space has no parameter {name!r}{nearest(name, known)} (searched: {', '.join(space.parameters)})"
            )
            yield ("evaluator", "architecture", name), message
    for name in space.parameters:
        if name not in table.architecture:
            message = f"{name!r} is searched, and has no column here; name it, or give its domain one value"
            yield ("evaluator", "architecture"), message
    named = [domains[name] for name in table.architecture if name in domains]
    if any(not domain.choices and domain.kind == "float" for domain in named):
        return
    words = {str(value).lower() if isinstance(value, bool) else str(value) for d in named for value in d.values}
    for word in table.values:
        if word not in words:
            message = f"no parameter in evaluator.architecture takes the value {word!r}{nearest(word, sorted(words))}"
            yield ("evaluator", "values", word), message


def _budgets(config: ExperimentConfig, table: TableConfig) -> Iterator[Mistake]:
    rungs = rung_budgets(config.search.budget)
    missing = [rung for rung in rungs if rung not in table.scores]
    if missing:
        known = sorted(table.scores)
        yield (
            ("search", "budget"),
            f"the rungs are {', '.join(map(str, rungs))}, but evaluator.scores has no column for "
            f"{', '.join(map(str, missing))}; write `budget: {{rungs: {known}}}`, or some of these",
        )


def _constraints(config: ExperimentConfig, table: TableConfig) -> Iterator[Mistake]:
    unbounded = ConstraintsConfig()
    for name in ConstraintsConfig.model_fields:
        is_set = getattr(config.space.constraints, name) != getattr(unbounded, name)
        if table.input_shape is None and is_set:
            message = "what a member costs is not known without images; set evaluator.input_shape and evaluator.classes"
            yield ("space", "constraints", name), message


def share_with_a_row(table: Table, members: Sequence[Mapping[str, Value]]) -> tuple[float, str]:
    """Share of members (their settings) that have a row and, where none has, the nearest miss in words."""
    missed = []
    for settings in members:
        try:
            table.row(settings)
        except NotInTableError:
            missed.append(settings)
    if len(missed) < len(members):
        return 1 - len(missed) / len(members), ""
    return 0.0, _nearest_miss(table, missed[:COMPARED])


def _nearest_miss(table: Table, members: Sequence[Mapping[str, Value]]) -> str:
    best: tuple[int, str] | None = None
    columns = list(table.config.architecture.values())
    for key in dict.fromkeys(table.key(settings) for settings in members):
        for known, row in table.rows.items():
            differing = [i for i, cell in enumerate(key) if cell != known[i]]
            if best is None or len(differing) < best[0]:
                told = ", ".join(f"{columns[i]} is {known[i]!r} there, not {key[i]!r}" for i in differing)
                best = len(differing), f"{table.columns.place(row)}: {told}"
    return "the table has no rows" if best is None else best[1]
