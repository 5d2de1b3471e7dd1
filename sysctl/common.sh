# shellcheck shell=bash
# What `apply` and `check` share: the wanted values, and how two values compare. Sourced, in the directory of 99-imgate.conf.

# Where the kernel's settings lie; the tests have a tree of their own.
proc_sys="${IMGATE_PROC_SYS:-/proc/sys}"

# Prints each setting as `key<tab>value<tab>optional`; one with a `-` before it may be missing (sysctl.d(5)).
wanted() {
    local key want optional
    while IFS='=' read -r key want; do
        read -r key <<<"$key"
        read -r want <<<"$want"
        [[ -z "$key" || "$key" == \#* ]] && continue
        optional=""
        if [[ "$key" == -* ]]; then
            key="${key#-}"
            optional=yes
        fi
        printf '%s\t%s\t%s\n' "$key" "$want" "$optional"
    done <99-imgate.conf
}

# What a setting is now, with single blanks; fails if there is none.
present() {
    local -a have
    read -ra have 2>/dev/null <"$proc_sys/${1//.//}" || return 1
    printf '%s\n' "${have[*]}"
}

# Whether the number $1 is at least $2. "Unlimited" has 19 digits, which bash may not hold.
number_at_least() {
    local have="${1#"${1%%[!0]*}"}" want="${2#"${2%%[!0]*}"}"
    [[ "$1" =~ ^[0-9]+$ && "$2" =~ ^[0-9]+$ ]] || return 1
    ((${#have} != ${#want})) && { ((${#have} > ${#want})); return; }
    [[ "$have" == "$want" || "$have" > "$want" ]]
}

# Whether every number of $1 is at least the number in the same place of $2.
at_least() {
    local -a have want
    read -ra have <<<"$1"
    read -ra want <<<"$2"
    local i
    for i in "${!want[@]}"; do
        number_at_least "${have[$i]:-x}" "${want[$i]}" || return 1
    done
}

# The larger of two lists, place by place.
larger() {
    local -a have want out=()
    read -ra have <<<"$1"
    read -ra want <<<"$2"
    local i
    for i in "${!want[@]}"; do
        if number_at_least "${have[$i]:-x}" "${want[$i]}"; then out+=("${have[$i]}"); else out+=("${want[$i]}"); fi
    done
    printf '%s\n' "${out[*]}"
}

# Settings where more is as good, and which are never lowered; the others are set as they stand.
is_minimum() {
    case "$1" in
        fs.file-max | fs.nr_open | fs.epoll.* | net.core.* | net.ipv4.tcp_max_* | net.ipv4.tcp_mem | net.netfilter.*) return 0 ;;
        *) return 1 ;;
    esac
}
