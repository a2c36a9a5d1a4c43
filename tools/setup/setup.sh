#!/bin/sh
# Find CPython 3.11 and hand over to install.py.
# Usage: setup.sh PYTHON VENV      PYTHON may be empty: then python3.11 and python3 are tried.
set -eu

is_right() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

python=$1
venv=$2
if [ -z "$python" ]; then
    for candidate in python3.11 python3; do
        if is_right "$candidate"; then python=$candidate; break; fi
    done
    if [ -z "$python" ]; then
        echo 'setup: no Python 3.11 on the PATH (tried python3.11 and python3): install it, or give PYTHON=/path/to/python3.11' >&2
        exit 2
    fi
elif ! is_right "$python"; then
    found=$("$python" --version 2>&1 | head -n 1) || true
    echo "setup: PYTHON=$python is not Python 3.11 (${found:-no answer}): the lock file is for CPython 3.11" >&2
    exit 2
fi
exec "$python" "$(dirname "$0")/install.py" --venv "$venv"
