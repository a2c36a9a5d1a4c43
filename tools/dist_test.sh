#!/bin/sh
# Evaluate on several GPUs, on one machine or several: docs/training.md.
if [ $# -lt 3 ]; then
    echo "usage: [NNODES=N NODE_RANK=I MASTER_ADDR=HOST PORT=PORT] $0 CONFIG CHECKPOINT GPUS [options of test.py]" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3
exec sh "$(dirname -- "$0")/launchers/torchrun.sh" "$gpus" test.py "$config" "$checkpoint" "$@"
