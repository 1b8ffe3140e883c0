"""SVG as text: elements, escaping, and how wide a text will be.

Everything is escaped here, so no name that a plug-in gives can become markup. Refuses identifiers, style sheets and
scripts: several pictures can stand in one HTML page without touching each other or the page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape as escape_markup

FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"

# Widths of DejaVu Sans in hundredths of an em, rounded up: the widest of the usual sans-serif fonts, so that a text
# fits in whichever of them the reader has.
_WIDTHS = {
    30: "\"'IJijl",
    35: " ,./:;\\|",
    40: "()-[]ft",
    45: "!r",
    50: "*_`",
    55: "?csz",
    60: "FLkvxy",
    65: "$0123456789EPSTYabdeghnopqu{}",
    70: "ABCKRVXZ",
    75: "NU",
    80: "&DGHOQ",
    85: "#+<=>^w~",
    90: "M",
    100: "%@Wm",
}
_EM = {character: width / 100 for width, characters in _WIDTHS.items() for character in characters}
_BOLD = 1.16
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """Return the text on one line; characters that XML forbids or that reverse the line are replaced."""
    return _UNPRINTABLE.sub("\ufffd", re.sub(r"\s+", " ", text))


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Estimate of a text's width in pixels at a font size in pixels; rather too wide than too narrow."""
    return sum(_em(character) for character in clean(text)) * size * (_BOLD if bold else 1.0)


def _em(character: str) -> float:
    if character in _EM:
        return _EM[character]
    if unicodedata.combining(character):
        return 0.0
    return 1.1 if unicodedata.east_asian_width(character) in "WF" or ord(character) > 0xFFFF else 0.85


def wrap(words: Iterable[str], width: float, size: float, *, between: str = " ", bold: bool = False) -> list[str]:
    """Return words in lines of at most `width` pixels, joined by `between`. One that is wider has a line of its own."""
    lines: list[str] = []
    for word in map(clean, words):
        if lines and text_width(f"{lines[-1]}{between}{word}", size, bold=bold) <= width:
            lines[-1] += f"{between}{word}"
        else:
            lines.append(word)
    return lines


def number(value: float) -> str:
    """Return a coordinate with one decimal, the shortest way to write it."""
    rounded = round(value, 1) + 0.0
    return f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:.1f}"


def element(name: str, content: str = "", /, **attributes: str | float) -> str:
    """Return an element. `content` is markup already; attributes are escaped, `_` in their names stands for `-`."""
    written = "".join(
        f' {key.replace("_", "-")}="{_attribute(value)}"' for key, value in attributes.items() if value != ""
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def _attribute(value: str | float) -> str:
    return escape_markup(clean(value), {'"': "&quot;"}) if isinstance(value, str) else number(value)


def text(content: str, x: float, y: float, size: float, **attributes: str | float) -> str:
    """Return a line of text with its baseline at `y`."""
    return element("text", escape_markup(clean(content)), x=x, y=y, font_size=size, **attributes)


def tooltip(lines: Iterable[str]) -> str:
    """Return what a browser shows when the pointer rests on the group that holds it."""
    return element("title", "\n".join(escape_markup(clean(line)) for line in lines))


def curve(points: Sequence[tuple[float, float]]) -> str:
    """Return path data: a start, then three points (two controls and an end) for every cubic piece."""
    start, *rest = [f"{number(x)} {number(y)}" for x, y in points]
    return f"M{start}C{' '.join(rest)}" if rest else f"M{start}"
