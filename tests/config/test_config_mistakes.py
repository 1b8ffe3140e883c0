"""Every mistake in an experiment is listed at once, each with its place, in words that a user knows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.experiment_file import validate
from nasflow_cli.core.load import parse_yaml

Mistakes = Callable[..., list[str]]

JARGON = re.compile(
    r"function-|https?://|pydantic|after validation|type=|input_|tuple|dictionary|instance|json|Value error|NoneType"
)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("seed: 3", "sead: 3", "e.yaml:2:1: sead: unknown key; did you mean 'seed'?"),
        (
            "source: digits",
            "source: digits\n  augment: {flip: true}",
            "e.yaml:3:1: data: augment.flip makes no sense for 'digits'",
        ),
        ("source: digits", "source: digits\n  split_sed: 1", "e.yaml:5:3: data.split_sed: unknown key; did you mean"),
        (
            "{cell: body, width: 16, s",
            "{cell: body, width: 16, depht: 2, s",
            "e.yaml:13:31: space.stages.1.depht: unknown",
        ),
        ("nodes: [1, 2]", "nodes: [1, 2]\n      edgs: all", "e.yaml:10:7: space.cells.body.edgs: unknown key; did you"),
        ("trials: 9", "trials: 9\n  density: {sample: 3}", "e.yaml:17:13: search.density.sample: unknown key; did you"),
        ("  stem: {width: [8, 16]}\n", "", "e.yaml:5:1: space.stem: this key is needed and missing"),
        ("  trials: 9\n", "", "e.yaml:15:1: search.trials: this key is needed and missing"),
        ("min: 1, ", "", "e.yaml:17:3: search.budget.min: this key is needed and missing"),
        ("data:\n  source: digits\n", "", "e.yaml:1:1: data: this key is needed and missing"),
        ("seed: 3", "seed: -1", "e.yaml:2:1: seed: input should be greater than or equal to 0, not -1"),
        ("seed: 3", "seed: true", "e.yaml:2:1: seed: input should be a valid integer, not true"),
        ("seed: 3", "seed: '3'", 'e.yaml:2:1: seed: input should be a valid integer, not "3"'),
        ("seed: 3", "seed: 3.0", "e.yaml:2:1: seed: input should be a valid integer, not 3.0"),
        ("seed: 3", "seed:", "e.yaml:2:1: seed: input should be a valid integer, not null"),
        ("trials: 9", "trials: on", 'e.yaml:16:3: search.trials: input should be a valid integer, not "on"'),
        ("name: small", "name: ../up", "e.yaml:1:1: name: string should match pattern"),
        ("name: small", "name: 7", "e.yaml:1:1: name: input should be a valid string, not 7"),
        ("name: small", "plugins: mine", 'e.yaml:1:1: plugins: input should be a valid array, not "mine"'),
        ("name: small", "plugins: [1]", "e.yaml:1:11: plugins.0: input should be a valid string, not 1"),
        (
            "learning_rate: 1e-3",
            "learning_rate: 0",
            "e.yaml:19:3: training.learning_rate: input should be greater than 0",
        ),
        (
            "learning_rate: 1e-3",
            "learning_rate: true",
            "e.yaml:19:3: training.learning_rate: input should be a valid num",
        ),
        ("learning_rate: 1e-3", "learning_rate: .inf", "e.yaml:19:3: training.learning_rate: input should be a finite"),
        ("learning_rate: 1e-3", "learning_rate: .nan", "e.yaml:19:3: training.learning_rate: input should be a finite"),
        (
            "learning_rate: 1e-3",
            "optimizer: adam",
            "e.yaml:19:3: training.optimizer: input should be 'sgd' or 'adamw', not",
        ),
        (
            "learning_rate: 1e-3",
            "gradient_clip: -1",
            "e.yaml:19:3: training.gradient_clip: input should be greater than",
        ),
        ("min: 1, max: 9", "min: 9, max: 1", "e.yaml:17:3: search.budget: min (9) is above max (1)"),
        (
            "trials: 9",
            "trials: 9\n  random_fraction: 0.8\n  edit_fraction: 0.3",
            "e.yaml:15:1: search: random_fraction and edit_fraction are",
        ),
        ("search:\n", "search:\n  predictor: []\n", "e.yaml:16:3: search.predictor: input should be an object, not []"),
        ("data:\n  source: digits\n", "data: digits\n", 'e.yaml:3:1: data: input should be an object, not "digits"'),
        ("  stem: {width: [8, 16]}", "  stem: {width: []}", "e.yaml:6:10: space.stem.width: an empty domain"),
        ("  stem: {width: [8, 16]}", "  stem: {width: [8, 8]}", "e.yaml:6:10: space.stem.width: a choice stands twice"),
        (
            "  stem: {width: [8, 16]}",
            "  stem: {width: [0, 8]}",
            "e.yaml:6:10: space.stem.width: whole numbers of at least 1",
        ),
        (
            "  stem: {width: [8, 16]}",
            "  stem: {width: 8.5}",
            "e.yaml:6:10: space.stem.width: whole numbers of at least 1",
        ),
        (
            "  stem: {width: [8, 16]}",
            "  stem: {width: true}",
            "e.yaml:6:10: space.stem.width: whole numbers of at least 1",
        ),
        ("  stem: {width: [8, 16]}", "  stem: {width: [.inf]}", "e.yaml:6:10: space.stem.width: a choice is a finite"),
        ("  stem: {width: [8, 16]}", "  stem: {width: {min: 8}}", "e.yaml:6:10: space.stem.width: a range needs both"),
        (
            "  stem: {width: [8, 16]}",
            "  stem: {width: {min: 8, max: 4}}",
            "e.yaml:6:10: space.stem.width: an empty domain",
        ),
        (
            "  stem: {width: [8, 16]}",
            "  stem: {width: {min: 1.0, max: 4}}",
            "e.yaml:6:10: space.stem.width: whole numbers",
        ),
        (
            "  stem: {width: [8, 16]}",
            "  stem: {width: null}",
            "e.yaml:6:10: space.stem.width: a domain is a value, a list",
        ),
        ("nodes: [1, 2]", "nodes: two", "e.yaml:9:7: space.cells.body.nodes: whole numbers of at least 1"),
        (
            "nodes: [1, 2]",
            "nodes: 1\n      residual: yes",
            "e.yaml:10:7: space.cells.body.residual: true, false or [true",
        ),
        (
            "nodes: [1, 2]",
            "nodes: 1\n      edges: [all]",
            "e.yaml:10:7: space.cells.body.edges: 'free', 'all', 'chain', or how many",
        ),
        ("[conv3x3, skip]", "[]", "e.yaml:10:7: space.cells.body.operations: an empty domain"),
        ("[conv3x3, skip]", "[skip, skip]", "e.yaml:10:26: space.cells.body.operations.1: 'skip' stands twice"),
        (
            "[conv3x3, skip]",
            "[skip, conv3]",
            "e.yaml:10:26: space.cells.body.operations.1: unknown operation 'conv3'; did",
        ),
        (
            "[conv3x3, skip]",
            "conv33",
            "e.yaml:10:7: space.cells.body.operations: unknown operation 'conv33'; did you mean",
        ),
        ("[conv3x3, skip]", "[3, 5]", "e.yaml:10:20: space.cells.body.operations.0: an operation is a name, or a name"),
        (
            "[conv3x3, skip]",
            "{min: 1, max: 2}",
            "e.yaml:10:7: space.cells.body.operations: an operation is a name, or a name",
        ),
        (
            "choices: [relu, gelu]",
            "choices: [relu, gelo]",
            "e.yaml:14:32: space.activation.choices.1: unknown activation",
        ),
        (
            "choices: [relu, gelu], per: stage",
            "per: cell",
            "e.yaml:14:16: space.activation.per: input should be 'network'",
        ),
        ("stride: 2", "stride: 3", "e.yaml:13:31: space.stages.1.stride: input should be 1 or 2, not 3"),
        ("stride: 2", "stride: true", "e.yaml:13:31: space.stages.1.stride: 1 or 2 is wanted here"),
        (
            "stride: 2",
            "transition: conv3",
            "e.yaml:13:31: space.stages.1.transition: unknown operation 'conv3'; did you",
        ),
        (
            "stride: 2",
            "stride: 2, transition: avg_pool",
            "e.yaml:13:42: space.stages.1.transition: unknown operation 'avg_pool'; did you mean 'avg_pool",
        ),
        ("nodes: [1, 2]", "nodes: 33", "e.yaml:9:7: space.cells.body.nodes: a cell has at most 32 nodes"),
        (
            "nodes: [1, 2]",
            "nodes: 2\n      edges: 0",
            "e.yaml:10:7: space.cells.body.edges: 'free', 'all', 'chain', or",
        ),
        (
            "nodes: [1, 2]",
            "nodes: 2\n      edges: 9",
            "e.yaml:10:7: space.cells.body.edges: 'free', 'all', 'chain', or",
        ),
        ("nodes: [1, 2]", "nodes: 2\n      inputs: 2", "e.yaml:10:7: space.cells.body.inputs: a cell with two inputs"),
        ("nodes: [1, 2]", "nodes: 2\n      inputs: 3", "e.yaml:10:7: space.cells.body.inputs: input should be 1 or 2"),
        (
            "nodes: [1, 2]",
            "nodes: 2\n      edges: all\n      max_edges: 4",
            "e.yaml:11:7: space.cells.body.max_edges: `max_edges` goes with `edges: free`",
        ),
        (
            "nodes: [1, 2]",
            "nodes: 2\n      join: split\n      slots: edges",
            "e.yaml:10:7: space.cells.body.join: `split` goes with `slots: nodes`",
        ),
        (
            "nodes: [1, 2]",
            "nodes: 2\n      output: free\n      residual: [true, false]",
            "e.yaml:11:7: space.cells.body.residual: with `output: free` the edge from input to output is searched",
        ),
        (
            "nodes: [1, 2]\n      operations: [conv3x3, skip]",
            "nodes: 2\n      join: concat\n      residual: true\n      operations: [conv3x3, none]",
            "e.yaml:12:7: space.cells.body.operations: 'none' would leave too few channels",
        ),
        (
            "nodes: [1, 2]",
            "nodes: 2\n      project: {operation: skip}",
            "e.yaml:10:17: space.cells.body.project.operation: 'skip' has no weights",
        ),
        ("stride: 2", "depth: 257", "e.yaml:13:31: space.stages.1.depth: a stage has at most 256 cells"),
        (
            "[conv3x3, skip]",
            "[conv3x3, {mbconv: {kernl: 3}}]",
            "e.yaml:10:39: space.cells.body.operations.1.mbconv.kernl: 'mbconv' has no argument 'kernl'; did you mean",
        ),
        (
            "[conv3x3, skip]",
            "[conv3x3, {mbconv: {se: [1, 0]}}]",
            "e.yaml:10:39: space.cells.body.operations.1.mbconv.se: true or false is wanted for 'se' (its default",
        ),
        (
            "[conv3x3, skip]",
            "[{mbcnv: {kernel: 3}}, skip]",
            "e.yaml:10:20: space.cells.body.operations.0: unknown operation 'mbcnv'; did you mean 'mbconv'?",
        ),
        (
            "{width: [8, 16]}\n  c",
            "{width: 8, operation: skip}\n  c",
            "e.yaml:6:20: space.stem.operation: 'skip' has no we",
        ),
        (
            "{cell: body, width: 16",
            "{cell: bodi, width: 16",
            "e.yaml:13:8: space.stages.1.cell: there is no cell 'bodi'; did",
        ),
        ("    body:\n", "    bo-dy:\n", "e.yaml:8:5: space.cells.bo-dy: a cell's name is a word of letters"),
        ("    body:\n", "    stages:\n", "e.yaml:8:5: space.cells.stages: a cell's name is a word of letters"),
        (
            "source: digits",
            "source: digts",
            "e.yaml:4:3: data.source: unknown data source 'digts'; did you mean 'digits'?",
        ),
        ("seed: 3", "evaluator: trian", "e.yaml:2:1: evaluator: unknown evaluator 'trian'; did you mean 'train'?"),
        ("seed: 3", "executor: {kind: locale}", "e.yaml:2:12: executor.kind: unknown executor 'locale'; did you mean"),
        (
            "seed: 3",
            "executor: {workers: 0}",
            "e.yaml:2:12: executor.workers: input should be greater than or equal to 1",
        ),
        (
            "seed: 3",
            "executor: {ray: {address: auto}}",
            "e.yaml:2:12: executor.ray: the executor 'local' uses no Ray; write `kind: ray`, or remove this section",
        ),
        (
            "seed: 3",
            "executor: {kind: ray, ray: {address: 'head 6379'}}",
            "e.yaml:2:29: executor.ray.address: 'head 6379' is no address of a Ray cluster; write auto, host:port or",
        ),
        (
            "seed: 3",
            "executor: {kind: ray, ray: {address: 'head:65536'}}",
            "e.yaml:2:29: executor.ray.address: 'head:65536' is no address of a Ray cluster; its port is a number from",
        ),
        ("seed: 3", "executor: {kind: ray, ray: {address: 'ray://head:0'}}", "e.yaml:2:29: executor.ray.address: 'ray"),
        ("seed: 3", "executor: {kind: ray, ray: {adress: auto}}", "e.yaml:2:29: executor.ray.adress: unknown key; did"),
    ],
)
def test_a_mistake_is_told_with_its_place(mistakes: Mistakes, old: str, new: str, complaint: str) -> None:
    lines = mistakes((old, new))
    assert any(line.startswith(complaint) for line in lines), lines
    assert not [line for line in lines if JARGON.search(line)]


def test_all_mistakes_are_listed_at_once(mistakes: Mistakes) -> None:
    lines = mistakes(
        ("seed: 3", "seed: three"),
        ("source: digits", "source: digts\n  path: 3"),
        ("[conv3x3, skip]", "[conv3x, skip, skipp]"),
        ("{cell: body, width: [8, 16]}", "{cell: body, widht: [8, 16]}"),
        ("choices: [relu, gelu]", "choices: [relo]"),
        ("trials: 9", "trials: 0"),
        ("min: 1, max: 9", "min: 4, max: 2"),
        ("learning_rate: 1e-3", "learning_rate: fast\n  momentum: 1"),
    )
    places = [re.match(r"e\.yaml:(\d+:\d+): ([\w.]+): ", line) for line in lines]
    assert sorted(match.groups() for match in places if match) == sorted(
        [
            ("2:1", "seed"),
            ("4:3", "data.source"),
            ("5:3", "data.path"),
            ("11:20", "space.cells.body.operations.0"),
            ("11:34", "space.cells.body.operations.2"),
            ("13:7", "space.stages.0.width"),
            ("13:20", "space.stages.0.widht"),
            ("15:26", "space.activation.choices.0"),
            ("17:3", "search.trials"),
            ("18:3", "search.budget"),
            ("20:3", "training.learning_rate"),
            ("21:3", "training.momentum"),
        ]
    )
    assert len(lines) == 12


def test_every_stage_without_its_cell_is_listed(mistakes: Mistakes) -> None:
    lines = mistakes(("    body:\n", "    bo dy:\n"))
    assert [line.split(": ")[:2] for line in lines] == [
        ["e.yaml:8:5", "space.cells.bo dy"],
        ["e.yaml:12:8", "space.stages.0.cell"],
        ["e.yaml:13:8", "space.stages.1.cell"],
    ]


def test_a_misspelt_key_in_a_list_names_the_near_one_and_all_there_are(mistakes: Mistakes) -> None:
    lines = mistakes(("{cell: body, width: [8, 16]}", "{cell: body, widht: [8, 16]}"))
    assert lines == [
        "e.yaml:12:7: space.stages.0.width: this key is needed and missing",
        "e.yaml:12:20: space.stages.0.widht: unknown key; did you mean 'width'? "
        "(known: cell, depth, width, stride, transition)",
    ]


def test_an_empty_file_of_sections_lists_what_is_needed(load, mistakes: Mistakes) -> None:
    with pytest.raises(ConfigError) as caught:
        load("name: x\n")
    assert str(caught.value).split("\n") == [
        f"e.yaml:1:1: {section}: this key is needed and missing" for section in ("data", "space", "search")
    ]


@pytest.mark.parametrize(
    ("old", "new", "section"),
    [
        ("    body:\n      nodes: [1, 2]\n      operations: [conv3x3, skip]\n", "    {}\n", "space.cells"),
        ("    - {cell: body, width: [8, 16]}\n    - {cell: body, width: 16, stride: 2}\n", "    []\n", "space.stages"),
    ],
)
def test_a_section_that_is_empty_needs_an_entry(mistakes: Mistakes, old: str, new: str, section: str) -> None:
    (line,) = mistakes((old, new))
    assert line.endswith(f"{section}: at least one entry is needed")


def test_a_list_whose_entries_are_wrong_is_not_also_called_empty(mistakes: Mistakes) -> None:
    lines = mistakes(("{cell: body, width: [8, 16]}", "5"), ("stride: 2", "stride: 4"))
    assert [line.split(": ")[1] for line in lines] == ["space.stages.0", "space.stages.1.stride"]


def test_every_mistake_among_the_arguments_is_listed_with_its_place(mistakes: Mistakes) -> None:
    operations = """
        - conv3x3
        - mbconv:
            kernel: [3, 5.5]
            expansion: []
            se: maybe
        - skip: {kernel: 3}
        - conv3x3"""
    assert mistakes((" [conv3x3, skip]", operations)) == [
        "e.yaml:13:13: space.cells.body.operations.1.mbconv.kernel: whole numbers are wanted for 'kernel' "
        "(its default is 3)",
        "e.yaml:14:13: space.cells.body.operations.1.mbconv.expansion: an empty domain: give at least one choice",
        "e.yaml:15:13: space.cells.body.operations.1.mbconv.se: true or false is wanted for 'se' "
        "(its default is False)",
        "e.yaml:16:18: space.cells.body.operations.2.skip.kernel: 'skip' has no argument 'kernel' (it has none)",
        "e.yaml:17:11: space.cells.body.operations.3: 'conv3x3' stands twice in the domain; name all values of its "
        "arguments at once",
    ]


def test_a_mistake_made_by_an_option_stands_at_the_option(mistakes: Mistakes) -> None:
    lines = mistakes(options=["space.stages.0.width=wide", "serach.trials=5", "training.momentum=2"])
    assert [line[: line.rindex("=") + 1] for line in (line.split(": ")[0] for line in lines)] == [
        "--set space.stages.0.width=",
        "--set training.momentum=",
        "--set serach.trials=",
    ]


def test_plugins_are_loaded_before_names_are_looked_up(load, experiment: str) -> None:
    loaded: list[str] = []
    with pytest.raises(ConfigError, match="unknown data source"):
        load(experiment.replace("digits", "dogs") + "plugins: [a.b, c]\n", load_plugins=loaded.extend)
    assert loaded == ["a.b", "c"]


def _leaves(value: Any, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _leaves(inner, (*where, key))


WRONG = st.sampled_from(
    [None, True, -1, 0, 1.5, 10**18, "", "word", "é\n", [], [[]], [None], {}, {"a": {}}, [1, "a", False], {"min": 3}]
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), wrong=WRONG, new_key=st.booleans())
def test_whatever_stands_anywhere_is_accepted_or_told_in_plain_words(
    experiment: str, data: st.DataObject, wrong: Any, new_key: bool
) -> None:
    document = parse_yaml(experiment, "e.yaml").data
    where = data.draw(st.sampled_from(list(_leaves(document))[1:]))
    inner = document
    for key in where[:-1]:
        inner = inner[key]
    if new_key and isinstance(inner, dict):
        inner[f"{where[-1]}s"] = wrong
    else:
        inner[where[-1]] = wrong
    try:
        validate(parse_yaml(json.dumps(document), "e.yaml"))
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert re.match(r"e\.yaml:\d+:\d+: ", line)
            assert not JARGON.search(line)
