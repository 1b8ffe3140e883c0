"""A module becomes the Python text that constructs it, from its class's signature and its own attributes.

Refuses a module that does not keep what it was constructed with: nothing is guessed.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import numbers
from collections import OrderedDict
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from nasflow_cli.core.errors import NasflowError
from nasflow_cli.nets.definitions import Definitions

LINE_LENGTH = 120
_PLACEMENT = {"device", "dtype"}
_SAME_IN_EVERY_DIRECTION = {"torch.nn.modules.conv", "torch.nn.modules.pooling"}
"""Where torch takes 3 for (3, 3)."""

_Parameter = inspect.Parameter
_ABSENT = object()


class Constructors:
    """Writes constructors; what they refer to goes into `definitions`."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions

    def text(self, module: nn.Module, column: int, indent: int = 0) -> str:
        """The call that constructs `module`, weights aside. Raises NasflowError when an argument is not known.

        It begins at `column` of a line that is indented by `indent`, and has several lines where it needs them.
        """
        if type(module) is nn.Sequential:
            return self._sequential(module, indent)
        if type(module) is nn.Identity:
            return "nn.Identity()"
        name = self.definitions.reference(type(module))
        return call(name, self._arguments(module, indent + 4), column, indent)

    def _sequential(self, module: nn.Sequential, indent: int) -> str:
        inner = indent + 4
        children = dict(module.named_children())
        if len(children) != len(module):
            raise NasflowError("cannot export nn.Sequential: a module stands in it twice; construct it twice")
        if list(children) == [str(i) for i in range(len(children))]:
            return spread("nn.Sequential", [self.text(child, inner, inner) for child in children.values()], indent)
        self.definitions.require("collections", OrderedDict.__name__)
        rows = []
        for name, child in children.items():
            start = f"({quoted(name)}, "
            rows.append(f"{start}{self.text(child, inner + 4 + len(start) + 1, inner + 4)})")
        pairs = spread("[", rows, inner, "]")
        return spread("nn.Sequential", [spread("OrderedDict", [pairs], inner)], indent) if rows else "nn.Sequential()"

    def _arguments(self, module: nn.Module, indent: int) -> list[str]:
        """What differs from the defaults; the first two without a default by their place, the rest by name."""
        if type(module).__init__ is nn.Module.__init__:
            return []
        arguments: list[str] = []
        parameters = list(inspect.signature(type(module).__init__).parameters.values())[1:]
        for position, parameter in enumerate(parameters):
            if parameter.name in _PLACEMENT:
                continue
            value = _value(module, parameter)
            if parameter.kind is not _Parameter.POSITIONAL_ONLY and _is_default(value, parameter.default):
                continue
            is_leading = position < 2 and len(arguments) == position and parameter.default is _Parameter.empty
            by_place = parameter.kind is _Parameter.POSITIONAL_ONLY or (
                is_leading and parameter.kind is not _Parameter.KEYWORD_ONLY
            )
            start = "" if by_place else f"{parameter.name}="
            owner = f"{type(module).__qualname__}'s argument {parameter.name!r}"
            arguments.append(start + self._literal(value, owner, indent + len(start), indent))
        return arguments

    def _literal(self, value: Any, owner: str, column: int, indent: int) -> str:
        """Text that gives the value when it is run in the file."""
        if isinstance(value, nn.Module):
            return self.text(value, column, indent)
        if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
            return self.definitions.reference(value)
        if isinstance(value, (tuple, list, dict)):
            return self._container(value, owner, column, indent)
        if dataclasses.is_dataclass(value):
            fields = [
                f"{item.name}={self._literal(getattr(value, item.name), owner, column, indent + 4)}"
                for item in dataclasses.fields(value)
                if item.init
            ]
            return call(self.definitions.reference(type(value)), fields, column, indent)
        return _scalar(value, owner)

    def _container(
        self, value: tuple[Any, ...] | list[Any] | dict[Any, Any], owner: str, column: int, indent: int
    ) -> str:
        if isinstance(value, dict):
            pairs = [(self._literal(item, owner, column, indent) for item in pair) for pair in value.items()]
            return "{" + ", ".join(": ".join(pair) for pair in pairs) + "}"
        items = ", ".join(self._literal(item, owner, column, indent) for item in value)
        if isinstance(value, list):
            return f"[{items}]"
        return f"({items},)" if len(value) == 1 else f"({items})"


def call(name: str, arguments: list[str], column: int, indent: int) -> str:
    """A call in one line if it fits (with a comma behind it), else with an argument a line."""
    line = f"{name}({', '.join(arguments)})"
    if not arguments or ("\n" not in line and column + len(line) < LINE_LENGTH):
        return line
    return spread(name, arguments, indent)


def spread(name: str, arguments: list[str], indent: int, end: str = ")") -> str:
    """A call (or a list, named `[`) with an argument a line; without any, in one line."""
    start = name if name == "[" else f"{name}("
    if not arguments:
        return start + end
    inside = "".join(f"{' ' * (indent + 4)}{argument},\n" for argument in arguments)
    return f"{start}\n{inside}{' ' * indent}{end}"


def quoted(text: str) -> str:
    """A string literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)  # JSON's escapes are Python's


def _value(module: nn.Module, parameter: inspect.Parameter) -> Any:
    """What the module was constructed with, by the attribute of that name (or that name behind an underscore)."""
    name, owner = parameter.name, type(module)
    value = getattr(module, name, getattr(module, f"_{name}", _ABSENT))
    is_torchs = owner.__module__.partition(".")[0] == "torch"
    if value is _ABSENT and is_torchs and parameter.default is None:
        return None  # an old spelling of another argument
    if value is _ABSENT or parameter.kind in {_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD}:
        mend = f"set self.{name} = {name} in its __init__, so that the exported file can construct it"
        if is_torchs:
            mend = "construct it inside a module class of your own, which is copied into the exported file"
        raise NasflowError(
            f"cannot export {owner.__module__}.{owner.__qualname__}: it does not keep its constructor's argument "
            f"{name!r}; {mend}"
        )
    if isinstance(parameter.default, bool) and (value is None or isinstance(value, Tensor)):
        return value is not None
    if owner.__module__ in _SAME_IN_EVERY_DIRECTION and isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    return value


def _is_default(value: Any, default: Any) -> bool:
    plain = (bool, int, float, str, tuple)
    if isinstance(value, plain) and isinstance(default, plain):
        return isinstance(value, bool) == isinstance(default, bool) and value == default
    return value is default


def _scalar(value: Any, owner: str) -> str:
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, str):
        return quoted(str(value))
    if isinstance(value, numbers.Integral):
        return repr(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return repr(number) if math.isfinite(number) else f'float("{number}")'
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value) if isinstance(value, torch.dtype) else f"torch.device({quoted(str(value))})"
    raise NasflowError(
        f"cannot export {owner}: a {type(value).__qualname__} cannot be written as text; "
        "construct it from numbers, strings, classes or modules"
    )
