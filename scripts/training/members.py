"""The problems: a fixed member of each of three spaces that ship. Reads files; imported by the main process alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli import assemble
from nasflow_cli.core.architecture import Value
from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.nets.operations import operation_facts
from nasflow_cli.train.data import load_splits
from training.problem import NUM_CLASSES, Problem

SPACES = Path(__file__).resolve().parents[2] / "configs" / "spaces"
SHAPES: Mapping[str, tuple[int, ...]] = {"nasbench201": (3, 32, 32), "resnet": (3, 32, 32), "mlp": (54,)}
"""Images as CIFAR-10's; vectors as long as those of Covertype."""
IMAGES = {"nasbench201": 1024, "resnet": 2048, "mlp": 25_600}
"""How many make an epoch: a few seconds on two cores."""

MEMBERS: Mapping[str, Mapping[str, Value]] = {
    "nasbench201": {
        **{f"cell.{edge}.operation": "conv3x3" for edge in ("0-1", "0-2", "1-2", "1-3", "2-3")},
        "cell.0-3.operation": "skip",
    },
    "resnet": {
        "stem.width": 16,
        **{f"stages.{stage}.depth": 2 for stage in range(3)},
        **{f"stages.{stage}.width": 64 << stage for stage in range(3)},
        **{f"stages.{stage}.cell.1.bottleneck.ratio": 0.25 for stage in range(3)},
    },
    "mlp": {
        "stem.width": 128,
        **{f"stages.{stage}.depth": 2 for stage in range(2)},
        **{f"stages.{stage}.width": 128 >> stage for stage in range(2)},
        "activation": "gelu",
    },
}
"""What is not named takes the first of its choices. `networks.py` has the same three written by hand."""


def problem_of(name: str, num_images: int, batch_size: int | None, data: Path | None) -> Problem:
    """The network `name` with its space's recipe, on so many images; noise where there is no folder of CIFAR-10.

    Raises NasflowError for data that cannot be read.
    """
    config = assemble.load(SPACES / f"{name}.yaml", [])
    space = SearchSpace(config.space, operation_facts())
    first = {key: parameter.domain.values[0] for key, parameter in space.parameters.items()}
    _, graph = space.member(MEMBERS[name], first)
    recipe = config.training
    if batch_size is not None:
        recipe = recipe.model_copy(update={"batch_size": batch_size})
    is_real = data is not None and len(SHAPES[name]) == 3
    images, labels, mean, std = _read(str(data), num_images) if is_real else _noise(SHAPES[name], num_images)
    return Problem(
        name=name,
        graph=graph,
        recipe=recipe,
        augment=config.data_section.augment,
        images=images,
        labels=labels,
        mean=mean,
        std=std,
    )


_Read = tuple[npt.NDArray[Any], npt.NDArray[np.int64], tuple[float, ...], tuple[float, ...]]


def _read(path: str, num_images: int) -> _Read:
    """Images of CIFAR-10 in parquet files; a tenth more are read, which is the least share of validation images."""
    section = DataConfig(
        source="parquet",
        path=path,
        validation_fraction=0.1,
        train_limit=num_images + num_images // 8 + 20,
        test_limit=20,
    )
    splits = load_splits(section)
    images = np.ascontiguousarray(splits.train.images[:num_images])
    return images, np.ascontiguousarray(splits.train.labels[:num_images]), splits.mean, splits.std


def _noise(shape: tuple[int, ...], num_images: int) -> _Read:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_CLASSES, num_images)
    if len(shape) == 1:
        vectors = rng.normal(size=(num_images, *shape)).astype(np.float32)
        return vectors, labels, (0.0,) * shape[0], (1.0,) * shape[0]
    images = rng.integers(0, 256, (num_images, *shape), dtype=np.uint8)
    return images, labels, (127.5,) * shape[0], (73.9,) * shape[0]
