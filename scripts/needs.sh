# shellcheck shell=sh
# SPDX-License-Identifier: MIT
#
# What the commands of ./dev need, and how it is installed on Debian and Ubuntu. ./dev reads this file;
# say() and die() are its own.
#
# shellcheck disable=SC2034 # the lists are for ./dev

# kind:name:package, one a line
needs_tool='
    command:cc:gcc
    file:/usr/include/stdlib.h:libc6-dev
    command:meson:meson
    command:ninja:ninja-build
    command:pkg-config:pkg-config
    command:python3:python3
    module:libmnl:libmnl-dev
    module:openssl:libssl-dev
    module:libseccomp:libseccomp-dev
    module:libdw:libdw-dev
    module:libmicrohttpd:libmicrohttpd-dev
    module:jansson:libjansson-dev'
needs_examples='
    module:libuv:libuv1-dev
    module:libevent:libevent-dev
    module:liburing:liburing-dev
    module:gnutls:libgnutls28-dev
    file:/usr/include/mbedtls/ssl.h:libmbedtls-dev
    module:glib-2.0:libglib2.0-dev'
needs_build="$needs_tool $needs_examples
    command:scdoc:scdoc
    module:cmocka:libcmocka-dev"
needs_network='
    command:ip:iproute2
    command:ss:iproute2
    command:nft:nftables
    command:unshare:util-linux'
needs_programs='
    command:go:golang-go
    command:nginx:nginx
    command:javac:default-jdk-headless
    command:node:nodejs
    command:redis-server:redis-server
    command:pg_lsclusters:postgresql
    file:/usr/lib/systemd/systemd:systemd'
needs_test="$needs_network $needs_programs
    command:g++:g++
    command:nm:binutils
    command:cmake:cmake
    command:make:make
    command:openssl:openssl
    command:curl:curl
    command:strace:strace
    browser:chromium:chromium
    command:zsh:zsh
    command:fish:fish
    command:promtool:prometheus
    command:abidiff:abigail-tools
    command:git:git
    system-python:jsonschema:python3-jsonschema"
needs_bench_command='
    command:ss:iproute2
    command:lsof:lsof
    command:strace:strace'
needs_python='
    python:interpreter:python3-dev
    python:interpreter:python3-venv'
needs_docs='
    command:mandoc:mandoc
    browser:chromium:chromium
    command:ip:iproute2
    command:ss:iproute2
    command:curl:curl
    command:lsof:lsof
    command:go:golang-go
    command:javac:default-jdk-headless
    file:/usr/share/java/netty-all.jar:libnetty-java
    command:nginx:nginx
    command:redis-server:redis-server
    command:pg_lsclusters:postgresql'
needs_wheels='
    command:cc:gcc
    command:make:make
    command:musl-gcc:musl-tools
    command:perl:perl
    command:git:git
    command:openssl:openssl
    python:interpreter:python3-dev
    system-python:ensurepip:python3-venv'
needs_deb='
    command:debootstrap:debootstrap
    command:unshare:util-linux'
needs_kernels='
    command:debootstrap:debootstrap
    command:qemu-system-x86_64:qemu-system-x86
    command:depmod:kmod
    command:cpio:cpio
    file:/bin/busybox:busybox-static'
needs_spec='
    command:rpmlint:rpmlint
    command:rpmbuild:rpm
    command:shellcheck:shellcheck
    command:scdoc:scdoc'
needs_abi='
    command:abidiff:abigail-tools'
needs_static='
    command:pkg-config:pkg-config
    command:perl:perl
    command:make:make
    command:ip:iproute2
    command:openssl:openssl
    command:unshare:util-linux
    file:/bin/busybox:busybox-static
    command:musl-gcc:musl-tools
    system-python:ensurepip:python3-venv'
needs_newest_pythons='
    command:patchelf:patchelf'
needs_test_python='
    python:testsuite:libpython3-testsuite'
needs_lint='
    command:g++:g++
    command:nm:binutils
    clang:clang-format:clang-format-14
    clang:clang-tidy:clang-tidy-14
    command:shellcheck:shellcheck'
needs_fuzz='
    clang:clang:clang-14
    fuzzer-runtime:clang:libclang-rt-14-dev'

# What a test needs besides the command, cmocka and a compiler: most, nothing.
needs_of_test() {
    schema=system-python:jsonschema:python3-jsonschema
    case $1 in
    abi | scripts) echo command:g++:g++ command:nm:binutils ;;
    abi_rule) echo command:abidiff:abigail-tools command:git:git ;;
    attach) echo "$needs_network $schema" ;;
    completion) echo command:zsh:zsh command:fish:fish ;;
    end | ps_command) echo "$needs_network $schema command:strace:strace" ;;
    examples) echo "$needs_examples command:g++:g++ command:openssl:openssl" ;;
    export) echo command:promtool:prometheus command:ip:iproute2 command:curl:curl ;;
    install) echo command:cmake:cmake command:make:make ;;
    network | referee) echo "$needs_network" ;;
    page) echo browser:chromium:chromium ;;
    probe) echo "$schema" ;;
    ps) echo "$needs_network $schema command:strace:strace command:nginx:nginx" ;;
    ps_programs) echo "$needs_network $schema $needs_programs" ;;
    servers) echo command:nginx:nginx command:openssl:openssl ;;
    trace) echo "$schema command:curl:curl command:go:golang-go command:strace:strace" ;;
    trace_attach) echo "$schema command:strip:binutils" ;;
    trace_stacks) echo "$schema command:go:golang-go command:g++:g++" ;;
    esac
}

PATH=$PATH:/usr/sbin:/sbin
export PATH

# The clang tools format and judge differently in each release: 14 is the measure.
clang_tool() {
    command -v "$1-14" || command -v "$1"
}

# Debian packages CPython's own tests apart; an interpreter from elsewhere has them.
debian_python_has_tests() {
    scripts/python-env list | while read -r _ python; do
        case $(readlink -f "$python") in
        /usr/bin/*) "$python" -c 'import test.test_selectors' >/dev/null 2>&1 || return 1 ;;
        esac
    done
}

has_fuzzer_runtime() {
    clang=$(clang_tool clang) &&
        ls "$("$clang" -print-resource-dir)"/lib/*/libclang_rt.fuzzer*.a >/dev/null 2>&1
}

# Ubuntu has it as a snap alone, which can't read our files: there the page goes untested.
has_browser() {
    command -v chromium >/dev/null 2>&1 || grep -qs '^ID=ubuntu$' /etc/os-release
}

# static_qemu PROCESSOR: one that runs in an empty root; that of Debian 12's qemu-user wants libraries.
static_qemu() {
    for name in "qemu-$1-static" "qemu-$1"; do
        path=$(command -v "$name") || continue
        ldd "$path" 2>&1 | grep -q ' => ' || {
            printf '%s' "$path"
            return 0
        }
    done
    return 1
}

# The tests of the command run on the Python that the packages of modules are for.
system_python_has() {
    python=/usr/bin/python3
    [ -x $python ] || python=python3
    "$python" -c "import $1" >/dev/null 2>&1
}

present() {
    case $1 in
    command:*) command -v "$2" >/dev/null 2>&1 ;;
    clang:*) clang_tool "$2" >/dev/null 2>&1 ;;
    fuzzer-runtime:*) has_fuzzer_runtime ;;
    file:*) [ -e "$2" ] ;;
    python:interpreter:*) [ -n "$(scripts/python-env list)" ] ;;
    browser:*) has_browser ;;
    system-python:*) system_python_has "$2" ;;
    python:testsuite:*) debian_python_has_tests ;;
    module:*) command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "$2" ;;
    esac
}

missing() {
    for need in $1; do
        rest=${need#*:}
        present "$need" "${rest%%:*}" || printf '%s ' "${rest#*:}"
    done
}

# What takes minutes says so first. On two processors; the disk is for what is installed the first time,
# and for what is built.
estimate() {
    case $* in
    demo) [ -x build/finack ] || say 'about 2 minutes and 350 MB of disk, the first time' ;;
    test) say 'all tests: 15 to 30 minutes, 4 GB of disk' ;;
    'test python'*) say 'about 10 minutes, 1 GB of disk' ;;
    docs) say 'about 10 minutes, 2.5 GB of disk: the recipes are run with what they are for' ;;
    newcomer*) say 'about 15 minutes for each release of Debian, 1 GB of disk' ;;
    deb*) say 'about 10 minutes for each release of Debian, 2 GB of disk' ;;
    kernels*) say 'about 30 minutes for each release of Debian, 1 GB of disk' ;;
    static*) say 'about 10 minutes the first time, 1 GB of disk' ;;
    wheels*) say 'about 30 minutes, 3 GB of disk' ;;
    san) say 'about 20 minutes, 4 GB of disk' ;;
    esac
}

# ---- installing ----

BAN=/usr/sbin/policy-rc.d # what Debian's packages ask before they start a service

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "neither root nor sudo: please run as root: $*"
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" </dev/null 9<&-
}

# What is installed is wanted as programs for the tests, not as services: neither now nor after the next
# boot. One at a time, since who is first would lift the ban for the other. The shell runs what is to be
# done at its exit after a signal too only if it has a trap for that signal.
forbid_services() {
    exec 9</usr/sbin
    flock 9
    enabled_before=$(enabled_services)
    trap allow_services EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    guard=no
    [ ! -e $BAN ] || return 0
    guard=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee $BAN >/dev/null
    as_root chmod 755 $BAN
}

# Links that systemd and init go by.
enabled_services() {
    find /etc/systemd/system /etc/systemd/user /etc/rc[2-5S].d -type l 2>/dev/null | sort
}

allow_services() {
    trap - EXIT HUP INT TERM
    [ "$guard" = no ] || as_root rm -f $BAN
    for link in $(enabled_services); do
        printf '%s\n' "$enabled_before" | grep -qxF "$link" || as_root rm -f "$link"
    done
    exec 9<&-
}

# What a package is called here. Where release 14 of the clang tools is not packaged any more, the
# default release must do; CPython's own tests go by its release.
packages_here() {
    for package in $1; do
        case $package in
        libpython3-testsuite)
            package=libpython$(/usr/bin/python3 -c \
                'import sys; print("%d.%d" % sys.version_info[:2])')-testsuite
            ;;
        clang-14 | clang-*-14)
            apt-cache show "$package" >/dev/null 2>&1 || package=${package%-14}
            ;;
        libclang-rt-14-dev) # Ubuntu 22.04 has it in the other package
            if apt-cache show libclang-common-14-dev >/dev/null 2>&1; then
                apt-cache show "$package" >/dev/null 2>&1 || package=libclang-common-14-dev
            else
                package=libclang-rt-dev
            fi
            ;;
        esac
        printf '%s ' "$package"
    done
}

install_packages() {
    packages=$1
    command -v apt-get >/dev/null 2>&1 ||
        die "not found here: $packages(names of Debian packages); please install them"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null 2>&1 ||
        die "neither root nor sudo; please have installed: $packages"
    apt update
    packages=$(packages_here "$packages")
    say "installing: $packages"
    forbid_services
    # shellcheck disable=SC2086 # a list
    apt install --no-install-recommends $packages || die "apt-get could not install: $packages"
    allow_services
}

need() {
    lacking=$(missing "$1")
    [ -n "$lacking" ] || return 0
    install_packages "$lacking"
    lacking=$(missing "$1")
    [ -z "$lacking" ] || die "still not found: $lacking"
}
