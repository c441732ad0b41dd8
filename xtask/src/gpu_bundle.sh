#!/usr/bin/env bash
# Runs the GPU tests of this folder one after the other and ends with a table. Arguments choose among the tests by parts of their
# names. What each test prints is in logs/. Where there is no GPU tests skip: they count as passed, and as skipped by what they say.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export WORKER_ORCD_GOLDEN=${WORKER_ORCD_GOLDEN:-$here/golden}
export WORKER_ORCD_FIXTURES=${WORKER_ORCD_FIXTURES:-$here/fixtures}
export WORKER_ORCD=$here/worker-orcd
# Elsewhere a missing fixture fails; here it is expected.
unset CI
logs=${LOGS:-$here/logs}
mkdir -p "$logs"
# Of the lines read, those with one of the arguments in them; all without arguments.
chosen_by() {
    if [ $# -eq 0 ]; then cat; else grep -F "$(printf '%s\n' "$@")"; fi
}
table="" failed=0
for program in "$here"/tests/*; do
    name=$(basename "$program")
    log=$logs/$name.log
    started=$SECONDS
    chosen=("$@")
    if [ "$name" = worker-it ]; then
        # Most of the worker's tests need no GPU and run elsewhere.
        mapfile -t chosen < <("$program" --list | sed -n 's/^\(gpu::.*\): test$/\1/p' | chosen_by "$@")
        [ ${#chosen[@]} -gt 0 ] || continue
        chosen+=(--exact)
    fi
    "$program" --test-threads=1 --show-output "${chosen[@]}" >"$log" 2>&1
    code=$?
    count() { grep -cE "^test .* \.\.\. $1" "$log"; }
    ok=$(count ok) bad=$(count FAILED) skipped=$(grep -c '^skipped:' "$log")
    table+=$(printf '%-24s %6d %6d %7d %6d' "$name" "$ok" "$bad" "$skipped" "$((SECONDS - started))")$'\n'
    if [ "$code" -ne 0 ]; then
        failed=1
        echo "== $name ended with code $code"
        grep -E '^test .* \.\.\. FAILED' "$log" || tail -n 5 "$log"
        grep -A8 -E "panicked at" "$log" | head -n 80
    fi
done
grep -h '^skipped:' "$logs"/*.log | sort | uniq -c
printf '\n%-24s %6s %6s %7s %6s\n%s' program passed failed skipped s "$table"
"$WORKER_ORCD" --version
exit $failed
