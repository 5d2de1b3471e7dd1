#!/usr/bin/env bash
# scripts/million.sh --guest [N]: N connections (default 100000) in a guest of this machine that may have as many descriptors as it likes, whatever
# this machine allows: Linux in user mode, from Debian's packages, unpacked into a temporary folder and not installed.
#
#   --binaries DIR    where imgate and autoclient are (default: target/dist, built first)
#   --keep            leave the folder where it is
#
# Memory, counts and behaviour are those of a real kernel. CPU times, rates and latencies are not: a system call costs many times as much.
# Some four minutes for 100,000, a quarter of an hour for 1,000,000. Needs Debian's apt-get, N times 14 KB of memory in /dev/shm, and no rights.
# Exit codes: 0 all is well, 1 a check failed, 2 it cannot run here.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh

connections=100000 binaries="" keep=false
usage() { sed -n '2,11p' scripts/guest/host.sh | sed 's/^# \{0,1\}//' >&2; exit 2; }
cannot() { echo "million: $*" >&2; exit 2; }
while [[ $# -gt 0 ]]; do
    case "$1" in
        --binaries) binaries="${2:?}"; shift ;;
        --keep) keep=true ;;
        [1-9]*) connections="$1" ;;
        *) usage ;;
    esac
    shift
done
[[ "$connections" =~ ^[1-9][0-9]{0,6}$ ]] && ((connections >= 1000 && connections <= 2000000)) || usage

# ---- what it needs ------------------------------------------------------------------------------------------------

# 8.1 KB of kernel memory a pair of sockets at rest, more while they are opened; user space of both ends; and the programs.
mib=$((600 + connections * 14 / 1024))
place=/dev/shm
free_mib="$(df --output=avail -m "$place" | tail -1)"
available_mib="$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)"
((free_mib >= mib + 200)) || cannot "$place has $free_mib MiB, and the guest takes up to $mib"
((available_mib >= mib + 500)) || cannot "$available_mib MiB of memory are available, and the guest takes up to $mib"
command -v apt-get >/dev/null || cannot "the guest's kernel comes from Debian's packages, and there is no apt-get"

folder="$(mktemp -d "$place/imgate-guest.XXXXXX")"
guest=""
end() {
    # By its process group: each process of the guest is one here.
    [[ -z "$guest" ]] || kill -KILL -- "-$guest" 2>/dev/null || true
    # shellcheck disable=SC2086 # none, or a number
    end_processes 5 $guest
    if $keep; then echo "the files are in $folder"; else rm -rf "$folder"; fi
}
at_end end
mkdir -p "$folder"/{packages,lists,cache,shared/data}

# Packages of a suite, unpacked below $folder/SUITE. With lists of its own, so that apt's are not touched; signed as always.
unpack() {
    local suite="$1" uri package
    shift
    uri="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | grep -v security | head -1)"
    [[ -n "$uri" ]] || cannot "apt-get names no source of Debian's packages"
    local lists="$folder/lists/$suite"
    mkdir -p "$lists" "$folder/cache/$suite/archives/partial" "$folder/$suite"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" >"$folder/lists/$suite.list"
    local options=(-qq -o "Dir::State=$lists" -o "Dir::Cache=$folder/cache/$suite" -o "Dir::Etc::SourceList=$folder/lists/$suite.list"
        -o "Dir::Etc::SourceParts=-" -o "APT::Sandbox::User=$(id -un)")
    apt-get "${options[@]}" update >&2 || return 1
    (cd "$folder/packages" && apt-get "${options[@]}" download "$@" >&2) || return 1
    for package in "$folder"/packages/*.deb; do
        dpkg -x "$package" "$folder/$suite"
    done
    rm -f "$folder"/packages/*.deb
}

suite="$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")"
unpack "$suite" busybox-static user-mode-linux patchelf || cannot "the packages of $suite cannot be had"
busybox="$folder/$suite/bin/busybox"
[[ -x "$busybox" ]] || busybox="$folder/$suite/usr/bin/busybox"

# ---- a kernel that starts here ------------------------------------------------------------------------------------

# A kernel with a first file system. As many seconds as it may take.
boot() {
    local kernel="$1" root="$2" seconds="$3"
    shift 3
    # In memory, which is the guest's. In the foreground: otherwise it would leave the process group by which it is ended.
    TMPDIR="$place" HOME="$folder" timeout --foreground --signal=KILL "$seconds" "$kernel" "$@" initrd="$root" con0=null,fd:1 con1=null con=null ssl=null \
        quiet panic=-1 umid="imgate-$$" </dev/null 2>&1
}

# Starts one in a process group of its own, with its words in a file.
launch() {
    local words="$1"
    shift
    set -m
    boot "$@" >"$words" &
    guest=$!
    set +m
}

# Waits for its end, and ends what it has left.
until_over() {
    wait "$guest" || true
    kill -KILL -- "-$guest" 2>/dev/null || true
    guest=""
}

pack() { (cd "$1" && find . | "$busybox" cpio -o -H newc -R 0:0 2>/dev/null) >"$2"; }

mkdir -p "$folder/try/bin" "$folder/try/proc"
cp "$busybox" "$folder/try/bin/busybox"
printf '#!/bin/busybox sh\n/bin/busybox echo it starts\n/bin/busybox poweroff -f\n' >"$folder/try/init"
chmod +x "$folder/try/init"
pack "$folder/try" "$folder/try.cpio"
starts() {
    launch "$folder/tried" "$1" "$folder/try.cpio" 30 mem=128M
    until_over 2>/dev/null
    grep -q 'it starts' "$folder/tried"
}

# Spoils the head of the image of system calls without a switch (vdso(7)) that a kernel gives its programs, so that they do not use it: the newer
# ones have no `getcpu` in it, which the crate rustix takes for granted on x86-64.
hide_vdso() {
    local name head
    name="$(grep -obUa 'linux-vdso.so.1' "$1" | head -1 | cut -d: -f1)"
    [[ -n "$name" ]] || return 0
    head="$(LC_ALL=C grep -obUaP '\x7fELF' "$1" | cut -d: -f1 | awk -v name="$name" '$1 < name { last = $1 } END { print last }')"
    ((head == 0)) || printf '\0' | dd of="$1" bs=1 seek="$head" conv=notrunc status=none
}

kernel="$folder/$suite/usr/bin/linux.uml"
if ! starts "$kernel"; then
    # Before 6.13 it knows the floating-point registers of a processor only up to some size. A newer one wants a newer C library beside it.
    echo "million: the kernel of $suite does not start on this processor; trying Debian's next one" >&2
    unpack testing user-mode-linux libc6 || cannot "the packages of testing cannot be had"
    kernel="$folder/testing/usr/bin/linux.uml"
    library="$(dirname "$(find "$folder/testing" -name libc.so.6 | head -1)")"
    hide_vdso "$kernel"
    "$folder/$suite/usr/bin/patchelf" --set-interpreter "$library/ld-linux-x86-64.so.2" --set-rpath "$library" "$kernel"
    starts "$kernel" || cannot "no kernel in user mode starts on this machine"
fi

# ---- what it runs -------------------------------------------------------------------------------------------------

if [[ -z "$binaries" ]]; then
    cargo build --quiet --profile dist --workspace --locked --bins
    binaries=target/dist
fi
"$binaries/imgate" --data "$folder/shared/data" --log warn seed --users $((connections + 16)) --tokens "$folder/tokens" >/dev/null
head -n "$connections" "$folder/tokens" >"$folder/shared/tokens"
tail -n 16 "$folder/tokens" >"$folder/shared/talkers"

root="$folder/root"
mkdir -p "$root"/{bin,proc,sys,dev,tmp,host,root,etc/sysctl.d}
# A program, and the libraries that it is linked to.
with() {
    cp "$1" "$root/bin/"
    ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -Lu "$library" "$root$library"
    done
}
cp "$busybox" "$root/bin/busybox"
for program in "$(command -v bash)" "$binaries/imgate" "$binaries/autoclient"; do
    with "$program"
done
cp -r sysctl "$root/sysctl"
cp scripts/guest/job.sh "$root/job.sh"
cp scripts/guest/init.sh "$root/init"
chmod +x "$root/init"
pack "$root" "$folder/root.cpio"
rm -rf "$root" "$folder/tokens"

# ---- the run ------------------------------------------------------------------------------------------------------

echo "commit $(git describe --always --dirty 2>/dev/null || echo unknown), $(date -u +%F); CPU, rates and latencies below are the guest's and say nothing"
# An hour for a million.
seconds=$((600 + connections * 4 / 1000))
launch "$folder/console" "$kernel" "$folder/root.cpio" "$seconds" "mem=${mib}M" "folder=$folder/shared" "many=$connections" seccomp=auto
tail -n +1 -f --pid="$guest" "$folder/console" | grep --line-buffered -v '^Failed to initialize ubd' || true
until_over
code="$(cat "$folder/shared/code" 2>/dev/null || echo 1)"
[[ -e "$folder/shared/code" ]] || echo "million: the guest ended before its job" >&2
exit "$((code == 0 ? 0 : 1))"
