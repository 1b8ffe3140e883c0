"""Checkpoints: one safetensors file that holds all a child needs to go on. Nothing in it can run code.

Refuses a file whose bytes are not those that were written: a checksum of all tensors stands beside them.

Weights, averaged weights and optimiser state stand in the same file, so that it is replaced whole: there is no moment
at which the parts are of different epochs.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nasflow_cli.core.trial import ErrorKind
from nasflow_cli.store.files import make_directory, write_whole


class CheckpointError(Exception):
    """A checkpoint is absent, unreadable, or of another network."""

    error_kind: ErrorKind = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A child after `epoch` epochs. `key` and `seed` tell which child.

    `annealed` says that the rate has been lowered for the end of its rung: no longer training goes on from there.
    """

    key: str
    seed: int
    epoch: int
    annealed: bool = False
    tensors: Mapping[str, Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file whole; the previous one stays until the new one is complete."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    about = {
        "key": checkpoint.key,
        "seed": checkpoint.seed,
        "epoch": checkpoint.epoch,
        "annealed": checkpoint.annealed,
        "crc32": _checksum(tensors),
    }
    make_directory(path.parent)
    write_whole(path, save(tensors, metadata={"nasflow": json.dumps(about)}))


def load_checkpoint(path: Path, key: str, seed: int, budget: int | None = None) -> Checkpoint:
    """Read a checkpoint of the given child, of at most `budget` epochs. Raises CheckpointError when there is none."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            about = _about(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is not there") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if (about.get("key"), about.get("seed")) != (key, seed):
        raise CheckpointError(f"{path} belongs to another network or seed")
    if about.get("crc32") != _checksum(tensors) or type(about.get("epoch")) is not int or about["epoch"] < 0:
        raise CheckpointError(f"{path} is damaged: its checksum is not that of what it holds")
    if budget is not None and about["epoch"] > budget:
        raise CheckpointError(f"{path} is of epoch {about['epoch']}, past the budget of {budget}")
    annealed = about.get("annealed") is True
    return Checkpoint(key=key, seed=seed, epoch=about["epoch"], annealed=annealed, tensors=tensors)


def _about(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the file says of itself. Raises ValueError or RecursionError when it is no JSON object."""
    about = json.loads(metadata.get("nasflow", "{}"))
    if not isinstance(about, dict):
        raise ValueError(f"it describes itself by {type(about).__name__}, not by an object")  # noqa: TRY004
    return about


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """CRC-32 of names and bytes. It finds accidents; a forger would have to be kept from the folder."""
    crc = 0
    for name, tensor in sorted(tensors.items()):
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc
