"""What is trained: one network, its recipe, and images or vectors with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nasflow_cli.core.config import TrainingConfig
from nasflow_cli.core.data_config import AugmentConfig
from nasflow_cli.core.graph import NetworkGraph

NUM_CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One network with its recipe and its training data.

    `images` is uint8 (n, 3, height, width) or float32 (n, features), `labels` int64 (n,); `mean` and `std` are of a
    channel or a feature, in the units of `images`.
    """

    name: str
    graph: NetworkGraph
    recipe: TrainingConfig
    augment: AugmentConfig
    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int64]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one image, or of one vector."""
        return tuple(self.images.shape[1:])

    @property
    def images_an_epoch(self) -> int:
        """How many are trained on in an epoch: what is left over of a batch is not."""
        return len(self.labels) // self.recipe.batch_size * self.recipe.batch_size
