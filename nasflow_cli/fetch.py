"""Fetches the archives of known data sets, by pooch, and keeps nothing whose checksum is not the known one.

Archives are kept packed, as the reader `cifar_binary` takes them: nothing is unpacked, so no name in an archive can
lead anywhere. Refuses an address that is not HTTP.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from nasflow_cli.core.errors import ConfigError, MissingError
from nasflow_cli.store.files import cannot_write, make_directory

TIMEOUT_S = 60.0
"""How long a server may be silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive: its official address, its name on disk, its SHA-256, and its size in bytes."""

    url: str
    file: str
    sha256: str
    size: int


ARCHIVES: Mapping[str, Archive] = {
    "cifar10": Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        file="cifar-10-binary.tar.gz",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        size=170_052_171,
    ),
    "cifar100": Archive(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        file="cifar-100-binary.tar.gz",
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        size=168_513_733,
    ),
}
"""https://www.cs.toronto.edu/~kriz/cifar.html; that page has MD5 sums of the same files."""


def address_of(archive: Archive, url: str | None) -> str:
    """Where an archive is fetched from: `url` or its own address. Raises ConfigError for what is no HTTP address."""
    if url is None:
        return archive.url
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")  # refuses labels that no name has
        is_web = parts.scheme in {"http", "https"} and bool(host) and parts.port != 0 and not re.search(r"\s", url)
    except ValueError:
        is_web = False
    if not is_web:
        raise ConfigError(f"--url {url}: an address begins with https:// or http:// and names a host")
    return url


def fetch(archive: Archive, folder: Path, url: str | None = None) -> Path:
    """Return the path of the archive in `folder`; it is fetched, from `url` or its own address, unless it is there.

    What is at `url` must have the archive's checksum. Raises MissingError when it has not or cannot be had, ConfigError
    for what is no address, and that or RunDirectoryError when the folder cannot be written to; nothing is left behind
    then.
    """
    address = address_of(archive, url)
    try:  # here: whoever only asks for help needs neither
        import pooch  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415
    except ImportError as error:
        raise MissingError(f"{error.name} is not installed, which fetches files; install nasflow again") from error

    pooch.get_logger().setLevel("ERROR")  # what it would say is said by the command
    is_new = not folder.exists()
    make_directory(folder)
    done = False
    try:
        path = pooch.retrieve(
            url=address,
            known_hash=f"sha256:{archive.sha256}",
            fname=archive.file,
            path=folder,
            downloader=pooch.HTTPDownloader(progressbar=False, timeout=TIMEOUT_S),
        )
        done = True
    except RequestException as error:
        raise MissingError(
            f"{address} cannot be fetched: {_reason(error, address)}; see to the connection, name a mirror with --url, "
            "or get the file by other means"
        ) from error
    except ValueError as error:
        raise MissingError(
            f"what {address} gave is not {archive.file}: its SHA-256 is not {archive.sha256}; nothing was kept. Try "
            "again, or name a mirror with --url"
        ) from error
    except OSError as error:
        raise cannot_write(folder / archive.file, error) from error
    finally:
        if is_new and not done:
            with contextlib.suppress(OSError):
                folder.rmdir()
    return Path(path)


def _reason(error: Exception, address: str) -> str:
    """What a fault of the connection is in plain words; what requests says are the objects that it met it in."""
    from requests import exceptions  # noqa: PLC0415

    host, text = urlsplit(address).hostname, str(error)
    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"{host} answered {error.response.status_code} ({error.response.reason})"
    why = ""
    if "NameResolutionError" in text:
        why = ", since its name could not be looked up"
    elif "refused" in text:
        why = ", it refused the connection"
    words = {
        exceptions.SSLError: f"no secure connection to {host} could be made",
        exceptions.ProxyError: "the proxy that the environment names could not be reached",
        exceptions.Timeout: f"{host} did not answer within {TIMEOUT_S:.0f} seconds",
        exceptions.ConnectionError: f"the host {host} could not be reached{why}",
        exceptions.ChunkedEncodingError: f"the connection to {host} broke off",
    }
    return next((said for kind, said in words.items() if isinstance(error, kind)), f"{type(error).__name__}")
