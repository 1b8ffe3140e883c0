"""`nasflow fetch`: from a server on this machine, with every way in which it can fail."""

from __future__ import annotations

import hashlib
import io
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from made_data import write_cifar

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import ConfigError, MissingError
from nasflow_cli.fetch import ARCHIVES, Archive, fetch
from nasflow_cli.train.data import load_splits

Call = Callable[..., tuple[int, str, str]]


class Server(ThreadingHTTPServer):
    """Serves `content` at /good and, cut short, at /cut; knows nothing else. `asked` counts the requests."""

    content: bytes
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.path not in {"/good", "/cut"}:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: None if self.path == "/good" else -7])

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    pytest.importorskip("pooch", reason="pooch is a dependency since `nasflow fetch`; install again to run this")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(write_cifar(tmp_path / "made"), "cifar-10-batches-bin")
    with Server(("127.0.0.1", 0), Handler) as live:
        live.content = packed.getvalue()
        thread = threading.Thread(target=live.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield live
        live.shutdown()
        thread.join()


def archive_of(server: Server, path: str = "/good") -> Archive:
    sha256 = hashlib.sha256(server.content).hexdigest()
    return Archive(url=server.url + path, file="made.tar.gz", sha256=sha256, size=len(server.content))


def test_what_is_fetched_is_read_as_data_and_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    path = fetch(archive_of(server), tmp_path / "new" / "data")

    assert path == tmp_path / "new" / "data" / "made.tar.gz"
    assert path.read_bytes() == server.content
    assert [entry.name for entry in path.parent.iterdir()] == ["made.tar.gz"]
    splits = load_splits(DataConfig.model_validate({"source": "cifar_binary", "path": str(path)}))
    assert splits.input_shape == (3, 32, 32)
    assert fetch(archive_of(server), path.parent) == path
    assert server.asked == 1


def test_a_damaged_file_in_its_place_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "made.tar.gz").write_bytes(server.content[:100])

    assert fetch(archive_of(server), tmp_path).read_bytes() == server.content


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/gone", "127.0.0.1 answered 404 (Not Found);"),
        ("/cut", "the connection to 127.0.0.1 broke off;"),
        ("dead", "the host 127.0.0.1 could not be reached, it refused the connection;"),
    ],
)
def test_a_server_that_does_not_give_it_is_told_and_nothing_is_left(
    server: Server, tmp_path: Path, path: str, told: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/good"

    with pytest.raises(MissingError) as caught:
        fetch(archive_of(server), tmp_path / "data", dead if path == "dead" else server.url + path)

    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_another_file_than_the_known_one_ends_the_command_with_4_and_is_not_kept(
    nasflow: Call, server: Server, tmp_path: Path
) -> None:
    code, out, err = nasflow("fetch", "cifar10", "--out", tmp_path / "data", "--url", f"{server.url}/good")

    assert (code, out) == (4, "")
    told = err.splitlines()[-1]
    assert len(err.splitlines()) == 2  # what is fetched, and why not
    assert f"is not cifar-10-binary.tar.gz: its SHA-256 is not {ARCHIVES['cifar10'].sha256}" in told
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_made_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigError, match="cannot write"):
        fetch(archive_of(server), tmp_path / "file" / "data")

    assert server.asked == 0


def test_an_environment_without_pooch_is_told_what_it_lacks(
    nasflow: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)

    code, _, err = nasflow("fetch", "cifar10", "--out", tmp_path / "data")

    assert code == 4
    assert "pooch is not installed" in err


def test_without_a_network_it_is_said_in_plain_words_that_the_host_was_not_reached(
    nasflow: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pooch", reason="pooch is a dependency since `nasflow fetch`; install again to run this")

    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setenv("NO_PROXY", "*")

    code, out, err = nasflow("fetch", "cifar10", "--out", tmp_path / "data")

    assert (code, out) == (4, "")
    url = ARCHIVES["cifar10"].url
    assert err.splitlines()[-1] == (
        f"nasflow: error: {url} cannot be fetched: the host www.cs.toronto.edu could not be reached, since its name "
        "could not be looked up; see to the connection, name a mirror with --url, or get the file by other means"
    )


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://host/file", "https://", "http://[half", "http://a:99999/", "http://a b/", "http://.a/"]
)
def test_what_is_no_web_address_is_bad_usage_before_anything_is_fetched(
    nasflow: Call, tmp_path: Path, url: str
) -> None:
    code, out, err = nasflow("fetch", "cifar10", "--out", tmp_path / "data", "--url", url)

    assert (code, out) == (2, "")
    assert err == f"nasflow: error: --url {url}: an address begins with https:// or http:// and names a host\n"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["cifar01", "CIFAR10"])
def test_an_unknown_data_set_is_refused_with_the_near_one(nasflow: Call, name: str) -> None:
    code, _, err = nasflow("fetch", name)

    assert code == 2
    assert "did you mean 'cifar10'" in err
