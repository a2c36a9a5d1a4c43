#!/bin/sh
# Evaluate under slurm: docs/training.md.
if [ $# -lt 4 ]; then
    echo "usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
checkpoint=$4
shift 4
exec sh "$(dirname -- "$0")/launchers/srun.sh" "$partition" "$job" test.py "$config" "$checkpoint" "$@"
