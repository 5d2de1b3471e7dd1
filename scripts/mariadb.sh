# shellcheck shell=bash
# A private MariaDB for scripts: made from nothing in a folder, on a port of its own. To be sourced, behind ending.sh.
#
#   make_database DIR     makes and starts one; sets database_url, and leaves DIR/start and DIR/stop as programs
#   end_database DIR      ends it at once, by the id in its own pid file and only if that process is ours; comes back when it has ended
#   free_port             prints a port that nobody uses

# A port below those that the system gives away, so that nobody takes it while its owner is dead for a moment.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    echo "no free port" >&2
    return 1
}

end_database() {
    local pid
    pid="$(cat "$1/pid" 2>/dev/null)" || return 0
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$1"; then
        kill -9 "$pid" 2>/dev/null || true
        # It is no child of this shell, and may still write for a moment.
        for _ in $(seq 100); do
            ! has_ended "$pid" || break
            sleep 0.05
        done
    fi
}

# What Debian's mariadb-install-db does, without the package of its other tools; tests/support/mariadb.rs does the same.
make_database() {
    local base="$1" name file mariadbd port
    mkdir -p "$base/data/mysql"
    mariadbd="$(PATH="$PATH:/usr/sbin:/usr/local/sbin:/usr/libexec" command -v mariadbd)" || {
        echo "please install mariadb-server-core" >&2
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
    # What is in single quotes is for the program that is written.
    # shellcheck disable=SC2016
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
    # The caller's.
    # shellcheck disable=SC2034
    database_url="mysql://im:torment@127.0.0.1:$port/im"
}
