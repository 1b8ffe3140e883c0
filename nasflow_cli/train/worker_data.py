"""The data of a worker: loaded once, held on its device where it fits, streamed where it does not.

What is trained on and what is scored is the caller's choice; where it lies changes no score.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch

from nasflow_cli.core.config import ExperimentConfig
from nasflow_cli.core.errors import RunDirectoryError
from nasflow_cli.core.executor_config import ExecutorConfig
from nasflow_cli.execute.devices import usable_cores
from nasflow_cli.store.run_directory import RunDirectory
from nasflow_cli.train.data import Labelled, Outline, Splits, outline, select
from nasflow_cli.train.data.gather import Memory
from nasflow_cli.train.data.limit import memory_limit
from nasflow_cli.train.data.load import Selection, decode
from nasflow_cli.train.data.reopen import remember, reopen, source_key
from nasflow_cli.train.data.store import DamagedDataError, open_stored
from nasflow_cli.train.feed import Feed, Images, Normalise
from nasflow_cli.train.run_data import selection_of
from nasflow_cli.train.streamed import Loader, Streamed, died, num_loaders

T = TypeVar("T")

Use = Literal["search", "final"]
"""search: train on train, score validation. final: train on both, score test."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkerData:
    """What is trained on and what is scored; `loader` reads it where it is streamed."""

    train: Feed
    scored: Feed
    normalise: Normalise
    input_shape: tuple[int, ...]
    num_classes: int
    loader: Loader | None = None


class DataHolder:
    """Loads a worker's data at the first call, and again when its file is found to be damaged."""

    def __init__(self, config: ExperimentConfig, run: RunDirectory, device: torch.device, use: Use) -> None:
        self.config = config
        self.run = run
        self.device = device
        self._use = use
        self._loaders = num_loaders(config.executor.loaders, device, usable_cores() // (config.executor.workers or 1))
        self._data: WorkerData | None = None

    def get(self) -> WorkerData:
        """The data. Raises what its reader and its file raise."""
        if self._data is None:
            self._data = self._load()
        return self._data

    def close(self) -> None:
        """Forget the data and end what reads it."""
        if self._data is not None and self._data.loader is not None:
            self._data.loader.close()
        self._data = None

    def use(self, act: Callable[[WorkerData], T], notes: list[str]) -> T:
        """Return what `act` makes of the data; once more where the file was damaged or a loader process died.

        `notes` say so. Raises DamagedDataError when the file was damaged again.
        """
        try:
            return act(self.get())
        except DamagedDataError:
            loader = self.get().loader
            if loader is None:
                raise
            loader.stored.discard()
            notes.append(f"{loader.stored.path} was damaged; the data was decoded again")
        except RuntimeError as error:
            if not died(error):
                raise
            self._loaders = 0
            notes.append("a loader process died; the worker reads its data itself from here on")
        self.close()
        return act(self.get())

    def _load(self) -> WorkerData:
        limit = data_limit(self.config.executor, self.device)
        known = reopen(self.run.data, self.config.data_section)
        if known is None or known[1].num_bytes <= limit:
            key = source_key(self.config.data_section)
            selection = select(self.config.data_section)
            if outline(selection).num_bytes <= limit:
                splits = decode(selection, Memory())
                train, scored, _ = self._parts(splits)
                return self._made(splits, Images.on(self.device, *train), Images.on(self.device, *scored), None)
            known = open_stored(self.run.data, selection)
            remember(self.run.data, key, selection, known[1])
        splits, stored = known
        train, scored, first = self._parts(splits)
        loader = Loader(stored, self.device, self._loaders)
        return self._made(splits, Streamed(loader, 0, train), Streamed(loader, first, scored), loader)

    def _parts(self, splits: Splits) -> tuple[list[Labelled], list[Labelled], int]:
        """What is trained on, what is scored, and the example at which that begins."""
        if self._use == "search":
            return [splits.train], [splits.validation], len(splits.train)
        return [splits.train, splits.validation], [splits.test], len(splits.train) + len(splits.validation)

    def _made(self, splits: Splits, train: Feed, scored: Feed, loader: Loader | None) -> WorkerData:
        return WorkerData(
            train=train,
            scored=scored,
            normalise=Normalise(splits, self.device),
            input_shape=splits.input_shape,
            num_classes=splits.num_classes,
            loader=loader,
        )


def data_outline(config: ExperimentConfig) -> Outline:
    """What the data is. All of it is decoded and checked where a worker's memory holds it, else one example of it."""
    selection = select(config.data_section)
    about = outline(selection)
    if about.num_bytes > memory_limit(config.executor):
        return replace(about, is_streamed=True)
    return replace(about, input_shape=decode(selection, Memory()).input_shape)


def store_data(config: ExperimentConfig, run: RunDirectory) -> Outline | None:
    """Decode data that a worker's memory does not hold into the run's file, and say what it is; None for other data.

    Raises what decoding raises, and NoRoomError for a disk that is too small.
    """
    key = source_key(config.data_section)
    selection = select(config.data_section)
    about = outline(selection)
    if about.num_bytes <= memory_limit(config.executor):
        return None
    splits, stored = open_stored(run.data, selection)
    remember(run.data, key, selection, stored)
    return replace(about, input_shape=splits.input_shape, is_streamed=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredData:
    """What a network of a run is scored on: its validation and test split, on the CPU, by name."""

    splits: Splits
    feeds: Mapping[str, Feed]


def use_scored(
    config: ExperimentConfig, run: RunDirectory, act: Callable[[ScoredData], T], tell: Callable[[str], None]
) -> T:
    """Return what `act` makes of the splits of a run: in memory, or read batch by batch where that does not hold them.

    Once more where the run's file was damaged, which `tell` hears of. Raises what `selection_of` does, and
    RunDirectoryError when the file is damaged again.
    """
    selection = selection_of(config, run)
    if outline(selection).num_bytes <= memory_limit(config.executor):
        splits = decode(selection, Memory())
        named = {"validation": splits.validation, "test": splits.test}
        return act(ScoredData(splits=splits, feeds={name: _uncopied(split) for name, split in named.items()}))
    try:
        return _use_stored(run, selection, act)
    except DamagedDataError as error:
        tell(f"{error}; the data is decoded again")
    try:
        return _use_stored(run, selection, act)
    except DamagedDataError as error:
        raise RunDirectoryError(f"{error}, once more; see whether the disk is sound") from error


def _use_stored(run: RunDirectory, selection: Selection, act: Callable[[ScoredData], T]) -> T:
    splits, stored = open_stored(run.data, selection)
    loader = Loader(stored, torch.device("cpu"), processes=0)
    first = len(splits.train)
    feeds = {
        "validation": Streamed(loader, first, [splits.validation]),
        "test": Streamed(loader, first + len(splits.validation), [splits.test]),
    }
    try:
        return act(ScoredData(splits=splits, feeds=feeds))
    except DamagedDataError:
        stored.discard()
        raise
    finally:
        loader.close()


def _uncopied(split: Labelled) -> Images:
    return Images(images=torch.from_numpy(split.images), labels=torch.from_numpy(split.labels))


def data_limit(executor: ExecutorConfig, device: torch.device) -> int:
    """The most bytes of data that a worker holds on this device; they pass through its memory on the way there."""
    limit = memory_limit(executor)
    if executor.data_gib is None and device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        return min(limit, whole // (2 * executor.children_per_device))
    return limit


def peak_memory_mib() -> int:
    """The largest resident memory that this process has had, in MiB, its libraries and mapped files included."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 2**20 if sys.platform == "darwin" else most // 2**10


def shared_by(config: ExperimentConfig, num_workers: int) -> ExperimentConfig:
    """The experiment on a machine whose memory and cores so many workers share."""
    executor = config.executor.model_copy(update={"workers": num_workers})
    return config.model_copy(update={"executor": executor})


def worker_setup(config: ExperimentConfig, run: RunDirectory) -> dict[str, Any]:
    """What a worker is told, as JSON values: not what runs it, nor how many workers, which its own machine tells."""
    return {
        "config": config.model_dump(mode="json", exclude={"executor": {"kind", "ray", "workers"}}),
        "run": str(run.root.absolute()),
    }
