"""An experiment: what its settings are read as, what makes it the same one, and the way to YAML and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from nasflow_cli.core.config import MAY_CHANGE, ExperimentConfig
from nasflow_cli.core.config_difference import another_experiment, differences


@pytest.mark.parametrize("option", ["training.learning_rate=1e-3", "training.learning_rate=0.001"])
def test_a_rate_in_powers_of_ten_is_a_number(load, experiment: str, option: str) -> None:
    assert load(experiment, option).training.learning_rate == 0.001


def test_a_whole_number_is_a_rate_as_well(load, experiment: str) -> None:
    assert load(experiment, "training.learning_rate=1").training.learning_rate == 1.0


def test_an_option_overrides_the_file(load, experiment: str) -> None:
    config = load(experiment, "search.budget.max=27", "space.stages.1.stride=1", "search.predictor.enabled=false")
    assert (config.search.budget.max, config.space.stages[1].stride, config.search.predictor.enabled) == (27, 1, False)


def test_an_experiment_cannot_be_changed(load, experiment: str) -> None:
    config = load(experiment)
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.space.stem.width.low = 3


@pytest.mark.parametrize(
    "option",
    [
        "name=other",
        "runs=elsewhere",
        "executor.workers=4",
        "executor.kind=inline",
        "executor.trial_time_limit_s=60",
        "search.trials=100",
        "search.time_limit_s=60",
        "search.confirm.top=3",
        "data.path=/somewhere",
        "data.test_path=/elsewhere",
        "training.checkpoint_every_s=1",
        "seed=3",
        "space.stem.width={choices: [16, 8]}",
        "search.predictor.enabled=true",
    ],
)
def test_where_how_and_how_long_it_runs_does_not_make_another_experiment(load, experiment: str, option: str) -> None:
    assert load(experiment, option).identity() == load(experiment).identity()


@pytest.mark.parametrize(
    "option",
    [
        "seed=4",
        "space.stem.width=[8, 24]",
        "space.cells.body.operations=[skip, conv3x3]",
        "space.cells.other={nodes: 1, operations: skip}",
        "space.stages.1.stride=1",
        "space.activation.per=network",
        "space.constraints.params.max=1000",
        "space.dropout=0.1",
        "search.budget.max=27",
        "search.budget.eta=2",
        "search.turn_brackets=2",
        "search.predictor.enabled=false",
        "search.density.samples=8",
        "training.learning_rate=1e-2",
        "data.augment.mixup=0.2",
        "data.augment.colour=0.2",
        "training.precision=float32",
        "training.schedule=cosine",
        "data.source=npz",
        "data.split_seed=1",
        "data.augment.crop=1",
        "plugins=[mine]",
    ],
)
def test_whatever_changes_proposals_or_scores_makes_another_experiment(load, experiment: str, option: str) -> None:
    changed = load(experiment, option, load_plugins=lambda modules: None)
    assert changed.identity() != load(experiment).identity()


def test_cells_in_another_order_make_another_experiment_since_they_are_drawn_in_order(load, experiment: str) -> None:
    first, second = "a: {nodes: 1, operations: skip}", "b: {nodes: 2, operations: skip}"
    forth = load(experiment, f"space.cells={{{first}, {second}}}", "space.stages=[{cell: a, width: 8}]")
    back = load(experiment, f"space.cells={{{second}, {first}}}", "space.stages=[{cell: a, width: 8}]")
    assert forth.identity() != back.identity()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("name='1e5'",),
        ("name='0o17'", "runs='~'", "data.path='1_000'", "data.test_path='on'"),
        ("data.path='{[\"é: #\\u2028'",),
        ("space.stem.width={min: 4, max: 64, log: true}", "space.stages.0.depth={min: 1, max: 5}"),
        ("space.cells.body.nodes={min: 2, max: 6, step: 2}", "space.cells.body.residual=[true, false]"),
        ("space.cells.body.operations=[{mbconv: {kernel: [3, 5], se: [true, false]}}, {conv: {}}, skip]",),
        ("space.cells.body.operations=[{bottleneck: {ratio: {min: 1, max: 2}, groups: 4}}]",),
        ("space.head={width: [8, 16], activated: false}", "space.prune=false", "space.cells.body.edges=2"),
        ("space.halves={structure: ['*.operation'], operators: ['stem.width']}",),
        ("training.weight_decay=1e-30", "training.learning_rate=1e16", "space.constraints.flops.max=1e22"),
        ("seed=9223372036854775807", "training.gradient_clip=null", "space.activation.choices=[silu, mish, relu]"),
    ],
    ids=str,
)
def test_what_is_written_out_is_read_back_the_same(load, experiment: str, options: tuple[str, ...]) -> None:
    config = load(experiment, *options)
    again = load(config.to_yaml())
    assert again == config
    assert again.identity() == config.identity()
    assert again.to_yaml() == config.to_yaml()


def test_what_is_written_out_names_every_default(load, experiment: str) -> None:
    text = load(experiment).to_yaml()
    for setting in ("checkpoint_every_s: 0.0", "grace_s: 20.0", "bandwidth_floor: 0.05", "edges: free", "cutout: 0"):
        assert f"{setting}\n" in text


def test_the_experiment_that_ships_is_read(load) -> None:
    shipped = Path(__file__).parents[2] / "configs" / "digits.yaml"
    config = load(shipped.read_text(encoding="utf-8"))
    assert isinstance(config, ExperimentConfig)
    assert config.space.constraints.params.max == 150_000


SPACES = sorted((Path(__file__).parents[2] / "configs" / "spaces").glob("*.yaml"))


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_spaces_that_ship_are_read_and_written_out_the_same(load, path: Path) -> None:
    config = load(path.read_text(encoding="utf-8"))
    assert load(config.to_yaml()) == config


def test_the_spaces_that_ship_use_every_feature_between_them() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SPACES)
    used = ("inputs: 2", "edges: 2", "edges: all", "slots: edges", "output: all", "output: last", "output: free")
    used += ("join: concat", "join: split", "per: cell", "per: edge", "per: layer", "per: stage", "max_edges:")
    used += ("prune: false", "halves:", "order: after", "transition: null", "activated: false", "residual:", "{min:")
    assert [feature for feature in used if feature not in text] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["seed=4", "search.trials=99", "name=other"], ["seed is 3 there and 4 here"]),
        (["training.schedule=decay"], ['training.schedule is "constant" there and "decay" here']),
        (["space.stages.1.stride=1"], ["space.stages.1.stride is 2 there and 1 here"]),
        (
            ["space.cells.other={nodes: 1, operations: conv3x3}"],
            ["space.cells.other is not set there and {"],
        ),
    ],
)
def test_what_makes_another_experiment_is_named_with_both_values(
    load, experiment: str, options: list[str], said: list[str]
) -> None:
    found = [str(each) for each in differences(load(experiment), load(experiment, *options))]

    assert [each[: len(start)] for each, start in zip(found, said, strict=False)] == said
    assert all(each.startswith(("training.decay", "training.schedule", *said)) for each in found)


def test_a_message_names_the_first_differences_and_how_many_more_there_are(load, experiment: str) -> None:
    many = [f"training.{name}=0.5" for name in ("learning_rate", "momentum", "weight_decay", "label_smoothing", "ema")]

    said = another_experiment("run", "known", load(experiment), load(experiment, *many))

    assert "another experiment: training.learning_rate is 0.001 there and 0.5 here, training.momentum is" in said
    assert ", training.weight_decay is 0.0005 there and 0.5 here, 2 more." in said
    assert all(name in said for name in MAY_CHANGE)


def test_only_a_source_that_reads_by_name_is_told_a_revision(
    load: Callable[..., ExperimentConfig], experiment: str
) -> None:
    """A reader of a plug-in may say which version it has read; its settings are its own."""
    assert load(experiment).at_revision("v1") == load(experiment)
    config = load(experiment.replace("source: digits", "source: hub\n  path: a/b")).at_revision("v1")
    assert config.data is not None
    assert config.data.hub.revision == "v1"
