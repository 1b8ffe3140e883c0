"""Checkpoints: one safetensors file that holds all a child needs to go on. Nothing in it can run code.

Weights, averaged weights and optimiser state stand in the same file, so that it is replaced whole: there is no moment
at which the parts are of different epochs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nasflow_cli.core.trial import ErrorKind
from nasflow_cli.store.files import write_whole


class CheckpointError(Exception):
    """A checkpoint is absent, unreadable, or of another network."""

    error_kind: ErrorKind = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A child after `epoch` epochs. `key` and `seed` tell which child."""

    key: str
    seed: int
    epoch: int
    tensors: Mapping[str, Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file whole; the previous one stays until the new one is complete."""
    metadata = {"nasflow": json.dumps({"key": checkpoint.key, "seed": checkpoint.seed, "epoch": checkpoint.epoch})}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(tensors, metadata=metadata))


def load_checkpoint(path: Path, key: str, seed: int, budget: int | None = None) -> Checkpoint:
    """Read a checkpoint of the given child, of at most `budget` epochs. Raises CheckpointError when there is none."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            about = json.loads((file.metadata() or {}).get("nasflow", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is not there") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if (about.get("key"), about.get("seed")) != (key, seed) or not isinstance(about.get("epoch"), int):
        raise CheckpointError(f"{path} belongs to another network or seed")
    if budget is not None and about["epoch"] > budget:
        raise CheckpointError(f"{path} is of epoch {about['epoch']}, past the budget of {budget}")
    return Checkpoint(key=key, seed=seed, epoch=about["epoch"], tensors=tensors)


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, entries in state.items()
        for name, value in entries.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `flatten_optimizer` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for full, tensor in tensors.items():
        if full.startswith("optimizer."):
            _, index, name = full.split(".", 2)
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for name, value in optimizer.state[parameter].items():
                # Fused kernels assume that a moment lies in memory as its parameter does (channels last); a file keeps
                # no such layout. The copy also parts the optimiser from the tensors that it was given.
                if value.shape == parameter.shape:
                    optimizer.state[parameter][name] = torch.empty_like(parameter).copy_(value).detach()
