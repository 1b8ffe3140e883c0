"""Real, small searches on the digits: one process, or the command line in processes of its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
