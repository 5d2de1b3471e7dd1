#!/usr/bin/env bash
# Runs Autobahn's WebSocket test suite, all sections, against `imgate --echo`, and fails unless every case is OK.
# Cases of compression (12 and 13) send 100 messages instead of 1,000.
#
# Needs a Python 2.7 (the suite has no other): PYTHON2=/path/to/python2.7, or python2.7 in PATH, or one that pyenv knows.
# The first run fetches the suite from PyPI into target/autobahn. `wstest` always exits 0, so the verdict is read from its index.json.
#
# Exit code 77: there is no Python 2.7, or the suite cannot be installed.
#
# --install         only fetches the suite.
#
# IMGATE_BIN=FILE   test this binary instead of building one.
# AUTOBAHN_CASES=…  other cases, as a JSON list (default ["1.*","2.*",…]).
# AUTOBAHN_TLS=1    over TLS, with a certificate made for the run.
# AUTOBAHN_OUT=DIR  where the reports go (default target/autobahn/reports).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh

# The last release of the suite; it pins its own dependencies (Twisted 19.10, cryptography 3.3.2, …) to versions that run on 2.7.
SUITE='autobahntestsuite==25.10.1'
# The last virtualenv that is one package without dependencies and makes a Python 2.7 environment.
VIRTUALENV='virtualenv==16.7.12'
CASES='["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*"]'
# So many cases do those sections have: a run that was cut short must not pass.
CASES_EXPECTED=517
if [ -n "${AUTOBAHN_CASES:-}" ]; then
    CASES=$AUTOBAHN_CASES
    CASES_EXPECTED=1
fi
# They take a minute; a server that stalls must not keep us for ever.
SECONDS_MAX=900
START_SECONDS_MAX=20

CACHE=${CARGO_TARGET_DIR:-target}/autobahn
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd)
OUT=${AUTOBAHN_OUT:-$CACHE/reports}

fail() {
    echo "autobahn: $*" >&2
    exit 1
}

# Neither passed nor failed: the suite cannot be had here.
missing() {
    echo "autobahn: $*" >&2
    exit 77
}

python2() {
    local found=${PYTHON2:-}
    [ -n "$found" ] || found=$(command -v python2.7 || true)
    # A pyenv shim exists for every version and fails if that version is not the selected one.
    if [ -z "$found" ] || ! "$found" -c '' 2>/dev/null; then
        local version
        version=$(pyenv versions --bare 2>/dev/null | grep -E '^2\.7\.[0-9]+$' | tail -n 1 || true)
        [ -n "$version" ] && found=$(pyenv prefix "$version")/bin/python2.7
    fi
    [ -n "$found" ] && "$found" -c 'import sys; assert sys.version_info[:2] == (2, 7)' 2>/dev/null ||
        missing "no Python 2.7 found; set PYTHON2=/path/to/python2.7 (for instance: pyenv install 2.7.18)"
    echo "$found"
}

install_suite() {
    local stamp="$CACHE/venv/$SUITE"
    [ -e "$stamp" ] && return
    echo "autobahn: installing $SUITE into $CACHE/venv"
    local python
    python=$(python2)
    rm -rf "$CACHE/venv" "$CACHE/bootstrap"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$CACHE/bootstrap" "$VIRTUALENV" 2>&1 | grep -v DEPRECATION || true
    PYTHONPATH="$CACHE/bootstrap" "$python" -m virtualenv --quiet "$CACHE/venv" || missing "$VIRTUALENV could not be installed"
    "$CACHE/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$SUITE" 2>&1 | grep -v DEPRECATION || true
    "$CACHE/venv/bin/wstest" --autobahnversion >/dev/null || missing "$SUITE could not be installed"
    shorten_compression
    touch "$stamp"
}

# The suite's specification cannot say how many messages a case of compression sends, so its table is changed.
shorten_compression() {
    local table
    table=$(echo "$CACHE"/venv/lib/python2.7/site-packages/autobahntestsuite/case/case12_x_x.py)
    if grep -qE '^ *\([0-9]+, +1000,' "$table"; then
        sed -i -E 's/^( *\([0-9]+, +)1000,/\1100,/' "$table"
        # What was compiled of it is known by the second: changed within the one of its making, it would still be used.
        rm -f "${table}c"
    fi
    grep -qE '^ *\([0-9]+, +100,' "$table" || fail "the table of messages in $table is not what it was"
}

# Two ports that were free a moment ago. Somebody else may take one before imgate does: `start` tries again then.
free_ports() {
    "$CACHE/venv/bin/python" -c '
import socket
sockets = [socket.socket() for _ in range(2)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(" ".join(str(s.getsockname()[1]) for s in sockets))'
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

SERVER=
CLIENT=
WORK=
stop() {
    # Only what this script started, by its process id: none, or a number.
    # shellcheck disable=SC2086
    end_processes 30 $CLIENT $SERVER
    [ -z "$WORK" ] || rm -rf "$WORK"
}
at_end stop

start() {
    local admin deadline try
    local -a listen
    if [ -n "${AUTOBAHN_TLS:-}" ]; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
            -addext subjectAltName=IP:127.0.0.1 -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>"$WORK/openssl.log" ||
            fail "no certificate: $(cat "$WORK/openssl.log")"
        chmod 600 "$WORK/key.pem"
    fi
    for try in 1 2 3; do
        read -r PORT admin <<<"$(free_ports)"
        listen=(--listen "127.0.0.1:$PORT")
        if [ -n "${AUTOBAHN_TLS:-}" ]; then
            listen=(--listen 127.0.0.1:0 --listen-tls "127.0.0.1:$PORT" --tls-cert "$WORK/cert.pem" --tls-key "$WORK/key.pem")
        fi
        "$BIN" --echo --compression on "${listen[@]}" --admin "127.0.0.1:$admin" --data "$WORK/data-$try" >"$WORK/imgate.log" 2>&1 &
        SERVER=$!
        deadline=$((SECONDS + START_SECONDS_MAX))
        while kill -0 "$SERVER" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do
            if listens "$PORT"; then return; fi
            sleep 0.1
        done
        kill "$SERVER" 2>/dev/null || true
        wait "$SERVER" 2>/dev/null || true
        SERVER=
    done
    cat "$WORK/imgate.log" >&2
    fail "imgate did not start"
}

case "${1:-}" in
    "" | --install) ;;
    *) sed -n '2,17s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
install_suite
shorten_compression
[[ "${1:-}" != --install ]] || exit 0
if [ -n "${IMGATE_BIN:-}" ]; then
    BIN=$IMGATE_BIN
else
    cargo build --release --bin imgate
    BIN=${CARGO_TARGET_DIR:-target}/release/imgate
fi
WORK=$(mktemp -d "${TMPDIR:-/tmp}/imgate-autobahn.XXXXXX")
rm -rf "$OUT"
mkdir -p "$OUT"
start
SCHEME=ws
[ -z "${AUTOBAHN_TLS:-}" ] || SCHEME=wss
cat >"$WORK/spec.json" <<SPEC
{
    "outdir": "$OUT",
    "servers": [{"agent": "imgate", "url": "$SCHEME://127.0.0.1:$PORT/echo"}],
    "cases": $CASES,
    "exclude-cases": [],
    "exclude-agent-cases": {}
}
SPEC
timeout "$SECONDS_MAX" "$CACHE/venv/bin/wstest" --mode fuzzingclient --spec "$WORK/spec.json" >"$WORK/wstest.log" 2>&1 &
CLIENT=$!
if ! wait "$CLIENT"; then
    CLIENT=
    tail -n 20 "$WORK/wstest.log" >&2
    fail "wstest failed, or took more than $SECONDS_MAX s"
fi
CLIENT=
kill -0 "$SERVER" 2>/dev/null || fail "imgate died: $(tail -n 20 "$WORK/imgate.log")"

"$CACHE/venv/bin/python" - "$OUT/index.json" "$CASES_EXPECTED" <<'PYTHON'
import collections, json, sys

cases = json.load(open(sys.argv[1])).get("imgate", {})
number = lambda case: [int(part) for part in case.split(".")]
by_behavior = collections.defaultdict(list)
failed = []
for case in sorted(cases, key=number):
    behavior, close = cases[case]["behavior"], cases[case]["behaviorClose"]
    by_behavior[behavior].append(case)
    # INFORMATIONAL is what Autobahn itself does not judge. NON-STRICT is a failure: the RFC can be followed strictly.
    if behavior not in ("OK", "INFORMATIONAL") or close not in ("OK", "INFORMATIONAL"):
        failed.append("%s: %s, close %s (%s)" % (case, behavior, close, cases[case]["reportfile"]))
for behavior in sorted(by_behavior):
    names = "" if behavior == "OK" else ": " + " ".join(by_behavior[behavior])
    print("autobahn: %4d %s%s" % (len(by_behavior[behavior]), behavior, names))
for line in failed:
    print("autobahn: FAILED " + line)
if len(cases) < int(sys.argv[2]):
    print("autobahn: FAILED only %d cases of %s were run" % (len(cases), sys.argv[2]))
    sys.exit(1)
sys.exit(1 if failed else 0)
PYTHON
echo "autobahn: passed; reports in $OUT"
