"""The model card for people, written from the model card for programs. Knows nothing that the latter does not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nasflow_cli.core.counted import counted

SCHEMA_VERSION = 1

_CARD = """\
# {name}: a network found by nasflow

{found}

| | |
|---|---|
| validation accuracy | {validation} |
| test accuracy | {test} |
| parameters | {params:,} |
| FLOPs | {flops:,} ({flops_unit}) |
| input | {input} |
| classes | {num_classes}: {classes} |
| data | {data} |

## Use
```python
from network import CLASSES, load

network = load()           # reads model.safetensors beside network.py
{call}
```
`network.py` needs torch and safetensors, not nasflow; its first lines say so if it needs more.
{classifies}

## How it was found
{lineage}

Structure: {structure}

Operators: {operators}

## How it was trained
{final}{training}

## Checked
In a process of its own, without nasflow, the files gave the trained network's outputs on {num_checked:,} {examples};
the largest difference of a logit was {difference:.1e}.

Made with {versions}.
"""


def readable(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    found, classes = card["found"], card["classes"]
    seen = [*classes[:12], "..."] if len(classes) > 12 else classes
    return _CARD.format(
        name=card["name"],
        found=(
            f"Trial {found['trial']} of the search, key `{card['key']}`; its score was {found['score']:.4f} after "
            f"{counted(found['budget_epochs'], 'epoch')}{_confirmed(found)}."
        ),
        validation=_accuracy(card, "validation"),
        test=_accuracy(card, "test"),
        params=card["params"],
        flops=card["flops"],
        flops_unit=card["flops_unit"],
        num_classes=len(classes),
        classes=", ".join(seen),
        data=_data(card),
        lineage=_lineage(found),
        structure=_listed(card["architecture"]["structure"]),
        operators=_listed(card["architecture"]["operators"]),
        final=_final(card),
        training=_listed({**_run(card), **card["training"]}),
        num_checked=card["verification"]["num_images"],
        difference=card["verification"]["max_abs_difference"],
        versions=", ".join(f"{name} {version}" for name, version in card["versions"].items()),
        examples=_examples(card),
        **(_image_text if len(card["input"]["shape"]) == 3 else _vector_text)(card["input"]),
    )


def _confirmed(found: Mapping[str, Any]) -> str:
    if found["num_seeds"] == 1:
        return ""
    return f"; over {found['num_seeds']} seeds {found['mean_score']:.4f} +- {found['spread_score']:.4f}"


def _examples(card: Mapping[str, Any]) -> str:
    return "images" if len(card["input"]["shape"]) == 3 else "rows"


def _image_text(image: Mapping[str, Any]) -> dict[str, str]:
    channels, height, width = image["shape"]
    return {
        "input": f"{channels} x {height} x {width} (channels, height, width), values 0..255",
        "call": f"logits = network(images)   # (n, {channels}, {height}, {width}), values 0..255, not normalised",
        "classifies": "`python network.py IMAGE...` classifies image files (with Pillow).",
    }


def _vector_text(vector: Mapping[str, Any]) -> dict[str, str]:
    (width,), features = vector["shape"], vector["features"]
    seen = ", ".join([*features[:12], "..."] if len(features) > 12 else features)
    return {
        "input": f"vectors of {width} features: {seen}",
        "call": f"logits = network(vectors)  # (n, {width}), the numbers of FEATURES in order, NaN: missing",
        "classifies": "`python network.py FILE.csv...` classifies rows of such numbers; FEATURES in it has all names.",
    }


def _run(card: Mapping[str, Any]) -> dict[str, Any]:
    final, found = card["final"], card["found"]
    if final is not None:
        return {"seed": final["seed"], "epochs": final["epochs"]}
    return {"seed": found["seed"], "epochs": found["budget_epochs"]}


def _final(card: Mapping[str, Any]) -> str:
    final = card["final"]
    if final is None:
        return ""
    text = (
        f"In a final training, from scratch on {final['num_train']:,} {_examples(card)} (training and validation data) "
        f"for {counted(final['epochs'], 'epoch')}. The weights are of seed {final['weights_of_seed']}, the first: none "
        "is chosen by its test accuracy."
    )
    if final["num_seeds"] > 1:
        text += (
            f" Test accuracy over {final['num_seeds']} seeds: mean {final['mean_test_accuracy']:.4f}, standard "
            f"deviation {final['spread_test_accuracy']:.4f}."
        )
    return f"{text}\n\n"


def _accuracy(card: Mapping[str, Any], split: str) -> str:
    if card[split] is None:
        return "none: it was trained on the validation data as well"
    return f"{card[split]['accuracy']:.4f} on {card[split]['num_images']:,} {_examples(card)}"


def _data(card: Mapping[str, Any]) -> str:
    split = card["split"]
    num_train = split["num_train"] if card["final"] is None else card["final"]["num_train"]
    own = "the data's own" if split["test_indices"] is None else "carved out, its indices are in model_card.json"
    return f"{split['source']}, {num_train:,} {_examples(card)} to train on; test split: {own}"


def _lineage(found: Mapping[str, Any]) -> str:
    text = (
        f"Proposed in turn {found['turn']} (phase {found['phase']}), bracket {found['bracket']}, rung {found['rung']}"
    )
    if len(found["lineage"]) > 1:
        text += f"; it went on from trial {', which went on from trial '.join(map(str, found['lineage'][1:]))}"
    if found["trained_again"]:
        text += ". Its checkpoint was gone when it was exported; it was trained again from the same seed"
    return f"{text}."


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} `{value}`" for name, value in values.items()) or "nothing searched"
