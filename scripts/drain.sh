#!/usr/bin/env bash
# Stops a gateway with many clients in order, starts it again, and sees how evenly they go and come back.
#
#   scripts/drain.sh [CLIENTS] [PLOT.svg]      default: 15000 clients, no plot
#
# Prints the gateway's own summary and autoclient's report. Exit code: autoclient's own.
# Variables: PROFILE (cargo profile to build and use; default release), IMGATE and AUTOCLIENT (programs to use instead of building).
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
clients="${1:-15000}"
plot="${2:+$(realpath -m "$2")}"
cd "$(dirname "$self")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh
[[ "$clients" =~ ^[1-9][0-9]{0,4}$ ]] || { echo "drain.sh: CLIENTS is a number from 1 to 99999, not $clients" >&2; exit 2; }

profile="${PROFILE:-release}"
if [[ -z "${IMGATE:-}" || -z "${AUTOCLIENT:-}" ]]; then
    cargo build --locked --profile "$profile" -p imgate -p loadtest
fi
imgate="$(readlink -f "${IMGATE:-target/$profile/imgate}")"
autoclient="$(readlink -f "${AUTOCLIENT:-target/$profile/autoclient}")"
# A machine's own settings are no part of a test.
unset "${!IMGATE_@}"

dir="$(mktemp -d "${TMPDIR:-/tmp}/imgate-drain.XXXXXX")"
gateway=""
load=""
clean_up() {
    # The load first: it would connect again. Each is none, or a number.
    # shellcheck disable=SC2086
    end_processes 30 $load
    # shellcheck disable=SC2086
    end_processes 60 $gateway
    rm -rf "$dir"
}
at_end clean_up

"$imgate" seed --data "$dir/data" --log warn --users "$clients" --tokens "$dir/tokens" >/dev/null

# serve LISTEN ADMIN: starts the gateway and waits until it says where it listens.
serve() {
    "$imgate" --data "$dir/data" --listen "$1" --admin "$2" --connect-rate 0 2>>"$dir/log" &
    gateway=$!
    local from="$3"
    for _ in $(seq 300); do
        if tail -n "+$from" "$dir/log" | grep -q "admin address="; then return 0; fi
        kill -0 "$gateway" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
        sleep 0.1
    done
    echo "drain.sh: the gateway does not start" >&2
    exit 1
}
touch "$dir/log"
serve 127.0.0.1:0 127.0.0.1:0 1
listen="$(sed -n 's/.*listening.* address=\([0-9.:]*\).*/\1/p' "$dir/log" | head -1)"
admin="$(sed -n 's/.* admin.* address=\([0-9.:]*\).*/\1/p' "$dir/log" | head -1)"

mkfifo "$dir/told"
"$autoclient" restart --clients "$clients" --tokens "$dir/tokens" --target "$listen" --metrics off --sources 8 \
    ${plot:+--plot "$plot"} 2>"$dir/told" >"$dir/report" &
load=$!
while read -r line; do
    case "$line" in *"stop the gateway now"*) break ;; esac
done <"$dir/told"
lines="$(wc -l <"$dir/log")"
"$imgate" drain --data "$dir/data" --admin "$admin"
wait "$gateway" || true
serve "$listen" "$admin" "$((lines + 1))"
code=0
wait "$load" || code=$?
load=""
grep -E "closing|stopped" "$dir/log" | head -2
cat "$dir/report"
exit "$code"
