#!/usr/bin/env bash
# Tries every call of the OpenAPI document with schemathesis: as a user, and as a backend with a key. Fails where an answer is a 5xx or
# is not what the document says (status, content type, headers, body), where a login is not asked for, and where a method is taken that
# the document does not name.
#
# Needs python3 with venv; the first run fetches schemathesis from PyPI into target/schemathesis. It takes some four minutes.
#
# Exit code 77: schemathesis cannot be installed.
#
# IMGATE_BIN=FILE   try this binary instead of building one.
# EXAMPLES=N        inputs made at random for each call (default 30).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh

TOOL='schemathesis==4.32.5'
# Not checked: whether everything is refused that the document does not name. Headers and members that are not known are passed over, so
# that a newer client may talk to an older gateway; and rules between fields (one of two, a name of something that can be seen) are said
# in words, for which the answers are 400 with a code.
LEFT_OUT=negative_data_rejection,positive_data_acceptance

CACHE=${CARGO_TARGET_DIR:-target}/schemathesis
mkdir -p "$CACHE"
CACHE=$(realpath "$CACHE")
if [ ! -x "$CACHE/bin/st" ] || ! "$CACHE/bin/pip" freeze 2>/dev/null | grep -qx "$TOOL"; then
    python3 -m venv "$CACHE" && "$CACHE/bin/pip" -q install "$TOOL" || {
        echo "schemathesis: cannot be installed" >&2
        exit 77
    }
fi
if [ -z "${IMGATE_BIN:-}" ]; then
    cargo build --workspace --bin imgate
    IMGATE_BIN=${CARGO_TARGET_DIR:-target}/debug/imgate
fi

WORK=$(mktemp -d)
GATEWAY=
# shellcheck disable=SC2329 # called by at_end
finish() {
    # shellcheck disable=SC2086 # none, or a number
    end_processes 30 $GATEWAY
    rm -rf "$WORK"
}
at_end finish

export IMGATE_DATA=$WORK/data
"$IMGATE_BIN" --listen 127.0.0.1:0 --admin 127.0.0.1:0 2>"$WORK/log" &
GATEWAY=$!
port() {
    sed -nE "s/.* $1 address=127\.0\.0\.1:([0-9]+).*/\1/p" "$WORK/log" | head -n 1
}
for _ in $(seq 200); do
    [ -z "$(port admin)" ] || break
    kill -0 "$GATEWAY" || { cat "$WORK/log" >&2; exit 1; }
    sleep 0.1
done
BASE=http://127.0.0.1:$(port listening)
export IMGATE_ADMIN=127.0.0.1:$(port admin)

TOKEN=$(curl -fsS -H 'Content-Type: application/json' -d '{"mobile":"13800000001","password":"a long way to Tipperary"}' "$BASE/api/v1/register" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
KEY=$("$IMGATE_BIN" key new --rate 100000 --scopes send,users,groups,online,history,moderate,data,stats,tokens schemathesis 2>/dev/null)

run() {
    local token=$1
    shift
    "$CACHE/bin/st" run "$BASE/api/v1/openapi.json" -H "Authorization: Bearer $token" --checks all --exclude-checks "$LEFT_OUT" \
        --phases examples,coverage,fuzzing -n "${EXAMPLES:-30}" --continue-on-failure --no-color "$@"
}

# It leaves notes of its own where it runs.
cd "$WORK"

# Calls that end the user's own login or account come behind the others, and those of backends, which ban and erase users, last.
ENDING='^/api/v1/(logout|me/password|me/delete|me/logins/.*)$'
run "$TOKEN" --exclude-path-regex "^/api/v1/server/|$ENDING"
run "$TOKEN" --include-path-regex "$ENDING"
run "$KEY" --include-path-regex '^/api/v1/server/'
kill -0 "$GATEWAY" || { echo 'schemathesis: the gateway has ended' >&2; exit 1; }
if grep -E ' (ERROR|panicked)' "$WORK/log" >&2; then exit 1; fi
echo 'schemathesis: passed'
