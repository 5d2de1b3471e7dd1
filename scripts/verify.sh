#!/usr/bin/env bash
# The long torment: `autoclient verify` against a gateway that is killed again and again.
#
#   scripts/verify.sh [sqlite|mariadb] [MINUTES]      defaults: sqlite, 10
#
# The gateway gets a `kill -9` every 20 s and a tenth of the readers stalls. With mariadb a private server is started in a temporary
# folder, frozen for 30 s (SIGSTOP) after a quarter of the time, and shut down for 30 s and started again after 60 % of it.
# Exit code: autoclient's own. 0: nothing acked was lost, doubled or out of order; 1: something was; 2: no result.
# On a 1 or 2 the temporary folder is kept, with the report, the gateway's log and the database, and its name is printed.
#
# Variables: PROFILE (cargo profile to build and use; default release), IMGATE and AUTOCLIENT (programs to use instead of building),
# SEED (the random choices of an earlier run), RATE (messages per second, default 100).
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
cd "$(dirname "$self")/.."
# shellcheck source=scripts/mariadb.sh
. scripts/mariadb.sh

store="${1:-sqlite}"
minutes="${2:-10}"
case "$store" in
    sqlite | mariadb) ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$self" >&2; exit 2 ;;
esac
[[ "$minutes" =~ ^[1-9][0-9]?$ ]] || { echo "verify.sh: MINUTES is a number from 1 to 99, not $minutes" >&2; exit 2; }
seconds=$((minutes * 60))
if [[ "$seconds" -gt 3600 ]]; then
    echo "verify.sh: at most 60 minutes" >&2
    exit 2
fi

profile="${PROFILE:-release}"
if [[ -z "${IMGATE:-}" || -z "${AUTOCLIENT:-}" ]]; then
    cargo build --locked --profile "$profile" -p imgate -p loadtest
fi
imgate="$(readlink -f "${IMGATE:-target/$profile/imgate}")"
autoclient="$(readlink -f "${AUTOCLIENT:-target/$profile/autoclient}")"
rate="${RATE:-100}"
# A machine's own settings are no part of a test.
unset "${!IMGATE_@}"

dir="$(mktemp -d "${TMPDIR:-/tmp}/imgate-verify.XXXXXX")"
code=2

clean_up() {
    if [[ -n "${client:-}" ]] && kill -TERM "$client" 2>/dev/null; then
        wait "$client" 2>/dev/null || true
    fi
    # autoclient stops its gateway itself, unless it was killed.
    local pid
    for pid in $(pgrep -f -- "--data $dir/data" || true); do
        kill -9 "$pid" 2>/dev/null || true
    done
    end_database "$dir/mariadb"
    if [[ "$code" -eq 0 ]]; then
        rm -rf "$dir"
    else
        echo "verify.sh: kept in $dir: report.json, gateway.log, database" >&2
    fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# ---- the database -----------------------------------------------------------------------------------------------

torment=()

# The torment of the database, at its times.
torment_database() {
    local base="$dir/mariadb"
    make_database "$base"
    export IMGATE_STORE="$database_url"
    local pause=30
    [[ "$minutes" -gt 2 ]] || pause=10
    # $(cat …) and $pid are the torment's own, at its time.
    # shellcheck disable=SC2016
    torment=(
        --at "$((seconds / 4))s" 'pid=$(cat '"$base/pid"') && kill -STOP "$pid" && sleep '"$pause"' && kill -CONT "$pid"'
        --at "$((seconds * 6 / 10))s" "$base/stop && sleep $pause && $base/start"
    )
}

if [[ "$store" == mariadb ]]; then
    torment_database
fi

# ---- the run ----------------------------------------------------------------------------------------------------

listen="$(free_port)"
admin="$(free_port)"
seed=()
[[ -z "${SEED:-}" ]] || seed=(--seed "$SEED")
echo "verify.sh: $store, $minutes minutes, in $dir" >&2
# The command is the torment's, at its time.
# shellcheck disable=SC2016
timeout --kill-after=30 "$((seconds + 900))" "$autoclient" verify --target "127.0.0.1:$listen" --users 80 --devices 3 --groups 20 \
    --group-size 16 --rate "$rate" --payload 400 --seconds "$seconds" --stalled 10% --drain 180 "${seed[@]}" \
    --server-cmd "$imgate --listen 127.0.0.1:$listen --admin 127.0.0.1:$admin --data $dir/data --shards 2" \
    --server-log "$dir/gateway.log" --every 20s 'kill -9 $PID' "${torment[@]}" --json >"$dir/report.json" &
client=$!
code=0
wait "$client" || code=$?
client=
# 124 and 137: it did not come to its end.
case "$code" in 0 | 1) ;; *) code=2 ;; esac
cat "$dir/report.json"
exit "$code"
