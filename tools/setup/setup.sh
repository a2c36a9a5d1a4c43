#!/bin/sh
# Find a Python that the lock files support, and hand over to install.py.
# Usage: setup.sh PYTHON VENV      if PYTHON is empty, the first suitable one on the PATH
set -eu

wanted='CPython 3.11 or 3.12 on Linux x86_64'
is_right() {
    "$1" -c 'import platform as p, sys; sys.exit((p.python_implementation(), p.system(), p.machine()) !=
        ("CPython", "Linux", "x86_64") or sys.version_info[:2] not in [(3, 11), (3, 12)])' 2>/dev/null
}

for python in ${1:-python3.11 python3.12 python3}; do
    if is_right "$python"; then exec "$python" "$(dirname "$0")/install.py" "$2"; fi
done
if [ -n "$1" ]; then
    echo "setup: PYTHON=$1 is not $wanted ($("$1" --version 2>&1 | head -n 1))" >&2
else
    echo "setup: there is no $wanted on the PATH: install it, or give PYTHON=/path/to/python3.11" >&2
fi
exit 2
