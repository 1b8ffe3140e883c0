"""Compiles one half of a search space to a ConfigSpace, with its conditions; samples come back as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ConfigSpace import (
    AndConjunction,
    Categorical,
    ConfigurationSpace,
    EqualsCondition,
    Float,
    InCondition,
    Integer,
    OrdinalHyperparameter,
)
from ConfigSpace.hyperparameters import Hyperparameter

from nasflow_cli.core.architecture import Value
from nasflow_cli.core.parameters import Parameter

_Any = Hyperparameter[Any, Any]


def config_space(parameters: Sequence[Parameter], seed: int) -> ConfigurationSpace:
    """One hyperparameter a parameter; conditions on parameters of the same half that are searched."""
    space = ConfigurationSpace(seed=seed)
    made = {parameter.name: _hyperparameter(parameter) for parameter in parameters}
    space.add(*made.values())
    for parameter in parameters:
        conditions = [_condition(made[parameter.name], made[name], values) for name, values in parameter.needs]
        if conditions:
            space.add(conditions[0] if len(conditions) == 1 else AndConjunction(*conditions))
    return space


def _condition(child: _Any, parent: _Any, values: Sequence[Value]) -> EqualsCondition | InCondition:
    if len(values) == 1:
        return EqualsCondition(child, parent, values[0])
    return InCondition(child, parent, list(values))


def _hyperparameter(parameter: Parameter) -> Hyperparameter[Any, Any]:
    domain = parameter.domain
    if domain.kind == "categorical":
        return Categorical(parameter.name, list(domain.choices))
    if domain.kind == "ordinal":
        return OrdinalHyperparameter(parameter.name, list(domain.choices))
    if domain.kind == "integer":
        return Integer(parameter.name, (int(domain.low), int(domain.high)), log=domain.log)
    return Float(parameter.name, (domain.low, domain.high), log=domain.log)


def sample(space: ConfigurationSpace, rng: np.random.Generator) -> dict[str, Value]:
    """Draw a configuration with the given generator; inactive parameters are left out."""
    space.seed(int(rng.integers(2**31)))
    return {name: plain(value) for name, value in dict(space.sample_configuration()).items()}


def plain(value: object) -> Value:
    """Cast what ConfigSpace returns (`numpy.str_`, `numpy.int64`) to a plain Python value."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float)):
        return value
    raise TypeError(f"not a value of a parameter: {value!r}")
