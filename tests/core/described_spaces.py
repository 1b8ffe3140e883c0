"""Spaces that between them use every form of description, and what the operations in them declare. No torch.

`tests/nets` builds every member of the same spaces; there a test holds these facts to those of the real operations.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from nasflow_cli.core.graph import OperationFacts
from nasflow_cli.core.space import SearchSpace
from nasflow_cli.core.space_config import SpaceConfig

_WEIGHTED = OperationFacts(weighted=True, activated=True)
_POOLING = OperationFacts(adapts=True)
FACTS = {
    "none": OperationFacts(zero=True, takes="any"),
    "skip": OperationFacts(identity=True, adapts=True, takes="any"),
    "linear": OperationFacts(weighted=True, activated=True, takes="vectors"),
    **dict.fromkeys(("avg_pool3x3", "max_pool3x3", "avg_pool2x2", "max_pool2x2"), _POOLING),
    **dict.fromkeys(("conv", "conv1x1", "conv3x3", "conv5x5", "conv7x7", "grouped_conv3x3", "depthwise"), _WEIGHTED),
    **dict.fromkeys(("sep_conv3x3", "sep_conv5x5", "sep_conv7x7", "dil_conv3x3", "dil_conv5x5"), _WEIGHTED),
    **dict.fromkeys(("darts_sep_conv3x3", "darts_sep_conv5x5", "mbconv", "bottleneck", "basic_block"), _WEIGHTED),
}
ACTIVATION_NAMES = ("relu", "gelu", "silu", "tanh", "prelu")
INITIALISER_NAMES = ("default", "kaiming_normal", "orthogonal")

NB201 = ["none", "skip", "conv1x1", "conv3x3", "avg_pool3x3"]

DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "free edges between nodes, residual or not, activations a stage": {
        "stem": {"width": [4, 6]},
        "cells": {
            "body": {
                "nodes": [1, 2, 3],
                "residual": [True, False],
                "operations": ["conv3x3", "sep_conv3x3", "avg_pool3x3", "skip", "none"],
            }
        },
        "stages": [
            {"cell": "body", "depth": [1, 2], "width": [4, 6]},
            {"cell": "body", "width": 6, "stride": 2},
        ],
        "activation": {"choices": ["relu", "gelu", "silu"], "per": "stage"},
        "initialisation": {"choices": ["default", "kaiming_normal"], "per": "network"},
        "dropout": 0.1,
    },
    "NAS-Bench-201: operations on all edges": {
        "stem": {"width": [4, 8]},
        "cells": {"cell": {"nodes": 3, "edges": "all", "slots": "edges", "output": "last", "operations": NB201}},
        "stages": [{"cell": "cell", "width": 4}],
    },
    "operations on free edges, the last node leaves": {
        "stem": {"width": 4},
        "cells": {
            "cell": {
                "nodes": [2, 3],
                "edges": "free",
                "slots": "edges",
                "output": "last",
                "operations": ["conv1x1", "max_pool3x3", "skip", "none"],
            }
        },
        "stages": [{"cell": "cell", "width": [4, 5], "depth": {"min": 1, "max": 3}}],
        "activation": {"choices": ["relu", "prelu"], "per": "slot"},
        "initialisation": {"choices": ["default", "orthogonal"], "per": "stage"},
    },
    "chains in ranges, everything a slot": {
        "stem": {"width": {"min": 4, "max": 8, "step": 2}, "operation": "conv5x5"},
        "cells": {
            "chain": {
                "nodes": {"min": 1, "max": 3},
                "edges": "chain",
                "residual": True,
                "operations": ["conv3x3", "avg_pool3x3", "skip", "none"],
            }
        },
        "stages": [{"cell": "chain", "depth": {"min": 1, "max": 3}, "width": {"min": 4, "max": 12, "log": True}}],
        "activation": {"choices": ["tanh", "prelu", "silu"], "per": "slot"},
        "initialisation": {"choices": ["default", "kaiming_normal", "orthogonal"], "per": "slot"},
    },
    "two cells, one of them without edges to choose": {
        "stem": {"width": 4, "stride": 2, "operation": "conv1x1"},
        "cells": {
            "normal": {"nodes": 3, "edges": "free", "operations": ["sep_conv5x5", "dil_conv3x3", "max_pool3x3"]},
            "dense": {"nodes": [1, 2], "edges": "all", "operations": ["conv1x1", "skip"], "residual": [False, True]},
        },
        "stages": [
            {"cell": "normal", "width": [4, 6]},
            {"cell": "dense", "width": [6, 8], "stride": 2, "transition": "conv1x1"},
            {"cell": "normal", "width": 8, "depth": 2},
        ],
        "activation": {"choices": ["relu", "tanh"], "per": "network"},
        "initialisation": {"choices": ["default", "kaiming_normal"], "per": "stage"},
    },
    "DARTS: two inputs, each node chooses two values, nodes concatenated": {
        "stem": {"width": 6},
        "cells": {
            name: {
                "nodes": [2, 3],
                "inputs": 2,
                "edges": 2,
                "slots": "edges",
                "operations": ["none", "skip", "max_pool3x3", "sep_conv3x3"],
                "output": "all",
                "join": "concat",
                "project": {"operation": "conv1x1", "per": "cell"},
            }
            for name in ("normal", "reduction")
        },
        "stages": [
            {"cell": "normal", "depth": [1, 3], "width": 4, "transition": None},
            {"cell": "reduction", "width": 6, "stride": 2, "transition": None},
            {"cell": "normal", "width": 6, "transition": None},
        ],
        "activation": {"choices": ["relu", "gelu"], "per": "slot"},
        "head": {"activated": False},
    },
    "NAS-Bench-101: few edges, the width shared out": {
        "stem": {"width": 5},
        "cells": {
            "cell": {
                "nodes": 4,
                "max_edges": 7,
                "operations": ["conv3x3", "max_pool3x3", "skip"],
                "output": "free",
                "join": "split",
                "project": {"operation": "conv1x1", "per": "edge"},
            }
        },
        "stages": [
            {"cell": "cell", "width": 7},
            {"cell": "cell", "width": 9, "stride": 2, "transition": "max_pool2x2"},
        ],
        "activation": {"choices": ["relu", "silu"], "per": "slot", "order": "after"},
        "initialisation": {"choices": ["default", "orthogonal"], "per": "slot"},
    },
    "blocks with arguments, a choice a layer": {
        "stem": {"width": 4},
        "cells": {
            "block": {
                "nodes": 1,
                "per": "layer",
                "operations": [{"mbconv": {"kernel": [3, 5], "se": [True, False]}}, "skip", "avg_pool3x3"],
                "residual": [True, False],
            }
        },
        "stages": [
            {"cell": "block", "depth": [1, 2], "width": [4, 6], "transition": None},
            {"cell": "block", "depth": {"min": 1, "max": 3}, "width": 6, "stride": 2, "transition": None},
        ],
        "head": {"width": [8, 12]},
        "activation": {"choices": ["relu", "silu"], "per": "slot", "order": "after"},
    },
    "not pruned, parameters on the other side": {
        "stem": {"width": [4, 6]},
        "cells": {
            "cell": {
                "nodes": 2,
                "edges": "all",
                "slots": "edges",
                "output": "last",
                "per": "stage",
                "operations": [*NB201, {"conv": {"kernel": [3, 5], "groups": [1, 2]}}],
                "join": "concat",
            }
        },
        "stages": [
            {"cell": "cell", "depth": [1, 2], "width": 4},
            {"cell": "cell", "width": 6, "stride": 2, "transition": "skip"},
        ],
        "activation": {"choices": ["relu", "tanh"], "per": "slot"},
        "prune": False,
        "halves": {"structure": ["stages.*.?-2.operation"], "operators": ["stages.*.depth"]},
    },
}


def described(description: dict[str, Any], facts: Any = None) -> SearchSpace:
    """The space of a description; its names have to be registered when this is called."""
    return SearchSpace(SpaceConfig.model_validate_json(json.dumps(description)), facts or FACTS)


@cache
def space_named(name: str) -> SearchSpace:
    """The space of that name under `DESCRIPTIONS`."""
    return described(DESCRIPTIONS[name])
