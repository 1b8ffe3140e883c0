"""What a proposal costs as the history grows: our engine without and with its predictor, beside stock hpbandster.

    python scripts/bench_ask.py --config configs/digits.yaml --results 100 300 1000 3000 10000 --json ask.json

At each number of results: median and 95th percentile, in milliseconds, of asks that fill a new slot, and of following
the result; the mean of both over all that is asked, promotions included; what a fit of the predictor takes (the asks
that are timed fall between two fits); and the most memory that the process had resident. Each side runs in a process of
its own, one after the other, on one thread; `--here` runs all in this one, whose memory then is that of all. Scores are
made up, data is read for the constraints alone. The growth goes beside the JSON, as OUT.svg.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from asking.sides import CLOCKS, SIDES, Row, Setting, rows_of

from nasflow_cli.core.errors import NasflowError
from nasflow_cli.draw.axes import Axis
from nasflow_cli.draw.chart import Curve, chart
from nasflow_cli.environment import environment

ROOT = Path(__file__).resolve().parent.parent
RESULTS = (100, 300, 1000, 3000, 10_000)
NAMES = {"ours": "ours", "predictor": "ours, predictor on", "stock": "stock hpbandster"}


def summary(row: Row) -> dict[str, Any]:
    """What a results file holds of a row; times in milliseconds, fits and replays in seconds, memory in MiB."""
    found: dict[str, Any] = {"results": row.results, "asks": len(row.timed)}
    parts = {
        "ask": [each.ask for each in row.timed],
        "follow": [each.follow for each in row.timed],
        "both": [each.ask + each.follow for each in row.timed],
    }
    for name, seconds in parts.items():
        found[f"{name}_ms"] = 1000 * median(seconds)
        found[f"{name}_ms_5"], found[f"{name}_ms_95"] = (1000 * np.percentile(seconds, [5, 95])).tolist()
    found["ask_ms_mean"] = 1000 * fmean(parts["ask"])
    found |= {"mean_ms": 1000 * row.mean, "refit_s": row.refit, "replay_s": row.replay}
    return found | {"memory_mib": row.memory, "modelled": row.modelled}


def heading() -> str:
    """The line above the rows."""
    columns = ("ask ms", "95 %", "follow ms", "95 %", "mean ms", "refit s", "replay s", "MiB")
    return f"{'side':<20} {'results':>7}" + "".join(f" {column:>9}" for column in columns)


def line(side: str, row: dict[str, Any]) -> str:
    """One row in words."""
    names = ("ask_ms", "ask_ms_95", "follow_ms", "follow_ms_95", "mean_ms", "refit_s", "replay_s")
    numbers = ["-" if row[name] is None else format(row[name], ".2f") for name in names] + [f"{row['memory_mib']:.0f}"]
    return f"{NAMES[side]:<20} {row['results']:>7}" + "".join(f" {number:>9}" for number in numbers)


def ratios(sides: dict[str, list[dict[str, Any]]]) -> dict[int, dict[str, float]]:
    """How many times as long stock hpbandster takes as our engine without the predictor, where both were measured.

    The mean counts too, because a third of the stock proposals and more are random and cost nothing.
    """
    mine = {row["results"]: row for row in sides.get("ours", [])}
    return {
        row["results"]: {name: row[name] / mine[row["results"]][name] for name in ("ask_ms", "ask_ms_mean", "mean_ms")}
        for row in sides.get("stock", [])
        if row["results"] in mine
    }


def growth(rows: Sequence[dict[str, Any]]) -> float | None:
    """The exponent with which the time of an ask and of following it grows: 1 is linear. None for a single row.

    The slope of the line through the logarithms.
    """
    if len(rows) < 2:
        return None
    points = np.log([[row["results"], row["both_ms"]] for row in rows])
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0])


def picture(title: str, sides: dict[str, list[dict[str, Any]]]) -> str:
    """Time of an ask and of following its result against the number of results, both logarithmic, as SVG.

    Bands are the 5th and the 95th percentile; a line of linear growth begins where the lowest curve does.
    """
    curves = [
        Curve(
            name=NAMES[side],
            points=tuple((row["results"], row["both_ms"]) for row in rows),
            band=tuple((row["both_ms_5"], row["both_ms_95"]) for row in rows),
        )
        for side, rows in sides.items()
        if rows
    ]
    first = min((curve.points[0] for curve in curves), key=lambda point: point[1])
    last = max(curve.points[-1][0] for curve in curves)
    if last > first[0]:
        curves.append(Curve(name="linear growth", points=(first, (last, first[1] * last / first[0]))))
    ends = [y for curve in curves for _, y in curve.points] + [
        y for curve in curves for band in curve.band for y in band
    ]
    low, high = min(ends), max(ends)
    x = Axis(title="results in the history", low=first[0], high=max(last, first[0] + 1), log=True)
    y = Axis(title="ms for an ask and following its result", low=low / 1.3, high=high * 1.3, log=True)
    return chart(title, curves, x, y)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "digits.yaml")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--results", type=int, nargs="+", default=RESULTS)
    parser.add_argument("--most-stock", type=int, help="stock hpbandster is measured at no more results than these")
    parser.add_argument("--asks", type=int, default=60, help="asks that are timed at each number of results")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: where others use the machine")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--here", action="store_true", help="all in this process")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if min(*options.results, options.asks, options.most_stock or 1) < 1:
        parser.error("--results, --asks and --most-stock are at least 1")
    return options


def compare(options: argparse.Namespace) -> None:
    """Measure all sides, print a line a row, and write the results. Raises NasflowError."""
    setting = Setting(
        config=options.config,
        overrides=tuple(options.set),
        results=tuple(sorted(set(options.results))),
        asks=options.asks,
        clock=options.clock,
    )
    most = options.most_stock or setting.results[-1]
    sides: dict[str, list[dict[str, Any]]] = {}
    print(heading(), flush=True)
    for side in options.sides:
        within = tuple(results for results in setting.results if side != "stock" or results <= most)
        rows = apart(options.here, side, replace(setting, results=within))
        sides[side] = [summary(row) for row in rows]
        for found in sides[side]:
            print(line(side, found), flush=True)
        if len(rows) < len(within):
            print(f"{NAMES[side]:<20} {within[len(rows)]:>7} the space has no more members to propose", flush=True)
    grown = {side: growth(rows) for side, rows in sides.items()}
    for results, times in ratios(sides).items():
        print(
            f"{results} results: to ask, stock hpbandster takes {times['ask_ms']:.1f} times as long in the median, "
            f"{times['ask_ms_mean']:.1f} times in the mean"
        )
    for side, exponent in grown.items():
        if exponent is not None:
            print(f"{NAMES[side]}: time grows with the number of results to the power of {exponent:.2f}")
    if options.json is not None:
        write(options, sides, grown)


def apart(here: bool, side: str, setting: Setting) -> Sequence[Row]:
    """The rows of a side from a process of its own, or from this one."""
    if here:
        return rows_of(side, setting)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(rows_of, side, setting).result()


def write(options: argparse.Namespace, sides: dict[str, list[dict[str, Any]]], grown: dict[str, float | None]) -> None:
    """The results as JSON, and the picture beside them."""
    document = {
        "schema_version": 1,
        "config": str(options.config),
        "set": options.set,
        "clock": options.clock,
        "environment": environment(),
        "sides": {side: {"name": NAMES[side], "growth": grown[side], "rows": rows} for side, rows in sides.items()},
        "stock_to_ours": ratios(sides),
    }
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if any(sides.values()):
        drawing = picture(f"{options.config.stem}: an ask and following its result", sides)
        options.json.with_suffix(".svg").write_text(drawing, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure."""
    options = parsed(arguments)
    try:
        compare(options)
    except NasflowError as error:
        print(f"bench_ask: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
