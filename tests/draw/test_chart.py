"""Charts, read back from the SVG text that a user would get."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from read_back import SVG, text_frame, texts

from nasflow_cli.draw.axes import Axis, tick_label
from nasflow_cli.draw.chart import COLOURS, Curve, chart

EVALUATIONS = Axis(title="evaluations", low=1, high=150)
REGRET = Axis(title="regret", low=0, high=1)


def curve(name: str, end: float = 0.5) -> Curve:
    points = tuple((float(x), 1 - (1 - end) * x / 150) for x in range(1, 151))
    return Curve(name=name, points=points, band=tuple((y - 0.1, y + 0.1) for _, y in points))


def drawn(*curves: Curve, x: Axis = EVALUATIONS, y: Axis = REGRET) -> ElementTree.Element:
    return ElementTree.fromstring(chart("A title", curves, x, y))


def path_of(drawing: ElementTree.Element, name: str, kind: str = "curve") -> list[tuple[float, float]]:
    (path,) = [each for each in drawing.iter(f"{SVG}path") if each.attrib.get(f"data-{kind}") == name]
    numbers = [float(number) for number in re.findall(r"[-0-9.]+", path.attrib["d"])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_a_curve_goes_through_its_points() -> None:
    made = Curve(name="a", points=((0.0, 0.0), (5.0, 1.0), (10.0, 0.25)))

    (x0, y0), (x1, y1), (x2, y2) = path_of(drawn(made, x=Axis(title="", low=0, high=10)), "a")

    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 < y0  # y points down
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.25, abs=0.01)


def test_equal_factors_are_equal_steps_on_a_logarithmic_axis() -> None:
    made = Curve(name="a", points=((1.0, 0.001), (10.0, 0.01), (100.0, 0.1)))
    log = {"x": Axis(title="", low=1, high=100, log=True), "y": Axis(title="", low=0.001, high=0.1, log=True)}

    (x0, y0), (x1, y1), (x2, y2) = path_of(drawn(made, **log), "a")

    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.2)


def test_a_band_lies_around_its_curve() -> None:
    drawing = drawn(curve("a"))

    line, outline = path_of(drawing, "a"), path_of(drawing, "a", "band")
    lower, upper = outline[: len(line)], outline[len(line) :][::-1]

    assert all(u[1] <= p[1] <= b[1] for u, p, b in zip(upper, line, lower, strict=True))
    assert lower[-1][1] - upper[-1][1] > 10


def test_what_lies_outside_the_axes_is_drawn_at_their_edge() -> None:
    low = Axis(title="", low=0.2, high=0.4)

    inside, outside = (path_of(drawn(each, y=low), "a") for each in (curve("a", end=0.3), curve("a", end=-7.0)))

    assert outside[-1][1] == pytest.approx(max(y for _, y in outside))
    assert outside[0][1] == inside[0][1]


@pytest.mark.parametrize("ends", [[0.5] * 12, [0.0] * 12, [1.0] * 12, [i / 12 for i in range(12)]])
def test_every_curve_is_named_at_its_end_and_no_two_names_overlap(ends: list[float]) -> None:
    names = [f"method-{i}" for i in range(len(ends))]
    drawing = drawn(*(curve(name, end) for name, end in zip(names, ends, strict=True)))

    frames = [text_frame(each) for each in drawing.iter(f"{SVG}text") if each.text in names]

    assert len(frames) == len(names)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(frames, 2))
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    assert all(frame.right <= width and 0 < frame.top < frame.bottom < height for frame in frames)


def test_a_name_has_the_colour_of_its_curve() -> None:
    drawing = drawn(curve("a"), curve("b"))

    for name, colour in zip("ab", COLOURS, strict=False):
        (label,) = [each for each in drawing.iter(f"{SVG}text") if each.text == name]
        (line,) = [each for each in drawing.iter(f"{SVG}path") if each.attrib.get("data-curve") == name]
        assert label.attrib["fill"] == line.attrib["stroke"] == colour


def test_no_two_of_twenty_curves_look_alike() -> None:
    drawing = drawn(*(curve(f"m{i}") for i in range(20)))

    looks = [
        (each.attrib["stroke"], each.attrib.get("stroke-dasharray"))
        for each in drawing.iter(f"{SVG}path")
        if "data-curve" in each.attrib
    ]

    assert len(set(looks)) == 20


def contrast(colour: str) -> float:
    """Against white (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 1.05 / (0.05 + sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))


@pytest.mark.parametrize("colour", COLOURS)
def test_names_can_be_read_in_their_colours(colour: str) -> None:
    assert contrast(colour) >= 4.5


def test_a_name_cannot_become_markup() -> None:
    drawing = drawn(curve('<script>"&'))

    assert '<script>"&' in texts(drawing)


def test_titles_and_ticks_are_written() -> None:
    assert {"A title", "evaluations", "regret", "0.2", "0.8", "1", "20", "140"} <= set(texts(drawn(curve("a"))))


@given(
    st.floats(-1e6, 1e6), st.floats(1e-4, 1e6), st.integers(2, 12)
)  # a range of less than a part in 10^10 of its ends has no round values that can be told apart
def test_ticks_are_few_round_and_evenly_spaced(low: float, extent: float, most: int) -> None:
    axis = Axis(title="", low=low, high=low + extent)

    ticks = axis.ticks(most)

    assert len(ticks) <= most
    assert all(axis.low - 1e-6 * extent <= tick <= axis.high + 1e-6 * extent for tick in ticks)
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert steps == pytest.approx(steps[:1] * len(steps), abs=1e-5)
    if most >= 5:
        assert len(ticks) >= 2


@given(st.floats(1e-9, 1e6), st.floats(1.01, 1e12), st.integers(2, 12))
def test_ticks_of_a_logarithmic_axis_are_few_and_within_it(low: float, factor: float, most: int) -> None:
    axis = Axis(title="", low=low, high=low * factor, log=True)

    ticks = axis.ticks(most)

    assert len(ticks) <= most
    assert ticks == sorted(set(ticks))
    assert all(0 <= axis.share(tick) <= 1 for tick in ticks)


def test_ticks_over_decades_are_round() -> None:
    assert Axis(title="", low=12, high=15000, log=True).ticks(12) == [20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
    assert Axis(title="", low=1, high=1e9, log=True).ticks(4) == [1, 1e3, 1e6, 1e9]


@pytest.mark.parametrize(
    ("value", "label"),
    [(0.0, "0"), (0.005, "0.005"), (15000.0, "15,000"), (-2.5, "-2.5"), (1e-9, "1e-09"), (100.0, "100")],
)
def test_a_tick_is_written_as_people_write_it(value: float, label: str) -> None:
    assert tick_label(value) == label


@pytest.mark.parametrize(("low", "high", "log"), [(1, 1, False), (2, 1, False), (0, 1, True), (float("nan"), 1, False)])
def test_an_axis_that_goes_nowhere_is_refused(low: float, high: float, log: bool) -> None:
    with pytest.raises(ValueError, match="axis"):
        Axis(title="", low=low, high=high, log=log)


def test_a_curve_without_points_and_a_band_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="no points"):
        Curve(name="a", points=())
    with pytest.raises(ValueError, match="1 places for 2 points"):
        Curve(name="a", points=((0, 0), (1, 1)), band=((0, 0),))


def test_a_page_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        chart("t", [curve("a" * 200)], EVALUATIONS, REGRET)
    with pytest.raises(ValueError, match="at least one curve"):
        chart("t", [], EVALUATIONS, REGRET)
