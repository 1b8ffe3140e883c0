"""Evaluates an exported digits network without nasflow: needs torch, safetensors, numpy and scikit-learn.

    python scripts/evaluate_export.py EXPORT_DIRECTORY

Prints the accuracy on the test images that the model card names. Exits with 1 when it is not the card's, give or take
one image, or when anything imported nasflow; with 2 when the directory is not an export of the digits.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # no __pycache__ beside network.py

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402


def load_network(directory: Path) -> Any:
    """Import network.py by its path and load the weights beside it."""
    spec = importlib.util.spec_from_file_location("exported_network", directory / "network.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{directory / 'network.py'} cannot be imported")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def num_right(network: Any, indices: list[int]) -> int:
    """How many of the digits at these positions in scikit-learn's order the network classifies rightly."""
    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images[indices] * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)  # its values are 0..16
    with torch.inference_mode():
        predicted = network(torch.from_numpy(pixels)).argmax(1).numpy()
    return int((predicted == labels[indices]).sum())


def main(arguments: list[str]) -> int:
    """Evaluate one directory and return the exit code."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    if not (directory / "model_card.json").is_file():
        print(f"{directory} is not an export: there is no model_card.json in it", file=sys.stderr)
        return 2
    card = json.loads((directory / "model_card.json").read_text(encoding="utf-8"))
    indices = card["split"]["test_indices"]
    if card["split"]["source"] != "digits" or indices is None:
        print(f"{directory} is not an export of the digits", file=sys.stderr)
        return 2
    right = num_right(load_network(directory), indices)
    claimed = card["test"]["accuracy"]
    print(f"test accuracy {right / len(indices):.4f} ({right} of {len(indices)}); the model card says {claimed:.4f}")
    imported = sorted(name for name in sys.modules if name.partition(".")[0] == "nasflow_cli")
    if imported:
        print(f"nasflow was imported: {', '.join(imported)}", file=sys.stderr)
        return 1
    if abs(right - claimed * len(indices)) > 1 + 1e-6:
        print("the accuracy is not the model card's", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
