"""Reads an experiment file. Every mistake is listed at once, each with its `file:line:column` and a near name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.errors import ConfigError, NasflowError
from nasflow_cli.core.evaluator_config import BRANCHES
from nasflow_cli.core.load import Document, Where, read_yaml, with_overrides
from nasflow_cli.core.registry import nearest

Mistake = tuple[Where, str]
"""Where in the document, and what is wrong there."""


def load_experiment(
    path: Path,
    overrides: Sequence[str],
    load_plugins: Callable[[Sequence[str]], None],
    find_mistakes: Callable[[ExperimentConfig], Iterable[Mistake]] = lambda _: (),
) -> ExperimentConfig:
    """Read an experiment. Plug-ins are loaded first, since they register names that the rest may use.

    A relative path to data is taken from the working directory or, when nothing is there, from the folder of the
    experiment. `find_mistakes` says what is wrong with an experiment that is whole in itself.
    Raises ConfigError with one line a mistake, each with its place.
    """
    document = with_overrides(read_yaml(path), overrides)
    plugins = document.data.get("plugins")
    if isinstance(plugins, list) and all(isinstance(module, str) for module in plugins):
        load_plugins(plugins)

    def found_in(each: Document) -> list[Mistake]:
        return list(find_mistakes(_moved(validate(each), path.parent)))

    config = _moved(validate(document), path.parent)
    mistakes = list(find_mistakes(config))
    if mistakes:
        raise _refusal(document, mistakes, found_in)
    return config


def _moved(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
    return config.with_paths(lambda given: _beside(folder, given))


def _beside(folder: Path, given: str) -> str:
    """A path as given, or beside the experiment file when only there is something."""
    try:
        if Path(given).expanduser().exists() or not (folder / given).exists():
            return given
    except (OSError, ValueError, RuntimeError):
        return given  # whoever reads it says what is wrong with it
    return str(folder / given)


def validate(document: Document) -> ExperimentConfig:
    """Check a document as an experiment. Raises ConfigError with one line a mistake, each with its place."""
    try:
        return _validated(document)
    except ValidationError as error:
        raise _refusal(document, _mistakes(error), _own_mistakes) from None


def _validated(document: Document) -> ExperimentConfig:
    return ExperimentConfig.model_validate_json(json.dumps(document.data))


def _own_mistakes(document: Document) -> list[Mistake]:
    try:
        _validated(document)
    except ValidationError as error:
        return _mistakes(error)
    return []


def _mistakes(error: ValidationError) -> list[Mistake]:
    return [_explain(item) for item in error.errors(include_url=False) if not _is_echo(item)]


def _refusal(
    document: Document, mistakes: Iterable[Mistake], found_in: Callable[[Document], Sequence[Mistake]]
) -> ConfigError:
    """One line a mistake, each with its place. `found_in` says what is wrong with the document without an option.

    Settings that do not go together stand at their section, or at one of them. Where the file alone is right, the
    option that brought the mistake is its place.
    """
    chain: list[tuple[Document, Sequence[Mistake] | None]] = []
    each = document.before
    while each is not None:
        try:
            chain.append((each, found_in(each)))
        except NasflowError:  # something else is wrong with it, and whether this was is not known
            chain.append((each, None))
        each = each.before
    lines = []
    for where, message in mistakes:
        brought: Document | None = document
        for earlier, known in chain:
            if known is None or (where, message) not in known:
                brought = brought if known is not None else None
                break
            brought = earlier
        place = document.at(where)
        if brought is not None and brought.option is not None and not place.startswith("--set "):
            place = brought.option
        name = ".".join(str(step) for step in where)
        lines.append(f"{place}: {name}: {message}" if name else f"{place}: {message}")
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _is_echo(item: Any) -> bool:
    """Whether a list is only called empty because all that stands in it was refused."""
    return bool(item["type"] == "too_short" and item["input"])


def _explain(item: Any) -> Mistake:
    where: Where = tuple(step for step in item["loc"] if not _is_made_up(step))
    kind, message = item["type"], item["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _fields_at(where[:-1])
        message = f"unknown key{nearest(str(where[-1]), known)}"
        if known:
            message += f" (known: {', '.join(known)})"
    elif kind == "missing":
        message = "this key is needed and missing"
    elif kind == "too_short":
        message = "at least one entry is needed"
    elif kind != "value_error":
        message = f"{message[0].lower()}{message[1:]}, not {json.dumps(item['input'])[:60]}"
    return where, message


def _is_made_up(step: str | int) -> bool:
    """Whether a step of a place is pydantic's, and not in the document."""
    return isinstance(step, str) and (step.startswith("function-") or step in (*BRANCHES, "[key]"))


def _fields_at(where: Where) -> list[str]:
    model: Any = ExperimentConfig
    for step in where:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(step))
            model = _model_among(field.annotation) if field else None
        else:
            inner = [argument for argument in get_args(model) if argument is not str and argument is not Ellipsis]
            model = inner[-1] if inner else None
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_among(annotation: Any) -> Any:
    """The model, where it is one of several ways to write a value; else the annotation itself."""
    if get_origin(annotation) in (dict, tuple):
        return annotation
    inside = [_model_among(each) for each in get_args(annotation)]
    return next((each for each in inside if isinstance(each, type) and issubclass(each, BaseModel)), annotation)
