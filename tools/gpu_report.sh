#!/bin/sh
# OPTIONS: what a GPU can tell about this project, in one call; --help lists the options.
# PYTHON runs it (default: python3). Wheels in .whl/ are installed into .whl/site, for this program alone.
start=$(date +%s)
here=$PWD
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
python=${PYTHON:-python3}

if ! command -v "$python" >/dev/null; then
    echo "gpu_report.sh: error: no $python; set PYTHON to a Python with torch, triton and timm" >&2
    exit 2
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
set_up() {
    "$python" -m pip install --quiet --no-deps --no-index --no-compile --disable-pip-version-check \
        --upgrade --target "$root/.whl/site" "$@"
}
if ls "$root"/.whl/*.whl >/dev/null 2>&1; then
    # one wheel that does not fit must not cost the others
    if ! set_up "$root"/.whl/*.whl; then
        for wheel in "$root"/.whl/*.whl; do
            set_up "$wheel" || echo "gpu_report.sh: without ${wheel##*/}" >&2
        done
    fi
    export PYTHONPATH="$PYTHONPATH:$root/.whl/site"
fi
if [ -z "$WEIGHTFORMER_COMMIT" ]; then
    WEIGHTFORMER_COMMIT=$(git -C "$root" describe --always --dirty=+dirty --abbrev=40 --exclude='*' 2>/dev/null)
    export WEIGHTFORMER_COMMIT
fi
cd "$root" || exit 1 # Python looks for modules here first
exec "$python" -m projects.gpu_report --spent "$(($(date +%s) - start))" --from "$here" "$@"
