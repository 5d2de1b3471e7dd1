#!/usr/bin/env bash
# Every test of the project, on a fresh Debian machine too.
#
#   scripts/test.sh               all of them
#   scripts/test.sh --quick       without the long ones (socket tests, many simulation seeds)
#   scripts/test.sh --repeat 20   all of them, then the simulation and the socket tests until they have run 20 times
#
# Exit code 0: all passed. What the tests write goes to a temporary folder that is removed at the end, their ports are those
# that the system chooses, and no process outlives this script. What stays: target/, tests/browser/node_modules, and what cargo
# and npm have fetched, in their own caches.
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
cd "$(dirname "$self")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh

repeat=1
quick=false

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$self"
}

while [[ $# -gt 0 ]]; do
    case "$1" in
        --repeat)
            repeat="${2:-}"
            [[ "$repeat" =~ ^[1-9][0-9]{0,3}$ ]] || { echo "test.sh: --repeat wants a number from 1 to 9999" >&2; exit 2; }
            shift 2
            ;;
        --quick) quick=true; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "test.sh: unknown argument $1" >&2; usage >&2; exit 2 ;;
    esac
done

# With the time since the start, by which one sees what costs how much.
say() { printf '\n== %02d:%02d %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"; }

# ---- what a machine needs ---------------------------------------------------------------------------------------

# A program that the tests need, and the Debian package that brings it. A later step adds a line here.
need=(
    "cc build-essential" # SQLite and the allocator are compiled from their sources
    "make make"
    "mariadbd mariadb-server-core" # the tests start private servers; the package has no service that would start one
    "nats-server nats-server" # the bus between gateways; the tests start private servers
    "node nodejs" # the SDK and the browser tests; 20 or newer
    "npm npm" # brings the driver of the browser, by its lock file
    "chromium chromium" # the web client is tested in a real browser
    "python3 python3" # asks Prometheus, and is a peer of the TLS tests
    "pip3 python3-pip" # brings moto, the object store of the tests, and tlslite-ng, a peer of the TLS tests, into target/
    "openssl openssl" # certificates for the TLS of the database
)

# How to become root without a question, if that is possible at all.
as_root() {
    if [[ "$(id -u)" -eq 0 ]]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get >/dev/null && { [[ "$(id -u)" -eq 0 ]] || sudo -n true 2>/dev/null; }
}

install_missing() {
    local entry program package
    local -a missing=()
    for entry in "${need[@]}"; do
        read -r program package <<<"$entry"
        # Servers stand where only root looks.
        PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing+=("$package")
    done
    [[ ${#missing[@]} -eq 0 ]] && return
    if ! may_install; then
        echo "test.sh: please install: ${missing[*]}" >&2
        exit 1
    fi
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends -y "${missing[@]}"
}

# Debian 12's is too old, so it is looked at before hours of other tests.
node_wanted=20
check_node() {
    local version
    version="$(node --version 2>/dev/null)" || return 0
    [[ "$version" =~ ^v([0-9]+)\. ]] && ((BASH_REMATCH[1] >= node_wanted)) && return
    echo "test.sh: the tests of the SDK and the browser want Node $node_wanted or newer, and node is ${version:-nothing known}:" \
        "take one of https://nodejs.org/en/download (or Debian 13's nodejs), and put it first in PATH" >&2
    exit 1
}

find_cargo() {
    if ! command -v cargo >/dev/null && [[ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]]; then
        # shellcheck disable=SC1091
        . "${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    if ! command -v cargo >/dev/null; then
        echo "test.sh: cargo was not found; see https://rustup.rs" >&2
        exit 1
    fi
}

# ---- the tests --------------------------------------------------------------------------------------------------

# The test targets of a package: a file in its tests/, or a folder there with a main.rs.
targets() {
    local path
    for path in "$1"/*.rs "$1"/*/main.rs; do
        [[ -f "$path" ]] || continue
        path="${path#"$1"/}"
        path="${path%/main.rs}"
        printf '%s\n' "${path%.rs}"
    done
}

# Those that are worth repeating, because time and threads play a part in them: the simulation and whatever talks over sockets.
# Their names are a convention that docs/testing.md states.
timed_targets() {
    targets tests | grep -E '^(simulation|e2e.*)$'
}

# The scenarios of the load client and the socket tests mostly wait, each for a gateway of its own: more of them at once than there
# are cores.
declare -A waiting_threads=([scenarios]=8 [e2e]=6)

# The programs of the benches have no tests and take a minute to build; clippy looks at them.
programs=(--bin=imgate --bin=autoclient)

run_all() {
    local folder
    local -a chosen
    mapfile -t chosen < <(for folder in tests */tests; do targets "$folder"; done |
        grep -vxF -f <(printf '%s\n' "${!waiting_threads[@]}") | sed 's/^/--test=/')
    # Unoptimised: optimising these tests takes longer than they run. The others run the gateway, and simulate it.
    say "cargo test, unit tests"
    cargo test "${unoptimised[@]}" --workspace --locked --lib
    say "cargo test, all others"
    cargo test --workspace --locked "${programs[@]}" "${chosen[@]}"
    say "cargo test, those that mostly wait"
    local waiting
    for waiting in "${!waiting_threads[@]}"; do
        RUST_TEST_THREADS="${waiting_threads[$waiting]}" cargo test --workspace --locked --test="$waiting"
    done
    cargo test --workspace --locked --doc
}

# The routes of the old systems can be left out. Every target is checked for that, without a warning; and the API that is left
# keeps its tests. Unoptimised: this build serves nothing else. Of the whole workspace: of one package alone the features of
# dependencies would be others, and each of them would be built anew.
without_legacy=(--locked --workspace --no-default-features)
# As clippy is called in .ci/run, so that what that has checked of dependencies is there.
as_clippy=(--config "profile.dev.package.imgate.debug-assertions=false" --config "profile.dev.package.mio.debug-assertions=false")
unoptimised=(--config "profile.test.package.imgate.opt-level=0")

build_without_legacy() {
    local told
    told="$(cargo check "${as_clippy[@]}" "${without_legacy[@]}" --all-targets 2>&1)" || { echo "$told" >&2; return 1; }
    if grep -q '^warning' <<<"$told"; then
        echo "$told" >&2
        return 1
    fi
    cargo test "${unoptimised[@]}" "${without_legacy[@]}" --lib --no-run
}

# The browser mostly waits, so what is to be compiled yet is compiled beside it, as far as it leaves the processors free. It is
# run when nothing is beside it: its tests have deadlines.
run_browser_and_build_beside() {
    local log="$scratch/beside.log" build
    # A process group of its own, by which all of it can be ended.
    set -m
    (renice -n 19 -p "$BASHPID" >/dev/null; build_without_legacy && scripts/deny.sh --install) >"$log" 2>&1 &
    build=$!
    set +m
    beside="$build"
    run_browser
    say "imgate without the feature legacy"
    if ! wait "$build"; then
        cat "$log" >&2
        return 1
    fi
    beside=""
    cargo test "${unoptimised[@]}" "${without_legacy[@]}" --lib api::
    say "licences, sources and crates that are refused"
    scripts/deny.sh
}

# Autobahn's 517 cases, plain and over TLS at once, where there is a Python 2.7: the suite has no other.
run_autobahn() {
    say "Autobahn"
    local code=0
    scripts/autobahn.sh --install || code=$?
    if [[ "$code" -eq 77 ]]; then
        echo "test.sh: SKIPPED: Autobahn" >&2
        return
    fi
    [[ "$code" -eq 0 ]] || return "$code"
    local -x IMGATE_BIN="${CARGO_TARGET_DIR:-$PWD/target}/debug/imgate"
    local plain encrypted
    AUTOBAHN_OUT="$scratch/autobahn" scripts/autobahn.sh >"$scratch/autobahn.log" 2>&1 &
    plain=$!
    AUTOBAHN_TLS=1 AUTOBAHN_OUT="$scratch/autobahn-tls" scripts/autobahn.sh >"$scratch/autobahn-tls.log" 2>&1 &
    encrypted=$!
    wait "$plain" || code=$?
    wait "$encrypted" || code=$?
    cat "$scratch/autobahn.log" "$scratch/autobahn-tls.log"
    return "$code"
}

# The SDK of the web client; needs no package and no browser.
run_sdk() {
    say "the SDK against the recorded conversations"
    node --test tests/sdk/*.test.mjs
}

# The web client in a headless Chromium, against a gateway of its own. The driver comes from the package registry, by the lock
# file; a machine that cannot reach one skips this, and says so. With CI set that is a failure.
run_browser() {
    say "the web client in a browser"
    if ! npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --loglevel=error; then
        echo "test.sh: SKIPPED: the browser tests (playwright-core could not be installed)" >&2
        [[ -z "${CI:-}" ]]
        return
    fi
    # `cargo test` has built it, for those tests that run it.
    local -x IMGATE_BINARY="${CARGO_TARGET_DIR:-$PWD/target}/debug/imgate"
    local file
    local -a failed=()
    for file in tests/browser/*.test.mjs; do
        node --test "$file" || failed+=("$file")
    done
    # A browser on a busy machine is late now and then, and 30 minutes of other tests hang on it. What fails a second time is
    # no accident; what does not is named, so that it can be mended.
    for file in "${failed[@]}"; do
        say "once more: $file"
        node --test "$file"
        echo "test.sh: FLAKY: $file failed once and passed once" >&2
    done
}

# Metrics, rules and dashboard against Debian's Prometheus; it says so when the package cannot be had.
run_prometheus() {
    say "metrics, rules and dashboard against a real Prometheus"
    # `cargo test` has built both; a build of two packages alone would begin anew.
    local built="${CARGO_TARGET_DIR:-$PWD/target}/debug"
    IMGATE="$built/imgate" AUTOCLIENT="$built/autoclient" scripts/prometheus.sh
}

# The packages, of what is built: installed, run and removed below a temporary folder.
run_packages() {
    say "the packages"
    local built="${CARGO_TARGET_DIR:-$PWD/target}/debug"
    IMGATE="$built/imgate" AUTOCLIENT="$built/autoclient" scripts/package.sh --check
}

# All of the workspace is chosen each time, also where fewer targets run: with fewer packages, crates would be built anew for
# the features that these do not need.
run_quick() {
    say "cargo test, the short ones"
    local folder
    local -a chosen
    mapfile -t chosen < <(for folder in tests */tests; do targets "$folder"; done | grep -v '^e2e' | sed 's/^/--test=/')
    SEEDS="${SEEDS:-32}" cargo test --workspace --locked --lib "${programs[@]}" "${chosen[@]}"
}

run_timed() {
    local target
    for target in $(timed_targets); do
        RUST_TEST_THREADS="${waiting_threads[$target]:-$(nproc)}" cargo test --workspace --locked --test="$target"
    done
}

# ---- one run ----------------------------------------------------------------------------------------------------

check_node
find_cargo
install_missing
check_node

# Whether programs may be run in a folder.
runs_programs() {
    local probe
    probe="$(mktemp "$1/imgate-probe.XXXXXX")" || return 1
    printf '#!/bin/sh\n' >"$probe"
    chmod +x "$probe"
    "$probe" 2>/dev/null
    local ran=$?
    rm -f "$probe"
    return "$ran"
}

# In memory where there is room: the tests make thousands of small databases, and what they wait for is mostly the disk.
scratch_place() {
    local free_kib
    free_kib="$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" || free_kib=0
    if [[ -z "${TMPDIR:-}" && -w /dev/shm && "${free_kib:-0}" -gt $((4 * 1024 * 1024)) ]] && runs_programs /dev/shm; then
        echo /dev/shm
    else
        echo "${TMPDIR:-/tmp}"
    fi
}

scratch="$(mktemp -d "$(scratch_place)/imgate-test.XXXXXX")"
# The process group of what runs beside the others.
beside=""
clean_up() {
    [[ -z "$beside" ]] || kill -- "-$beside" 2>/dev/null || true
    local left
    left="$(jobs -p)"
    # Word splitting is wanted: one number per job. Autobahn's script ends a gateway of its own.
    # shellcheck disable=SC2086
    end_processes 60 $left
    rm -rf "$scratch"
}
at_end clean_up
export TMPDIR="$scratch"
# A machine's own settings are no part of a test.
unset "${!IMGATE_@}"

if $quick; then
    run_quick
    run_sdk
else
    run_all
    run_autobahn
    run_sdk
    run_browser_and_build_beside
    run_prometheus
    run_packages
fi
for ((round = 2; round <= repeat; round++)); do
    say "round $round of $repeat"
    run_timed
done

say "all tests passed$([[ "$repeat" -eq 1 ]] || echo ", the simulation and the socket tests $repeat times")"
