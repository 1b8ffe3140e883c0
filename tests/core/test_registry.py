"""Names, near names, and the plug-ins that add to them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nasflow_cli.core.errors import ConfigError, MissingError
from nasflow_cli.core.registry import Entry, Registry, arguments_of, load_plugins, nearest


def one() -> int:
    return 1


def two() -> int:
    return 2


@pytest.fixture
def filled() -> Registry:
    registry: Registry = Registry("operation")
    registry.register("conv3x3", weighted=True)(one)
    registry.register("skip", identity=True)(two)
    return registry


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Write a module that can be imported; it is forgotten after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_an_entry_keeps_its_function_and_the_facts_declared_with_it(filled: Registry) -> None:
    entry = filled["conv3x3"]
    assert (entry.name, entry.make, dict(entry.facts)) == ("conv3x3", one, {"weighted": True})


def test_names_come_in_order(filled: Registry) -> None:
    filled.register("avg")(one)
    assert list(filled) == ["avg", "conv3x3", "skip"]


def test_a_misspelt_name_suggests_the_near_one(filled: Registry) -> None:
    with pytest.raises(ConfigError) as caught:
        filled["conv3x"]
    assert str(caught.value) == "unknown operation 'conv3x'; did you mean 'conv3x3'? (known: conv3x3, skip)"


def test_a_name_near_to_none_suggests_none(filled: Registry) -> None:
    assert filled.unknown("transformer") == "unknown operation 'transformer' (known: conv3x3, skip)"


def test_an_empty_registry_says_that_it_knows_none() -> None:
    assert Registry("executor").unknown("x") == "unknown executor 'x' (known: none)"


@pytest.mark.parametrize(("name", "hint"), [("lerning_rate", "; did you mean 'learning_rate'?"), ("zzz", "")])
def test_the_nearest_key_is_suggested(name: str, hint: str) -> None:
    assert nearest(name, ["batch_size", "learning_rate"]) == hint


def test_a_name_that_is_taken_is_refused(filled: Registry) -> None:
    with pytest.raises(ValueError, match=f"operation 'skip' is already registered by {__name__}"):
        filled.register("skip")(one)


def test_the_same_function_may_take_its_name_again_as_a_reloaded_module_does(filled: Registry) -> None:
    filled.register("skip", zero=True)(two)
    assert dict(filled["skip"].facts) == {"zero": True}


def test_a_plugin_is_run_once(plugin: Callable[[str, str], None], tmp_path: Path) -> None:
    plugin("counts", f"with open({str(tmp_path / 'runs')!r}, 'a') as file:\n    file.write('x')\n")
    load_plugins(["counts"])
    load_plugins(["counts"])
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.parametrize("name", ["not_there_at_all", "not_there_at_all.inside"])
def test_a_plugin_that_is_missing_says_where_to_put_it(name: str) -> None:
    with pytest.raises(MissingError, match=f"plugin '{name}' cannot be found; put its folder on PYTHONPATH"):
        load_plugins([name])


def test_a_plugin_missing_in_its_package_is_itself_what_is_missing(plugin: Callable[[str, str], None]) -> None:
    plugin("parcel/__init__", "")
    with pytest.raises(MissingError, match=r"plugin 'parcel\.inside' cannot be found"):
        load_plugins(["parcel.inside"])


def test_a_plugin_that_needs_a_missing_package_names_the_package(plugin: Callable[[str, str], None]) -> None:
    plugin("needy", "import no_such_package.inside\n")
    with pytest.raises(
        MissingError, match="plugin 'needy' needs the package 'no_such_package', which is not installed"
    ):
        load_plugins(["needy"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("from os import no_such_thing\n", "ImportError"),
        ("undefined_name\n", "NameError: name 'undefined_name' is not defined"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("{}['lost']\n", "KeyError: 'lost'"),
        ("raise RuntimeError('no GPU')\n", "RuntimeError: no GPU"),
        ("assert False\n", "AssertionError"),
        ("open('/no/such/file')\n", "FileNotFoundError"),
    ],
)
def test_a_plugin_that_fails_says_why(plugin: Callable[[str, str], None], text: str, says: str) -> None:
    plugin("failing", text)
    with pytest.raises(ConfigError) as caught:
        load_plugins(["failing"])
    assert str(caught.value).startswith(f"plugin 'failing' does not import: {says}")


def test_an_error_that_a_plugin_raises_in_our_words_passes_as_it_is(plugin: Callable[[str, str], None]) -> None:
    plugin("ours", "from nasflow_cli.core.registry import Registry\nRegistry('executor')['x']\n")
    with pytest.raises(ConfigError, match=r"^unknown executor 'x'"):
        load_plugins(["ours"])


@pytest.mark.parametrize("name", ["", ".relative"])
def test_a_name_that_no_module_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="does not import"):
        load_plugins([name])


def registered(make: Callable[..., object]) -> Entry[Callable[..., object]]:
    registry: Registry[Callable[..., object]] = Registry("operation")
    registry.register("tried")(make)
    return registry["tried"]


def test_the_arguments_of_an_entry_are_its_keyword_only_parameters_in_their_order() -> None:
    def make(slot: object, width: int = 3, *, kernel: int = 3, se: bool = False, ratio: float = 1.0, norm: str = "x"):
        return slot

    found = arguments_of(registered(make))

    assert list(found) == ["kernel", "se", "ratio", "norm"]
    assert [(argument.name, argument.type, argument.default) for argument in found.values()] == [
        ("kernel", int, 3),
        ("se", bool, False),
        ("ratio", float, 1.0),
        ("norm", str, "x"),
    ]


def test_a_class_has_arguments_as_well_and_what_tells_no_signature_has_none() -> None:
    class Made:
        def __init__(self, slot: object, *, groups: int = 2) -> None: ...

    assert list(arguments_of(registered(Made))) == ["groups"]
    assert arguments_of(registered(one)) == {}
    assert arguments_of(registered(dict)) == {}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda slot, *, kernel: slot, "'kernel' of 'tried' has no default; give it one"),
        (lambda slot, *, norm=None: slot, "'norm' of 'tried' defaults to None; give it one"),
        (lambda slot, *, sizes=(1, 2): slot, r"'sizes' of 'tried' defaults to \(1, 2\)"),
    ],
)
def test_an_argument_whose_type_its_default_does_not_tell_is_refused(make: Callable[..., object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        arguments_of(registered(make))
