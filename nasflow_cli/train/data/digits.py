"""`digits`: scikit-learn's 1,797 handwritten digits, which ship in the package. Needs no file and takes no path."""

from __future__ import annotations

import numpy as np

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.registry import DATASETS
from nasflow_cli.train.data.checks import refuse
from nasflow_cli.train.data.values import Labelled, Source


@DATASETS.register("digits", mirrored=False)
def digits(config: DataConfig) -> Source:
    """8x8 grey images in 10 classes, no test split (Alpaydin & Kaynak 1998). Raises ConfigError when given a path."""
    for key in ("path", "test_path"):
        refuse(getattr(config, key), f"data.{key}", "the source 'digits' ships with scikit-learn")
    from sklearn.datasets import load_digits  # noqa: PLC0415  (takes a second to import)

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)  # its values are 0..16
    return Source(
        train=Labelled(images=pixels, labels=labels.astype(np.int64)),
        test=None,
        classes=tuple(str(digit) for digit in range(10)),
    )
