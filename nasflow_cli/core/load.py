"""Reads YAML so that every later complaint can say `file:line:column`. Refuses all that could surprise or run code.

YAML 1.2 rules for numbers and booleans (`1e-3` is a number, `on` is a word); a duplicate key, a tag, a merge key, an
alias that multiplies its anchor without bound, a number beyond 64 bits, or a second document is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nasflow_cli.core.errors import ConfigError, MissingError

Where = tuple[str | int, ...]
"""A path into the document: keys and list positions."""

MAX_BYTES = 1_000_000
MAX_VALUES = 20_000
MAX_DEPTH = 50
MAX_SHOWN = 200
"""Characters of an option that a message repeats."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core schema instead of YAML 1.1's."""


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would read as something else than a word."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Represent a text; only double quotes escape the line breaks that are not ASCII."""
        style = '"' if any(line_break in data for line_break in "\x85\u2028\u2029\ufeff") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)
_Dumper.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeDumper.yaml_implicit_resolvers.items()}
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A YAML document as plain values, and where each of them stands.

    Where `--set` options changed it, `option` is the last of them and `before` the document without that one.
    """

    source: str
    data: dict[str, Any]
    marks: Mapping[Where, str] = field(default_factory=dict)
    option: str | None = None
    before: Document | None = None

    def at(self, where: Where) -> str:
        """Return `file:line:column` (or the `--set` option) of the value at `where`, or of what encloses it."""
        for end in range(len(where), -1, -1):
            mark = self.marks.get(where[:end])
            if mark is not None:
                return mark
        return self.source


class _Reader:
    """Turns composed nodes into plain values, keeping marks and counting what aliases multiply."""

    def __init__(self, source: str, *, is_option: bool) -> None:
        self.source = source
        self.is_option = is_option
        self.marks: dict[Where, str] = {}
        self.values = 0
        self.characters = 0

    def mark(self, node: yaml.Node) -> str:
        return self.place(node.start_mark)

    def place(self, mark: yaml.Mark | None) -> str:
        """Say where something stands: an option has no lines."""
        return self.source if self.is_option or mark is None else f"{self.source}:{mark.line + 1}:{mark.column + 1}"

    def read(self, node: yaml.Node, where: Where) -> Any:
        self.values += 1
        if self.values > MAX_VALUES or len(where) > MAX_DEPTH:
            raise ConfigError(
                f"{self.mark(node)}: the document unfolds to more than {MAX_VALUES} values or {MAX_DEPTH} levels; "
                "write it without aliases that repeat each other"
            )
        self.marks.setdefault(where, self.mark(node))
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map")
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            return [self.read(child, (*where, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, where)

    def _check_tag(self, node: yaml.Node, *allowed: str) -> None:
        if node.tag not in {f"tag:yaml.org,2002:{name}" for name in allowed}:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise ConfigError(f"{self.mark(node)}: the tag {tag} is not allowed; write a plain value")

    def _scalar(self, node: yaml.Node, where: Where) -> Any:
        text = self._text(node)
        kind = node.tag.rsplit(":", 1)[1]
        try:
            if kind == "int":
                return _whole(text)
            if kind == "float":
                return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()).replace("_", ""))
            if kind == "bool":
                return {"true": True, "false": False}[text.lower()]
        except (ValueError, KeyError):
            name = ".".join(map(str, where))
            words = f"input should be {_WANTED[kind]}, not {text[:40]}{'...' * (len(text) > 40)}"
            raise ConfigError(": ".join(filter(None, [self.mark(node), name, words]))) from None
        return None if kind == "null" else text

    def _text(self, node: yaml.Node) -> str:
        self._check_tag(node, "bool", "null", "int", "float", "str")
        text: str = node.value
        self.characters += len(text)
        if self.characters > MAX_BYTES:
            raise ConfigError(
                f"{self.mark(node)}: the document unfolds to more than {MAX_BYTES} characters; "
                "write it without aliases that repeat a long text"
            )
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ConfigError(
                f"{self.mark(node)}: half a surrogate pair is not a character; write the character itself"
            )
        return text

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{self.mark(key_node)}: a key is a plain word here, not a list or a mapping")
            key = self._text(key_node)
            if key == "<<" and key_node.style is None:
                raise ConfigError(f"{self.mark(key_node)}: merge keys (`<<`) are not read; write the keys out")
            if key in result:
                first = self.marks[(*where, key)]
                raise ConfigError(f"{self.mark(key_node)}: duplicate key {key!r}; it first stands at {first}")
            self.marks[(*where, key)] = self.mark(key_node)
            result[key] = self.read(value_node, (*where, key))
        return result


_WANTED = {
    "int": f"a valid integer from {-(2**63)} to {2**63 - 1}",
    "float": "a valid number",
    "bool": "true or false",
}


def _whole(text: str) -> int:
    """Read an integer. Raises ValueError when it is none or beyond 64 bits, which later arithmetic cannot hold."""
    number = int(text.replace("_", ""), 0 if text[:2] in ("0o", "0x") else 10)
    if not -(2**63) <= number < 2**63:
        raise ValueError("beyond 64 bits")
    return number


def parse_yaml(text: str, source: str) -> Document:
    """Parse one YAML mapping. Raises ConfigError that says where."""
    data, marks = _parse(text, source)
    if not isinstance(data, dict):
        found = "empty" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{source}:1:1: an experiment is a mapping of sections (`data:`, `space:`, ...), not {found}")
    return Document(source=source, data=data, marks=marks)


def _parse(text: str, source: str, option: Where | None = None) -> tuple[Any, dict[Where, str]]:
    """Read one YAML value of any kind, and where its parts stand. `option` is what an option is to set."""
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = f"{source}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
        raise ConfigError(f"{place}: the character {text[error.position]!r} has no place in YAML; remove it") from None
    reader = _Reader(source, is_option=option is not None)
    try:
        node = loader.get_single_node()
        return (reader.read(node, option or ()) if node is not None else None), reader.marks
    except yaml.MarkedYAMLError as error:
        place = reader.place(error.problem_mark or error.context_mark)
        problem = error.problem or error.context or "unreadable"
        raise ConfigError(f"{place}: this is not valid YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: this is not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ConfigError(f"{source}: the document is nested too deeply (at most {MAX_DEPTH} levels)") from None
    finally:
        loader.dispose()


def write_yaml(value: Any) -> str:
    """Return YAML that `parse_yaml` reads back as the same value; keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> Document:
    """Read and parse a YAML file. Raises MissingError when the system refuses to read it, else ConfigError."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: this is a directory; name a YAML file") from None
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(raw)} bytes; an experiment has at most {MAX_BYTES}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    return parse_yaml(text, str(path))


def with_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """Apply `--set a.b.0=value` options, left to right; each value is YAML. Raises ConfigError naming the option."""
    for option in overrides:
        document = _with_override(document, option)
    return document


def _with_override(document: Document, option: str) -> Document:
    data, marks = _copy(document.data), dict(document.marks)
    label = f"--set {option[:MAX_SHOWN]}{'...' * (len(option) > MAX_SHOWN)}"
    name, equals, text = option.partition("=")
    keys = tuple(name.split("."))
    if not equals or not all(keys):
        raise ConfigError(f"{label}: write it as key.key=value")
    value, _ = _parse(text, label, keys)
    where, made = _assign(data, keys, value, label)
    for known in [w for w in marks if w[: len(where)] == where]:
        del marks[known]
    for end in range(len(where) - made, len(where) + 1):
        marks[where[:end]] = label
    return Document(source=document.source, data=data, marks=marks, option=label, before=document)


def _assign(data: Any, keys: Sequence[str], value: Any, label: str) -> tuple[Where, int]:
    """Put the value in its place. Returns the place, and how many sections had to be made around it."""
    where: list[str | int] = []
    made = 0
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        step: str | int = key
        if isinstance(data, list):
            if not key.isdecimal() or int(key) >= len(data):
                raise ConfigError(f"{label}: {'.'.join(keys[:depth])} is a list of {len(data)}; {key!r} is not in it")
            step = int(key)
        elif not isinstance(data, dict):
            raise ConfigError(f"{label}: {'.'.join(keys[:depth])} is a single value; it has no {key!r}")
        where.append(step)
        if last:
            data[step] = value
        elif isinstance(data, dict) and data.get(key) is None:
            data[step] = {}
            made += 1
        data = data[step]
    return tuple(where), made


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
