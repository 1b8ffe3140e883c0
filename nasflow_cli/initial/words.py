"""Words of other people in YAML and its comments: names and paths, whatever they hold. Refuses half characters."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from nasflow_cli.core.errors import ConfigError
from nasflow_cli.core.load import parse_yaml

WIDTH = 120
_PLAIN = re.compile(r"[A-Za-z_/.][A-Za-z0-9_/.-]*")
_COMMENT_COLUMN = 30


def quoted(text: str) -> str:
    """A text as YAML reads it back, on one line, in double quotes where it needs some.

    Raises ConfigError for a file name that is not UTF-8, which no YAML can hold.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError(f"{text!r} is not UTF-8, and a YAML file is; rename it")
    if _PLAIN.fullmatch(text) and parse_yaml(f"a: {text}", "").data["a"] == text:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    # What Python can print YAML can hold; a byte order mark and its like are not printable.
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def said(name: str) -> str:
    """A name for a comment or a message, on one line; in quotes where it would not stand out as one."""
    is_clear = name.isprintable() and name == name.strip() and not set(name) & set(',;:"') and name != ""
    return name if is_clear else quoted(name)


def shown(names: Sequence[str], most: int = 6) -> str:
    """Some names for a comment or a message."""
    return ", ".join(map(said, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def number(value: float) -> str:
    """A whole number with `_` between its thousands."""
    return f"{round(value):_}"


def remark(text: str, indent: int = 0) -> list[str]:
    """A comment, in as many lines as it takes."""
    prefix = " " * indent + "# "
    return textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False)


def setting(indent: int, text: str, comment: str = "") -> list[str]:
    """A line of YAML with a comment behind it, or above it where there is no room."""
    line = " " * indent + text
    if not comment:
        return [line]
    joined = f"{line:<{_COMMENT_COLUMN}}  # {comment}"
    return [joined] if len(joined) <= WIDTH else [*remark(comment, indent), line]
