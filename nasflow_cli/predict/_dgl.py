"""Makes DGL 2.1 importable beside a current torch, and is the only module that imports it.

DGL is no longer maintained. As installed it fails three times before `import dgl` is through: it wants
`setuptools.extern.packaging.version`, which current setuptools has dropped; `torchdata.datapipes`, which current
torchdata has dropped; and a graphbolt library compiled for one exact torch version. The predictor needs neither
graphbolt nor data pipes, so empty stand-ins are registered before the import. DGL also writes `~/.dgl/config.json`
unless DGLBACKEND is set, which fails where the home is read-only.
"""

from __future__ import annotations

import os
import sys
import warnings
from types import ModuleType

import packaging
import packaging.version


def _stand_ins() -> None:
    for name in ("setuptools.extern", "setuptools.extern.packaging", "setuptools.extern.packaging.version"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules["setuptools.extern.packaging.version"] = packaging.version
    sys.modules["setuptools.extern"].packaging = packaging  # type: ignore[attr-defined]
    sys.modules.setdefault("dgl.graphbolt", ModuleType("dgl.graphbolt"))


os.environ.setdefault("DGLBACKEND", "pytorch")
_stand_ins()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dgl

__all__ = ["dgl"]
