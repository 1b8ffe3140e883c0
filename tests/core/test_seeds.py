"""Streams of random numbers: each belongs to its seed, number and purpose, in every process and for ever."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from nasflow_cli.core.seeds import Purpose, derived_seed, generator


@pytest.mark.parametrize(
    ("arguments", "seed"), [((0, 0, Purpose.WEIGHTS), 1_387_925_762), ((7, 42, Purpose.PROPOSAL), 2_117_606_453)]
)
def test_a_seed_is_the_one_that_runs_on_disk_were_made_with(arguments: tuple[int, int, Purpose], seed: int) -> None:
    assert derived_seed(*arguments) == seed


def test_the_numbers_of_a_stream_are_those_that_runs_on_disk_were_made_with() -> None:
    assert generator(7, 42, Purpose.PROPOSAL).integers(1000, size=5).tolist() == [242, 589, 999, 540, 678]


def test_another_process_draws_the_same() -> None:
    program = (
        "from nasflow_cli.core.seeds import Purpose, derived_seed, generator\n"
        "print(derived_seed(3, 4, Purpose.ORDER), generator(3, 4, Purpose.ORDER).random())"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(derived_seed(3, 4, Purpose.ORDER)), str(generator(3, 4, Purpose.ORDER).random())]


def test_no_two_of_seed_number_and_purpose_share_a_stream() -> None:
    every = list(itertools.product((0, 1, 2), (0, 1, 2), Purpose))
    first = {generator(*arguments).bytes(16) for arguments in every}
    assert len(first) == len(every) == 9 * len(Purpose)


def test_a_stream_starts_anew_each_time() -> None:
    assert generator(1, 2, Purpose.CHOICE).random() == generator(1, 2, Purpose.CHOICE).random()


def test_the_number_of_each_purpose_is_part_of_every_run() -> None:
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "TRAINING": 1,
        "PROPOSAL": 2,
        "PREDICTOR": 3,
        "CHOICE": 4,
        "WEIGHTS": 5,
        "ORDER": 6,
        "AUGMENT": 7,
        "DROPOUT": 8,
        "FEASIBLE": 9,
        "SURVEY": 10,
        "FINAL": 11,
        "MIXUP": 12,
        "DESIGN": 20,
    }
