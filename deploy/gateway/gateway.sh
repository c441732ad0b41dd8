#!/bin/sh
# Starts SMG (Shepherd Model Gateway; pip install smg) before the workers of workers.sh, on port 8080 of this machine.
#
#     deploy/gateway/gateway.sh [FLAG OF smg launch ...]
#
# PORT, METRICS_PORT, N_WORKER, FIRST_PORT and SMG (the program) may be set otherwise. A prompt goes to the worker that had most of its
# start before.
set -eu
first=${FIRST_PORT:-8081}
urls=
for i in $(seq 0 $((${N_WORKER:-3} - 1))); do
    urls="$urls http://127.0.0.1:$((first + i))"
done
# The workers tokenize. A worker that is not there, or drains, fails two probes, two seconds apart; until then its requests are tried again
# elsewhere. shellcheck disable=SC2086
exec "${SMG:-smg}" launch --worker-urls $urls --policy cache_aware \
    --host 127.0.0.1 --port "${PORT:-8080}" --prometheus-port "${METRICS_PORT:-29000}" \
    --disable-tokenizer-autoload \
    --health-check-interval-secs 2 --health-failure-threshold 2 --health-success-threshold 1 "$@"
