"""`--set key.key=value`: what is changed, what is refused, and how later complaints name the option."""

from __future__ import annotations

from typing import Any

import pytest

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.load import Document, parse_yaml, with_overrides

TEXT = "a: {b: 1, c: [x, {d: 2}]}\ne:\nf: word\n"


def changed(*options: str) -> Document:
    return with_overrides(parse_yaml(TEXT, "f.yaml"), options)


@pytest.mark.parametrize(
    ("option", "data"),
    [
        ("a.b=2", {"a": {"b": 2, "c": ["x", {"d": 2}]}, "e": None, "f": "word"}),
        ("a.c.0=y", {"a": {"b": 1, "c": ["y", {"d": 2}]}, "e": None, "f": "word"}),
        ("a.c.1.d=1e-3", {"a": {"b": 1, "c": ["x", {"d": 0.001}]}, "e": None, "f": "word"}),
        ("a.c=[]", {"a": {"b": 1, "c": []}, "e": None, "f": "word"}),
        ("e.g.h=on", {"a": {"b": 1, "c": ["x", {"d": 2}]}, "e": {"g": {"h": "on"}}, "f": "word"}),
        ("g.h={i: [1]}", {"a": {"b": 1, "c": ["x", {"d": 2}]}, "e": None, "f": "word", "g": {"h": {"i": [1]}}}),
        ("f=", {"a": {"b": 1, "c": ["x", {"d": 2}]}, "e": None, "f": None}),
        ("f=x=y", {"a": {"b": 1, "c": ["x", {"d": 2}]}, "e": None, "f": "x=y"}),
    ],
)
def test_an_option_changes_one_value(option: str, data: dict[str, Any]) -> None:
    assert changed(option).data == data


def test_options_apply_from_left_to_right() -> None:
    assert changed("a=1", "a=2").data["a"] == 2


def test_the_document_itself_is_left_as_it_was() -> None:
    document = parse_yaml(TEXT, "f")
    with_overrides(document, ["a.c.1.d=9", "e.x=1"])
    assert document.data == parse_yaml(TEXT, "f").data


@pytest.mark.parametrize(
    ("option", "where", "place"),
    [
        ("a.b=2", ("a", "b"), "--set a.b=2"),
        ("a.b=2", ("a", "c", 0), "f.yaml:1:15"),
        ("a={c: [z]}", ("a", "c", 0), "--set a={c: [z]}"),
        ("a.c.1.d=3", ("a", "c", 1, "d"), "--set a.c.1.d=3"),
        ("g.h.i=1", ("g",), "--set g.h.i=1"),
        ("g.h.i=1", ("g", "h"), "--set g.h.i=1"),
        ("a.g.h=1", ("a",), "f.yaml:1:1"),
        ("e.g=1", ("e", "missing"), "--set e.g=1"),
    ],
)
def test_what_an_option_made_stands_at_the_option(option: str, where: tuple[str | int, ...], place: str) -> None:
    assert changed(option).at(where) == place


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("a.b", "--set a.b: write it as key.key=value"),
        ("=1", "--set =1: write it as key.key=value"),
        ("a..b=1", "--set a..b=1: write it as key.key=value"),
        ("f.g=1", "--set f.g=1: f is a single value; it has no 'g'"),
        ("a.c.2=1", "--set a.c.2=1: a.c is a list of 2; '2' is not in it"),
        ("a.c.-1=1", "--set a.c.-1=1: a.c is a list of 2; '-1' is not in it"),
        ("a.c.x.y=1", "--set a.c.x.y=1: a.c is a list of 2; 'x' is not in it"),
        ("a.c.²=1", "--set a.c.²=1: a.c is a list of 2; '²' is not in it"),
    ],
)
def test_an_option_that_fits_nowhere_is_refused(option: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(option)
    assert str(caught.value) == says


@pytest.mark.parametrize("value", ["[1,", "!!python/object/apply:os.system [x]", "&a [*a]", "1\nother: 2", "\x00"])
def test_a_value_that_is_no_yaml_is_refused_by_the_name_of_its_option(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set a\.b="):
        changed(f"a.b={value}")
