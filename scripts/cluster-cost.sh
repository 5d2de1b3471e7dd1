#!/usr/bin/env bash
# What gateways of one cluster cost and how late they are: `autoclient direct` on one gateway; on two and four that share a database and do not
# know each other; on two of a cluster, the two users of each pair on the same one; and on two and four, the two on different ones. A
# private MariaDB and a private nats-server on loopback, in a temporary folder.
#
#   scripts/cluster-cost.sh [RATE] [SECONDS] [ROUNDS]      defaults: 1000 messages a second, 10, 3
#
# Prints a line for each run: gateways, where the two of a pair are, messages delivered a second, what was late (p50 and p99, ms), CPU of all gateways for one
# delivery (us), CPU of the client (% of a core). The rounds go through all of them in turn, so that a busy machine is
# busy for all of them. One shard each. Every message has an answer, which is a message as well.
# Exit code: 0; 1: a run failed, its words are printed; 2: wrong arguments.
# Variables: PROFILE (cargo profile to build and use; default release), IMGATE and AUTOCLIENT (programs to use instead of building).
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
cd "$(dirname "$self")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh
# shellcheck source=scripts/mariadb.sh
. scripts/mariadb.sh

rate="${1:-1000}" seconds="${2:-10}" rounds="${3:-3}"
for number in "$rate" "$seconds" "$rounds"; do
    [[ "$number" =~ ^[1-9][0-9]{0,4}$ ]] || { echo "cluster-cost.sh: $number is no number from 1 to 99999" >&2; exit 2; }
done
[[ "$rounds" -le 99 && "$seconds" -le 600 ]] || { echo "cluster-cost.sh: at most 600 seconds and 99 rounds" >&2; exit 2; }

profile="${PROFILE:-release}"
if [[ -z "${IMGATE:-}" || -z "${AUTOCLIENT:-}" ]]; then
    cargo build --locked --profile "$profile" -p imgate -p loadtest
fi
imgate="$(readlink -f "${IMGATE:-target/$profile/imgate}")"
autoclient="$(readlink -f "${AUTOCLIENT:-target/$profile/autoclient}")"
nats="$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nats-server)" || { echo "cluster-cost.sh: please install nats-server" >&2; exit 2; }
# A machine's own settings are no part of a measurement.
if compgen -v IMGATE_ >/dev/null; then unset "${!IMGATE_@}"; fi

dir="$(mktemp -d "${TMPDIR:-/tmp}/imgate-cluster-cost.XXXXXX")"
pids=()
end_all() {
    end_processes 60 "${pids[@]}"
    pids=()
}
clean_up() {
    end_all
    # shellcheck disable=SC2086 # none, or a number
    end_processes 10 ${bus:-}
    end_database "$dir/mariadb"
    rm -rf "$dir"
}
at_end clean_up

make_database "$dir/mariadb"
nats_port="$(free_port)"
"$nats" -a 127.0.0.1 -p "$nats_port" >"$dir/nats.log" 2>&1 &
bus=$!
export IMGATE_STORE="$database_url"
IMGATE_SECRET="$(od -An -vtx1 -N32 /dev/urandom | tr -d ' \n')"
export IMGATE_SECRET
pairs=100
# Of each run its own: who opens a session hears what came before.
"$imgate" seed --users $((2 * pairs * 6 * rounds)) --tokens "$dir/all" --data "$dir/seed" --log warn >/dev/null
split --lines=$((2 * pairs)) --numeric-suffixes=1 --suffix-length=4 "$dir/all" "$dir/tokens-"
run=0

# start COUNT alone|same|other: starts so many gateways, and waits until each knows all of them. Sets targets and pids.
start() {
    local count="$1" where="$2" number listen admin cluster admins=()
    targets=()
    for ((number = 1; number <= count; number++)); do
        listen="$(free_port)" admin="$(free_port)"
        cluster=(--node "$number")
        [[ "$where" == alone ]] || cluster+=(--cluster "nats://127.0.0.1:$nats_port")
        "$imgate" --listen "127.0.0.1:$listen" --admin "127.0.0.1:$admin" --data "$dir/data-$number" --shards 1 \
            --user-cost 0 --user-messages 0 --user-bytes 0 "${cluster[@]}" 2>>"$dir/gateway.log" &
        pids+=($!)
        targets+=("127.0.0.1:$listen")
        admins+=("$admin")
    done
    local until=$((SECONDS + 30))
    for admin in "${admins[@]}"; do
        until is_there "$admin" "$count" "$where"; do
            [[ "$SECONDS" -lt "$until" ]] || { echo "cluster-cost.sh: a gateway does not come:" >&2; tail -5 "$dir/gateway.log" >&2; exit 1; }
            sleep 0.1
        done
    done
}

# is_there ADMIN COUNT alone|same|other: whether the gateway with this admin port is ready and, in a cluster, knows so many.
is_there() {
    python3 - "$@" 2>/dev/null <<'PY'
import sys, urllib.request
port, count, where = sys.argv[1:]
urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).read()
page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2).read().decode()
known = [line.split()[1] for line in page.splitlines() if line.startswith("imgate_nodes ")]
sys.exit(where != "alone" and known != [count])
PY
}

printf '%-9s %-6s %12s %9s %9s %14s %8s\n' gateways pairs delivered/s p50_ms p99_ms us/delivery client_%
for ((round = 1; round <= rounds; round++)); do
    for place in "1 alone" "2 alone" "2 same" "2 other" "4 alone" "4 other"; do
        read -r count where <<<"$place"
        start "$count" "$where"
        # Connections go to the targets in turn: where each stands there twice, both of a pair go to the same gateway.
        reached=()
        for target in "${targets[@]}"; do
            reached+=("$target")
            [[ "$where" == other ]] || reached+=("$target")
        done
        code=0
        run=$((run + 1))
        # In the foreground, or Ctrl-C would not reach it.
        timeout --foreground $((seconds + 120)) "$autoclient" direct --target "$(IFS=,; echo "${reached[*]}")" --tokens "$dir/tokens-$(printf %04d "$run")" --pairs "$pairs" --rate "$rate" \
            --seconds "$seconds" --server-pid "$(IFS=,; echo "${pids[*]}")" --metrics off --p99-ms inf --json >"$dir/report.json" 2>"$dir/words" || code=$?
        if [[ "$code" -ne 0 ]]; then
            echo "cluster-cost.sh: autoclient ended with $code" >&2
            cat "$dir/words" "$dir/report.json" >&2
            exit 1
        fi
        python3 - "$dir/report.json" "$count" "$where" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
late = report["delivery_latency"]
print("%-9s %-6s %12.0f %9.2f %9.2f %14.2f %8.0f" % (sys.argv[2], sys.argv[3], report["deliveries_per_second"], late["p50_ms"], late["p99_ms"],
    report["cpu_us_per_delivery"], report["client_cpu_percent"]), flush=True)
PY
        end_all
    done
done
