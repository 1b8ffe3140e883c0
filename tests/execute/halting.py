"""Halts a child of this process, and lets it go on: when a call returns, the kernel has done so."""

from __future__ import annotations

import os
import signal


def halt(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def let_go_on(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)
    os.waitid(os.P_PID, pid, os.WCONTINUED | os.WNOWAIT)
