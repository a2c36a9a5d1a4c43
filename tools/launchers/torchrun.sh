#!/bin/sh
# GPUS TOOL ARGUMENTS...: run a tool under torchrun, one process for each GPU of this machine.
# With several machines, each runs the same command. They meet at MASTER_ADDR:PORT, with NODE_RANK counting them
# from 0, or at RDZV_ENDPOINT, where they are numbered as they come and NNODES may be MIN:MAX.
gpus=$1
tool=$2
shift 2
nodes=${NNODES:-1}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd) || exit 1

case $gpus in
    '' | *[!0-9]* | 0)
        echo "error: GPUS is '$gpus'; expected the number of GPUs of this machine" >&2
        exit 2
        ;;
esac
set -- "$root/tools/$tool" "$@" --launcher pytorch
if [ -n "$RDZV_ENDPOINT" ]; then
    set -- --rdzv_backend=c10d --rdzv_endpoint="$RDZV_ENDPOINT" --rdzv_id="${RDZV_ID:-weightformer}" \
        --nnodes="$nodes" --max_restarts="${MAX_RESTARTS:-0}" "$@"
elif [ "$nodes" = 1 ] && [ -z "$PORT" ]; then
    set -- --standalone "$@" # on a free port
elif [ "$nodes" != 1 ] && { [ -z "$MASTER_ADDR" ] || [ -z "$NODE_RANK" ]; }; then
    echo "error: NNODES=$nodes needs MASTER_ADDR and NODE_RANK, or RDZV_ENDPOINT" >&2
    exit 2
else
    set -- --nnodes="$nodes" --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" "$@"
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run --nproc_per_node="$gpus" "$@"
