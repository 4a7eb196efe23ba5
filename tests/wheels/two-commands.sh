#!/bin/sh
# SPDX-License-Identifier: MIT
#
# usage: two-commands.sh FOLDER   in a fresh Debian, as root: scripts/clean-root
#
# What a new user does, with nothing but an interpreter: two commands to a receipt.
set -eu
apt-get -qq update
apt-get -qq -y install --no-install-recommends python3-venv >/dev/null
python3 -m venv /tmp/venv
PATH=/tmp/venv/bin:$PATH
! command -v cc && ! python -c 'import finack' 2>/dev/null
tag=$(python -c 'import sys; print("cp%d%d" % sys.version_info[:2])')

pip install -q --no-index "$1"/finack-*-"$tag"-"$tag"-manylinux_2_28_"$(uname -m)".whl
receipt=$(python -c 'import socket, finack
ours, theirs = socket.socketpair(); theirs.close(); print(finack.close(ours))')

printf '%s\n' "$receipt"
case $receipt in
graceful*) ;;
*) exit 1 ;;
esac
