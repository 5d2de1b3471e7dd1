#!/usr/bin/env bash
# The real run: N connections to one gateway over loopback, memory and CPU of each, all of them alive at the end.
#
#   scripts/million.sh                        a million; exit code 2 and the name of the limit where the machine forbids it
#   scripts/million.sh --connections 19000    as many as 20,000 descriptors a process allow: slope over 5,000, 10,000 and 19,000
#   scripts/million.sh --guest [N]            whatever the machine allows: N (100000) connections in a guest with a kernel of its own; see scripts/guest/host.sh
#
#   --connections N   how many (default 1000000)
#   --steps A,B,C     where memory is looked at (default: about a quarter, a half and all; 5000,10000,19000 for 19000)
#   --rate R          connections opened per second (default 5000)
#   --seconds S       how long all of them are held (default 10)
#   --workers N       so many processes open them together (default: half of the cores beyond 100,000 connections, else the one that reports)
#   --keep            leave the files of the run where they are
#   --binaries DIR    where imgate and autoclient are (default: target/dist, built first)
#
# Both ends are on this machine, and everything stays on loopback. The kernel's settings come from sysctl/ (sysctl/apply, as root); this script
# changes none, asks for no rights, and does not try to get around a limit. Exit codes: 0 all is well, 1 a check failed, 2 a limit forbids it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh

connections=1000000 steps="" rate=5000 seconds=10 workers="" keep=false binaries=""
[[ "${1:-}" != --guest ]] || exec scripts/guest/host.sh "${@:2}"
usage() { sed -n '2,18p' "scripts/million.sh" | sed 's/^# \{0,1\}//' >&2; exit 1; }
while [[ $# -gt 0 ]]; do
    case "$1" in
        --connections) connections="${2:?}"; shift ;;
        --steps) steps="${2:?}"; shift ;;
        --rate) rate="${2:?}"; shift ;;
        --seconds) seconds="${2:?}"; shift ;;
        --workers) workers="${2:?}"; shift ;;
        --binaries) binaries="${2:?}"; shift ;;
        --keep) keep=true ;;
        *) usage ;;
    esac
    shift
done
[[ "$connections" =~ ^[1-9][0-9]*$ ]] || usage
if [[ -z "$workers" ]]; then
    workers=$((connections > 100000 ? ($(nproc) + 1) / 2 : 0))
fi
[[ "$workers" =~ ^[0-9]+$ ]] || usage

# ---- what the machine allows ----------------------------------------------------------------------

spare=640
forbidden=0
# The limit's name, what it is, what is needed.
forbid() {
    printf 'million: %s is %s, and %s connections need %s\n' "$1" "$2" "$connections" "$3" >&2
    forbidden=1
}
at_least() {
    local name="$1" have="$2" need="$3"
    # Numbers that bash cannot hold are larger than all that we need.
    [[ "$have" == unlimited || ${#have} -ge 19 ]] || ((have >= need)) || forbid "$name" "$have" "$need"
}
kernel() { cat "/proc/sys/${1//.//}" 2>/dev/null || echo 0; }

hard="$(ulimit -Hn)"
at_least "the descriptor limit of a process (ulimit -Hn)" "$hard" $((connections + spare))
at_least "fs.nr_open" "$(kernel fs.nr_open)" $((connections + spare))
at_least "fs.file-max" "$(kernel fs.file-max)" $((2 * connections + 2 * spare))
# Kernel memory of a pair of sockets on loopback, as `imgate doctor` reckons it for both ends: 9.2 to 9.5 KB of slab were measured, more
# while they are opened; user space of gateway and load tester is in it.
bytes_per_pair=13312
available="$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)"
at_least "the memory that is available, in KiB," "$available" $((connections * bytes_per_pair / 1024))
# One source address has so many ports; the load tester takes turns with several of 127.0.0.0/8.
sources=64
read -r low high < <(kernel net.ipv4.ip_local_port_range)
at_least "net.ipv4.ip_local_port_range, times $sources source addresses," $(((high - low) * sources)) "$connections"
if ((connections > 100000)); then
    at_least "net.core.somaxconn" "$(kernel net.core.somaxconn)" 16384
fi
if ((forbidden)); then
    echo "million: sysctl/apply (as root), sysctl/limits.conf and more memory are what helps; a process's hard limit is its machine's to give" >&2
    exit 2
fi
ulimit -n "$hard"

# ---- the run --------------------------------------------------------------------------------------

if [[ -z "$binaries" ]]; then
    cargo build --quiet --profile dist -p imgate -p loadtest
    binaries=target/dist
fi
if [[ -z "$steps" ]]; then
    if ((connections == 19000)); then
        steps=5000,10000,19000
    else
        steps="$((connections / 4)),$((connections / 2)),$connections"
    fi
fi

folder="$(mktemp -d)"
gateway=""
helpers=()
end() {
    end_processes 60 "${helpers[@]}"
    # shellcheck disable=SC2086 # none, or a number
    end_processes 600 $gateway
    $keep && echo "the files are in $folder" || rm -rf "$folder"
}
at_end end

# What was not looked at above: tcp_mem, orphans, connection tracking, what epoll may watch, the bound of a control group. No gateway answers there.
verdict=0
"$binaries/imgate" doctor --target-connections "$connections" --max-connections $((connections + spare)) --data "$folder/data" \
    --listen 127.0.0.1:0 --admin 127.0.0.1:1 >"$folder/doctor" || verdict=$?
if ((verdict != 0)); then
    grep -E -A 2 '^(STOPS|WARNING) ' "$folder/doctor" >&2 || cat "$folder/doctor" >&2
fi
case $verdict in
    0 | 3) ;;
    4)
        echo "million: imgate doctor names what stops $connections connections here" >&2
        exit 2
        ;;
    *)
        echo "million: imgate doctor has failed" >&2
        exit 1
        ;;
esac

"$binaries/imgate" --data "$folder/data" --log warn seed --users "$connections" --groups 1 \
    --group-size "$connections" --tokens "$folder/tokens"
"$binaries/imgate" serve --data "$folder/data" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --log info \
    --max-connections $((connections + spare)) 2>"$folder/log" &
gateway=$!
address=""
for _ in $(seq 300); do
    address="$(sed -n 's/.*listening.*address=\([0-9.:]*\).*/\1/p' "$folder/log" | head -1)"
    [[ -n "$address" ]] && break
    kill -0 "$gateway" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
[[ -n "$address" ]] || { echo "million: the gateway does not listen" >&2; exit 1; }

# Whatever opens the connections: workers of their own, or the process that reports.
shared=()
for ((place = 1; place <= workers; place++)); do
    "$binaries/autoclient" worker --listen 127.0.0.1:0 2>"$folder/worker-$place" &
    helpers+=($!)
    at=""
    for _ in $(seq 100); do
        at="$(sed -n 's/^autoclient worker: listening on //p' "$folder/worker-$place")"
        [[ -n "$at" ]] && break
        kill -0 "${helpers[-1]}" 2>/dev/null || { cat "$folder/worker-$place" >&2; exit 1; }
        sleep 0.1
    done
    [[ -n "$at" ]] || { echo "million: a worker does not listen" >&2; exit 1; }
    shared+=("$at")
done
with_workers=()
((workers == 0)) || with_workers=(--workers "$(IFS=,; echo "${shared[*]}")")

uname -srm
awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo
echo "commit $(git describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%F)"
slab() { awk '/^Slab:/ { print $2 }' /proc/meminfo; }
before="$(slab)"
result=0
"$binaries/autoclient" idle --target "$address" --tokens "$folder/tokens" --server-pid "$gateway" --steps "$steps" \
    --connect-rate "$rate" --connecting-max 512 --sources "$sources" --seconds "$seconds" "${with_workers[@]}" &
client=$!
peak="$before"
while kill -0 "$client" 2>/dev/null; do
    now="$(slab)"
    ((now > peak)) && peak="$now"
    sleep 1
done
wait "$client" || result=1
echo "kernel slab per pair of sockets, both ends here: $(((peak - before) * 1024 / connections)) bytes"
exit "$result"
