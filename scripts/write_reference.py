"""Writes docs/configuration.md, docs/experiment.schema.json and the table of operations in docs/search-space.md.

    python scripts/write_reference.py [--check]

With --check it writes nothing and exits with 1 when a file is not what it would write.
"""

from __future__ import annotations

import json
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import nasflow_cli.execute
import nasflow_cli.nets
import nasflow_cli.train.data
from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.domain import Domain
from nasflow_cli.core.evaluator_config import Word
from nasflow_cli.core.named import Names
from nasflow_cli.core.operation_set import OperationSet
from nasflow_cli.core.registry import OPERATIONS, arguments_of
from nasflow_cli.nets.operations import operation_facts

REGISTERED = (nasflow_cli.execute, nasflow_cli.nets, nasflow_cli.train.data)
"""Imported for the names that they register."""

DOCS = Path(__file__).resolve().parent.parent / "docs"

HEAD = """# Every setting of an experiment

Written by `scripts/write_reference.py` from the models in `nasflow_cli/core/*config.py`; do not
edit it by hand. An unknown key is an error. `docs/experiment.schema.json` is the JSON Schema of the same, for editors:
put `# yaml-language-server: $schema=docs/experiment.schema.json` on the first line of an experiment.

A *domain* is a single value (nothing to search), a list, or `{min: 1, max: 8}` with `step: 2` or `log: true`. A list
of numbers is ordered, a list of words or of true and false is not.
"""


def sections(model: type[BaseModel], path: str) -> list[tuple[str, type[BaseModel]]]:
    """The model and all models inside it, each with the path that leads to it."""
    found = [(path, model)]
    for name, field in model.model_fields.items():
        inner, step = inner_model(field.annotation)
        if inner is not None:
            found += sections(inner, f"{path}.{name}{step}" if path else f"{name}{step}")
    return found


def inner_model(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model inside an annotation, and how its items are addressed."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    step = {dict: ".NAME", tuple: "[]"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        inner, deeper = inner_model(argument)
        if inner is not None:
            return inner, step + deeper
    return None, ""


def kind(field: FieldInfo) -> str:
    """What may be written, in words."""
    annotation = field.annotation
    if annotation in (Domain, OperationSet):
        return "domain" if annotation is Domain else "operation or list"
    if annotation == Word | None:
        return "value or null"
    if get_origin(annotation) in (tuple, dict):
        is_mapping, inside = get_origin(annotation) is dict, str(get_args(annotation))
        return "mapping" if is_mapping else "list of whole numbers" if "int" in inside else "list of words"
    options = [argument for argument in get_args(annotation) if argument is not type(None)]
    if options and get_origin(options[0]) is Annotated:  # a list or a value with conditions of its own
        field = FieldInfo.from_annotation(get_args(options[0])[0])
        return kind(field) + (" or null" if type(None) in get_args(annotation) else "")
    if options and all(isinstance(option, (str, int)) for option in options):
        return " or ".join(f"`{option}`" for option in options)
    plain = options[0] if options else annotation
    words: dict[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return words.get(plain, "text") + (" or null" if type(None) in get_args(annotation) else "")


def about(field: FieldInfo) -> str:
    """The description, and the names that may be written where they are registered ones."""
    inside = [FieldInfo.from_annotation(each) for each in get_args(field.annotation) if get_origin(each) is Annotated]
    found = [known for each in (field, *inside) for known in each.metadata if isinstance(known, Names)]
    if not found:
        return field.description or ""
    names = ", ".join(f"`{name}`" for name in found[0].known())
    return " ".join(filter(None, [field.description, f"Names: {names}, and those of plug-ins."]))


def default(field: FieldInfo) -> str:
    """The default, as YAML."""
    if field.default is PydanticUndefined:
        return "(needed)"
    value = field.default
    if isinstance(value, Domain):
        value = value.choices[0] if value.is_fixed else list(value.choices)
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value)}`"


def reference() -> str:
    """The whole document."""
    parts = [HEAD]
    for path, model in sections(ExperimentConfig, ""):
        rows = [
            f"| `{name}` | {kind(field)} | {default(field)} | {about(field)} |"
            for name, field in model.model_fields.items()
            if inner_model(field.annotation)[0] is None
        ]
        title = f"## `{path}`" if path else "## Top level"
        parts.append(f"{title}\n\n{cleandoc(model.__doc__ or '')}\n")
        if rows:
            parts.append("| key | value | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


TABLE = ("<!-- operations -->\n", "<!-- end of operations -->\n")
FACTS = ("weighted", "activated", "adapts", "identity", "zero")


def operations() -> str:
    """The table of the operations that ship."""
    facts = operation_facts()
    rows = []
    for name in OPERATIONS:
        entry, about = OPERATIONS[name], facts[name]
        arguments = [f"`{a.name}` {json.dumps(a.default)}" for a in arguments_of(entry).values()]
        declared = [fact for fact in FACTS if getattr(about, fact)]
        says = cleandoc(entry.make.__doc__ or "").splitlines()[0].rstrip(".:")
        rows.append(f"| `{name}` | {says} | {', '.join(arguments)} | {about.takes} | {', '.join(declared)} |")
    return "| name | what | arguments | takes | facts |\n|---|---|---|---|---|\n" + "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """The document with the table of operations between its two marks."""
    before, rest = text.split(TABLE[0])
    after = rest.split(TABLE[1])[1]
    return f"{before}{TABLE[0]}{operations()}{TABLE[1]}{after}"


def main() -> int:
    """Write or check all files."""
    space = DOCS / "search-space.md"
    files = {
        DOCS / "configuration.md": reference(),
        DOCS / "experiment.schema.json": json.dumps(ExperimentConfig.model_json_schema(), indent=1) + "\n",
        space: with_table(space.read_text(encoding="utf-8")),
    }
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.name} is stale; run: python scripts/write_reference.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
