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

# Ends the private MariaDB, by the id in its own pid file and only if that process is ours.
end_database() {
    local pid
    pid="$(cat "$dir/mariadb/pid" 2>/dev/null)" || return 0
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$dir/mariadb"; then
        kill -9 "$pid" 2>/dev/null || true
    fi
}

clean_up() {
    if [[ -n "${client:-}" ]] && kill -TERM "$client" 2>/dev/null; then
        wait "$client" 2>/dev/null || true
    fi
    # autoclient stops its gateway itself, unless it was killed.
    local pid
    for pid in $(pgrep -f -- "--data $dir/data" || true); do
        kill -9 "$pid" 2>/dev/null || true
    done
    end_database
    if [[ "$code" -eq 0 ]]; then
        rm -rf "$dir"
    else
        echo "verify.sh: kept in $dir: report.json, gateway.log, database" >&2
    fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# A port below those that the system gives away, so that nobody takes it while the gateway is dead.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    echo "verify.sh: no free port" >&2
    return 1
}

# ---- the database -----------------------------------------------------------------------------------------------

torment=()

# What Debian's mariadb-install-db does, without the package of its other tools; tests/support/mariadb.rs does the same.
make_database() {
    local base="$dir/mariadb" name file
    mkdir -p "$base/data/mysql"
    mariadbd="$(PATH="$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec" command -v mariadbd)" || {
        echo "verify.sh: please install mariadb-server-core" >&2
        return 1
    }
    {
        echo 'USE mysql;'
        for name in system_tables.sql performance_tables.sql system_tables_data.sql; do
            for file in /usr/share/{mysql,mariadb}/{mysql,mariadb}_"$name"; do
                if [[ -f "$file" ]]; then
                    cat "$file"
                    break
                fi
            done
        done
    } >"$base/bootstrap.sql"
    cat >"$base/users.sql" <<'SQL'
CREATE DATABASE IF NOT EXISTS im;
CREATE USER IF NOT EXISTS 'im'@'127.0.0.1' IDENTIFIED BY 'torment';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP ON im.* TO 'im'@'127.0.0.1';
SQL
    local -a options=(--no-defaults "--datadir=$base/data" "--tmpdir=$base" --innodb-log-file-size=32M --innodb-buffer-pool-size=64M)
    if [[ "$(id -u)" -eq 0 ]]; then
        options+=(--user=root)
    fi
    "$mariadbd" "${options[@]}" --bootstrap <"$base/bootstrap.sql" >"$base/bootstrap.log" 2>&1 || {
        cat "$base/bootstrap.log" >&2
        return 1
    }
    port="$(free_port)"
    # The commands of the torment start it again, so the start is a program of its own. It outlives the shell that starts it.
    {
        echo '#!/bin/sh'
        printf 'setsid %q' "$mariadbd"
        printf ' %q' "${options[@]}" --bind-address=127.0.0.1 --skip-name-resolve --performance-schema=off "--port=$port" \
            "--socket=$base/socket" "--pid-file=$base/pid" "--log-error=$base/error.log" "--init-file=$base/users.sql"
        echo ' </dev/null >/dev/null 2>&1 &'
        echo 'echo $! >"'"$base/pid"'"'
    } >"$base/start"
    {
        echo '#!/bin/sh'
        echo 'pid=$(cat "'"$base/pid"'") || exit 1'
        echo 'kill -TERM "$pid" || exit 1'
        # Its shutdown is orderly; it takes some seconds at most.
        echo 'for i in $(seq 600); do kill -0 "$pid" 2>/dev/null || exit 0; sleep 0.1; done; exit 1'
    } >"$base/stop"
    chmod +x "$base/start" "$base/stop"
    "$base/start"
    local tries=0
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        tries=$((tries + 1))
        if [[ "$tries" -gt 600 ]]; then
            cat "$base/error.log" >&2
            return 1
        fi
        sleep 0.1
    done
    export IMGATE_STORE="mysql://im:torment@127.0.0.1:$port/im"
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
    make_database
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
