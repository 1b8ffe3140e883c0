"""What the bridge does when actors are lost or silent. Ray is played here, so that each moment can be chosen."""

from __future__ import annotations

import queue
import sys
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from nasflow_cli.execute.boundary import Message, encode
from nasflow_cli.execute.bridge import LOST_ACTORS, OVERDUE_LOOKS, Events, _Bridge
from nasflow_cli.execute.ray_node import Share

LOOK_EVERY_S = 5.0


class Actor:
    """Holds each call, by the name of the method, until the test answers it."""

    def __init__(self) -> None:
        self.calls: dict[str, list[Future[bytes]]] = {"ready": [], "work": [], "stop": []}

    def __getattr__(self, name: str) -> SimpleNamespace:
        def remote(*arguments: object) -> SimpleNamespace:
            future: Future[bytes] = Future()
            self.calls[name].append(future)
            return SimpleNamespace(future=lambda: future)

        return SimpleNamespace(remote=remote)


class Stage:
    """A bridge with two places, and a Ray whose actors do what the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit_s: float | None) -> None:
        self.actors: list[Actor] = []
        self.killed: list[Actor] = []
        self.posted: list[Message] = []
        played = SimpleNamespace(
            remote=lambda **options: lambda made: SimpleNamespace(remote=self._start),
            kill=self.killed.append,
            exceptions=SimpleNamespace(RayError=RuntimeError),
        )
        monkeypatch.setitem(sys.modules, "ray", played)
        hello: dict[str, Any] = {"address": None, "target": "", "setup": {}, "memory_bytes": None}
        hello |= {"limit_s": limit_s, "look_every_s": LOOK_EVERY_S}
        share = Share(actors=2, on_a_node=2, num_cpus=1, num_gpus=0.0, environment={})
        self._events: Events = queue.SimpleQueue()
        self.bridge = _Bridge(hello, share, self.posted.append, self._events)
        self._now = self.bridge._looked

    def _start(self, hello: bytes) -> Actor:
        self.actors.append(Actor())
        return self.actors[-1]

    def take(self, number: int) -> None:
        self.bridge.take({"number": number, "run": {}, "log": "log.txt"})

    def answer(self, actor: Actor, name: str, message: Message | None = None) -> None:
        """Have the last call of a method end: with a message, or since the actor has died."""
        future = actor.calls[name][-1]
        if message is None:
            future.set_exception(RuntimeError("The actor is dead because its node has died."))
        else:
            future.set_result(encode(message))
        while not self._events.empty():
            self._events.get()(self.bridge)

    def begin(self, actor: Actor) -> None:
        self.answer(actor, "ready", {"pid": 7, "host": "node"})

    def look(self, times: int) -> None:
        for _ in range(times):
            self._now += LOOK_EVERY_S
            self.bridge.look(self._now)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch, None)


def test_an_actor_that_is_lost_while_it_starts_fails_no_task_another_is_started(stage: Stage) -> None:
    stage.take(0)

    stage.answer(stage.actors[0], "ready")

    assert stage.posted == []
    assert len(stage.actors) == 2
    stage.begin(stage.actors[1])
    stage.begin(stage.actors[1])  # it is asked again before it gets the task
    assert len(stage.actors[1].calls["work"]) == 1


def test_where_no_actor_can_be_started_the_task_fails_with_the_reason(stage: Stage) -> None:
    stage.take(0)

    for n in range(LOST_ACTORS):
        stage.answer(stage.actors[n], "ready")

    message = "no worker can be started by Ray: The actor is dead because its node has died."
    assert stage.posted == [{"number": 0, "lost": {"kind": "worker", "message": message}}]
    assert len(stage.actors) == LOST_ACTORS


@pytest.mark.parametrize("limit_s", [None, 3600.0])
def test_an_idle_actor_that_says_nothing_when_it_is_asked_costs_no_task(
    monkeypatch: pytest.MonkeyPatch, limit_s: float | None
) -> None:
    stage = Stage(monkeypatch, limit_s)
    stage.take(0)
    stage.begin(stage.actors[0])

    stage.look(OVERDUE_LOOKS)
    assert stage.killed == []
    stage.look(1)

    assert stage.killed == stage.actors[:1]
    assert stage.posted == []
    stage.begin(stage.actors[1])
    stage.begin(stage.actors[1])
    assert len(stage.actors[1].calls["work"]) == 1


def test_an_actor_that_works_may_be_silent_for_ever_where_there_is_no_time_limit(stage: Stage) -> None:
    stage.take(0)
    stage.begin(stage.actors[0])
    stage.begin(stage.actors[0])

    stage.look(100 * OVERDUE_LOOKS)
    stage.answer(stage.actors[0], "work", {"reply": {}, "seconds": 1.0})

    assert stage.posted == [{"number": 0, "reply": {}, "seconds": 1.0}]


def test_an_actor_that_works_is_given_up_two_minutes_after_the_time_limit_and_its_late_answer_is_not_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch, 3600.0)
    stage.take(0)
    stage.begin(stage.actors[0])
    stage.begin(stage.actors[0])

    stage.look(int((3600 + 120) / LOOK_EVERY_S))
    assert stage.posted == []
    stage.look(1)
    stage.answer(stage.actors[0], "work", {"reply": {}, "seconds": 1.0})

    (told,) = stage.posted
    assert told["lost"]["kind"] == "timeout"


def test_looks_that_come_late_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, 3600.0)
    stage.take(0)
    stage.begin(stage.actors[0])
    stage.begin(stage.actors[0])

    stage.bridge.look(stage._now + 86_400.0)

    assert stage.posted == []


def test_a_task_that_is_stopped_while_its_actor_is_asked_is_interrupted(stage: Stage) -> None:
    stage.take(0)
    stage.begin(stage.actors[0])

    stage.bridge.stop(1.0)
    stage.answer(stage.actors[0], "ready")

    assert stage.posted == [{"number": 0, "lost": None}]
