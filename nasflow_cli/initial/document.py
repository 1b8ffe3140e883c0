"""An experiment written down as a person would, with a comment wherever something was chosen. Chooses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasflow_cli.core.counted import counted
from nasflow_cli.initial.findings import Findings
from nasflow_cli.initial.fit import CORE_FLOPS, PARAMS_AN_EXAMPLE, Fit, Layout, Machine
from nasflow_cli.initial.words import number, quoted, remark, said, setting, shown
from nasflow_cli.optim.plan import rung_budgets
from nasflow_cli.train.data.gather import shown as described

IMBALANCE = 5
"""Largest class to smallest, from which on it is worth a comment."""

FEW = 20
"""Examples of a class, below which it is worth a comment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the file calls things: the experiment, its data as the file should name it, and the folder of runs.

    `runs` is None where the usual folder will do.
    """

    name: str
    path: str
    test_path: str | None
    runs: str | None


def summary(found: Findings) -> str:
    """What the data is, in a sentence: kind, shape, classes, examples, and where the test data comes from."""
    colour = "" if found.is_vectors else "grey " if found.shape[0] == 1 else "colour "
    test = "a test split of its own" if found.test_fraction is None else "no test split"
    return (
        f"{colour}{described(found.shape)} in {len(found.classes)} classes ({shown(found.classes)}), "
        f"{found.num_examples} examples and {test}, read as {found.place.source}"
    )


def document(found: Findings, chosen: Fit, machine: Machine, names: Names) -> str:
    """The experiment file."""
    lines = [
        *remark(f"What `nasflow init` found in the data: {summary(found)}."),
        *remark("`nasflow check` prints what this file comes to; docs/configuration.md documents every key."),
        f"name: {quoted(names.name)}",
        "seed: 0",
    ]
    if names.runs is not None:
        lines += setting(0, f"runs: {quoted(names.runs)}", "outside of the data: a folder in it counts as a class")
    sections = (
        _data(found, names),
        [*space(chosen.layout), *_constraints(found, chosen)],
        _search(chosen, machine),
        _training(found, chosen),
    )
    for section in sections:
        lines += ["", *section]
    return "\n".join(lines) + "\n"


def _data(found: Findings, names: Names) -> list[str]:
    lines = ["data:", *setting(2, f"source: {found.place.source}"), *setting(2, f"path: {quoted(names.path)}")]
    if names.test_path is not None:
        lines += setting(2, f"test_path: {quoted(names.test_path)}", "looked at once, at the very end")
    lines += _columns(found)
    if found.test_fraction is not None:
        lines += setting(
            2, f"test_fraction: {found.test_fraction:g}", "carved out with a fixed seed; the search never sees it"
        )
    rest = "of the rest" if found.test_fraction is not None else "of the training data"
    lines += setting(
        2,
        f"validation_fraction: {found.validation_fraction:g}",
        f"{rest}: scores are measured on these {found.num_validation} examples",
    )
    if found.train_limit is not None:
        lines += setting(
            2,
            f"train_limit: {found.train_limit}",
            f"a first search on some of the {found.num_examples} examples, validation included; remove it for all",
        )
    return lines + _classes(found) + _augment(found)


def _columns(found: Findings) -> list[str]:
    columns = found.columns
    if columns is None:
        return []
    lines = setting(2, f"target: {quoted(columns.target)}", "the column of the classes")
    if not columns.header:
        lines += setting(2, "header: false", "the first row holds numbers, so columns are called column1, column2, ...")
    if columns.ignore:
        why = "; ".join(f"{said(name)} {reason}" for name, reason in list(columns.ignore.items())[:6])
        lines += remark(f"Not used: {why}{'; ...' if len(columns.ignore) > 6 else '.'}", 2)
        lines.append(f"  ignore: [{', '.join(map(quoted, columns.ignore))}]")
    if columns.num_texts:
        plural = "columns of text become" if columns.num_texts > 1 else "column of text becomes"
        lines += remark(f"{columns.num_texts} {plural} one feature for each of its values.", 2)
    if columns.num_missing:
        plural = "values are missing; each becomes" if columns.num_missing > 1 else "value is missing; it becomes"
        lines += remark(f"{columns.num_missing} {plural} the mean of its feature over the train split.", 2)
    return lines


def _classes(found: Findings) -> list[str]:
    small, large = (found.class_sizes.index(end(found.class_sizes)) for end in (min, max))
    fewest, most = found.class_sizes[small], found.class_sizes[large]
    lines = []
    if most >= IMBALANCE * fewest:
        lines += remark(
            f"The classes are uneven: {most} examples of {said(found.classes[large])}, {fewest} of "
            f"{said(found.classes[small])}. Whoever always says {said(found.classes[large])} is right in "
            f"{most / found.num_examples:.0%}: compare scores with that.",
            2,
        )
    if fewest < FEW:
        lines += remark(
            f"With {fewest} examples of {said(found.classes[small])} in all, scores say little about that class.", 2
        )
    return lines


def _augment(found: Findings) -> list[str]:
    if found.is_vectors:
        return []
    crop = max(1, round(found.resolution / 8))
    if found.resolution < 4:
        return remark("No augmentation: these images are too small to be shifted.", 2)
    if found.shape[0] == 1:
        return setting(
            2,
            f"augment: {{crop: {crop}}}",
            f"shifts by up to {crop}; where a mirrored image is of its class, {{flip: true, crop: {crop}}}",
        )
    return setting(
        2,
        f"augment: {{flip: true, crop: {crop}}}",
        f"mirrored, shifted by up to {crop}; no flip for letters or signs; cutout: {crop * 2} blanks a square too",
    )


def space(layout: Layout) -> list[str]:
    """The `space` section without its constraints."""
    return _image_space(layout) if layout.strides else _vector_space(layout)


def _vector_space(layout: Layout) -> list[str]:
    low, middle, high = layout.width, 2 * layout.width, 4 * layout.width
    return [
        *setting(0, "space:", "a perceptron: how deep and wide it is, and what its layers are"),
        f"  stem: {{operation: linear, width: [{low}, {middle}, {high}]}}",
        "  cells:",
        "    layer:",
        "      nodes: 1",
        "      per: stage",
        "      residual: [true, false]",
        "      operations:",
        "        - linear: {norm: [batch, layer, none], dropout: [0.0, 0.1, 0.3]}",
        "  stages:",
        f"    - {{cell: layer, depth: [1, 2, 3], width: [{low}, {middle}, {high}], transition: linear}}",
        f"    - {{cell: layer, depth: [1, 2, 3], width: [{low}, {middle}], transition: linear}}",
        "  activation: {choices: [relu, gelu, silu, mish, selu, tanh], per: network}",
        "  initialisation: {choices: [default, kaiming_normal, xavier_uniform, orthogonal, lecun_normal]}",
    ]


def _image_space(layout: Layout) -> list[str]:
    width, more = layout.width, layout.width * 3 // 2
    halved = "halves the resolution at once, which saves most of the work" if layout.stem_stride > 1 else ""
    lines = [
        "space:",
        *setting(2, f"stem: {{width: [{width}, {more}]{_stride(layout.stem_stride)}}}", halved),
        "  cells:",
        "    body:",
        *setting(6, "nodes: [1, 2, 3]", "structure: how many nodes, and (edges: free) which feeds which"),
        "      edges: free",
        "      residual: [true, false]",
        f"      operations: [{', '.join(layout.operations)}]",
        "  stages:",
    ]
    for stage, stride_ in enumerate(layout.strides):
        lines.append(f"    - {{cell: body{_depth(layout, stage)}, width: {_widths(layout, stage)}{_stride(stride_)}}}")
    return [
        *lines,
        "  activation: {choices: [relu, leaky_relu, gelu, silu, hardswish], per: stage}",
        "  initialisation: {choices: [default, kaiming_normal, xavier_uniform, orthogonal], per: network}",
        *setting(2, "# dropout: 0.2", "before the classifier, against overfitting"),
    ]


def _stride(stride: int) -> str:
    return f", stride: {stride}" if stride > 1 else ""


def _widths(layout: Layout, stage: int) -> list[int]:
    width = layout.width * 2**stage
    return [width, width * 3 // 2] if stage == 0 else [width * 3 // 4, width, width * 3 // 2]


def _depth(layout: Layout, stage: int) -> str:
    """At full resolution cells cost most; without a GPU one has to do where there are stages enough."""
    if layout.is_deep:
        return ", depth: [1, 2, 3]"
    return "" if stage == 0 and len(layout.strides) > 2 else ", depth: [1, 2]"


def _why_params(found: Findings, chosen: Fit) -> str:
    if chosen.is_raised:
        return "already the narrowest networks of this space are larger than the data would ask for"
    each = round(chosen.bounds.params / found.num_train)
    if each > 2 * PARAMS_AN_EXAMPLE:
        return f"few: {found.num_train} training examples are soon learned by heart"
    return f"about {each} for each of the {found.num_train} training examples"


def _constraints(found: Findings, chosen: Fit) -> list[str]:
    bounds = chosen.bounds
    lines = ["  constraints:", *setting(4, f"params: {{max: {number(bounds.params)}}}", _why_params(found, chosen))]
    if bounds.flops is not None:
        lines += setting(
            4, f"flops: {{max: {number(bounds.flops)}}}", "of one image's forward pass, 2 per multiply-add"
        )
    if bounds.activation_bytes is not None:
        step = bounds.activation_bytes * chosen.batch_size / 2**30
        lines += setting(
            4,
            f"activation_bytes: {{max: {number(bounds.activation_bytes)}}}",
            f"of one image: a step on {chosen.batch_size} stays within about {step:.1f} GiB",
        )
    return lines


def _search(chosen: Fit, machine: Machine) -> list[str]:
    rungs = rung_budgets(chosen.budget)
    one = len(rungs) == 1
    told = f"epochs; so few trials leave room for one rung, {rungs[0]}" if one else f"epochs: rungs at {_listed(rungs)}"
    return [
        "search:",
        *setting(2, f"trials: {chosen.trials}", "trainings, promotions included"),
        *setting(2, f"budget: {{min: {chosen.min_epochs}, max: {chosen.max_epochs}, eta: 3}}", told),
        *remark(_effort(chosen, machine), 2),
        *setting(2, "# time_limit_s: 3600", "stops early, to be resumed with `nasflow resume`"),
    ]


def _effort(chosen: Fit, machine: Machine) -> str:
    if chosen.seconds is None:
        return (
            f"All trainings together take about {chosen.total_flops:.1e} floating-point operations; how long that is "
            "depends on the GPU, and the first trials tell."
        )
    cores = counted(machine.workers, "core")
    return (
        f"About {_duration(chosen.seconds)} on {cores}, if a core trains at {CORE_FLOPS / 1e9:.0f} GFLOP/s: all "
        f"trainings together take {chosen.total_flops:.1e} floating-point operations."
    )


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1.5:
        return "a minute"
    if minutes < 100:
        return f"{round(minutes) if minutes < 10 else round(minutes / 5) * 5} minutes"
    return f"{round(minutes / 60)} hours"


def _listed(values: Sequence[int]) -> str:
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last


def _training(found: Findings, chosen: Fit) -> list[str]:
    if found.is_vectors:
        return [
            "training:",
            *setting(2, f"batch_size: {chosen.batch_size}"),
            "  optimizer: adamw",
            *setting(2, f"learning_rate: {chosen.learning_rate}"),
            *setting(2, "weight_decay: 1e-2", "more holds back a network that learns few examples by heart"),
        ]
    return [
        "training:",
        *setting(2, f"batch_size: {chosen.batch_size}"),
        *setting(
            2, f"learning_rate: {chosen.learning_rate}", "of SGD with momentum 0.9; half of it where losses become NaN"
        ),
        "  weight_decay: 5e-4",
        "  label_smoothing: 0.1",
    ]
