"""How a task says that it stopped because it was asked to. Not an error: nothing failed, and it can go on later."""

from __future__ import annotations


class Interrupted(Exception):  # noqa: N818 - it is not an error
    """A task stopped at a safe point because `should_stop` said so; its checkpoint is on disk."""
