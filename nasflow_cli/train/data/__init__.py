"""Data sets: from a `data:` section to three disjoint splits in memory. No torch; nothing read can run code.

A reader is a function in a file of its own, `(config) -> Source`, registered under the name that YAML uses. It says
what there is; what of it is used, and for what, is decided in `splits`.
"""

from nasflow_cli.train.data import cifar_binary, csv, digits, folder, npz, parquet
from nasflow_cli.train.data.load import load_splits
from nasflow_cli.train.data.values import Labelled, Source, Splits, Undecoded

__all__ = [
    "Labelled",
    "Source",
    "Splits",
    "Undecoded",
    "cifar_binary",
    "csv",
    "digits",
    "folder",
    "load_splits",
    "npz",
    "parquet",
]
