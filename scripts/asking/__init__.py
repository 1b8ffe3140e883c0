"""What a proposal costs as the history grows; `scripts/bench_ask.py` is the command. Not part of the package."""
