"""What is refused in a YAML document. Each complaint says where. Nothing in one can run code or fill the memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nasflow_cli.core.errors import ConfigError, MissingError
from nasflow_cli.core.load import MAX_BYTES, parse_yaml, read_yaml


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f.yaml")
    return str(caught.value)


def test_a_duplicate_key_names_both_places() -> None:
    text = "a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n"
    assert complaint(text) == "f.yaml:5:3: duplicate key 'c'; it first stands at f.yaml:3:3"


def test_a_key_repeated_in_quotes_is_a_duplicate() -> None:
    assert complaint('1: a\n"1": b\n').startswith("f.yaml:2:1: duplicate key '1'")


def test_a_tag_that_calls_a_function_is_refused_and_not_called(tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = f"a: 1\nb: !!python/object/apply:os.system ['touch {made}']\n"
    assert complaint(text) == "f.yaml:2:4: the tag !!python/object/apply:os.system is not allowed; write a plain value"
    assert not made.exists()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: !!python/name:os.system x", "1:4"),
        ("a: [!!python/object/new:os.system [x]]", "1:5"),
        ("!!python/object/apply:os.system [x]: a", "1:1"),
        ("!!python/name:os.system x : a", "1:1"),
        ("a: !!binary aGk=", "1:4"),
        ("a: !!set {x}", "1:4"),
        ("a: !own 3", "1:4"),
        ("a: !!timestamp 2024-01-31", "1:4"),
    ],
)
def test_every_other_tag_is_refused_where_it_stands(text: str, place: str) -> None:
    assert complaint(text).startswith(f"f.yaml:{place}: ")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a: !!int x", "a valid integer from"),
        ("a: !!bool x", "true or false, not x"),
        ("a: !!float x", "a valid number"),
    ],
)
def test_a_plain_tag_does_not_force_a_value_that_is_none(text: str, wanted: str) -> None:
    assert f"a: input should be {wanted}" in complaint(text)


def test_aliases_of_aliases_are_counted_and_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "unfolds to more than 20000 values" in complaint("\n".join(lines))


def test_aliases_of_one_long_text_are_counted_and_stopped() -> None:
    text = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 15_000)}]\n"
    assert complaint(text).startswith("f.yaml:1:4: the document unfolds to more than 1000000 characters")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a [*a, *a, *a]"])
def test_an_alias_inside_its_own_anchor_is_stopped(text: str) -> None:
    assert complaint(text).startswith("f.yaml:1:")


def test_a_merge_key_is_refused_with_what_to_do() -> None:
    text = "a: &a {b: 1}\nc:\n  <<: *a\n"
    assert complaint(text) == "f.yaml:3:3: merge keys (`<<`) are not read; write the keys out"


@pytest.mark.parametrize(
    "text", ["[" * 600, "a: " + "{a: " * 5_000, "- " * 5_000, "a: " + "[" * 60 + "]" * 60], ids=lambda text: text[:6]
)
def test_deep_nesting_is_a_complaint_and_not_a_crash(text: str) -> None:
    assert "50 levels" in complaint(text)


@pytest.mark.parametrize(
    ("text", "found"), [("", "empty"), ("# only words\n", "empty"), ("[1]", "a list"), ("x", "a str")]
)
def test_what_is_no_mapping_is_refused_at_its_start(text: str, found: str) -> None:
    assert complaint(text).startswith("f.yaml:1:1: an experiment is a mapping")
    assert complaint(text).endswith(f"not {found}")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\n---\nb: 2\n", "2:1"),
        ("a: 1\nb:\n\tc: 2\n", "3:1"),
        ("a: [1, 2\nb: 3\n", "2:2"),
        ("a: 1\nb: *nowhere\n", "2:4"),
        ("a: 'x\n", "2:1"),
        ("a: b: c\n", "1:5"),
        ("[a]: b\n", "1:1"),
        ("a: 1\nb: \x00\n", "2:4"),
        ("\x07", "1:1"),
        ('a: "\\ud800"\n', "1:4"),
        ('"\\ud800": 1\n', "1:1"),
        ("a: " + "9" * 5_000, "1:4"),
        ("a: 0x" + "f" * 5_000, "1:4"),
        ("a: 9223372036854775808", "1:4"),
    ],
)
def test_what_cannot_be_read_is_refused_where_it_stands(text: str, place: str) -> None:
    message = complaint(text)
    assert message.startswith(f"f.yaml:{place}: ")
    assert len(message) < 200


def test_a_file_that_is_not_utf8_says_at_which_byte(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_bytes("name: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"e\.yaml: not UTF-8 text \(byte 6\)"):
        read_yaml(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: there is no such file"):
        read_yaml(tmp_path / "gone.yaml")


def test_a_directory_is_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this is a directory; name a YAML file"):
        read_yaml(tmp_path)


def test_a_file_below_a_file_is_one_that_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").touch()
    with pytest.raises(MissingError, match="cannot be read"):
        read_yaml(tmp_path / "e.yaml" / "f.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.touch(mode=0o000)
    with pytest.raises(MissingError, match="Permission denied"):
        read_yaml(path)


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="an experiment has at most 1000000"):
        read_yaml(path)
