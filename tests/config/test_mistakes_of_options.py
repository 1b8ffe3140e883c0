"""Where a mistake stands that `--set` made of a file without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.experiment_file import Mistake, load_experiment

Load = Callable[..., ExperimentConfig]


def complaint(load: Load, text: str, *options: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, *options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("data.augment.flip=true", "data: augment.flip makes no sense for 'digits'"),
        ("training.decay_fraction=0.5", "training: decay_fraction goes with `schedule: decay`"),
        ("search.budget.min=10", "search.budget: min (10) is above max (9)"),
    ],
)
def test_settings_that_an_option_set_against_each_other_stand_at_the_option(
    load: Load, experiment: str, option: str, says: str
) -> None:
    assert complaint(load, experiment, option).startswith(f"--set {option}: {says}")


def test_of_several_options_the_one_that_completes_the_mistake_is_named(load: Load, experiment: str) -> None:
    text = experiment.replace("source: digits", "source: folder\n  path: .")
    given = ("seed=4", "data.augment.flip=true", "data.source=digits", "name=other")

    assert complaint(load, text, *given).startswith("--set data.source=digits: data: augment.flip")


def test_a_mistake_of_the_file_stays_where_it_is_whatever_options_stand_beside_it(load: Load, experiment: str) -> None:
    text = experiment.replace("  learning_rate: 1e-3", "  decay_fraction: 0.5")

    assert complaint(load, text, "training.momentum=0.8").startswith("e.yaml:18:1: training: decay_fraction goes")


def test_a_mistake_of_a_file_that_lacks_something_else_is_not_the_options_that_completes_it(
    tmp_path: Path, experiment: str
) -> None:
    def odd(config: ExperimentConfig) -> Iterator[Mistake]:
        yield ("training",), "this is odd"

    path = tmp_path / "e.yaml"
    path.write_text(experiment.replace("source: digits", "validation_fraction: 0.3"))

    with pytest.raises(ConfigError) as caught:
        load_experiment(path, ["data.source=digits", "name=b"], lambda modules: None, odd)

    assert str(caught.value) == f"{path}:18:1: training: this is odd"


def test_a_mistake_that_is_found_from_outside_stands_at_its_option_as_well(tmp_path: Path, experiment: str) -> None:
    def odd(config: ExperimentConfig) -> Iterator[Mistake]:
        if config.seed != config.search.trials:
            yield ("search",), "as many trials as the seed says are wanted here"

    path = tmp_path / "e.yaml"
    path.write_text(experiment.replace("seed: 3", "seed: 9"))

    with pytest.raises(ConfigError, match=r"^--set seed=4: search: as many trials"):
        load_experiment(path, ["name=a", "seed=4"], lambda modules: None, odd)


@pytest.mark.parametrize("number", ["1" + "0" * 21, "-1" + "0" * 21])
def test_a_number_beyond_64_bits_is_refused_like_any_other_by_its_option(
    load: Load, experiment: str, number: str
) -> None:
    said = complaint(load, experiment, f"training.batch_size={number}")

    assert said == (
        f"--set training.batch_size={number}: training.batch_size: input should be a valid integer from "
        f"-9223372036854775808 to 9223372036854775807, not {number}"
    )


def test_an_option_without_end_is_not_repeated_whole(load: Load, experiment: str) -> None:
    said = complaint(load, experiment, f"training.batch_size={'9' * 5000}")

    assert said.startswith("--set training.batch_size=9999")
    assert len(said) < 400
