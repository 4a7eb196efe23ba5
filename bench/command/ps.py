# SPDX-License-Identifier: MIT
"""`finack ps` against ss(8) and lsof(8), with as many sockets as two processes may have, each in an
epoll set."""

import contextlib
import os
import resource
import select
import socket
import struct
import subprocess

import ratio

ROUNDS = 9
SPARE = 100  # descriptors for what a process has besides
MOST = 20000  # connections: there are no more ports to one address


def leave_no_room():
    """The number of sockets that a process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(hard - SPARE, MOST)


def reset_at_close(sock):
    """So that none is left in TIME_WAIT."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def connect(address, count):
    """What the other process does: connects, says so, and waits for the end."""
    watched = select.epoll()
    clients = [socket.create_connection(address) for _ in range(count)]
    for client in clients:
        watched.register(client, select.EPOLLIN)
    return clients, watched


@contextlib.contextmanager
def crowd():
    """Both ends of many connections, half of them in a child; gives their number."""
    count = leave_no_room()
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            kept = connect(listener.getsockname(), count)
            theirs.send(b"x")
            theirs.recv(1)
            os._exit(0 if kept else 1)
        theirs.close()
        watched = select.epoll()
        servers = [listener.accept()[0] for _ in range(count)]
        for server in servers:
            reset_at_close(server)
            watched.register(server, select.EPOLLIN)
        ours.recv(1)
        try:
            yield 2 * count
        finally:
            watched.close()
            for server in servers:
                server.close()
            ours.close()
            os.waitpid(child, 0)


# A small process that tells how much memory a command takes at most: ours would count as the command's.
PEAK = """
import os, sys
child = os.fork()
if child == 0:
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    os.execv(sys.argv[1], sys.argv[1:])
print(os.wait4(child, 0)[2].ru_maxrss * 1024)
"""


def peak(*command):
    """Bytes."""
    done = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", PEAK, *command], check=True,
                          stdout=subprocess.PIPE, timeout=300)
    return int(done.stdout)


def memory(command, count, before, after):
    """What a socket takes."""
    each = round((after - before) / count)
    result = {"name": f"{command}, bytes a socket", "ratio": each, "min": each, "max": each, "limit": 200}
    print(f"{result['name']:31} {each} (limit {result['limit']})")
    return result


def measure(finack):
    ways = {
        "ps": lambda: ratio.run(finack, "ps", "--proto", "tcp"),
        "full": lambda: ratio.run(finack, "ps"),
        "ss": lambda: ratio.run("ss", "-tanpe"),
        "lsof": lambda: ratio.run("lsof", "-nP", "-i"),
    }
    looks = {"ps": ["ps"], "ps --json": ["ps", "--json"], "ps --by": ["ps", "--by", "process"]}
    few = {name: peak(finack, *args) for name, args in looks.items()}
    with crowd() as count:
        times = ratio.in_turns(ways, ROUNDS)
        many = {name: peak(finack, *args) for name, args in looks.items()}
    results = [
        ratio.ratio("ps/ss", 0.45, times["ps"], times["ss"]),
        ratio.ratio("ps/lsof", 0.15, times["ps"], times["lsof"]),
        ratio.ratio("ps.full/ss", 2.0, times["full"], times["ss"]),
    ]
    results += [memory(name, count, few[name], many[name]) for name in looks]
    print(f"with {count} sockets")
    return results
