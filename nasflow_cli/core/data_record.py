"""What a run remembers of the data that it was begun with, so that it never goes on with other data unnoticed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from nasflow_cli.core.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecord:
    """The commit that was read, where the data lies on a hub; how many examples each split has; and a hash of the rest.

    `fingerprint` covers the labels in the order of the splits, the names of classes and features, and the shape of an
    example; the pixels and values it does not cover.
    """

    revision: str | None
    num_train: int
    num_validation: int
    num_test: int
    num_classes: int
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Return the value that the journal holds."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DataRecord:
        """Read what `to_json` wrote. Raises KeyError or TypeError when it is something else."""
        revision, fingerprint = value["revision"], value["fingerprint"]
        counts = {name: value[name] for name in ("num_train", "num_validation", "num_test", "num_classes")}
        if not isinstance(fingerprint, str) or not isinstance(revision, str | None):
            raise TypeError("revision and fingerprint are texts")
        if not all(type(count) is int for count in counts.values()):
            raise TypeError("the numbers of examples and classes are whole numbers")
        return cls(revision=revision, fingerprint=fingerprint, **counts)

    def check_same(self, now: DataRecord) -> None:
        """Raise DataError, with what differs, unless the data is `now` what it was.

        Of data that was fetched into a folder no commit is known; the rest tells whether it is the same.
        """
        if now.revision is None or self.revision is None:
            now = replace(now, revision=self.revision)
        if now == self:
            return
        words = {"num_train": "training examples", "num_validation": "validation examples"}
        words |= {"num_test": "test examples", "num_classes": "classes"}
        differing = [
            f"{getattr(now, name)} {word} instead of {getattr(self, name)}"
            for name, word in words.items()
            if getattr(now, name) != getattr(self, name)
        ]
        if now.revision != self.revision:
            differing.insert(0, f"commit {now.revision} instead of {self.revision}")
        what = ", ".join(differing) or "other labels, names of classes or features, or shapes of examples"
        raise DataError(
            f"the data is not what this run was begun with ({what}): its scores would not be comparable. Put the data "
            "back as it was, or begin a new run with `nasflow search`"
        )
