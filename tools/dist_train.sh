#!/bin/sh
# Train on several GPUs, on one machine or several: docs/training.md.
if [ $# -lt 2 ]; then
    echo "usage: [NNODES=N NODE_RANK=I MASTER_ADDR=HOST PORT=PORT] $0 CONFIG GPUS [options of train.py]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2
exec sh "$(dirname -- "$0")/launchers/torchrun.sh" "$gpus" train.py "$config" "$@"
