#!/bin/sh
# SPDX-License-Identifier: MIT
#
# What ./dev installs are programs and no services: none runs, now or after the next boot, and others may be
# installed as before. Also where ./dev is ended by a signal meanwhile. Prints TAP.
#
# usage: services.sh CHECKOUT       in a clean Debian, as root
set -u
cd "$1" || exit
number=0
ban=/usr/sbin/policy-rc.d

say() {
    printf '# %s\n' "$*"
}

die() {
    say "$@"
    exit 1
}

. scripts/needs.sh

check() {
    name=$1
    shift
    number=$((number + 1))
    if "$@"; then
        echo "ok $number - $name"
    else
        echo "not ok $number - $name"
    fi
}

as_before() {
    say "$(enabled_services)"
    [ "$(enabled_services)" = "$before" ] && [ ! -e $ban ] && [ -z "$(services_that_run)" ]
}

services_that_run() {
    cat /proc/[0-9]*/comm | grep -E '^(nginx|redis|postgres)'
}

before=$(enabled_services)
install_packages 'nginx redis-server' >/dev/null 2>&1
check 'they are there' command -v redis-server
check 'none is a service' as_before

# Where somebody forbids services anyway, that stays.
printf '#!/bin/sh\nexit 101\n' >$ban
chmod 755 $ban
install_packages curl >/dev/null 2>&1
check "a ban of the machine's own stays" test -e $ban
rm -f $ban

(install_packages postgresql) >/dev/null 2>&1 &
while [ ! -e $ban ]; do sleep 0.1; done
kill -TERM $!
wait $!
check 'after a signal none is a service either' as_before
echo "1..$number"
