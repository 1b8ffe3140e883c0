"""Stands in for Ray's driver: it says what `bridge.serve` says, and has tasks that wait, or die."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from nasflow_cli.execute.boundary import Message, decode, encode


def serve(connection: Connection, driver: int) -> None:
    slots = decode(connection.recv_bytes())["slots"]
    connection.send_bytes(encode({"ready": slots, "on_a_node": slots}))
    signposts = []
    while True:
        try:
            order = decode(connection.recv_bytes())
        except EOFError:
            return
        task: Message = order["run"]
        begun_before = "begun" in task and Path(task["begun"]).exists()
        if "begun" in task:
            Path(task["begun"]).touch()
        if "signpost" in task:
            signposts.append(os.open(task["signpost"], os.O_WRONLY))
            os.write(signposts[-1], f"{os.getpid()}\n".encode())
        if task["do"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task["do"] == "echo" or begun_before:
            connection.send_bytes(encode({"number": order["number"], "reply": {"pid": os.getpid()}, "seconds": 0.0}))
