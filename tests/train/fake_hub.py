"""A hub of one's own on this machine: as much of its interface as `datasets` asks for, with commits that are made."""

from __future__ import annotations

import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

NAME = "nasflow-tests/pictures"
Files = dict[str, bytes]
Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


@dataclass(slots=True)
class FakeHub:
    """The one data set that it has, by commit; `main` is the newest. `asked` are the requests that were made.

    With a `refusal`, a status and the hub's word for it, nothing else is answered.
    """

    commits: dict[str, Files] = field(default_factory=dict)
    main: str = ""
    asked: list[str] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    url: str = ""

    def commit(self, pictures: Any) -> str:
        """Put a data set of `datasets` in the place of what was there, and return the commit."""
        pictures.to_parquet(file := io.BytesIO())
        self.main = etag(file.getvalue())
        self.commits[self.main] = {"train.parquet": file.getvalue()}
        return self.main

    def answer(self, method: str, path: str) -> Answer:
        """What the hub says."""
        self.asked.append(f"{method} {path}")
        if self.refusal is not None:
            return self._missing(self.refusal[1], status=self.refusal[0])
        api, plain = f"/api/datasets/{NAME}", f"/datasets/{NAME}/resolve/"
        if path == api or path.startswith(f"{api}/revision/"):
            return self._about(path.removeprefix(api).removeprefix("/revision/") or "main")
        if path.startswith(f"{api}/tree/"):
            revision, _, folder = path.removeprefix(f"{api}/tree/").partition("/")
            return self._json(self._listed(revision)) if not folder else self._missing("EntryNotFound")
        if path.startswith(f"{api}/paths-info/"):
            return self._json(self._listed(path.removeprefix(f"{api}/paths-info/")))
        if path.startswith(plain):
            revision, _, name = path.removeprefix(plain).partition("/")
            return self._file(revision, name)
        return self._missing("RepoNotFound")

    def _commit_of(self, revision: str) -> str | None:
        known = self.main if revision == "main" else revision
        return known if known in self.commits else None

    def _about(self, revision: str) -> Answer:
        commit = self._commit_of(revision)
        return self._missing("RevisionNotFound") if commit is None else self._json({"id": NAME, "sha": commit})

    def _listed(self, revision: str) -> list[dict[str, Any]]:
        files = self.commits[self._commit_of(revision) or ""]
        return [
            {"type": "file", "path": name, "size": len(content), "oid": etag(content)}
            for name, content in files.items()
        ]

    def _file(self, revision: str, name: str) -> Answer:
        commit = self._commit_of(revision)
        if commit is None:
            return self._missing("RevisionNotFound")
        if name not in self.commits[commit]:
            return self._missing("EntryNotFound", {"X-Repo-Commit": commit})
        content = self.commits[commit][name]
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{etag(content)}"'}, content

    def _json(self, value: Any) -> Answer:
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def _missing(self, code: str, headers: dict[str, str] | None = None, status: int = 404) -> Answer:
        return status, {"X-Error-Code": code, **(headers or {})}, b""


def etag(content: bytes) -> str:
    """A name for a content."""
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that listens on this machine until the block ends."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            status, headers, body = hub.answer(self.command, unquote(urlsplit(self.path).path))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def __getattr__(self, name: str) -> Any:
            if name in {"do_GET", "do_HEAD", "do_POST"}:
                return self._answer
            raise AttributeError(name)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def use_only(hub_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `datasets` ask this hub, and keep what it fetches and prepares in a folder."""
    constants = "huggingface_hub.constants"
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub_url)
    monkeypatch.setattr(f"{constants}.ENDPOINT", hub_url)
    monkeypatch.setattr(
        f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", hub_url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(folder / "datasets"))
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(folder / "hub"))
