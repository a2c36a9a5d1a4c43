#!/bin/sh
# PARTITION JOB_NAME TOOL ARGUMENTS...: run a tool under srun, one task for each of GPUS GPUs, GPUS_PER_NODE of
# them per machine. PORT is where the tasks meet, on the first machine.
partition=$1
job=$2
tool=$3
shift 3
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd) || exit 1
gpus=${GPUS:-8}

for count in "$gpus" "${GPUS_PER_NODE:-8}" "${CPUS_PER_TASK:-5}"; do
    case $count in
        *[!0-9]* | 0)
            echo "error: '$count' is not a number of GPUs or CPUs (GPUS, GPUS_PER_NODE, CPUS_PER_TASK)" >&2
            exit 2
            ;;
    esac
done
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "$PORT" ]; then
    export MASTER_PORT="$PORT"
fi
# shellcheck disable=SC2086  # SRUN_ARGS holds several arguments
exec srun -p "$partition" --job-name="$job" --gres=gpu:"$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$root/tools/$tool" "$@" --launcher slurm
