"""The border between executors and the code they run: JSON one way, a reply or a named failure the other way.

The only place with a broad `except`: nothing that a handler raises may end a worker. Refuses to pickle; what is not
JSON does not cross.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from nasflow_cli.core.interrupt import Interrupted
from nasflow_cli.core.trial import ErrorKind
from nasflow_cli.execute.log import LogError, open_log
from nasflow_cli.execute.protocol import Failure, Handler, Outcome, Target, Task

Message = dict[str, Any]

MESSAGE_LENGTH = 1000
"""Characters kept of an exception's text: torch writes pages about a state dict that does not fit."""

MEMORY_SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed", "bad_alloc")
"""What CUDA, torch's CPU allocator, the operating system, cuBLAS and C++ say when there is no memory left."""

MEMORY_END = "could not create a primitive"
"""All that oneDNN says when it finds no memory. A layer that it does not have is a `primitive descriptor` to it."""

UNASKED: Message = {"kind": "exception", "message": "it stopped as if it had been told to, and was not"}
"""The failure of a task that calls itself interrupted."""

DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
"""A full or a read-only disk: no fault of the task that met it, and the next task would meet it too."""


def encode(value: Mapping[str, Any]) -> bytes:
    """Return JSON. Raises TypeError or ValueError for what JSON cannot hold."""
    return json.dumps(dict(value)).encode()


def decode(message: bytes) -> Message:
    """Read what `encode` wrote."""
    return cast("Message", json.loads(message))


def plain(value: Mapping[str, Any], what: str) -> Message:
    """What the value is on the other side. Raises ValueError when JSON cannot hold it."""
    try:
        return decode(encode(value))
    except TypeError as error:
        raise ValueError(f"the {what} is not JSON: {error}") from error


def resolve(target: str) -> Target:
    """Import what `module:function` names. Raises ValueError for another form, and whatever the import raises."""
    module, colon, function = target.partition(":")
    if not (module and colon and function):
        raise ValueError(f"a target is written 'module:function', not {target!r}")
    return cast("Target", getattr(importlib.import_module(module), function))


def failure_of(error: BaseException) -> Failure:
    """Say what kind of failure an exception is, and put it in one line."""
    # An error that says itself that a disk is to blame is a whole sentence; what to do about it the driver says.
    is_whole = getattr(error, "error_kind", None) == "disk"
    text = " ".join(str(getattr(error, "fact", error) if is_whole else error).split())
    if len(text) > MESSAGE_LENGTH:
        text = f"{text[:MESSAGE_LENGTH]}..."
    name = type(error).__name__
    return Failure(kind=_kind(error, text), message=text if text and is_whole else f"{name}: {text}" if text else name)


def _kind(error: BaseException, text: str) -> ErrorKind:
    declared = getattr(error, "error_kind", None)
    if declared in get_args(ErrorKind):
        return cast("ErrorKind", declared)
    classes = {each.__name__ for each in type(error).__mro__}
    lower = text.lower()
    if classes & {"MemoryError", "OutOfMemoryError"} or any(sign in lower for sign in MEMORY_SIGNS):
        return "memory"
    if lower.endswith(MEMORY_END):
        return "memory"
    return "disk" if isinstance(error, OSError) and error.errno in DISK_FAULTS else "exception"


def attempt(
    prepare: Callable[[], Handler],
    payload: Message,
    should_stop: Callable[[], bool],
    *,
    log: Path,
    clock: Callable[[], float],
) -> Message:
    """Call what `prepare` gives, and return the message that says how that ended: `reply`, `failure`, `interrupted`.

    `seconds` leaves the preparation out. The traceback of a failure is appended to `log`. KeyboardInterrupt passes
    through: it is the driver's.
    """
    begin = clock()
    try:
        handler = prepare()
        begin = clock()
        message: Message = {"reply": _checked(handler(payload, should_stop))}
    except Interrupted:
        # An interruption that nobody has asked for would never be taken up again: who runs tasks waits for results.
        message = {"interrupted": True} if should_stop() else {"failure": UNASKED}
    except (Exception, SystemExit) as error:
        failure = failure_of(error)
        message = {"failure": {"kind": failure.kind, "message": failure.message}}
        # The disk may be full; the one line that goes to the driver says enough then.
        with (
            contextlib.suppress(OSError, LogError),
            open(open_log(log), "a", encoding="utf-8", errors="backslashreplace") as file,
        ):
            traceback.print_exc(file=file)
    return {**message, "seconds": max(0.0, clock() - begin)}


def _checked(reply: object) -> Message:
    if not isinstance(reply, dict):
        raise TypeError(f"a handler returns a dict, not {type(reply).__name__}")
    return decode(encode(reply))


def outcome_of(task: Task, message: Message, *, started: float, finished: float) -> Outcome:
    """Read the message of `attempt` on the driver's side. Times are readings of the driver's clock."""
    failure = message.get("failure")
    return Outcome(
        number=task.number,
        reply=message.get("reply"),
        failure=None if failure is None else Failure(**failure),
        interrupted=message.get("interrupted", False),
        seconds=message["seconds"],
        started=started,
        finished=finished,
    )


def message_of(outcome: Outcome) -> Message:
    """What `outcome_of` reads, for an outcome that came by another way. Times are left out."""
    message: Message = {"interrupted": True}
    if outcome.failure is not None:
        message = {"failure": {"kind": outcome.failure.kind, "message": outcome.failure.message}}
    elif outcome.reply is not None:
        message = {"reply": outcome.reply}
    return {**message, "seconds": outcome.seconds}


def lost(task: Task, failure: Failure | None, *, started: float, finished: float) -> Outcome:
    """The outcome of a task whose worker said nothing more: a failure, or without one an interruption."""
    return Outcome(
        number=task.number,
        failure=failure,
        interrupted=failure is None,
        seconds=max(0.0, finished - started),
        started=started,
        finished=finished,
    )
