"""The one way in which anything is named in YAML: operations, activations, initialisers, data, evaluators, executors.

A registry refuses a name that is taken and, asked for one it lacks, names the nearest it has. The same function may
take its name again, as it does when its module is reloaded. A user adds an entry
with the decorator, in a module listed under `plugins:`, which is imported in the main process and in every worker.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from nasflow_cli.core.errors import ConfigError, MissingError

T = TypeVar("T", bound=Callable[..., Any])


def nearest(name: str, known: Sequence[str]) -> str:
    """Return `; did you mean 'x'?` for the known name closest to `name`, or the empty string."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Generic[T]):
    """What stands behind a name: the function and the facts that its author declared about it."""

    name: str
    make: T
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """What YAML may set or search of an entry. `type` is the default's: int, float, bool or str."""

    name: str
    type: type[int] | type[float] | type[bool] | type[str]
    default: int | float | bool | str


def arguments_of(entry: Entry[Callable[..., Any]]) -> dict[str, Argument]:
    """The arguments of an entry, by their names: the keyword-only parameters of its function, in their order.

    Raises ConfigError for one without a default or with a default that is no int, float, bool or str.
    """
    try:
        signature = inspect.signature(entry.make)
    except ValueError:  # a built-in, which tells nothing of itself
        return {}
    arguments = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if type(parameter.default) not in (int, float, bool, str):
            says = "has no default" if parameter.default is parameter.empty else f"defaults to {parameter.default!r}"
            raise ConfigError(
                f"argument {name!r} of {entry.name!r} {says}; give it one that is an int, float, bool or str, which "
                "tells its type"
            )
        arguments[name] = Argument(name=name, type=type(parameter.default), default=parameter.default)
    return arguments


def _origin(make: Callable[..., Any]) -> tuple[str, str]:
    return make.__module__, make.__qualname__


class Registry(Generic[T]):
    """Names of one kind. The only ambient state in the program."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """Decorate a function so that YAML can name it. Raises ValueError when the name is taken."""

        def add(make: T) -> T:
            taken = self._entries.get(name)
            if taken is not None and _origin(taken.make) != _origin(make):
                raise ValueError(f"{self.kind} {name!r} is already registered by {taken.make.__module__}")
            self._entries[name] = Entry(name=name, make=make, facts=facts)
            return make

        return add

    def __getitem__(self, name: str) -> Entry[T]:
        """Return the entry. Raises ConfigError, with the nearest name, when there is none."""
        try:
            return self._entries[name]
        except KeyError:
            raise ConfigError(self.unknown(name)) from None

    def unknown(self, name: str) -> str:
        """Say that `name` is not registered, what is near, and what there is."""
        names = sorted(self._entries)
        return f"unknown {self.kind} {name!r}{nearest(name, names)} (known: {', '.join(names) or 'none'})"

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))


OPERATIONS: Registry[Callable[..., Any]] = Registry("operation")
ACTIVATIONS: Registry[Callable[..., Any]] = Registry("activation")
INITIALISERS: Registry[Callable[..., Any]] = Registry("initialisation")
MEASURES: Registry[Callable[..., float]] = Registry("measure")
DATASETS: Registry[Callable[..., Any]] = Registry("data source")
EVALUATORS: Registry[Callable[..., Any]] = Registry("evaluator")
EXECUTORS: Registry[Callable[..., Any]] = Registry("executor")


_FAULTS = (
    *(ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, OSError),
    *(ArithmeticError, AssertionError, LookupError, RuntimeError),
)
"""What a plug-in's own code may raise while it is imported."""


def load_plugins(modules: Sequence[str]) -> None:
    """Import each module for the registrations it makes. This runs the user's code; nothing else does."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            missing = error.name or module
            if f"{module}.".startswith(f"{missing}."):
                why = f"plugin {module!r} cannot be found; put its folder on PYTHONPATH or install it"
            else:
                why = f"plugin {module!r} needs the package {missing!r}, which is not installed"
            raise MissingError(why) from error
        except _FAULTS as error:
            raise ConfigError(f"plugin {module!r} does not import: {type(error).__name__}: {error}") from error
