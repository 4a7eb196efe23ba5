# SPDX-License-Identifier: MIT
"""The descriptor table of this process, as the kernel shows it."""

import errno
import os
from collections.abc import Iterator

FOLDER = "/proc/self/fd"
_LACK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC)
_SOCKET = "socket:["
_EPOLL = "anon_inode:[eventpoll]"


def _links() -> Iterator[tuple[int, str]]:
    for name in os.listdir(FOLDER):
        try:
            yield int(name), os.readlink(f"{FOLDER}/{name}")
        except FileNotFoundError:
            continue  # that of listdir() itself, or closed by another thread


def sockets() -> dict[int, set[int]]:
    """The numbers of every open socket, by its inode."""
    table: dict[int, set[int]] = {}
    for fd, link in _links():
        if link.startswith(_SOCKET):
            table.setdefault(int(link[len(_SOCKET) : -1]), set()).add(fd)
    return table


def added(before: dict[int, set[int]], after: dict[int, set[int]]) -> dict[int, set[int]]:
    """What `after` has more than `before`: new sockets, and new numbers of old ones."""
    fresh = {inode: numbers - before.get(inode, set()) for inode, numbers in after.items()}
    return {inode: numbers for inode, numbers in fresh.items() if numbers}


def epolls() -> set[int]:
    """The numbers of the epoll sets of this process."""
    return {fd for fd, link in _links() if link == _EPOLL}


def pollers(fds: set[int]) -> set[int]:
    """The epoll sets in which any of these numbers is registered."""
    return {epoll for epoll in epolls() if fds & _registered(epoll)}


def _registered(epoll: int) -> set[int]:
    try:
        with open(f"/proc/self/fdinfo/{epoll}") as file:
            return {int(line.split()[1]) for line in file if line.startswith("tfd:")}
    except OSError:
        return set()


def is_lack(error: BaseException) -> bool:
    """Whether there is no descriptor left, or no memory for one."""
    return isinstance(error, OSError) and error.errno in _LACK
