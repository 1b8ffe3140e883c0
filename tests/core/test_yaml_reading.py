"""What a YAML document is read as, and the place that each of its values is said to stand at."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nasflow_cli.core.load import parse_yaml, read_yaml, write_yaml


def value_of(text: str) -> Any:
    return parse_yaml(f"value: {text}", "f.yaml").data["value"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2.5e+2", -250.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("-3", -3),
        ("+3", 3),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_truths_and_nothing_follow_yaml_1_2(text: str, value: object) -> None:
    read = value_of(text)
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    "text", ["on", "off", "yes", "no", "On", "y", "N", "1:30", "2024-01-31", "1.2.3", "e3", "0b1", "tRuE", "nan", "="]
)
def test_what_yaml_1_1_would_turn_into_something_else_stays_a_word(text: str) -> None:
    assert value_of(text) == text


def test_not_a_number_is_read() -> None:
    assert math.isnan(value_of(".nan"))


def test_a_quoted_number_is_a_word() -> None:
    assert value_of("'1e-3'") == "1e-3"


def test_a_key_is_the_word_that_was_written() -> None:
    assert parse_yaml("{1e3: a, on: b, ~: c}", "f").data == {"1e3": "a", "on": "b", "~": "c"}


def test_every_value_knows_its_line_and_column() -> None:
    document = parse_yaml("a: 1\nb:\n  c: [x,  y]\n  d:\n    - {e: 2}\n", "f.yaml")
    places = {where: document.at(where) for where in [("a",), ("b", "c"), ("b", "c", 1), ("b", "d", 0, "e")]}
    assert places == {
        ("a",): "f.yaml:1:1",
        ("b", "c"): "f.yaml:3:3",
        ("b", "c", 1): "f.yaml:3:11",
        ("b", "d", 0, "e"): "f.yaml:5:8",
    }


def test_what_is_missing_stands_where_its_section_does() -> None:
    assert parse_yaml("a:\n  b: 1\n", "f").at(("a", "c", "d")) == "f:1:1"


def test_what_an_alias_repeats_is_a_value_of_its_own_each_time() -> None:
    document = parse_yaml("a: &x {b: 1}\nc: *x\n", "f")
    document.data["a"]["b"] = 2
    assert document.data["c"] == {"b": 1}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path) -> None:
    path = tmp_path / "e.yaml"
    path.write_bytes("\ufeffname: é\n".encode())
    assert read_yaml(path).data == {"name": "é"}


WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8) | st.sampled_from(
    ["1e5", "0o17", "1_0", "on", "~", "", "<<", "null", ".inf", "1:30", "=", "0x1f", "- a", "a: b", "#"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=4))
def test_what_is_written_is_read_back_the_same(data: dict[str, Any]) -> None:
    assert repr(parse_yaml(write_yaml(data), "f").data) == repr(data)


def test_a_word_that_pyyaml_would_leave_bare_is_quoted() -> None:
    assert (yaml.safe_dump("1e5"), write_yaml("1e5")) == ("1e5\n...\n", "'1e5'\n")
