"""Search methods beside each other on a table of results; `scripts/bench_search.py` is the command.

Not part of the package: what is measured here is `nasflow_cli` and other people's packages, through their public
interfaces.
"""
