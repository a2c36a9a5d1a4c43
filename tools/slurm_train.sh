#!/bin/sh
# Train under slurm: docs/training.md.
if [ $# -lt 3 ]; then
    echo "usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=...] $0 PARTITION JOB_NAME CONFIG [WORK_DIR] [options of train.py]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
shift 3
case ${1-} in
    '' | -*) ;;
    *)
        work_dir=$1
        shift
        set -- --work-dir "$work_dir" "$@"
        ;;
esac
exec sh "$(dirname -- "$0")/launchers/srun.sh" "$partition" "$job" train.py "$config" "$@"
