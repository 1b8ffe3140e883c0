"""Operations as text: what an exported network writes of them makes the same modules again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from filled_slots import cases
from torch import nn

from nasflow_cli.nets.constructors import Constructors
from nasflow_cli.nets.definitions import Definitions


def written(module: nn.Module) -> tuple[str, str]:
    """What stands before the constructor in a file, and the constructor."""
    definitions = Definitions()
    definitions.require("torch")
    definitions.require("torch", "nn")
    text = Constructors(definitions).text(module, 0)
    before = "\n".join(["from __future__ import annotations", definitions.import_lines(), *definitions.definitions()])
    return before, text


def run(module: nn.Module) -> nn.Module:
    """The module that the text makes, where nasflow is not named."""
    before, text = written(module)
    assert "nasflow" not in before
    names: dict[str, Any] = {"__name__": "exported"}
    exec(before, names)
    made = eval(text, names)
    assert isinstance(made, nn.Module)
    return made


ACTIVATED, PLAIN = cases(nn.PReLU), cases(nn.Identity)


@pytest.mark.parametrize("variant", ACTIVATED)
def test_the_text_of_an_operation_makes_it_again(variant: str) -> None:
    for case in ACTIVATED[variant]:
        module = case.make().eval()

        copy = run(module).eval()

        ours, theirs = module.state_dict(), copy.state_dict()
        assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
        copy.load_state_dict(ours)
        for x in case.inputs():
            torch.testing.assert_close(copy(x), module(x))


@pytest.mark.parametrize("variant", PLAIN)
def test_an_activation_that_is_the_identity_leaves_no_trace(variant: str) -> None:
    for case in PLAIN[variant]:
        passes = case.name == "skip" and case.slot.keeps_shape
        assert written(case.make())[1].count("Identity") == passes, case
