#!/bin/bash
# OPTIONS: what a GPU can tell about this project, in one call; --help lists the options.
# PYTHON runs it (default: python3). Wheels in .whl/ are installed for this call alone, into a folder of its own.
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd) || exit 1
python=${PYTHON:-python3}

if ! command -v "$python" >/dev/null; then
    echo "gpu_report.sh: error: no $python; set PYTHON to a Python with torch, triton and timm" >&2
    exit 2
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if compgen -G "$root/.whl/*.whl" >/dev/null; then
    site=$(mktemp -d) || exit 1
    trap 'rm -rf "$site"' EXIT
    install=("$python" -m pip install --quiet --no-deps --no-index --no-compile --disable-pip-version-check)
    # one wheel that does not fit must not cost the others
    if ! "${install[@]}" --target "$site" "$root"/.whl/*.whl; then
        for wheel in "$root"/.whl/*.whl; do
            "${install[@]}" --upgrade --target "$site" "$wheel" || echo "gpu_report.sh: without ${wheel##*/}" >&2
        done
    fi
    export PYTHONPATH="$PYTHONPATH:$site"
fi
if [ -z "$WEIGHTFORMER_COMMIT" ]; then
    WEIGHTFORMER_COMMIT=$(git -C "$root" describe --always --dirty=+dirty --abbrev=40 --exclude='*' 2>/dev/null)
    export WEIGHTFORMER_COMMIT
fi
here=$PWD
cd "$root" || exit 1 # Python looks for modules here first
"$python" -m projects.gpu_report --spent "$SECONDS" --from "$here" "$@"
