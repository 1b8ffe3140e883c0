"""What Hugging Face's package `datasets` is asked for: which commit a name means now, and the splits of that commit.

Refuses what could run code: loading scripts, builders other than those of parquet, arrow and folders of images. What is
downloaded lies in that package's own cache; a commit that was prepared there before is read without the hub.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasflow_cli.core.data_config import HubConfig
from nasflow_cli.core.errors import DataError, MissingError, NasflowError
from nasflow_cli.train.data.checks import refuse

BUILDERS = ("parquet", "arrow", "imagefolder")
"""What `datasets` may read with. None of these runs anything that it reads."""

WANTED = "the name of a data set on the hub (owner/name), or a folder that `datasets` wrote or can read"

TIMEOUT_S = 5.0
"""How long the hub may be silent when it is asked what a name means: once, where `datasets` would ask six times."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def open_data_set(path: str, hub: HubConfig) -> tuple[Any, str | None]:
    """The splits by their names, and the commit that they are of; None for a folder.

    Raises MissingError without the package, the network or the data set; ConfigError for settings that a folder has
    no use for, DataError for what cannot be used.
    """
    datasets = _package()
    folder = Path(path).expanduser()
    try:
        is_there, is_folder = folder.exists(), folder.is_dir()
    except (OSError, ValueError) as error:
        raise MissingError(f"data.path: cannot find {path!r} ({error}); set it to {WANTED}") from error
    if is_there and not is_folder:
        raise DataError(f"{folder} is a file; set data.path to {WANTED}, or data.source to the reader of such files")
    if not is_there and not _NAME.fullmatch(path):
        raise MissingError(f"data.path: cannot find {folder.absolute()}; set it to {WANTED}")
    with failures_named(path):
        if is_folder:
            return _of_folder(datasets, folder, hub), None
        return _of_hub(datasets, path, hub)


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _of_folder(datasets: Any, folder: Path, hub: HubConfig) -> Any:
    refuse(hub.revision, "data.hub.revision", f"{folder} is a folder here, and only data sets on the hub have any")
    if not is_saved(folder):
        return _prepared(datasets.load_dataset_builder(str(folder.absolute()), name=hub.subset), folder)
    refuse(hub.subset, "data.hub.subset", "a saved data set is one version of one")
    saved = datasets.load_from_disk(str(folder.absolute()))
    return {"train": saved} if isinstance(saved, datasets.Dataset) else saved


def _of_hub(datasets: Any, name: str, hub: HubConfig) -> tuple[Any, str]:
    if hub.revision is not None and _COMMIT.fullmatch(hub.revision):
        cached = _from_cache(datasets, name, hub.subset, hub.revision)
        if cached is not None:
            return cached, hub.revision
    commit = _commit_of(datasets, name, hub.revision)
    cached = _from_cache(datasets, name, hub.subset, commit)
    if cached is not None:
        return cached, commit
    return _prepared(datasets.load_dataset_builder(name, name=hub.subset, revision=commit), name), commit


def _commit_of(datasets: Any, name: str, revision: str | None) -> str:
    """The commit that a branch, a tag or no revision means now. Raises MissingError, and ConnectionError."""
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError  # noqa: PLC0415

    try:
        about = HfApi(endpoint=datasets.config.HF_ENDPOINT).dataset_info(
            name, revision=revision, timeout=TIMEOUT_S, expand=["sha"]
        )
    except GatedRepoError as error:
        raise MissingError(
            f"data.path: {name} is open only to those who have asked for it; ask on its page, log in with `hf auth "
            "login`, then try again"
        ) from error
    except RepositoryNotFoundError as error:
        raise MissingError(
            f"data.path: there is no data set {name} on the hub, or it is not open to you; set it to {WANTED}"
        ) from error
    except RevisionNotFoundError as error:
        raise MissingError(
            f"data.hub.revision: {name} has no revision {revision!r}; name a branch, a tag or a commit of it"
        ) from error
    except _network_errors() as error:
        raise ConnectionError(_short(error)) from error
    return str(about.sha)


def _prepared(builder: Any, what: str | Path) -> Any:
    made_by = {each.__module__ for each in type(builder).__mro__}
    if made_by.isdisjoint(f"datasets.packaged_modules.{name}.{name}" for name in BUILDERS):
        raise DataError(
            f"{what} is neither in parquet or arrow nor a folder of images; `datasets` would read it as "
            f"{type(builder).__name__!r}, which this source does not"
        )
    builder.download_and_prepare()
    return builder.as_dataset()


def _from_cache(datasets: Any, name: str, subset: str | None, commit: str) -> Any:
    """What one of `BUILDERS` has prepared of a commit before, or None.

    Which subset is meant where none is named only the hub knows, unless it is called so.
    """
    from datasets.naming import camelcase_to_snakecase  # noqa: PLC0415
    from datasets.packaged_modules.cache.cache import Cache  # noqa: PLC0415

    *owner, own_name = name.split("/")
    place = Path(datasets.config.HF_DATASETS_CACHE).expanduser() / "___".join(
        [*owner, camelcase_to_snakecase(own_name)]
    )
    chosen = subset or "default"
    versions = [folder.parent.name for folder in place.glob(f"*/*/{commit}") if folder.parts[-3] == chosen]
    if len(versions) != 1:
        return None
    builder = Cache(dataset_name=own_name, repo_id=name, config_name=chosen, version=versions[0], hash=commit)
    return builder.as_dataset() if builder.info.builder_name in BUILDERS else None


def _package() -> Any:
    try:
        import datasets  # noqa: PLC0415  (an extra, and slow to import)
        from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415
        from tqdm import tqdm  # noqa: PLC0415
    except ImportError as error:
        raise MissingError(
            f"data.source: 'hub' needs the package datasets ({error}); install it: pip install 'nasflow[hub]'"
        ) from error
    # Their bars are drawn with control characters, and each try to reach the hub is told, wherever that goes. The lock
    # of the bars would be one between processes, which a worker that is killed leaves behind.
    datasets.disable_progress_bars()
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    tqdm.set_lock(threading.RLock())
    return datasets


@contextmanager
def failures_named(what: str) -> Iterator[None]:
    """Turn what `datasets` and what it is made of raise into an error that the user can mend."""
    import pyarrow as pa  # noqa: PLC0415
    from datasets.exceptions import DatasetNotFoundError, DatasetsError  # noqa: PLC0415

    try:
        yield
    except NasflowError:
        raise
    except _network_errors() as error:
        raise MissingError(
            f"data.path: {what} is on the hub, and the hub cannot be reached ({_short(error)}); fetch it where there "
            "is a network and set data.path to the folder, or unset HF_HUB_OFFLINE"
        ) from error
    except DatasetNotFoundError as error:
        raise MissingError(f"data.path: cannot find {what} ({_short(error)}); set it to {WANTED}") from error
    except (DatasetsError, pa.ArrowException, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{what} cannot be read as a data set: {_short(error)}") from error


def _network_errors() -> tuple[type[Exception], ...]:
    """Python's, and those of the HTTP library below huggingface_hub: another one in each of its major versions."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    own = {"builtins", "huggingface_hub"}
    theirs = [base for base in HfHubHTTPError.__mro__ if base.__module__.partition(".")[0] not in own]
    return ConnectionError, TimeoutError, *theirs


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
