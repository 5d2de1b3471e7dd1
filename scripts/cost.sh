#!/usr/bin/env bash
# What a direct message costs, stored in SQLite and in a private MariaDB, against volatile: `autoclient cost` in one command.
#
#   scripts/cost.sh [FLAGS OF autoclient cost]      e.g. scripts/cost.sh --seconds 10 --rounds 5 --json
#
# Exit code: autoclient's own. What is written goes to a temporary folder that is removed at the end.
# Variables: PROFILE (cargo profile to build and use; default dist), IMGATE and AUTOCLIENT (programs to use instead of building).
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
cd "$(dirname "$self")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh
# shellcheck source=scripts/mariadb.sh
. scripts/mariadb.sh

profile="${PROFILE:-dist}"
if [[ -z "${IMGATE:-}" || -z "${AUTOCLIENT:-}" ]]; then
    cargo build --locked --profile "$profile" -p imgate -p loadtest
fi
imgate="$(readlink -f "${IMGATE:-target/$profile/imgate}")"
autoclient="$(readlink -f "${AUTOCLIENT:-target/$profile/autoclient}")"
# A machine's own settings are no part of a measurement.
unset "${!IMGATE_@}"

dir="$(mktemp -d "${TMPDIR:-/tmp}/imgate-cost.XXXXXX")"
clean_up() {
    end_database "$dir/mariadb"
    rm -rf "$dir"
}
at_end clean_up
make_database "$dir/mariadb"
# In the foreground, or Ctrl-C would not reach it.
TMPDIR="$dir" timeout --foreground --kill-after=30 7200 "$autoclient" cost --imgate "$imgate" --mariadb "$database_url" "$@"
