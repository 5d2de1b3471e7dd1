#!/usr/bin/env bash
# The long torment: `autoclient verify` against gateways that are killed again and again.
#
#   scripts/verify.sh [sqlite|mariadb|cluster|rolling] [MINUTES]      defaults: sqlite, 10
#
# The gateway gets a `kill -9` every 20 s and a tenth of the readers stalls. With mariadb a private server is started in a temporary
# folder, frozen for 30 s (SIGSTOP) after a quarter of the time, and shut down for 30 s and started again after 60 % of it.
# With cluster there are three gateways on one MariaDB, in a network namespace of their own (`unshare -rn`): every 20 s one is killed,
# in turn, every 60 s nats-server is, for 2 s, every 5 minutes both at once, and every 50 s a gateway is cut off from the bus for 12 s.
# Every device's connection is to another gateway than the one before, and a message that is 10 s late on a device that reads is a finding.
# With rolling the same three gateways and no kills: every 30 s one is asked to stop (SIGTERM), as in a rolling upgrade, and comes back as
# the other of two programs: IMGATE, and PREVIOUS, an earlier release's, with which all three begin. A message 10 s late is a finding, too.
# Exit code: autoclient's own. 0: nothing acked was lost, doubled, late or out of order; 1: something was; 2: no result.
# On a 1 or 2 the temporary folder is kept, with the report, the gateway's log and the database, and its name is printed.
#
# Variables: PROFILE (cargo profile to build and use; default release), IMGATE and AUTOCLIENT (programs to use instead of building),
# PREVIOUS (for rolling: the earlier program; default the same one), SEED (the random choices of an earlier run), RATE (messages per
# second, default 100).
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
cd "$(dirname "$self")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh
# shellcheck source=scripts/mariadb.sh
. scripts/mariadb.sh

store="${1:-sqlite}"
minutes="${2:-10}"
case "$store" in
    sqlite | mariadb | cluster | rolling) ;;
    *) sed -n '2,19s/^# \{0,1\}//p' "$self" >&2; exit 2 ;;
esac
[[ "$minutes" =~ ^[1-9][0-9]?$ ]] || { echo "verify.sh: MINUTES is a number from 1 to 99, not $minutes" >&2; exit 2; }
seconds=$((minutes * 60))
if [[ "$seconds" -gt 3600 ]]; then
    echo "verify.sh: at most 60 minutes" >&2
    exit 2
fi

# Commands of the torment are lines in which it stands.
if [[ "${TMPDIR:-}" == *[[:space:]]* ]]; then
    echo "verify.sh: there is a blank in TMPDIR; set one without" >&2
    exit 2
fi

profile="${PROFILE:-release}"
if [[ -z "${IMGATE:-}" || -z "${AUTOCLIENT:-}" ]]; then
    cargo build --locked --profile "$profile" -p imgate -p loadtest
fi
imgate="$(readlink -f "${IMGATE:-target/$profile/imgate}")"
autoclient="$(readlink -f "${AUTOCLIENT:-target/$profile/autoclient}")"
previous="$imgate"
if [[ "$store" == rolling && -z "${PREVIOUS:-}" ]]; then
    echo "verify.sh: without PREVIOUS each gateway comes back as what it was" >&2
elif [[ "$store" == rolling ]]; then
    [[ -f "$PREVIOUS" && -x "$PREVIOUS" ]] || { echo "verify.sh: PREVIOUS is no program: $PREVIOUS" >&2; exit 2; }
    previous="$(readlink -f "$PREVIOUS")"
fi
rate="${RATE:-100}"
if [[ "$store" == @(cluster|rolling) && -z "${VERIFY_INSIDE:-}" ]]; then
    command -v ip >/dev/null && unshare -rn true || { echo "verify.sh: $store needs iproute2 and unshare -rn" >&2; exit 2; }
    VERIFY_INSIDE=1 IMGATE="$imgate" AUTOCLIENT="$autoclient" PREVIOUS="$previous" exec unshare -rn "$self" "$@"
fi
# A machine's own settings are no part of a test.
unset "${!IMGATE_@}"

dir="$(mktemp -d "${TMPDIR:-/tmp}/imgate-verify.XXXXXX")"
code=2

clean_up() {
    # shellcheck disable=SC2086 # none, or a number
    end_processes 60 ${client:-}
    # shellcheck disable=SC2086
    end_processes 5 ${nats_keeper:-}
    # autoclient stops its gateways itself, unless it was killed.
    local pid
    for pid in $(pgrep -f -- "--data $dir/data" || true) $(cat "$dir/nats.pid" 2>/dev/null || true); do
        kill -9 "$pid" 2>/dev/null || true
    done
    end_database "$dir/mariadb"
    if [[ "$code" -eq 0 ]]; then
        rm -rf "$dir"
    else
        echo "verify.sh: kept in $dir: report.json, gateway.log, database" >&2
    fi
}
at_end clean_up

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

# ---- several gateways -------------------------------------------------------------------------------------------

targets=() servers=()

gateway() { # gateway DATA SETTING...
    local listen
    listen="$(free_port)"
    targets+=("127.0.0.1:$listen")
    # A link of its own, so that a gateway may come back as another program.
    ln -s "$previous" "$dir/program-$1"
    servers+=(--server-cmd "$dir/program-$1 --listen 127.0.0.1:$listen --admin 127.0.0.1:$(free_port) --data $dir/$1 --shards 2 ${*:2}")
}

# Each reaches the bus at an address of its own, and is cut off when that is taken away.
start_cluster() {
    local number nats_port nats
    ip link set lo up
    make_database "$dir/mariadb"
    export IMGATE_STORE="$database_url"
    IMGATE_SECRET="$(od -An -vtx1 -N32 /dev/urandom | tr -d ' \n')"
    export IMGATE_SECRET
    nats_port="$(free_port)"
    nats="$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nats-server)" || { echo "verify.sh: please install nats-server" >&2; exit 2; }
    # It comes back by itself, as under a supervisor.
    (
        trap 'exit 0' TERM
        while true; do
            "$nats" -a 0.0.0.0 -p "$nats_port" >>"$dir/nats.log" 2>&1 &
            echo $! >"$dir/nats.pid"
            wait $! 2>/dev/null || true
            sleep 2
        done
    ) &
    nats_keeper=$!
    for number in 1 2 3; do
        ip address add "10.9.0.$number/32" dev lo
        gateway "data-$number" --node "$number" --cluster "nats://10.9.0.$number:$nats_port"
    done
}

torment_cluster() {
    start_cluster
    # The variables are the torment's own, at its time.
    # shellcheck disable=SC2016
    torment=(
        --every 20s 'kill -9 $PID'
        --every 60s 'kill -9 $(cat '"$dir/nats.pid"')'
        --every 290s 'kill -9 $PID $(cat '"$dir/nats.pid"')'
        --every 50s 'n=$(($(cat '"$dir/cut"' 2>/dev/null || echo 0) % 3 + 1)) && echo $n >'"$dir/cut"' && ip address del 10.9.0.$n/32 dev lo
            sleep 12 && ip address add 10.9.0.$n/32 dev lo'
        --lag-max 10s
    )
}

# The gateway whose turn it is finds its program exchanged when it is started again.
roll_cluster() {
    start_cluster
    # The variables are the torment's own, at its time.
    # shellcheck disable=SC2016
    torment=(
        --every 30s 'link=$(tr "\\0" "\\n" </proc/$PID/cmdline | head -n 1)
            case "$link" in */program-*) now=$(readlink "$link") ;; *) exit 1 ;; esac
            if [ "$now" = "'"$imgate"'" ]; then ln -sfn "'"$previous"'" "$link"; else ln -sfn "'"$imgate"'" "$link"; fi
            kill -TERM $PID'
        --lag-max 10s
    )
}

case "$store" in
    rolling) roll_cluster ;;
    sqlite) gateway data ;;
    mariadb) torment_database && gateway data ;;
    cluster) torment_cluster ;;
esac
if [[ "$store" == @(sqlite|mariadb) ]]; then
    # shellcheck disable=SC2016
    torment+=(--every 20s 'kill -9 $PID')
fi

# ---- the run ----------------------------------------------------------------------------------------------------

seed=()
[[ -z "${SEED:-}" ]] || seed=(--seed "$SEED")
echo "verify.sh: $store, $minutes minutes, in $dir" >&2
timeout --kill-after=30 "$((seconds + 900))" "$autoclient" verify --target "$(IFS=,; echo "${targets[*]}")" --users 80 --devices 3 --groups 20 \
    --group-size 16 --rate "$rate" --payload 400 --seconds "$seconds" --stalled 10% --drain 180 "${seed[@]}" \
    "${servers[@]}" --server-log "$dir/gateway.log" "${torment[@]}" --json >"$dir/report.json" &
client=$!
wait "$client" && code=0 || code=$?
client=
# 124 and 137: it did not come to its end.
case "$code" in 0 | 1) ;; *) code=2 ;; esac
cat "$dir/report.json"
exit "$code"
