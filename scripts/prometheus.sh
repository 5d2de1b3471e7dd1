#!/usr/bin/env bash
# Metrics, rules and dashboard against a real Prometheus: Debian's package, unpacked into a temporary folder; nothing is installed.
#
#   scripts/prometheus.sh
#
# `promtool check metrics` on a scrape in both formats, `promtool check rules`, `promtool test rules`; then Prometheus scrapes two live
# gateways, one with TLS and clients, one of a cluster, and every query of the dashboard and every series that the rules look at must be there.
# Exit code 0: all of it, or the package could not be had (it says so; with CI set that is a failure).
# Variables: IMGATE and AUTOCLIENT (programs to use instead of building the debug ones).
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
cd "$(dirname "$self")/.."

# shellcheck source=scripts/ending.sh
. scripts/ending.sh
# shellcheck source=scripts/mariadb.sh
. scripts/mariadb.sh

dir="$(mktemp -d "${TMPDIR:-/tmp}/imgate-prometheus.XXXXXX")"
pids=()
clean_up() {
    end_database "$dir/mariadb"
    end_processes 60 "${pids[@]}"
    rm -rf "$dir"
}
at_end clean_up

# ---- Prometheus -------------------------------------------------------------------------------------------------

download() {
    (cd "$dir" && apt-get download -qq prometheus >/dev/null 2>&1)
}

# A fresh machine has no lists of packages.
refresh() {
    if [[ "$(id -u)" -eq 0 ]]; then
        apt-get update -qq >/dev/null 2>&1
    else
        sudo -n apt-get update -qq >/dev/null 2>&1
    fi
}

find_prometheus() {
    if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
        prometheus="$(command -v prometheus)"
        promtool="$(command -v promtool)"
        return
    fi
    download || { refresh && download; } || return 1
    (cd "$dir" && dpkg -x prometheus_*.deb prometheus.root) || return 1
    prometheus="$dir/prometheus.root/usr/bin/prometheus"
    promtool="$dir/prometheus.root/usr/bin/promtool"
}
if ! find_prometheus; then
    echo "prometheus.sh: SKIPPED: Debian's package prometheus cannot be had here" >&2
    [[ -z "${CI:-}" ]]
    exit
fi
say() { printf '== %s\n' "$*"; }

say "rules"
"$promtool" check rules ops/prometheus/alerts.yml
(cd ops/prometheus && "$promtool" test rules alerts.test.yml)
"$promtool" check config --syntax-only ops/prometheus/prometheus.yml

# ---- the gateways -----------------------------------------------------------------------------------------------

if [[ -z "${IMGATE:-}" || -z "${AUTOCLIENT:-}" ]]; then
    cargo build --locked -p imgate -p loadtest
fi
target="${CARGO_TARGET_DIR:-$PWD/target}"
imgate="$(readlink -f "${IMGATE:-$target/debug/imgate}")"
autoclient="$(readlink -f "${AUTOCLIENT:-$target/debug/autoclient}")"
# A machine's own settings are no part of a test.
unset "${!IMGATE_@}"

"$imgate" seed --data "$dir/data" --log warn --users 40 --tokens "$dir/tokens" >/dev/null

# address LOG WORD: waits for the address behind a word of a gateway's log.
address() {
    local found
    for _ in $(seq 300); do
        found="$(sed -n "s/.*$2.* address=\([0-9.:]*\).*/\1/p" "$1" | head -1)"
        [[ -z "$found" ]] || { echo "$found"; return; }
        sleep 0.1
    done
    cat "$1" >&2
    return 1
}

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 30 \
    -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
chmod 600 "$dir/key.pem"
"$imgate" --data "$dir/data" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --shards 2 --listen-tls 127.0.0.1:0 \
    --tls-cert "$dir/cert.pem" --tls-key "$dir/key.pem" 2>"$dir/log" &
pids+=($!)
listen="$(address "$dir/log" listening)"
admin="$(address "$dir/log" ' admin')"

make_database "$dir/mariadb"
nats="$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v nats-server)"
nats_port="$(free_port)"
"$nats" -a 127.0.0.1 -p "$nats_port" >"$dir/nats.log" 2>&1 &
pids+=($!)
# With files in an object store that is not there, which is no reason not to start.
IMGATE_S3_ACCESS_KEY=none IMGATE_S3_SECRET_KEY=none IMGATE_S3_ENDPOINT=http://127.0.0.1:9 IMGATE_FILES=s3://none \
    IMGATE_STORE="$database_url" "$imgate" --data "$dir/second" --node 2 --cluster "nats://127.0.0.1:$nats_port" \
    --listen 127.0.0.1:0 --admin 127.0.0.1:0 --shards 2 2>"$dir/second.log" &
pids+=($!)
second="$(address "$dir/second.log" ' admin')"

# ask ADDRESS PATH [ACCEPT]
ask() {
    python3 - "$@" <<'PYTHON'
import sys, urllib.request
address, path, *accept = sys.argv[1:]
request = urllib.request.Request(f"http://{address}{path}", headers={"Accept": accept[0]} if accept else {})
sys.stdout.write(urllib.request.urlopen(request, timeout=10).read().decode())
PYTHON
}

say "a scrape"
ask "$admin" /metrics | "$promtool" check metrics
ask "$second" /metrics | "$promtool" check metrics
ask "$admin" /metrics "application/openmetrics-text; version=1.0.0" >"$dir/open"
tail -1 "$dir/open" | grep -qx "# EOF"

"$autoclient" direct --pairs 20 --rate 40 --seconds 20 --tokens "$dir/tokens" --target "$listen" --metrics off \
    --p99-ms inf --lag-ms inf >/dev/null 2>&1 &
pids+=($!)

sed "s/\"127.0.0.1:8082\"/\"$admin\", \"$second\"/; s/scrape_interval: .*/scrape_interval: 1s/" ops/prometheus/prometheus.yml >"$dir/prometheus.yml"
cp ops/prometheus/alerts.yml "$dir/"
# A port of its own: one that the system gives and nobody has taken since.
port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
"$prometheus" --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/tsdb" --web.listen-address="127.0.0.1:$port" \
    --log.level=warn 2>"$dir/prometheus.log" &
pids+=($!)

say "every query of the dashboard and of the rules"
python3 - "127.0.0.1:$port" ops/grafana/imgate.json ops/prometheus/alerts.yml <<'PYTHON'
import json, re, sys, time, urllib.parse, urllib.request

address, dashboard, rules = sys.argv[1:]

def series(query):
    url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]["result"]

queries = set()
for panel in json.load(open(dashboard))["panels"]:
    for target in panel.get("targets", []):
        query = target["expr"].replace("$__rate_interval", "10s").replace("$instance", ".*")
        assert "$" not in query, query
        queries.add(query)
dashboards = len(queries)
# A rule's condition is false here, so what is asked for is what it looks at: each selector without its condition on labels.
# What is there only once something has happened, the table of metrics says so of: no clock is set here.
later = {row.split("`")[1] for row in open("docs/metrics.md") if "absent while it never" in row}
for line in open(rules):
    if line.strip().startswith("expr: "):
        names = re.findall(r"\b((?:imgate|process)_[a-z_]+|up)\b", line)
        assert names, line
        queries.update(set(names) - later)
missing, until = queries, time.time() + 60
while missing and time.time() < until:
    time.sleep(1)
    try:
        missing = {query for query in missing if not series(query)}
    except OSError:
        # It is still starting.
        pass
for query in sorted(missing):
    print("no series:", query)
print(f"{len(queries) - len(missing)} of {len(queries)} queries have series ({dashboards} of the dashboard)")
sys.exit(bool(missing))
PYTHON
say "passed"
