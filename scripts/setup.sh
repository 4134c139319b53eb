#!/usr/bin/env bash
# Installs what this machine lacks for one purpose, says what it does, and does nothing when all is there.
#
#   scripts/setup.sh [demo|test|lint|faults|e2e|gates|all]
#
#   demo   C compiler (two dependencies hold C code), PostgreSQL 15 or newer (its programs only: no cluster is made)
#   test   the same, rustfmt and clippy, systemd-analyze, openssl
#   lint   C compiler, rustfmt and clippy, shellcheck, promtool (Prometheus itself is not started)
#   faults the same as test, and what single cases of the fault lab need: PgBouncer, and faketime for another clock
#   e2e    the same as demo, and LocalStack and moto, each in a Python environment of its own in a cache folder
#          ($KEYFALL_E2E_HOME, else $XDG_CACHE_HOME/keyfall-e2e; half a gigabyte, a minute or two, once)
#   gates  what test needs, jq, and cargo-deny in a cache folder of its own ($XDG_CACHE_HOME/keyfall-gates)
#   all    everything above but faults, e2e and cargo-deny
#
# Packages come from apt, as root or through sudo. It never removes, upgrades or starts anything.
set -euo pipefail

readonly purpose=${1:-all}
readonly oldest_postgres=15

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Prints the folder of the newest PostgreSQL server found that is new enough, or fails.
find_postgres() {
    local initdb version newest=0 found=
    for initdb in /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb "$(command -v initdb || true)"; do
        # Client-only installations can hold an initdb without a server.
        [[ -x $initdb && -x $(dirname "$(readlink -f "$initdb")")/postgres ]] || continue
        version=$("$initdb" --version | sed -nE 's/.* ([0-9]+).*/\1/p')
        if [[ -n $version ]] && ((version >= oldest_postgres && version > newest)); then
            newest=$version
            found=$(dirname "$(readlink -f "$initdb")")
        fi
    done
    [[ -n $found ]] && printf '%s\n' "$found"
}

# Runs a command as root.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "this needs root and there is no sudo; as root, run: $*"
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 "$@"
}

refreshed=no
refresh_lists() {
    [[ $refreshed == no ]] || return 0
    say "apt-get update"
    apt update
    refreshed=yes
}

# Installs packages; refreshes the package lists where they are missing or too old to install from.
install() {
    local package
    for package in "$@"; do
        if [[ -z $(apt-cache policy "$package" 2>/dev/null | sed -n 's/^  Candidate: \([^(].*\)/\1/p') ]]; then
            refresh_lists
            break
        fi
    done
    say "apt-get install $*"
    apt install --no-install-recommends "$@" && return
    [[ $refreshed == no ]] || die "apt-get could not install: $*"
    refresh_lists
    apt install --no-install-recommends "$@" || die "apt-get could not install: $*"
}

# Debian's server package makes and starts a cluster "main" unless it is told not to. The drop-in that tells it lives
# only as long as the installation: whoever installs PostgreSQL later gets the usual behaviour.
install_postgres() {
    local drop_in=/etc/postgresql-common/createcluster.d/keyfall-setup.conf
    dpkg -s postgresql-common >/dev/null 2>&1 || install postgresql-common
    # shellcheck disable=SC2064  # the path is wanted as it is now
    trap "as_root rm -f '$drop_in'" EXIT
    as_root mkdir -p "${drop_in%/*}"
    printf "create_main_cluster = false\n" | as_root tee "$drop_in" >/dev/null
    install postgresql
    as_root rm -f "$drop_in"
    trap - EXIT
    find_postgres >/dev/null || die "apt's postgresql is older than $oldest_postgres: install PostgreSQL $oldest_postgres or newer (https://wiki.postgresql.org/wiki/Apt)"
}

# Debian's packages of servers start them unless a policy forbids it; ours lives only as long as the installation. Nor
# shall they start with the next boot.
install_unstarted() {
    local policy=/usr/sbin/policy-rc.d
    if [[ -e $policy ]]; then
        install "$1"
        disable "$1"
        return
    fi
    # shellcheck disable=SC2064  # the path is wanted as it is now
    trap "as_root rm -f '$policy'" EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    install "$1"
    as_root rm -f "$policy"
    trap - EXIT
    disable "$1"
}

disable() {
    have systemctl || return 0
    as_root systemctl disable --quiet "$1" 2>/dev/null || say "$1 may start with the next boot: systemctl disable $1"
}

need_compiler() {
    if ! have cc || ! have make || ! printf '#include <stdlib.h>\n' | cc -E -x c - >/dev/null 2>&1; then
        missing+=(gcc libc6-dev make)
    fi
}

need_rust_components() {
    local component
    for component in fmt:rustfmt clippy:clippy; do
        cargo "${component%:*}" --version >/dev/null 2>&1 && continue
        have rustup || die "cargo ${component%:*} is missing and there is no rustup to add it: install ${component#*:} for $(rustc --version)"
        say "rustup component add ${component#*:}"
        rustup component add "${component#*:}"
    done
}

need_command() {
    have "$1" || missing+=("$2")
}

# Where gates.sh looks for it, too. It builds with the Rust version of the manifest and is no part of the project.
readonly deny_version=0.20.2
install_cargo_deny() {
    local root=${XDG_CACHE_HOME:-${HOME:?}/.cache}/keyfall-gates/cargo-deny-$deny_version
    [[ -x $root/bin/cargo-deny ]] && return
    say "cargo install cargo-deny $deny_version (once, some minutes)"
    # Without a network the gate that needs it says so; the other gates still run.
    cargo install --quiet --locked --version "$deny_version" --root "$root" --target-dir "$root/target" cargo-deny ||
        say "cargo-deny could not be installed"
    rm -rf "$root/target"
}

# A Python environment with exactly the versions of tests/e2e/NAME.lock; made anew when the file changes.
install_emulator() {
    local lock=tests/e2e/$1.lock
    local root=${KEYFALL_E2E_HOME:-${XDG_CACHE_HOME:-${HOME:?}/.cache}/keyfall-e2e}/$1
    cmp -s "$lock" "$root/lock" && return
    say "installing $1 in $root"
    rm -rf "$root"
    python3 -m venv "$root"
    "$root/bin/pip" install --quiet --disable-pip-version-check --requirement "$lock"
    cp "$lock" "$root/lock"
}

missing=()
wants_postgres=no
have cargo || die "cargo is missing: install Rust from https://rustup.rs"

case $purpose in
demo)
    need_compiler
    wants_postgres=yes
    ;;
test)
    need_compiler
    wants_postgres=yes
    need_rust_components
    need_command systemd-analyze systemd
    need_command openssl openssl
    ;;
gates)
    need_compiler
    wants_postgres=yes
    need_command systemd-analyze systemd
    need_command openssl openssl
    need_command jq jq
    ;;
faults)
    need_compiler
    wants_postgres=yes
    need_rust_components
    need_command systemd-analyze systemd
    need_command faketime faketime
    ;;
e2e)
    need_compiler
    wants_postgres=yes
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
    ;;
lint)
    need_compiler
    need_rust_components
    need_command shellcheck shellcheck
    ;;
all)
    need_compiler
    wants_postgres=yes
    need_rust_components
    need_command systemd-analyze systemd
    need_command openssl openssl
    need_command jq jq
    need_command shellcheck shellcheck
    ;;
*) die "no such purpose: $purpose (demo, test, lint, faults, e2e, gates or all)" ;;
esac

if [[ $wants_postgres == yes ]] && find_postgres >/dev/null; then
    wants_postgres=no
fi
if ((${#missing[@]} > 0)) || [[ $wants_postgres == yes ]]; then
    have apt-get || die "there is no apt-get here; install by hand: ${missing[*]} $([[ $wants_postgres == no ]] || echo "PostgreSQL $oldest_postgres or newer (server)")"
fi
if ((${#missing[@]} > 0)); then
    install "${missing[@]}"
fi
if [[ $wants_postgres == yes ]]; then
    install_postgres
fi
if [[ $purpose == faults ]] && ! have pgbouncer; then
    install_unstarted pgbouncer
fi
if [[ $purpose == lint || $purpose == all ]] && ! have promtool; then
    install_unstarted prometheus
fi
if [[ $purpose == e2e ]]; then
    install_emulator localstack
    install_emulator moto
fi
if [[ $purpose == gates ]]; then
    install_cargo_deny
fi
