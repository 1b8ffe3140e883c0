"""What an exported file takes over as text: imports, and the definitions of classes that torch does not have.

From a class the source of its module is followed to every name that it needs. Standard library, torch and installed
packages are imported; nasflow's own modules and a user's plug-ins are copied. Refuses what has no source, what is not
written at the top level of a module, and two different things of one name. Reads source; runs none.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from nasflow_cli.core.errors import NasflowError
from nasflow_cli.core.registry import Registry

_TORCH_NAMES: tuple[tuple[str, Any], ...] = (("nn", nn), ("torch", torch), ("nn.functional", nn.functional))
_ALWAYS_THERE = {"torch", "safetensors"}
_COPIED = {"nasflow_cli"}
_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(slots=True)
class _Source:
    """A module's text, the top-level statements that bind each name, and the texts that are taken over, by line."""

    module: ModuleType
    text: str
    table: dict[str, list[ast.stmt]]
    kept: dict[tuple[int, str], str] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)


class Definitions:
    """The imports and definitions of one file. `packages` are the installed ones that it needs besides torch's."""

    def __init__(self) -> None:
        self.packages: set[str] = set()
        self._imports: set[tuple[str, str | None, str | None]] = set()
        self._meaning: dict[str, object] = {}
        self._sources: dict[str, _Source] = {}
        self._copied: set[tuple[str, str]] = set()
        self._own = set(_COPIED)

    def reserve(self, *names: str) -> None:
        """Keep names for the file itself."""
        for name in names:
            self._claim(name, ("reserved", name))

    def require(self, module: str, name: str | None = None, alias: str | None = None) -> None:
        """Import a module, or a name from it. Raises NasflowError when what it is called means something else."""
        imported: object = importlib.import_module(module)
        if name is not None:
            imported = getattr(imported, name)
        elif alias is None:
            imported = sys.modules[module.partition(".")[0]]
        if self._claim(alias or name or module.partition(".")[0], imported):
            self._imports.add((module, name, alias))

    def reference(self, value: Any) -> str:
        """What a class or function is called in the file, after seeing to it that it is there.

        Raises NasflowError when it can be neither imported nor copied.
        """
        name = getattr(value, "__name__", "")
        for prefix, space in _TORCH_NAMES:
            if getattr(space, name, None) is value:
                return f"{prefix}.{name}"
        module, qualified = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", name)
        found: Any = sys.modules.get(module)
        for step in qualified.split("."):
            found = getattr(found, step, None)
        if found is not value:
            raise _cannot_copy(
                f"{module}.{qualified}", "it was made while the program ran; define it at the top level of a module"
            )
        if module == "builtins":
            return str(qualified)
        root = qualified.partition(".")[0]
        top = module.partition(".")[0]
        if top in _ALWAYS_THERE or top in sys.stdlib_module_names:
            self.require(module, root)
        else:
            self._own.add(top)
            self._copy(module, root)
        return str(qualified)

    def import_lines(self) -> str:
        """The import statements, sorted as isort does, the standard library first."""
        groups: list[list[str]] = [[], []]
        origins: dict[str, set[str]] = {}
        for module, name, alias in sorted(self._imports, key=str):
            if name is None:
                groups[not _is_standard(module)].append(f"import {module}" + (f" as {alias}" if alias else ""))
            else:
                origins.setdefault(module, set()).add(f"{name} as {alias}" if alias else name)
        for module in sorted(origins):
            names = ", ".join(sorted(origins[module], key=_import_order))
            groups[not _is_standard(module)].append(f"from {module} import {names}")
        return "\n\n".join("\n".join(group) for group in groups if group)

    def definitions(self) -> Iterator[str]:
        """The copied statements: a module behind those that it needs, each in its own order."""
        done: set[str] = set()

        def visit(name: str) -> Iterator[str]:
            if name not in done:
                done.add(name)
                source = self._sources[name]
                for needed in source.needs:
                    yield from visit(needed)
                yield from (source.kept[place] for place in sorted(source.kept))

        for name in list(self._sources):
            yield from visit(name)

    def _claim(self, name: str, value: object) -> bool:
        """Whether the name is new. Raises NasflowError when it already means something else."""
        if name not in self._meaning:
            self._meaning[name] = value
            return True
        known = self._meaning[name]
        is_plain = type(known) is type(value) and isinstance(value, (bool, int, float, str, tuple))
        if known is not value and not (is_plain and known == value):
            raise NasflowError(
                f"cannot export: {name!r} would mean two things in the exported file ({_describe(known)} and "
                f"{_describe(value)}); rename one in its plug-in"
            )
        return False

    def _source(self, name: str) -> _Source:
        if name not in self._sources:
            module = sys.modules.get(name) or importlib.import_module(name)
            try:
                text = inspect.getsource(module)
            except (OSError, TypeError) as error:
                raise _cannot_copy(name, f"its source is not there ({error}); keep it in a .py file") from error
            self._sources[name] = _Source(module=module, text=text, table=_bindings(ast.parse(text)))
        return self._sources[name]

    def _copy(self, module: str, name: str) -> None:
        """Take over what binds a module's name, and everything that needs."""
        if (module, name) in self._copied:
            return
        self._copied.add((module, name))
        source = self._source(module)
        if name not in source.table:
            raise _cannot_copy(
                f"{module}.{name}", "no statement of its module names it; define or import it there by its name"
            )
        for statement in source.table[name]:
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                self._import(source, statement, name)
            else:
                self._keep(source, statement, name)

    def _keep(self, source: _Source, statement: ast.stmt, name: str) -> None:
        text = _text(source, statement)
        self._claim(name, vars(source.module).get(name, text))
        source.kept[statement.lineno, ""] = text
        for used in sorted(_globals_in(text)):
            if used in source.table:
                self._copy(source.module.__name__, used)
            elif used in vars(source.module) and not used.startswith("__"):
                raise _cannot_copy(
                    f"{source.module.__name__}.{name}",
                    f"it uses {used!r}, which no statement of its module names; import it by its name, not with *",
                )

    def _import(self, source: _Source, statement: ast.Import | ast.ImportFrom, bound: str) -> None:
        alias = next(alias for alias in statement.names if _bound_by(alias, statement) == bound)
        origin = alias.name if isinstance(statement, ast.Import) else _absolute(source.module, statement)
        if origin == "__future__":
            return
        if self._stays(origin):
            if isinstance(statement, ast.Import):
                self.require(origin, None, alias.asname)
            else:
                self.require(origin, alias.name, alias.asname)
            return
        if isinstance(statement, ast.Import) or isinstance(vars(source.module).get(bound), ModuleType):
            raise _cannot_copy(
                f"{source.module.__name__}",
                f"it uses the module {bound!r} as a whole; import the names that it needs (from ... import ...)",
            )
        source.needs.append(origin)
        self._copy(origin, alias.name)
        if bound != alias.name and self._claim(bound, vars(source.module)[bound]):
            source.kept[statement.lineno, bound] = f"{bound} = {alias.name}"

    def _stays(self, module: str) -> bool:
        """Whether the file may import a module; otherwise what it needs is copied. Notes installed packages."""
        top = module.partition(".")[0]
        if top in _ALWAYS_THERE or _is_standard(top):
            return True
        spec = None if top in self._own else importlib.util.find_spec(top)
        if spec is None or spec.origin is None or not _INSTALLED & set(Path(spec.origin).parts):
            return False
        self.packages.add(top)
        return True


def _bindings(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    """The top-level statements that bind each name, in order."""
    table: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in dict.fromkeys(_bound(statement)):
            table.setdefault(name, []).append(statement)
    return table


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (_bound_by(alias, node) for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _bound_by(alias: ast.alias, statement: ast.Import | ast.ImportFrom) -> str:
    return alias.asname or (alias.name.partition(".")[0] if isinstance(statement, ast.Import) else alias.name)


def _absolute(module: ModuleType, statement: ast.ImportFrom) -> str:
    relative = "." * statement.level + (statement.module or "")
    return importlib.util.resolve_name(relative, module.__package__) if statement.level else relative


def _text(source: _Source, statement: ast.stmt) -> str:
    """The statement as written, without the decorators that register it with nasflow."""
    lines = source.text.splitlines()[statement.lineno - 1 : statement.end_lineno]
    kept = [
        f"@{ast.get_source_segment(source.text, decorator)}"
        for decorator in getattr(statement, "decorator_list", [])
        if not _registers(decorator, vars(source.module))
    ]
    return "\n".join([*kept, *lines])


def _registers(decorator: ast.expr, names: dict[str, Any]) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else None
    return isinstance(function, ast.Attribute) and isinstance(_look_up(function.value, names), Registry)


def _look_up(expression: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(expression, ast.Name):
        return names.get(expression.id)
    if isinstance(expression, ast.Attribute):
        return getattr(_look_up(expression.value, names), expression.attr, None)
    return None


def _globals_in(text: str) -> set[str]:
    """The names that a statement reads from the module around it."""
    top = symtable.symtable(text, "<copied>", "exec")
    names = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_referenced() and not symbol.is_assigned()}
    tables = list(top.get_children())
    while tables:
        table = tables.pop()
        names.update(symbol.get_name() for symbol in table.get_symbols() if symbol.is_global())
        tables.extend(table.get_children())
    return names


def _is_standard(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def _import_order(name: str) -> tuple[int, str]:
    if name.isupper() and len(name) > 1:
        return 0, name
    return 1 if name[0].isupper() else 2, name


def _describe(value: object) -> str:
    if isinstance(value, tuple) and value[:1] == ("reserved",):
        return "the file's own"
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(value)[:60]


def _cannot_copy(what: str, why: str) -> NasflowError:
    return NasflowError(f"cannot export {what}: {why}")
