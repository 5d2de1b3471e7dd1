#!/usr/bin/env bash
# Judges by deny.toml what the tree depends on: licences, sources, refused crates. Needs nothing but what cargo has fetched.
#
#   scripts/deny.sh              judges
#   scripts/deny.sh --install    only makes sure that there is a cargo-deny
#
# Uses the cargo-deny in PATH; without one, builds one from the crates' registry into target/tools: a minute on two cores.
# Exit code: that of cargo-deny. 0: as it should be.
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
cd "$(dirname "$self")/.."

VERSION=0.20.2
TOOLS="${CARGO_TARGET_DIR:-$PWD/target}/tools"

case "${1:-}" in
    "" | --install) ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$self" >&2; exit 2 ;;
esac

# Without optimisation: it runs for three seconds, and optimising it takes three times as long as building it. Without its
# features: they are for fetching what is not judged here.
install() {
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo install --quiet cargo-deny --version "$VERSION" --locked --no-default-features --root "$TOOLS" --target-dir "$TOOLS/build"
    rm -rf "$TOOLS/build"
}

deny="$(command -v cargo-deny || true)"
if [[ -z "$deny" ]]; then
    deny="$TOOLS/bin/cargo-deny"
    [[ "$("$deny" --version 2>/dev/null)" == "cargo-deny $VERSION" ]] || install
fi
[[ "${1:-}" == --install ]] || "$deny" --all-features --log-level error check bans licenses sources
