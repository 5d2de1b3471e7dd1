#!/usr/bin/env bash
# Packages of imgate: a .deb for Debian and Ubuntu, and the file system of a container.
#
#   scripts/package.sh                 both, in target/package; builds with --profile dist first
#   scripts/package.sh --out DIR       in DIR
#   scripts/package.sh --check         makes them of what is built already (IMGATE=…, AUTOCLIENT=…), installs, runs, upgrades and
#                                      removes them below a temporary folder, and leaves nothing
#
# The package starts nothing and changes no setting of the kernel by itself: `imgate doctor` says what is missing, and
# /usr/share/imgate/sysctl/apply sets it. What a removal leaves: the data directory; `apt purge` removes the configuration, too.
set -euo pipefail
self="$(readlink -f "${BASH_SOURCE[0]}")"
cd "$(dirname "$self")/.."
# shellcheck source=scripts/ending.sh
. scripts/ending.sh

out="target/package"
check=false
while [[ $# -gt 0 ]]; do
    case "$1" in
        --out) out="${2:?--out wants a directory}"; shift 2 ;;
        --check) check=true; shift ;;
        -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$self"; exit 0 ;;
        *) echo "package.sh: unknown argument $1" >&2; exit 2 ;;
    esac
done

work="$(mktemp -d "${TMPDIR:-/tmp}/imgate-package.XXXXXX")"
gateway=""
clean_up() {
    # shellcheck disable=SC2086 # none, or a number
    end_processes 30 $gateway
    rm -rf "$work"
}
at_end clean_up
$check && out="$work/out"
mkdir -p "$out"
out="$(readlink -f "$out")"

imgate="${IMGATE:-}"
autoclient="${AUTOCLIENT:-}"
if [[ -z "$imgate" || -z "$autoclient" ]]; then
    cargo build --profile dist --locked -p imgate -p loadtest
    imgate="${CARGO_TARGET_DIR:-target}/dist/imgate"
    autoclient="${CARGO_TARGET_DIR:-target}/dist/autoclient"
fi
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)"
architecture="$(dpkg --print-architecture)"

fail() {
    echo "package.sh: $*" >&2
    exit 1
}

# ---- what both have ---------------------------------------------------------------------------------------------

# The newest version of the C library whose symbols a program asks for.
needs_libc() {
    grep -aoh 'GLIBC_2\.[0-9]\+' "$@" | sort -uV | tail -1 | sed 's/GLIBC_//'
}

stage_package() {
    local root="$1" shell
    install -d "$root"/{etc/imgate,etc/logrotate.d,usr/bin,usr/lib/systemd/system,usr/lib/sysusers.d}
    install -d "$root"/usr/share/{man/man1,imgate,doc/imgate}
    install -d "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
    install -m 755 "$imgate" "$root/usr/bin/imgate"
    install -m 755 "$autoclient" "$root/usr/bin/autoclient"
    sed -e 's#/usr/local/bin/#/usr/bin/#; s#/etc/imgate\.toml#/etc/imgate/imgate.toml#; s#/usr/local/share/#/usr/share/#' \
        -e '1d' sysctl/imgate.service >"$root/usr/lib/systemd/system/imgate.service"
    install -m 644 sysctl/imgate.sysusers "$root/usr/lib/sysusers.d/imgate.conf"
    install -m 644 docs/imgate.sample.toml "$root/etc/imgate/imgate.toml"
    install -m 644 ops/logrotate "$root/etc/logrotate.d/imgate"
    "$imgate" docs man "$root/usr/share/man/man1"
    "$autoclient" man "$root/usr/share/man/man1"
    gzip -9n "$root"/usr/share/man/man1/*.1
    shell="$root/usr/share"
    "$imgate" completions bash >"$shell/bash-completion/completions/imgate"
    "$imgate" completions zsh >"$shell/zsh/vendor-completions/_imgate"
    "$imgate" completions fish >"$shell/fish/vendor_completions.d/imgate.fish"
    cp -r sysctl ops "$root/usr/share/imgate/"
    rm "$root"/usr/share/imgate/sysctl/imgate.{service,sysusers}
    # An alert leads to its section wherever it is read.
    sed -i 's#runbook_url: docs/#runbook_url: file:///usr/share/doc/imgate/#' "$root"/usr/share/imgate/ops/prometheus/alerts*.yml
    install -m 644 README.md docs/*.md "$root/usr/share/doc/imgate/"
    install -m 644 LICENSE "$root/usr/share/doc/imgate/copyright"
    gzip -9nc CHANGELOG.md >"$root/usr/share/doc/imgate/changelog.gz"
    chmod -R u=rwX,go=rX "$root"
    # Operators put the password of a database into it.
    chmod 640 "$root/etc/imgate/imgate.toml"
}

# ---- the .deb ---------------------------------------------------------------------------------------------------

# Scripts of the package. $DPKG_ROOT is empty unless it is installed below another root.
control_files() {
    local root="$1"
    install -d "$root/DEBIAN"
    cat >"$root/DEBIAN/control" <<EOF
Package: imgate
Version: $version
Architecture: $architecture
Maintainer: imgate <imgate@localhost>
Depends: libc6 (>= $(needs_libc "$imgate" "$autoclient")), libgcc-s1
Section: net
Priority: optional
Installed-Size: $(du -sk "$root" | cut -f1)
Description: sharded, high-performance instant-messaging gateway
 Thread-per-core event loops own shards of WebSocket connections; every acked
 message is in the database. With autoclient, its load generator and checker.
EOF
    printf '%s\n' /etc/imgate/imgate.toml /etc/logrotate.d/imgate >"$root/DEBIAN/conffiles"
    cat >"$root/DEBIAN/postinst" <<'EOF'
#!/bin/sh
set -e
conf=/etc/imgate/imgate.toml
unit=imgate.service
[ "$1" = configure ] && [ -z "$DPKG_ROOT" ] || exit 0

systemd=
if [ -d /run/systemd/system ]; then systemd=yes; fi

# The gateway of an earlier package has an account that is there while it runs only (DynamicUser=). What asks NSS meanwhile,
# as systemd-sysusers does, finds one that is gone with the next restart: so that gateway is stopped first.
stopped=
# An upgrade that stopped it and did not come to its end; gone with the next start of the machine, as is what it stopped.
marker=/run/imgate.upgrade
if [ -e "$marker" ]; then stopped=yes; fi
if [ -n "$systemd" ] && ! grep -q '^imgate:' /etc/passwd; then
    case "$(systemctl is-active "$unit" 2>/dev/null || true)" in
        inactive | failed | unknown | "") ;;
        deactivating) systemctl stop "$unit" ;;
        *)
            : >"$marker"
            systemctl stop "$unit"
            stopped=yes
            ;;
    esac
fi

no_account() {
    echo "imgate: the account imgate could not be made ($1); the gateway runs as it" >&2
    [ -z "$stopped" ] || echo "imgate: the gateway is stopped; mend that, then \`dpkg --configure -a\` starts it" >&2
    exit 1
}
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers imgate.conf || no_account "systemd-sysusers ends with $?"
elif ! grep -q '^imgate:' /etc/passwd && ! getent passwd imgate >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/imgate --no-create-home --shell /usr/sbin/nologin imgate ||
        no_account "useradd ends with $?"
fi
getent passwd imgate >/dev/null || no_account "it is not there"

account=imgate
if [ -n "$systemd" ]; then
    systemctl daemon-reload
    # An operator may have chosen another one.
    account="$(systemctl show -p User --value "$unit")"
fi
# Readable by the gateway, and not by everybody, unless somebody has decided otherwise: as this package and those before it put
# it down. UNKNOWN is the group of an account that is gone.
if [ "$account" = imgate ]; then
    case "$(stat -c %U:%G:%a "$conf" 2>/dev/null)" in
        root:root:640 | root:root:644 | root:UNKNOWN:640) chgrp imgate "$conf" && chmod 640 "$conf" ;;
    esac
fi
# A gateway that runs is replaced by the new one: its clients come back by themselves, at a pace.
if [ -n "$stopped" ]; then
    rm -f "$marker"
    systemctl start "$unit" || true
elif [ -n "$systemd" ] && [ -n "$2" ]; then
    systemctl try-restart "$unit" || true
fi
EOF
    cat >"$root/DEBIAN/prerm" <<'EOF'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then
    systemctl stop imgate.service || true
fi
EOF
    cat >"$root/DEBIAN/postrm" <<'EOF'
#!/bin/sh
set -e
if [ -z "$DPKG_ROOT" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
if [ "$1" = purge ] && [ -d "$DPKG_ROOT/var/lib/imgate" ]; then
    echo "imgate: the data in /var/lib/imgate and its account are kept; remove them yourself" >&2
fi
EOF
    chmod 755 "$root"/DEBIAN/{postinst,prerm,postrm}
}

make_deb() {
    local root="$work/deb" compression=(-Zxz)
    stage_package "$root"
    control_files "$root"
    # What is thrown away again need not be small.
    $check && compression=(-Zgzip -z1)
    dpkg-deb --root-owner-group "${compression[@]}" --build "$root" "$out/imgate_${version}_$architecture.deb" >/dev/null
    echo "$out/imgate_${version}_$architecture.deb"
}

# ---- the container's file system ---------------------------------------------------------------------------------

# As the Dockerfile's last stage has it: the program, the libraries that it is linked to, and the time zones of nothing.
stage_rootfs() {
    local root="$1" library
    install -d "$root"/{data,etc,tmp,usr/bin}
    chmod 1777 "$root/tmp"
    install -m 755 "$imgate" "$root/usr/bin/imgate"
    echo 'imgate:x:65532:65532:imgate:/data:/nonexistent' >"$root/etc/passwd"
    echo 'imgate:x:65532:' >"$root/etc/group"
    # `ldd` names each library with its path, and the loader by its path alone.
    while read -r library; do
        install -D -m 755 "$library" "$root$library"
    done < <(ldd "$imgate" | grep -o '/[^ )]*')
}

make_rootfs() {
    local root="$work/rootfs"
    stage_rootfs "$root"
    tar -C "$root" --owner=65532 --group=65532 -cf "$out/imgate-rootfs.tar" .
    echo "$out/imgate-rootfs.tar"
}

deb="$(make_deb)"
rootfs="$(make_rootfs)"
if ! $check; then
    printf '%s\n%s\n' "$deb" "$rootfs"
    exit 0
fi

# ---- the check --------------------------------------------------------------------------------------------------

say() { echo "package.sh: $*"; }

# dpkg with a database of its own below the folder.
dpkg_there() {
    dpkg --root="$work/host" --force-not-root --force-depends --force-script-chrootless --log=/dev/null "$@"
}

# The account that unit and documents name is made, and what may hold a password is not for everybody.
check_account() {
    local host="$1" users="$1/usr/lib/sysusers.d/imgate.conf" unit="$1/usr/lib/systemd/system/imgate.service" account
    account="$(sed -n 's/^User=//p' "$unit")"
    [[ -n "$account" ]] && grep -q "^u $account - " "$users" || fail "the unit's account ($account) is not made"
    ! grep -q '^DynamicUser=yes' "$unit" || fail "the account is gone while the service is stopped"
    grep -q 'systemd-sysusers imgate.conf' "$host/var/lib/dpkg/info/imgate.postinst" || fail "nothing makes the account"
    [[ "$(stat -c %a "$host/etc/imgate/imgate.toml")" == 640 ]] || fail "everybody may read the configuration"
    if command -v systemd-sysusers >/dev/null && systemd-sysusers --help | grep -q -- --dry-run; then
        systemd-sysusers --dry-run --root="$host" imgate.conf >"$work/sysusers.log" 2>&1 || true
        grep -q "Creating user '$account'" "$work/sysusers.log" || fail "sysusers.d: $(cat "$work/sysusers.log")"
    fi
}

# A host of the postinst: what it asks for, below a folder. `state` is the gateway's, `unit_user` the unit's account, `passwd` has the
# accounts that stay; the account of a gateway that runs is known to NSS besides, as with DynamicUser=yes. `calls` is what was done.
stub_host() {
    local there="$1" state="$2" unit_user="$3"
    rm -rf "$there"
    install -d "$there"/{bin,run,etc/imgate}
    echo 'root:x:0:0::/root:/bin/sh' >"$there/passwd"
    echo "$state" >"$there/state"
    echo "$unit_user" >"$there/unit_user"
    echo root:root:644 >"$there/owner"
    : >"$there/calls"
    cat >"$there/stub" <<'EOF'
#!/bin/bash
there="$(dirname "$(dirname "$0")")"
known() { grep -q '^imgate:' "$there/passwd" || [[ "$(<"$there/state")" == active ]]; }
case "$(basename "$0") $*" in
    "systemctl is-active "*) cat "$there/state"; grep -qx active "$there/state"; exit ;;
    "systemctl show "*) cat "$there/unit_user"; exit ;;
    "getent passwd imgate") known; exit ;;
    "stat -c "*) cat "$there/owner"; exit ;;
esac
echo "$(basename "$0") $*" >>"$there/calls"
case "$(basename "$0") $*" in
    "systemctl stop "*) echo inactive >"$there/state" ;;
    # Without the unit's account the start fails: 217/USER.
    "systemctl start "* | "systemctl try-restart "*)
        grep -qx active "$there/state" || [[ "$*" != try-restart* ]] || exit 0
        echo failed >"$there/state"
        known && echo active >"$there/state"
        ;;
    "systemd-sysusers "*)
        [[ ! -e "$there/broken" ]] || exit "$(<"$there/broken")"
        known || echo 'imgate:x:990:990::/var/lib/imgate:/usr/sbin/nologin' >>"$there/passwd"
        ;;
    "chgrp "*) echo "root:$1:640" >"$there/owner" ;;
esac
exit 0
EOF
    chmod 755 "$there/stub"
    local name
    for name in systemctl systemd-sysusers getent stat chgrp chmod; do cp "$there/stub" "$there/bin/$name"; done
}

# The package's own postinst on that host, upgrading from a version.
configure_there() {
    local there="$1"
    sed "s#/etc/passwd#$there/passwd#; s#/run/systemd/system#$there/run#; s#/etc/imgate/#$there/etc/imgate/#; s#/run/imgate#$there/imgate#" \
        "$work/host/var/lib/dpkg/info/imgate.postinst" >"$there/postinst"
    env -u DPKG_ROOT PATH="$there/bin:/usr/bin:/bin" sh "$there/postinst" configure 0.0.1 2>"$there/told"
}

check_postinst() {
    local there="$work/stubs" call account
    # The gateway of the package before has an account that goes with it.
    stub_host "$there" active imgate
    configure_there "$there" || fail "no upgrade of a gateway that runs: $(cat "$there/told")"
    account="$(grep -n '^systemd-sysusers imgate.conf' "$there/calls" | cut -d: -f1)"
    for call in 'systemctl stop' 'systemctl daemon-reload' 'chgrp imgate' 'chmod 640' 'systemctl start'; do
        grep -q "^$call" "$there/calls" || fail "an upgrade of a gateway that runs without $call: $(cat "$there/calls")"
    done
    [[ "$(grep -n '^systemctl stop' "$there/calls" | cut -d: -f1)" -lt "$account" ]] || fail "the account is asked for while another has its name"
    [[ "$(grep -n '^systemctl start' "$there/calls" | cut -d: -f1)" -gt "$account" ]] || fail "the gateway starts before its account"
    grep -q '^imgate:' "$there/passwd" || fail "the account is not made"
    [[ "$(<"$there/state")" == active && "$(<"$there/owner")" == root:imgate:640 ]] || fail "after the upgrade: $(cat "$there/state" "$there/owner")"
    # From then on it is there, and one restart does; the group of an account that is gone is replaced.
    : >"$there/calls"
    echo root:UNKNOWN:640 >"$there/owner"
    configure_there "$there" || fail "no second upgrade: $(cat "$there/told")"
    grep -q '^systemctl try-restart' "$there/calls" && ! grep -q '^systemctl st' "$there/calls" || fail "the second upgrade: $(cat "$there/calls")"
    [[ "$(<"$there/owner")" == root:imgate:640 ]] || fail "a group that is gone stays: $(cat "$there/owner")"
    # What is stopped stays so, and an account that an operator has chosen goes on reading its configuration.
    stub_host "$there" inactive chat
    configure_there "$there" || fail "no upgrade of a gateway that is stopped: $(cat "$there/told")"
    [[ "$(<"$there/state")" == inactive ]] || fail "an upgrade starts a gateway that was stopped"
    [[ "$(<"$there/owner")" == root:root:644 ]] || fail "the configuration is taken from the account of the unit"
    # Without an account nothing can start: that is told, and the gateway is back when it is mended.
    for call in 1 0; do
        stub_host "$there" active imgate
        echo "$call" >"$there/broken"
        ! configure_there "$there" || fail "an account that is not made is not told (systemd-sysusers ends with $call)"
        grep -q 'the account imgate could not be made' "$there/told" || fail "told without a reason: $(cat "$there/told")"
        grep -q 'the gateway is stopped' "$there/told" || fail "it is not told that nothing runs: $(cat "$there/told")"
        ! grep -q '^systemctl start' "$there/calls" || fail "a gateway is started that has no account"
        rm "$there/broken"
        configure_there "$there" || fail "not mended: $(cat "$there/told")"
        [[ "$(<"$there/state")" == active ]] || fail "the gateway stays stopped when its account can be made"
        echo inactive >"$there/state"
        configure_there "$there" || fail "not configured again: $(cat "$there/told")"
        [[ "$(<"$there/state")" == inactive ]] || fail "a gateway that was stopped later is started"
    done
    say "the postinst makes the account before the gateway needs it"
}

# What the package refers to as a file is in it.
check_links() {
    local host="$1" path
    ! grep -rn 'runbook_url: docs/' "$host/usr/share/imgate" || fail "a link of an alert that leads nowhere"
    while read -r path; do
        [[ -f "$host$path" ]] || fail "there is no $path"
    done < <(grep -rhoE '(runbook_url: |Documentation=)file://[^# ]*' "$host/usr/share/imgate/ops" "$host/usr/lib/systemd/system" | sed 's#.*file://##' | sort -u)
    grep -q 'runbook_url: file:///usr/share/doc/imgate/operations.md#' "$host/usr/share/imgate/ops/prometheus/alerts.yml" || fail "alerts without a runbook"
}

check_deb() {
    local host="$work/host" left
    install -d "$host/var/lib/dpkg"/{info,updates}
    touch "$host/var/lib/dpkg"/{status,available}
    dpkg_there --install "$deb" >/dev/null 2>"$work/dpkg.log" || fail "not installed: $(cat "$work/dpkg.log")"
    [[ "$("$host/usr/bin/imgate" --version)" == "imgate $version" ]] || fail "another program was installed"
    "$host/usr/bin/imgate" config check --config "$host/etc/imgate/imgate.toml" >/dev/null || fail "the configuration is refused"
    grep -q '^ExecStart=/usr/bin/imgate serve --config /etc/imgate/imgate.toml' \
        "$host/usr/lib/systemd/system/imgate.service" || fail "the unit starts another program"
    check_account "$host"
    check_postinst
    check_links "$host"
    zgrep -q 'imgate' "$host/usr/share/man/man1/imgate.1.gz" || fail "no manual"
    zgrep -q 'compress' "$host/usr/share/man/man1/autoclient-fanout.1.gz" || fail "no manual of autoclient"
    if command -v logrotate >/dev/null; then
        logrotate --debug "$host/etc/logrotate.d/imgate" >/dev/null 2>&1 || fail "a rule that logrotate does not read"
    fi
    bash -n "$host/usr/share/bash-completion/completions/imgate" || fail "completions that bash does not read"
    # An operator's changes survive an upgrade.
    echo 'shards = "3"' >>"$host/etc/imgate/imgate.toml"
    dpkg_there --force-confold --install "$deb" >/dev/null 2>&1 || fail "no upgrade"
    grep -q 'shards = "3"' "$host/etc/imgate/imgate.toml" || fail "an upgrade changes the configuration"
    dpkg_there --remove imgate >/dev/null 2>&1 || fail "not removed"
    [[ -f "$host/etc/imgate/imgate.toml" && ! -e "$host/usr/bin/imgate" ]] || fail "a removal takes the wrong things"
    dpkg_there --purge imgate >/dev/null 2>&1 || fail "not purged"
    left="$(cd "$host" && find . -type f -not -path './var/lib/dpkg/*')"
    [[ -z "$left" ]] || fail "left behind: $left"
    say "the .deb installs, upgrades, and leaves nothing"
}

# The gateway in its container's file system, as the user of the image, with a file system that it cannot write to but for /data.
check_rootfs() {
    if [[ "$(id -u)" -ne 0 ]] || ! unshare --mount true 2>/dev/null; then
        say "SKIPPED: the container's file system (needs root and mount namespaces)"
        return
    fi
    local root="$work/container" admin
    mkdir "$root"
    tar -C "$root" -xf "$rootfs"
    chmod 755 "$work"
    (exec chroot --userspec=65532:65532 "$root" /usr/bin/imgate --data /data --listen 127.0.0.1:0 --admin 127.0.0.1:0 \
        2>"$work/gateway.log") &
    gateway=$!
    for _ in $(seq 100); do
        admin="$(sed -n 's/.* admin address=\(127[0-9.:]*\).*/\1/p' "$work/gateway.log" | head -1)" || true
        [[ -z "$admin" ]] || break
        kill -0 "$gateway" 2>/dev/null || fail "it does not start in its container: $(cat "$work/gateway.log")"
        sleep 0.1
    done
    [[ -n "$admin" ]] || fail "it says no address: $(cat "$work/gateway.log")"
    chroot --userspec=65532:65532 "$root" /usr/bin/imgate ready --data /data --admin "$admin" || fail "not ready"
    kill -TERM "$gateway"
    wait "$gateway" || fail "it ends with $?"
    gateway=""
    if chroot --userspec=65532:65532 "$root" /usr/bin/imgate ready --data /data --admin "$admin" 2>/dev/null; then
        fail "it is ready although it has ended"
    fi
    say "the container's file system runs as its own user and stops in order"
}

check_deb
check_rootfs
