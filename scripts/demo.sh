#!/bin/sh
# The whole of nasflow in two minutes: search on real images, look at the result, export it, test the exported files.
# Usage: demo.sh BIN  (the folder of the virtual environment's programs)
set -eu
bin=$1
step() { printf '\n$ %s\n' "$*"; "$@"; }

step "$bin/nasflow" check configs/digits.yaml
step "$bin/nasflow" search configs/digits.yaml
step "$bin/nasflow" leaderboard
step "$bin/nasflow" export-best
printf '\nThe exported files alone, in a process that does not import nasflow:\n'
step "$bin/python" -I scripts/evaluate_export.py runs/latest/export
