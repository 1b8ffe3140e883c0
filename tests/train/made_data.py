"""Tiny data sets of every kind, made on the spot, and the act of being refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nasflow_cli.core.data_config import DataConfig
from nasflow_cli.core.errors import ConfigError, DataError, MissingError, NasflowError
from nasflow_cli.train.data import load_splits

LABELS = [number % 2 for number in range(20)]


def load(source: str, path: Path | None, **settings: object):
    value = {"source": source, "path": None if path is None else str(path), **settings}
    return load_splits(DataConfig.model_validate(value))


def refused(error: type[NasflowError], source: str, path: Path | None, **settings: object) -> str:
    with pytest.raises(error) as caught:
        load(source, path, **settings)
    assert caught.value.exit_code == {MissingError: 4, DataError: 2, ConfigError: 2}[error]
    return str(caught.value)


def png(width: int = 4, height: int = 4, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def noise(kind: str) -> bytes:
    """An image of 16 x 16 random pixels, which hardly compresses."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header promises side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def write_parquet(path: Path, blobs: list[bytes | None], labels: object, **columns: object) -> Path:
    image = pa.array([{"bytes": blob} for blob in blobs], pa.struct([("bytes", pa.binary())]))
    pq.write_table(pa.table({"image": image, "label": labels, **columns}), path)
    return path


def write_npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)
    return path


def write_folder(root: Path, num: int = 10) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(num):
            (root / name / f"{number}.png").write_bytes(png())
    return root


def write_cifar(root: Path, label: int = 1, cut: int = 0) -> Path:
    root.mkdir()
    content = (bytes([0]) + bytes(3072) + bytes([label]) + bytes(3072)) * 3
    for name in [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]:
        (root / name).write_bytes(content)
    (root / "data_batch_3.bin").write_bytes(content[: len(content) - cut])
    (root / "batches.meta.txt").write_text("ape\nbee\n")
    return root
