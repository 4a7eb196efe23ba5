#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: namespaces.sh COMMAND ARGS...
#
# Runs a test where it sees no sockets and no processes but its own: in new network, process and
# mount namespaces, with a loopback interface that is up.
set -u
# shellcheck disable=SC2016 # for the shell inside
set -- sh -c 'ip link set lo up && "$@"; exit $?' sh "$@"
[ "$(id -u)" -eq 0 ] || set -- --map-root-user "$@"
exec unshare --net --pid --fork --kill-child --mount-proc "$@"
