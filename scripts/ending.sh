# shellcheck shell=bash
# How a script ends that leaves no process and no folder behind, also when a second Ctrl-C comes while the first one is obeyed. To be
# sourced.
#
#   at_end COMMAND [CODE]           has COMMAND run once when the script ends, by itself or by a signal (then with exit code CODE, or 130)
#   end_processes SECONDS PID...    SIGTERM, and SIGKILL for what has not ended in so many seconds; comes back when all have ended
#   has_ended PID                   also if nothing has asked yet how

# An exit from within the cleaning would leave it half done, and so would a signal that ends the programs which it needs.
at_end_command="" at_end_code="" at_end_begun=""
at_end() {
    at_end_command="$1" at_end_code="${2:-130}"
    trap at_end_clean EXIT
    trap at_end_stop INT TERM HUP
}
at_end_stop() {
    [[ -z "$at_end_begun" ]] || return 0
    at_end_begun=1
    exit "$at_end_code"
}
at_end_clean() {
    at_end_begun=1
    trap '' INT TERM HUP
    "$at_end_command"
}

has_ended() {
    local state
    state="$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null)" || true
    [[ ! -e "/proc/$1" || "$state" == Z* ]]
}

end_processes() {
    local tries=$(($1 * 20)) pid
    shift
    for pid in "$@"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "$@"; do
        # Not by `wait`, which comes back at once when another signal has come.
        until has_ended "$pid"; do
            tries=$((tries - 1))
            [[ "$tries" -gt 0 ]] || kill -KILL "$pid" 2>/dev/null || true
            sleep 0.05
        done
        wait "$pid" 2>/dev/null || true
    done
}
