"""What may stand in a slot, as YAML says it: names, and names with arguments that are set or searched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from nasflow_cli.core.domain import Domain, categorical
from nasflow_cli.core.operation_set import OperationSet, parse_operations
from nasflow_cli.core.registry import OPERATIONS, Entry


def mbconv(slot: object, *, kernel: int = 3, se: bool = False) -> None: ...


def bottleneck(slot: object, *, groups: int = 1, ratio: float = 0.25) -> None: ...


def linear(slot: object, *, norm: str = "batch", dropout: float = 0.0) -> None: ...


def conv3x3(slot: object) -> None: ...


def skip(slot: object) -> None: ...


@pytest.fixture(autouse=True, scope="module")
def with_arguments(stand_ins: None) -> Iterator[None]:
    """The stand-ins, with arguments."""
    entries = {make.__name__: Entry(name=make.__name__, make=make) for make in (mbconv, bottleneck, linear)}
    entries.update({make.__name__: Entry(name=make.__name__, make=make) for make in (conv3x3, skip)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OPERATIONS, "_entries", entries)
        yield


def ordinal(*choices: Any) -> Domain:
    return Domain(kind="ordinal", choices=choices)


@pytest.mark.parametrize("raw", ["skip", ["skip"], {"choices": ["skip"]}, [{"skip": {}}], {"skip": {}}], ids=str)
def test_one_name_is_a_set_of_one_however_it_is_written(raw: Any) -> None:
    assert parse_operations(raw) == OperationSet(choices=categorical("skip"), arguments={})


def test_names_keep_their_order_and_arguments_are_domains() -> None:
    found = parse_operations(
        ["skip", {"mbconv": {"kernel": [5, 3], "se": [True, False]}}, {"linear": {"norm": "none"}}]
    )
    assert found.choices == categorical("skip", "mbconv", "linear")
    assert found.arguments == {
        "mbconv": {"kernel": ordinal(3, 5), "se": categorical(True, False)},
        "linear": {"norm": categorical("none")},
    }


@pytest.mark.parametrize(
    ("raw", "domain"),
    [
        (1, ordinal(1.0)),
        ([1, 2], ordinal(1.0, 2.0)),
        ([0.25, 1], ordinal(0.25, 1.0)),
        ({"min": 1, "max": 2}, Domain(kind="float", low=1.0, high=2.0)),
        ({"min": 1, "max": 8, "log": True}, Domain(kind="float", low=1.0, high=8.0, log=True)),
        ({"min": 0.5, "max": 1.5, "step": 0.5}, ordinal(0.5, 1.0, 1.5)),
    ],
    ids=str,
)
def test_whole_numbers_for_an_argument_that_is_a_number_become_numbers(raw: Any, domain: Domain) -> None:
    found = parse_operations([{"bottleneck": {"ratio": raw}}]).arguments["bottleneck"]["ratio"]
    assert found == domain
    assert all(type(choice) is float for choice in found.choices)


@pytest.mark.parametrize(
    ("operation", "argument", "raw", "wanted"),
    [
        ("mbconv", "kernel", 3.0, "whole numbers are wanted for 'kernel' (its default is 3)"),
        ("mbconv", "kernel", [3, "x"], "whole numbers are wanted for 'kernel' (its default is 3)"),
        ("mbconv", "kernel", True, "whole numbers are wanted for 'kernel' (its default is 3)"),
        ("mbconv", "kernel", {"min": 1.0, "max": 3}, "whole numbers are wanted for 'kernel' (its default is 3)"),
        ("mbconv", "se", 1, "true or false is wanted for 'se' (its default is False)"),
        ("mbconv", "se", {"min": 0, "max": 1}, "true or false is wanted for 'se' (its default is False)"),
        ("bottleneck", "ratio", "half", "numbers are wanted for 'ratio' (its default is 0.25)"),
        ("bottleneck", "ratio", False, "numbers are wanted for 'ratio' (its default is 0.25)"),
        ("linear", "norm", 3, "words are wanted for 'norm' (its default is 'batch')"),
        ("linear", "norm", {"min": 0, "max": 1}, "words are wanted for 'norm' (its default is 'batch')"),
        ("mbconv", "kernel", [], "an empty domain: give at least one choice"),
        ("mbconv", "kernel", None, "a domain is a value, a list of values, or {min: , max: }"),
        ("mbconv", "kernl", 3, "'mbconv' has no argument 'kernl'; did you mean 'kernel'? (known: kernel, se)"),
        ("skip", "kernel", 3, "'skip' has no argument 'kernel' (it has none)"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_at_its_place(
    operation: str, argument: str, raw: Any, wanted: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_operations(["conv3x3", {operation: {argument: raw}}])
    (error,) = caught.value.errors()
    assert (error["loc"], error["msg"]) == ((1, operation, argument), wanted)


@pytest.mark.parametrize(
    ("raw", "place", "says"),
    [
        ("mbcnv", (), "unknown operation 'mbcnv'; did you mean 'mbconv'?"),
        (["skip", "mbcnv"], (1,), "unknown operation 'mbcnv'; did you mean 'mbconv'?"),
        ({"choices": ["skip", "skp"]}, ("choices", 1), "unknown operation 'skp'; did you mean 'skip'?"),
        (["skip", {"mbcnv": {"kernel": 3}}], (1,), "unknown operation 'mbcnv'; did you mean 'mbconv'?"),
        (["skip", "skip"], (1,), "'skip' stands twice in the domain"),
        ([{"mbconv": {"kernel": 3}}, {"mbconv": {"kernel": 5}}], (1,), "'mbconv' stands twice in the domain"),
        ([3], (0,), "an operation is a name, or a name with arguments"),
        ([["skip"]], (0,), "an operation is a name, or a name with arguments"),
        ([{"mbconv": 3}], (0,), "an operation is a name, or a name with arguments"),
        ([{"mbconv": {}, "skip": {}}], (0,), "an operation is a name, or a name with arguments"),
        (None, (), "an operation is a name, or a name with arguments"),
    ],
    ids=str,
)
def test_what_is_no_operation_is_refused_at_its_place(raw: Any, place: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        parse_operations(raw)
    (error,) = caught.value.errors()
    assert error["loc"] == place
    assert error["msg"].startswith(says)


@pytest.mark.parametrize("raw", [[], {"choices": []}, {"choices": "skip"}, {"choices": ["skip"], "min": 1}], ids=str)
def test_a_set_without_a_choice_or_with_more_than_choices_is_refused(raw: Any) -> None:
    with pytest.raises(ValueError, match=r"at least one choice|`choices` is a list, and stands alone"):
        parse_operations(raw)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        parse_operations(["skp", {"mbconv": {"kernel": "x", "sea": True}}, 7])
    assert [error["loc"] for error in caught.value.errors()] == [
        (0,),
        (1, "mbconv", "kernel"),
        (1, "mbconv", "sea"),
        (2,),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        "skip",
        ["conv3x3", "skip"],
        ["skip", {"mbconv": {"kernel": [3, 5, 7], "se": [False, True]}}],
        [{"bottleneck": {"groups": {"min": 1, "max": 4}, "ratio": {"min": 1, "max": 2}}}],
        [{"bottleneck": {"ratio": [1, 2]}}, {"linear": {"norm": ["batch", "none"], "dropout": 0}}],
    ],
    ids=str,
)
def test_what_is_written_out_reads_back_as_the_same_set(raw: Any) -> None:
    found = parse_operations(raw)
    assert parse_operations(found.to_yaml()) == found
    assert parse_operations(found) is found
