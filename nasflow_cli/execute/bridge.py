"""Ray's driver: a process between nasflow's driver and a Ray cluster, so that what ends Ray does not end a search.

It gives each task to an actor that is free, starts actors as they are needed, and says how each task ended. Where Ray
is started here, all its processes are in the session that this process leads, and end with it or with nasflow's driver.
Refuses to let Ray print, and to show it the signals of a terminal or a batch system.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import nasflow_cli
from nasflow_cli.core.errors import MissingError
from nasflow_cli.core.trial import ErrorKind
from nasflow_cli.execute import ray_node
from nasflow_cli.execute.actor import Actor
from nasflow_cli.execute.boundary import MESSAGE_LENGTH, Message, decode, encode
from nasflow_cli.execute.ray_heart import await_end, heart_of
from nasflow_cli.execute.ray_node import Share
from nasflow_cli.execute.session import end_members, members
from nasflow_cli.execute.worker import DRIVERS_SIGNALS

LOST_ACTORS = 3
"""How many actors a task is given to that are gone before it has begun."""

LEAVING_S = 3.0
"""How long taking leave of a cluster may take; it ends the actors of who has left without."""

OVERDUE_LOOKS = 24
"""For how many looks an idle actor may say nothing, or a busy one more than its task has time: two minutes."""

REASON_LENGTH = 300
"""Characters kept of what Ray says became of an actor."""

_REASON = "The actor "
"""Ray's messages first say which actor it was, then, in a sentence that begins like this, what became of it."""


Events = queue.SimpleQueue[Callable[["_Bridge"], None]]
"""What the main thread is to do, one after the other."""


@dataclass(slots=True, kw_only=True)
class _Seat:
    """An actor; `who` is empty until it is there. `task` is what it has, of which `serial` names this attempt.

    `working` is set once the task has been sent, `stopping` when it is to stop; `looks` counts since it was asked, or
    has worked.
    """

    actor: Any
    who: str = ""
    task: Message | None = None
    serial: int = 0
    working: bool = False
    looks: int = 0
    stopping: bool = False


def serve(connection: Connection, driver: int) -> None:
    """Run in a new process until nasflow's driver is gone, which the end of its orders tells.

    The first message says all that `ray_node` and `Actor` are told; it is answered by `{"ready", "on_a_node"}`, the
    number of slots and how many of them one node has at most, or by `{"missing": why}`. Then
    `{"number", "run": payload, "log": path}` is a task and `{"stop": grace_s}` stops all of them. Each task is answered
    once, by its `number` and what `boundary.attempt` says, or by its `number` and `lost`: a failure, or None for an
    interruption.
    """
    os.setsid()
    for number in DRIVERS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # They also stay blocked, as the driver has them while it starts this: Ray's processes would let them in again.
    hello = decode(connection.recv_bytes())
    folder: str | None = hello["folder"]
    _redirect(folder)
    events: Events = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, events, folder), daemon=True).start()
    ready = _open(hello)
    if isinstance(ready, str):
        connection.send_bytes(encode({"missing": ready}))
        _leave(folder)
        return
    connection.send_bytes(encode({"ready": ready.actors, "on_a_node": ready.on_a_node}))
    bridge = _Bridge(hello, ready, lambda message: connection.send_bytes(encode(message)), events)
    while True:
        # The driver may be gone, which the other thread sees too.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            with contextlib.suppress(queue.Empty):
                events.get(timeout=hello["look_every_s"])(bridge)
            bridge.look(time.monotonic())


def _redirect(folder: str | None) -> None:
    """What Ray prints goes to a file beside its own logs, or nowhere."""
    path = os.devnull if folder is None else os.path.join(folder, "bridge.log")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _listen(connection: Connection, events: Events, folder: str | None) -> None:
    """Hand on the driver's orders, and end everything when there is nobody to give any."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            order = decode(connection.recv_bytes())
            events.put(partial(_obey, order))
    if folder is None:
        events.put(_Bridge.leave)
        # The main thread may hang in a call to a cluster that is gone.
        time.sleep(LEAVING_S)
    _leave(folder)


def _obey(order: Message, bridge: _Bridge) -> None:
    if "stop" in order:
        bridge.stop(order["stop"])
    else:
        bridge.take(order)


def _leave(folder: str | None) -> None:
    """End this process and, where Ray is ours, all of Ray, and remove its folder."""
    if folder is not None:
        for _ in range(2):  # another thread may be starting Ray
            end_members(os.getpid())
            shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _watch(heart: Mapping[int, int], folder: str, look_every_s: float) -> None:
    """End everything when what is at the heart of Ray has ended: the driver starts anew, and begins its tasks again.

    Ray would wait for a minute, and then abort this process.
    """
    await_end(heart, look_every_s)
    _leave(folder)


def _open(hello: Message) -> Share | str:
    """Start Ray or connect to it, or say why that cannot be."""
    try:
        if hello["folder"] is None:
            return ray_node.connect(hello)
        share = ray_node.start(hello)
        heart = heart_of(members(os.getpid()))
        threading.Thread(target=_watch, args=(heart, hello["folder"], hello["look_every_s"]), daemon=True).start()
    except MissingError as error:
        return str(error)
    # Ray has no error of its own for what can be wrong with a cluster; ConnectionError and timeouts are OSErrors.
    except (OSError, RuntimeError, ValueError, AssertionError, ImportError) as error:
        where = hello["address"] or "started here"
        text = " ".join(str(error).split())[:MESSAGE_LENGTH]
        return f"Ray ({where}) cannot be used: {type(error).__name__}: {text}"
    return share


class _Bridge:
    """Tasks that wait, and the actors. Lives in the main thread."""

    def __init__(self, hello: Message, share: Share, post: Callable[[Message], None], events: Events) -> None:
        """`post` tells the driver; what is put into `events` is called later."""
        import ray  # noqa: PLC0415  (imported by now)

        self._ray: Any = ray
        self._address: str | None = hello["address"]
        self._post = post
        self._events = events
        self._waiting: deque[Message] = deque()
        self._seats: list[_Seat] = []
        self._serial = 0
        self._most = share.actors
        self._limit_s: float | None = hello["limit_s"]
        self._look_every_s: float = hello["look_every_s"]
        self._looked = time.monotonic()
        environment = dict(share.environment)
        if share.num_gpus:
            environment.pop("CUDA_VISIBLE_DEVICES", None)  # Ray says which device
        self._hello = encode(
            {
                **{name: hello[name] for name in ("target", "setup", "limit_s", "memory_bytes", "look_every_s")},
                "environment": environment,
                "on_nodes": {name: dict(there) for name, there in share.on_nodes.items()},
                "umask": umask(),
                "path": sys.path,
                "version": nasflow_cli.__version__,
            }
        )
        self._class = ray.remote(
            num_cpus=share.num_cpus,
            num_gpus=share.num_gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=2,
            scheduling_strategy="SPREAD",
        )(Actor)

    def take(self, order: Message) -> None:
        """Take a task from the driver."""
        self._waiting.append({**order, "tries": 0})
        self._dispatch()

    def stop(self, grace_s: float) -> None:
        """Ask all tasks to stop; those that have not begun are interrupted now."""
        for order in self._waiting:
            self._post({"number": order["number"], "lost": None})
        self._waiting.clear()
        for seat in self._seats:
            if seat.task is not None:
                seat.stopping = True
                if seat.working:
                    seat.actor.stop.remote(seat.serial, grace_s)

    def look(self, now: float) -> None:
        """Every few seconds: give up actors that do not answer, or say nothing of a task that is long over its time.

        They and their workers may be halted at once, so that neither sees the other. Looks are counted and not
        seconds, for the time in which this process was halted with them.
        """
        if now - self._looked < self._look_every_s:
            return
        self._looked = now
        for seat in [seat for seat in self._seats if seat.task is not None]:
            seat.looks += 1
            late_s = (seat.looks - OVERDUE_LOOKS) * self._look_every_s
            order = seat.task
            if order is None or late_s <= 0:
                continue
            if not seat.working:
                self._drop(seat)
                self._try_again(
                    seat, order, f"{LOST_ACTORS} workers were lost before it began; the last did not answer"
                )
            elif self._limit_s is not None and late_s > self._limit_s:
                self._drop(seat)
                message = f"no result after {self._limit_s:g} s, the time limit of a trial, nor a word of {seat.who}"
                self._fail(order, message, kind="timeout")
        self._dispatch()

    def leave(self) -> None:
        """Take leave of the cluster, which ends the actors, and end this process."""
        for seat in list(self._seats):
            self._drop(seat)
        self._ray.shutdown()
        _leave(None)

    def _dispatch(self) -> None:
        """Give waiting tasks to free actors; start actors while there are fewer than may be and tasks wait for them."""
        free = [seat for seat in self._seats if seat.who and seat.task is None]
        while self._waiting and free:
            self._hand_over(free.pop(), self._waiting.popleft())
        starting = sum(not seat.who for seat in self._seats)
        while starting < len(self._waiting) and len(self._seats) < self._most:
            seat = _Seat(actor=self._class.remote(self._hello))
            self._seats.append(seat)
            self._when_done(seat.actor.ready.remote(), partial(self._began, seat))
            starting += 1

    def _hand_over(self, seat: _Seat, order: Message) -> None:
        """Give a task to an actor, which may have died while it was idle, and is asked before."""
        self._serial += 1
        seat.task, seat.serial, seat.looks = order, self._serial, 0
        seat.stopping = seat.working = False
        self._when_done(seat.actor.ready.remote(), partial(self._asked, seat))

    def _when_done(self, ref: Any, call: Callable[[Any], None]) -> None:
        """Have `call` get the future of a call of an actor once that has ended, in the main thread."""
        ref.future().add_done_callback(lambda future: self._events.put(lambda _: call(future)))

    def _look_for_the_head(self) -> None:
        """When the head of a cluster is gone, end this process: no task is to blame for what it took with it."""
        if self._address is None:
            return  # `_watch` looks
        address = self._address
        if not address.startswith("ray://"):
            address = self._ray.get_runtime_context().gcs_address
        try:
            ray_node.call(address)
        except OSError:
            _leave(None)

    def _began(self, seat: _Seat, future: Any) -> None:
        """An actor is there, or cannot be, and a task that waits for it gets another."""
        error = future.exception()
        if error is None:
            said = decode(future.result())
            seat.who = f"process {said['pid']} on {said['host']}"
        else:
            self._look_for_the_head()
            self._drop(seat)
            if self._waiting:
                self._try_again(seat, self._waiting.popleft(), f"no worker can be started by Ray: {reason(error)}")
        self._dispatch()

    def _asked(self, seat: _Seat, future: Any) -> None:
        """An actor lives and gets its task, or does not, and another gets it."""
        order, error = seat.task, future.exception()
        if order is None:
            return
        if error is None and not seat.stopping:
            seat.working, seat.looks = True, 0
            said = {"serial": seat.serial, **{name: order[name] for name in ("number", "run", "log")}}
            self._when_done(seat.actor.work.remote(encode(said)), partial(self._answered, seat))
            return
        seat.task = None
        if error is not None:
            self._look_for_the_head()
            self._drop(seat)
        self._try_again(seat, order, f"{LOST_ACTORS} workers were lost before it began; the last: {reason(error)}")
        self._dispatch()

    def _answered(self, seat: _Seat, future: Any) -> None:
        """A task has ended, or its actor has."""
        order, seat.task = seat.task, None
        error = future.exception()
        if error is not None:
            self._look_for_the_head()
        if order is not None and error is None:
            self._post({"number": order["number"], **decode(future.result())})
        elif order is not None:
            if seat.stopping:
                self._post({"number": order["number"], "lost": None})
            else:
                self._fail(order, f"worker died: {seat.who}: {reason(error)}")
        if error is not None:
            self._drop(seat)
        self._dispatch()

    def _try_again(self, seat: _Seat, order: Message, message: str) -> None:
        """Have another actor take a task that this one has not begun; so many times, then it fails with the message."""
        order["tries"] += 1
        if seat.stopping:
            self._post({"number": order["number"], "lost": None})
        elif order["tries"] < LOST_ACTORS:
            self._waiting.appendleft(order)
        else:
            self._fail(order, message)

    def _fail(self, order: Message, message: str, kind: ErrorKind = "worker") -> None:
        self._post({"number": order["number"], "lost": {"kind": kind, "message": message}})

    def _drop(self, seat: _Seat) -> None:
        """Forget an actor. What it held is given back by Ray when it is no more."""
        seat.task = None
        self._seats = [other for other in self._seats if other is not seat]
        # It may be dead, or never have been placed.
        with contextlib.suppress(ValueError, RuntimeError, self._ray.exceptions.RayError):
            self._ray.kill(seat.actor)


def umask() -> int:
    """The umask of this process, which can only be read by setting it: to a strict one for that moment."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def reason(error: BaseException | None) -> str:
    """What Ray says became of an actor, in one short line: its beginning, or the end of a traceback."""
    text = " ".join(str(error).split())
    start = text.rfind(_REASON + "died because")
    start = text.rfind(_REASON + "is dead because") if start < 0 else start
    text = text[max(0, start) :].partition(" Some common causes include")[0]
    if len(text) <= REASON_LENGTH:
        return text
    return f"...{text[-REASON_LENGTH:]}" if "Error: " in text else f"{text[:REASON_LENGTH]}..."
