#!/usr/bin/env bash
# Several gateways as one system on this machine, to play with: a private MariaDB, a private nats-server, gateways and a load
# balancer, all on loopback, on ports that are free, in a temporary folder. Ctrl-C stops everything and leaves nothing.
#
#   scripts/cluster.sh [GATEWAYS] [-- SETTING...]      default: 3 gateways; from 1 to 9. SETTINGs are flags for each of them
#
# Prints the addresses when all of it answers, then takes commands, a line each:
#   kill NAME     as kill -9 does           start NAME    starts it again, at its old address
#   stop NAME     in order                  log NAME      the last lines of its log
#   status        what runs                 quit          as Ctrl-C
# NAME: gateway-1, gateway-2, ..., nats, database, balancer. When its input ends it runs on until it is told to end by a signal.
#
# The balancer is haproxy or nginx, whichever is installed; or else Debian's nginx, unpacked in the temporary folder. Where that cannot
# be had either, the gateways stand there without one.
# Variables: PROFILE (cargo profile to build and use; default release), IMGATE (a program to use instead of building).
# Exit code: 0 when it was told to end; 1: something did not start; 2: wrong arguments.
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
root="$(dirname "$self")/.."
# shellcheck source=scripts/ending.sh
. "$root/scripts/ending.sh"
# shellcheck source=scripts/mariadb.sh
. "$root/scripts/mariadb.sh"

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}

count=3
if [[ $# -gt 0 && "$1" != -- ]]; then
    case "$1" in
        -h | --help) sed -n '2,18s/^# \{0,1\}//p' "$self"; exit 0 ;;
        [1-9]) count="$1"; shift ;;
        *) echo "cluster.sh: GATEWAYS is a number from 1 to 9, not $1" >&2; exit 2 ;;
    esac
fi
[[ $# -eq 0 || "$1" == -- ]] || { echo "cluster.sh: settings stand behind --" >&2; exit 2; }
[[ $# -eq 0 ]] || shift
settings=("$@")

# A machine's own settings are no part of it.
if compgen -v IMGATE_ >/dev/null; then unset "${!IMGATE_@}"; fi
if [[ -z "${IMGATE:-}" ]]; then
    (cd "$root" && cargo build --locked --profile "${PROFILE:-release}" -p imgate) || fail "imgate was not built"
    built="${PROFILE:-release}"
    IMGATE="${CARGO_TARGET_DIR:-$root/target}/${built/#dev/debug}/imgate"
fi
imgate="$(readlink -f "$IMGATE")"

dir="$(mktemp -d "${TMPDIR:-/tmp}/imgate-cluster.XXXXXX")"
declare -A pids=()

alive() { [[ -n "${pids[$1]:-}" ]] && ! has_ended "${pids[$1]}"; }

# Ends one of ours by a signal and waits until it has gone.
end() {
    local name="$1" signal="$2"
    if alive "$name"; then
        kill "-$signal" "${pids[$name]}" 2>/dev/null || true
        # Not by `wait`, which comes back at once when a second signal has come while the first one is obeyed.
        until has_ended "${pids[$name]}"; do sleep 0.02; done
        wait "${pids[$name]}" 2>/dev/null || true
    fi
    unset "pids[$name]"
}

clean_up() {
    local name
    # The gateways first and all at once: each finishes what it has begun to store.
    for name in "${!pids[@]}"; do
        [[ "$name" != gateway-* ]] || kill -TERM "${pids[$name]}" 2>/dev/null || true
    done
    for name in "${!pids[@]}"; do
        [[ "$name" != gateway-* ]] || end "$name" TERM
    done
    for name in "${!pids[@]}"; do end "$name" TERM; done
    end_database "$dir/mariadb"
    rm -rf "$dir"
}
at_end clean_up 0

# launch NAME PROGRAM ARGUMENT...: in a session of its own, so that Ctrl-C reaches this script alone, which keeps the order; and ended
# by the kernel if this script is killed.
launch() {
    local name="$1"
    shift
    setsid setpriv --pdeathsig TERM "$@" </dev/null >>"$dir/$name.log" 2>&1 &
    pids[$name]=$!
}

# until_so NAME SECONDS COMMAND...: waits until the command succeeds, for as long as NAME lives.
until_so() {
    local name="$1" tries=$(($2 * 20))
    shift 2
    until "$@"; do
        tries=$((tries - 1))
        if [[ "$tries" -eq 0 ]] || ! alive "$name"; then
            tail -n 20 "$dir/$name.log" >&2
            return 1
        fi
        sleep 0.05
    done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ---- the parts --------------------------------------------------------------------------------------------------

nats_port="$(free_port)"
start_nats() {
    local program
    program="$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nats-server)" || fail "please install nats-server"
    launch nats "$program" -a 127.0.0.1 -p "$nats_port"
    until_so nats 30 listens "$nats_port"
}

secret="$(od -An -vtx1 -N32 /dev/urandom | tr -d ' \n')"
declare -A listen=() admin=()

# The address after `address=` in the first line of a log, from line FROM on, that holds WORD.
said() { tail -n "+$3" "$dir/$1.log" | sed -n "s/.*\(^\|[\" ]\)$2.* address=\([0-9.:]*\).*/\2/p" | head -n 1; }
admin_said() { [[ -n "$(said "$1" admin "$2")" ]]; }

start_gateway() {
    local name="$1" number="${1#gateway-}" from
    mkdir -p "$dir/$name" "$dir/files"
    # What one of them keeps, all of them serve.
    [[ -e "$dir/$name/files" ]] || ln -s "$dir/files" "$dir/$name/files"
    touch "$dir/$name.log"
    from=$(($(wc -l <"$dir/$name.log") + 1))
    # In the environment: everybody on the machine sees arguments.
    IMGATE_SECRET="$secret" IMGATE_STORE="$database_url" launch "$name" "$imgate" --data "$dir/$name" --node "$number" \
        --cluster "nats://127.0.0.1:$nats_port" --listen "${listen[$name]:-127.0.0.1:0}" --admin "${admin[$name]:-127.0.0.1:0}" \
        "${settings[@]}"
    until_so "$name" 60 admin_said "$name" "$from" || return 1
    listen[$name]="$(said "$name" listening "$from")"
    admin[$name]="$(said "$name" admin "$from")"
}

# ask ADDRESS PATH
ask() {
    (
        exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 1
        printf 'GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$2" "$1" >&3
        cat <&3
    ) 2>/dev/null
}
knows_all() { ask "${admin[$1]}" /metrics | grep -qx "imgate_nodes $count"; }

# Installed, or unpacked: Debian's nginx runs from any folder, and needs nothing that a machine has not.
find_balancer() {
    local program
    for program in haproxy nginx; do
        if balancer="$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$program")"; then return; fi
    done
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    mkdir -p "$dir/packages"
    (cd "$dir/packages" && apt-get download -qq nginx >/dev/null 2>&1 && dpkg -x nginx_*.deb .) || return 1
    balancer="$dir/packages/usr/sbin/nginx"
    "$balancer" -v 2>/dev/null
}

balancer_port="$(free_port)"
write_haproxy() {
    local name
    cat <<HAPROXY
defaults
    mode http
    timeout connect 2s
    timeout client 130s
    timeout server 130s
    timeout tunnel 130s
    # What reaches none that is dead.
    option redispatch
frontend chat
    bind 127.0.0.1:$balancer_port
    option forwardfor
    http-request set-header X-Forwarded-Proto http
    http-request del-header Forwarded
    default_backend gateways
backend gateways
    balance roundrobin
    option httpchk GET /readyz
HAPROXY
    for name in "${!listen[@]}"; do
        echo "    server $name ${listen[$name]} check port ${admin[$name]##*:} inter 500ms"
    done
}

write_nginx() {
    local name
    cat <<NGINX
daemon off;
master_process off;
pid $dir/balancer/pid;
error_log stderr warn;
events { worker_connections 10000; }
http {
    access_log off;
    client_body_temp_path $dir/balancer/body;
    proxy_temp_path $dir/balancer/proxy;
    fastcgi_temp_path $dir/balancer/fastcgi;
    uwsgi_temp_path $dir/balancer/uwsgi;
    scgi_temp_path $dir/balancer/scgi;
    client_max_body_size 64m;
    # One line holds the login cookies of many people at one computer.
    large_client_header_buffers 4 16k;
    map \$http_upgrade \$connection_upgrade { default upgrade; "" ""; }
    upstream gateways {
NGINX
    for name in "${!listen[@]}"; do
        echo "        server ${listen[$name]} max_fails=1 fail_timeout=1s;"
    done
    cat <<NGINX
    }
    server {
        listen 127.0.0.1:$balancer_port;
        location / {
            proxy_pass http://gateways;
            proxy_http_version 1.1;
            proxy_set_header Upgrade \$http_upgrade;
            proxy_set_header Connection \$connection_upgrade;
            proxy_set_header Host \$http_host;
            proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto \$scheme;
            proxy_set_header Forwarded "";
            proxy_read_timeout 130s;
        }
    }
}
NGINX
}

start_balancer() {
    mkdir -p "$dir/balancer"
    case "$balancer" in
        *haproxy)
            write_haproxy >"$dir/balancer/conf"
            launch balancer "$balancer" -db -f "$dir/balancer/conf"
            ;;
        *)
            write_nginx >"$dir/balancer/conf"
            launch balancer "$balancer" -e stderr -p "$dir/balancer" -c "$dir/balancer/conf"
            ;;
    esac
    until_so balancer 30 listens "$balancer_port"
}

# ---- all of it --------------------------------------------------------------------------------------------------

echo "cluster.sh: in $dir" >&2
make_database "$dir/mariadb" || fail "no database"
start_nats || fail "nats-server does not start"
IMGATE_SECRET="$secret" IMGATE_STORE="$database_url" "$imgate" seed --data "$dir/seed" --log warn --users 100 --groups 1 --group-size 100 \
    --tokens "$dir/tokens" >/dev/null || fail "no users"
for number in $(seq "$count"); do
    start_gateway "gateway-$number" || fail "gateway-$number does not start"
done
for number in $(seq "$count"); do
    until_so "gateway-$number" 60 knows_all "gateway-$number" || fail "gateway-$number does not hear of the others"
done
target="${listen[gateway-1]}"
if find_balancer; then
    start_balancer || fail "the balancer does not start"
    target="127.0.0.1:$balancer_port"
    echo "balancer   http://$target/"
else
    echo "cluster.sh: no balancer: please install haproxy or nginx (apt-get install haproxy)" >&2
fi
for number in $(seq "$count"); do
    name="gateway-$number"
    echo "$name  http://${listen[$name]}/  metrics http://${admin[$name]}/metrics  status http://${admin[$name]}/admin"
done
echo "database   $database_url"
echo "nats       nats://127.0.0.1:$nats_port"
echo "tokens     $dir/tokens  (users 1 to 100, all in group 1)"
echo "operator   $(IMGATE_SECRET="$secret" "$imgate" token --data "$dir/seed" --operator --log warn)  (asked for by the status page)"
echo "load       autoclient direct --target $target --metrics http://${admin[gateway-1]}/metrics --tokens $dir/tokens --pairs 50 --rate 100 --seconds 30"
echo "ready      kill|stop|start|log NAME, status, quit"

known() { [[ "$1" =~ ^(nats|database|balancer)$ || -n "${listen[$1]:-}" ]]; }

start_again() {
    case "$1" in
        database) "$dir/mariadb/start" ;;
        *)
            if alive "$1"; then
                echo "$1 runs"
                return
            fi
            case "$1" in
                gateway-*) start_gateway "$1" ;;
                *) "start_$1" ;;
            esac
            ;;
    esac
}

obey() {
    local verb="$1" name="$2"
    case "$verb" in
        "") return ;;
        quit) exit 0 ;;
        status)
            for name in "${!listen[@]}" nats balancer; do
                if alive "$name"; then echo "$name runs"; else echo "$name does not run"; fi
            done | sort
            return
            ;;
        kill | stop | start | log) known "$name" || { echo "there is no \`$name\`"; return; } ;;
        *) echo "kill|stop|start|log NAME, status, quit"; return ;;
    esac
    case "$verb $name" in
        "log database") tail -n 20 "$dir/mariadb/error.log" ;;
        log*) tail -n 20 "$dir/$name.log" ;;
        start*) start_again "$name" && echo "$name started" || echo "$name did not start" ;;
        "kill database") end_database "$dir/mariadb" && echo "$name killed" ;;
        "stop database") "$dir/mariadb/stop" && echo "$name stopped" ;;
        kill*) end "$name" KILL && echo "$name killed" ;;
        stop*) end "$name" TERM && echo "$name stopped" ;;
    esac
}

while read -r verb name _; do
    obey "$verb" "$name"
done
# Its input has ended: until a signal ends it. Whatever ends meanwhile is for whoever plays.
mkfifo "$dir/never"
exec 4<>"$dir/never"
while true; do
    read -r -u 4 -t 3600 _ || true
done
