"""Stands in for Ray's driver: it says what `bridge.serve` says, and does in its own process what a task asks for."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from nasflow_cli.execute.boundary import Message, decode, encode


def serve(connection: Connection, driver: int) -> None:
    connection.recv_bytes()
    connection.send_bytes(encode({"ready": 2}))
    signposts = []
    while True:
        try:
            order = decode(connection.recv_bytes())
        except EOFError:
            return
        task: Message = order["run"]
        if "signpost" in task:
            signposts.append(os.open(task["signpost"], os.O_WRONLY))
            os.write(signposts[-1], f"{os.getpid()}\n".encode())
        match task["do"]:
            case "echo":
                connection.send_bytes(encode({"number": order["number"], "reply": task, "seconds": 0.0}))
            case "wait_once" if Path(task["waited"]).exists():
                connection.send_bytes(encode({"number": order["number"], "reply": {"pid": os.getpid()}, "seconds": 0}))
            case "wait_once":
                Path(task["waited"]).touch()
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
