#!/bin/sh
# Starts three workers of one model, on ports 8081 to 8083 of this machine, and drains them on SIGINT or SIGTERM.
#
#     deploy/gateway/workers.sh m.gguf [FLAG OF worker-orcd serve ...]
#
# N_WORKER, FIRST_PORT and WORKER_ORCD (the program) may be set otherwise. Clients reach the workers through the gateway alone, so they
# listen on this machine only.
set -eu
[ $# -gt 0 ] || { echo "expected a model: workers.sh m.gguf" >&2; exit 2; }
model=$1
shift
first=${FIRST_PORT:-8081}
workers=
end() {
    trap '' INT TERM
    # shellcheck disable=SC2086
    kill -TERM $workers 2>/dev/null || true
}
trap end INT TERM
for i in $(seq 0 $((${N_WORKER:-3} - 1))); do
    "${WORKER_ORCD:-worker-orcd}" serve --model "$model" --port $((first + i)) "$@" &
    workers="$workers $!"
    echo "worker $i: process $!, http://127.0.0.1:$((first + i))"
done
# A signal interrupts wait; what drains is waited for again.
for worker in $workers; do
    while kill -0 "$worker" 2>/dev/null; do wait "$worker" || true; done
done
