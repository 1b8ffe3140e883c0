#!/bin/sh
# Says plainly what a machine lacks before anything is installed, and the command that mends it.
# Usage: preflight.sh PYTHON
python=$1
missing=0

say() {
    echo "nasflow: $1" >&2
    missing=1
}

if ! command -v "$python" >/dev/null 2>&1; then
    say "'$python' is not there. Install Python 3.10, 3.11 or 3.12 (Debian, Ubuntu: sudo apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3.11"
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'; then
    say "$("$python" --version 2>&1) will not do: DGL, which the predictor needs, has builds for Python 3.10 to 3.12. Name one: make PYTHON=python3.11"
fi
if ! "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    say "this Python cannot make virtual environments. Debian, Ubuntu: sudo apt-get install python3-venv"
fi
header=$("$python" -c 'import sysconfig, os; print(os.path.join(sysconfig.get_paths()["include"], "Python.h"))')
if ! command -v cc >/dev/null 2>&1 && ! command -v gcc >/dev/null 2>&1 && ! command -v clang >/dev/null 2>&1; then
    say "there is no C compiler; netifaces, which hpbandster needs, is compiled at installation. Debian, Ubuntu: sudo apt-get install build-essential python3-dev; Fedora: sudo dnf install gcc python3-devel; macOS: xcode-select --install"
elif [ ! -f "$header" ]; then
    say "the C headers of this Python are missing ($header). Debian, Ubuntu: sudo apt-get install python3-dev; Fedora: sudo dnf install python3-devel"
fi
exit $missing
