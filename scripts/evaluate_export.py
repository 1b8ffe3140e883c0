"""Evaluates an exported network without nasflow: needs torch, safetensors, numpy and, for the digits, scikit-learn.

    python scripts/evaluate_export.py EXPORT_DIRECTORY             # of the digits
    python scripts/evaluate_export.py EXPORT_DIRECTORY TABLE.csv   # of a table: the file that the test rows are in

Prints the accuracy on the test examples that the model card names. Exits with 1 when it is not the card's, give or
take one example, or when anything imported nasflow; with 2 when the directory is neither kind of export.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # no __pycache__ beside network.py

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

Examples = tuple[Tensor, list[str]]


def load_module(directory: Path) -> Any:
    """Import network.py by its path."""
    spec = importlib.util.spec_from_file_location("exported_network", directory / "network.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{directory / 'network.py'} cannot be imported")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digits(indices: list[int]) -> Examples:
    """The digits at these positions in scikit-learn's order."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  (not needed for tables)

    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images[indices] * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)  # its values are 0..16
    return torch.from_numpy(pixels), [str(label) for label in labels[indices]]


def table(path: Path, card: dict[str, Any], indices: list[int] | None) -> Examples:
    """The rows of a comma-separated file with a header, by position: those at `indices`, or all.

    A feature is a column of that name, or `column=value`: 1 where the column holds that value, else 0.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [{key.strip(): value.strip() for key, value in row.items()} for row in csv.DictReader(file)]
    chosen = rows if indices is None else [rows[index] for index in indices]
    vectors = [[feature(row, name) for name in card["input"]["features"]] for row in chosen]
    target = card["split"]["target"] or list(rows[0])[-1]
    return torch.tensor(vectors), [row[target] for row in chosen]


def feature(row: dict[str, str], name: str) -> float:
    """One number of a row; NaN where it is missing."""
    column = name if name in row else next(column for column in row if name.startswith(f"{column}="))
    text = row[column]
    if text in {"", "?", "NA"} or text.lower() == "nan":
        return float("nan")
    return float(text) if column == name else float(name == f"{column}={text}")


def num_right(module: Any, examples: Examples) -> int:
    """How many of the examples the network classifies rightly. Numbers are compared as numbers: 1.0 is class 1."""
    inputs, labels = examples
    with torch.inference_mode():
        predicted = [module.CLASSES[label] for label in module.load()(inputs).argmax(1).tolist()]
    return sum(theirs == label or same_number(theirs, label) for theirs, label in zip(predicted, labels, strict=True))


def same_number(one: str, other: str) -> bool:
    """Whether two texts are one number."""
    try:
        return float(one) == float(other)
    except ValueError:
        return False


def main(arguments: list[str]) -> int:
    """Evaluate one directory and return the exit code."""
    if len(arguments) not in {1, 2}:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    if not (directory / "model_card.json").is_file():
        print(f"{directory} is not an export: there is no model_card.json in it", file=sys.stderr)
        return 2
    card = json.loads((directory / "model_card.json").read_text(encoding="utf-8"))
    indices = card["split"]["test_indices"]
    if card["split"]["source"] == "csv" and len(arguments) == 2:
        examples = table(Path(arguments[1]), card, indices)
    elif card["split"]["source"] == "digits" and indices is not None:
        examples = digits(indices)
    else:
        print(f"{directory} is not an export of the digits, nor of a table given behind it", file=sys.stderr)
        return 2
    right, total = num_right(load_module(directory), examples), len(examples[1])
    claimed = card["test"]["accuracy"]
    print(f"test accuracy {right / total:.4f} ({right} of {total}); the model card says {claimed:.4f}")
    imported = sorted(name for name in sys.modules if name.partition(".")[0] == "nasflow_cli")
    if imported:
        print(f"nasflow was imported: {', '.join(imported)}", file=sys.stderr)
        return 1
    if abs(right - claimed * total) > 1 + 1e-6:
        print("the accuracy is not the model card's", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
