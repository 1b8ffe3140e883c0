"""Data sets: from a `data:` section to three disjoint splits, in memory or in a file. No torch; nothing read runs code.

A reader is a function in a file of its own, `(config) -> Source`, registered under the name that YAML uses. It says
what there is; what of it is used, and for what, is decided in `splits`.
"""

from nasflow_cli.train.data import cifar_binary, csv, digits, folder, hub, npz, parquet
from nasflow_cli.train.data.load import Outline, load_splits, outline, select
from nasflow_cli.train.data.values import Labelled, Source, Splits, Undecoded

__all__ = [
    "Labelled",
    "Outline",
    "Source",
    "Splits",
    "Undecoded",
    "cifar_binary",
    "csv",
    "digits",
    "folder",
    "hub",
    "load_splits",
    "npz",
    "outline",
    "parquet",
    "select",
]
