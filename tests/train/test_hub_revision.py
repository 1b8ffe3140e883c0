"""Which version of a data set of the hub is read: from a hub on this machine whose data set moves on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from fake_hub import NAME, FakeHub, fake_hub, use_only
from made_data import refused, write_folder
from made_pictures import made, pictures

from nasflow_cli.core.data_config import DataConfig, HubConfig
from nasflow_cli.core.errors import ConfigError, MissingError
from nasflow_cli.train.data import hub_client, load_splits, outline, select

pytest.importorskip("datasets", reason="the extra `hub` is not installed")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as running:
        use_only(running.url, tmp_path, monkeypatch)
        yield running


def at(revision: str | None, subset: str | None = None) -> DataConfig:
    return DataConfig(source="hub", path=NAME, hub=HubConfig(revision=revision, subset=subset))


def pixels_of(config: DataConfig) -> set[bytes]:
    splits = load_splits(config)
    return {image.tobytes() for part in (splits.train, splits.validation, splits.test) for image in part.images}


def test_a_name_means_its_newest_commit_and_a_commit_means_the_same_for_ever(hub: FakeHub) -> None:
    before, blobs = pictures(20, seed=0)
    first = hub.commit(made(blobs))
    assert outline(select(at(None))).record.revision == first

    after, blobs = pictures(30, seed=1)
    second = hub.commit(made(blobs))

    assert [outline(select(at(name))).record.revision for name in (None, "main", first)] == [second, second, first]
    for revision, pixels in ((first, before), (None, after)):
        assert pixels_of(at(revision)) == {image.tobytes() for image in np.ascontiguousarray(pixels)}


def test_a_commit_that_was_prepared_here_is_read_without_the_hub_and_a_name_is_not(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = hub.commit(made(pictures(20)[1]))
    wanted = pixels_of(at(None))
    hub.asked.clear()

    assert pixels_of(at(first)) == wanted
    assert hub.asked == []
    use_only(NOBODY, tmp_path, monkeypatch)
    assert pixels_of(at(first)) == wanted
    for config in (at(None), at(first, "other"), at("0" * 40)):
        with pytest.raises(MissingError, match="the hub cannot be reached"):
            select(config)


def test_faults_of_the_network_are_known_whichever_library_the_hub_package_uses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class HfHubHTTPError(requests.HTTPError, OSError):
        """As of versions before 1."""

    monkeypatch.setattr("huggingface_hub.errors.HfHubHTTPError", HfHubHTTPError)

    with pytest.raises(MissingError, match="the hub cannot be reached"), hub_client.failures_named("a/b"):
        raise requests.ConnectTimeout


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((401, "RepoNotFound"), f"data.path: there is no data set {NAME} on the hub, or it is not open to you"),
        ((403, "GatedRepo"), f"data.path: {NAME} is open only to those who have asked for it"),
        ((404, "RevisionNotFound"), f"data.hub.revision: {NAME} has no revision 'v1'; name a branch, a tag or a"),
        ((503, "Busy"), "the hub cannot be reached"),
        ((429, "Busy"), "the hub cannot be reached"),
    ],
)
def test_what_the_hub_refuses_is_one_message_after_one_request(
    hub: FakeHub, refusal: tuple[int, str], said: str
) -> None:
    hub.refusal = refusal

    message = refused(MissingError, "hub", Path(NAME), hub={"revision": "v1"})

    assert said in message
    assert "\n" not in message
    assert [each for each in hub.asked if NAME in each] == [f"GET /api/datasets/{NAME}/revision/v1"]


def test_a_hub_that_is_silent_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_client, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(
        "huggingface_hub.utils._detect_agent._registry", {}, raising=False
    )  # else that is asked for too
    with socket.create_server(("127.0.0.1", 0)) as silent:
        use_only(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, monkeypatch)

        message = refused(MissingError, "hub", Path(NAME))

        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert "the hub cannot be reached (ConnectionError: ReadTimeout" in message


@pytest.mark.usefixtures("hub")
def test_a_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "images" / "train")
    message = refused(ConfigError, "hub", tmp_path / "images", hub={"revision": "v1"})
    assert "data.hub.revision: 'v1' would be ignored" in message
