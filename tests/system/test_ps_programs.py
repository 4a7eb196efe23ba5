#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`finack ps` on healthy programs that people run: after some traffic, and idle, none has a ghost. Runs
where there are no other sockets (namespaces.sh).

usage: test_ps_programs.py FINACK SCHEMA [MINUTES]        (prints TAP)

MINUTES: all of them side by side instead, idle for so long, with a request and a look each minute.
"""

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from ps_support import as_nobody, connection, report, sockets, until
from tap import main, test

PORT = 7000  # nobody else is in this namespace
LOOKS = 5
MINUTES = int(sys.argv[3]) if len(sys.argv) > 3 else 0

JAVA = """
import com.sun.net.httpserver.HttpServer;
import java.net.*;
class Server {
    public static void main(String[] args) throws Exception {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", %d), 50);
        server.createContext("/", e -> { e.sendResponseHeaders(200, 2); e.getResponseBody().write("ok".getBytes()); e.close(); });
        server.start();
        try (var s = new ServerSocket(0)) {
            var c = new Socket("127.0.0.1", s.getLocalPort());
            var a = s.accept();
            c.close();
            a.getInputStream().read();
            a.close();
        }
    }
}
"""
NODE = """
require("http").createServer((q, r) => r.end("ok")).listen(%d, "127.0.0.1");
"""
GO = """
package main
import "net"
func serve(c net.Conn) {
    defer c.Close()
    b := make([]byte, 100)
    if _, err := c.Read(b); err == nil { c.Write([]byte("ok")) }
}
func main() {
    l, _ := net.Listen("tcp", "127.0.0.1:%d")
    for { c, err := l.Accept(); if err != nil { return }; go serve(c) }
}
"""
NGINX = """
user root; daemon off; worker_processes 2; pid {folder}/pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}
}}
"""
HTTP = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def connect(port=PORT):
    try:
        return socket.create_connection(("127.0.0.1", port))
    except ConnectionRefusedError:
        return None


def ask(request, port=PORT):
    """A request on a connection of its own; our FIN comes first, or the server's."""
    with until(lambda: connect(port), "a server") as line:
        line.sendall(request)
        assert line.recv(100), "an answer"


def ghosts():
    """But for the kernel's own work for what was closed: that ends by itself."""
    rows = report("--netns", "all")["sockets"]
    return [row for row in rows if row["verdict"] not in ("fine", "parked", "orphan")]


def healthy(request, rounds=20):
    for _ in range(rounds):
        ask(request)
    for _ in range(LOOKS):  # what is under way ends; what stays is a ghost
        until(lambda: not ghosts(), f"no ghosts, but {ghosts()}", seconds=10)
    # Two that stay connected, and say nothing.
    with until(connect, "a server"), until(connect, "a server"):
        assert not [g for g in ghosts() if g["verdict"] == "leaked"], ghosts()
    until(lambda: not ghosts(), "no ghosts", seconds=10)


@contextlib.contextmanager
def program(*command, **kwargs):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               **kwargs)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def source(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    return path


# ---- the programs: each serves on a port ----

@contextlib.contextmanager
def java_serves(port):
    with tempfile.TemporaryDirectory() as folder, \
            program("java", source(folder, "Server.java", JAVA % port)) as jvm:
        yield jvm


def node_serves(port):
    return program("node", "-e", NODE % port)


@contextlib.contextmanager
def go_serves(port):
    with tempfile.TemporaryDirectory() as folder:
        source(folder, "main.go", GO % port)
        subprocess.run(["go", "build", "-o", "main", "main.go"], cwd=folder, check=True)
        with program(f"{folder}/main") as process:
            yield process


@contextlib.contextmanager
def nginx_serves(port):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        config = source(folder, "nginx.conf", NGINX.format(folder=folder, port=port))
        with program("nginx", "-p", folder, "-c", config) as process:
            yield process


@contextlib.contextmanager
def redis_serves(port):
    with tempfile.TemporaryDirectory() as folder, \
            program("redis-server", "--port", str(port), "--save", "", "--dir", folder) as process:
        yield process


def postgres_tool(name):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


@contextlib.contextmanager
def postgres_serves(port):
    """It does not run as root."""
    user = as_nobody()
    prefix = [] if user else ["unshare", "--user", "--map-user=1000"]
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        data = f"{folder}/data"
        subprocess.run([*prefix, postgres_tool("initdb"), "-D", data, "-A", "trust", "-N"],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
        with program(*prefix, postgres_tool("postgres"), "-D", data, "-p", str(port), "-h",
                     "127.0.0.1", "-k", folder, **user) as process:
            yield process


@contextlib.contextmanager
def systemd_listens():
    """The manager of a user's services, in a /run of its own; it listens for many services."""
    run = ("mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && mkdir -m 700 /run/user && "
           "exec env XDG_RUNTIME_DIR=/run/user /usr/lib/systemd/systemd --user --unit=basic.target")
    with program("unshare", "--mount", "sh", "-c", run) as manager:
        until(lambda: any(row["state"] == "LISTEN" for row in sockets("--pid", str(manager.pid))),
              "the manager's sockets")
        yield manager


SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])  # any client of Postgres may begin with it
SERVERS = [(java_serves, HTTP), (node_serves, HTTP), (go_serves, HTTP), (nginx_serves, HTTP),
           (redis_serves, b"PING\r\n"), (postgres_serves, SSL_REQUEST)]


# ---- each for itself, for a moment ----

def java():
    with java_serves(PORT) as jvm:
        healthy(HTTP)
        parked = [row for row in sockets("--pid", jvm.pid) if row["verdict"] == "parked"]
        assert len(parked) == 1, "the JVM keeps one end of a pair to close others with"


def node():
    with node_serves(PORT):
        healthy(HTTP)


def go():
    with go_serves(PORT):
        healthy(HTTP)


def nginx():
    with nginx_serves(PORT):
        healthy(HTTP)


def redis():
    with redis_serves(PORT):
        healthy(b"PING\r\n")


def postgres():
    with postgres_serves(PORT):
        healthy(SSL_REQUEST)


def systemd():
    with systemd_listens() as manager:
        for _ in range(LOOKS):
            until(lambda: not ghosts(), "no ghosts", seconds=10)
        assert len(sockets("--pid", str(manager.pid))) > 2


def what_leaks_is_found_beside_them():
    with connection() as (client, server):
        assert not ghosts()
        server.shutdown(socket.SHUT_WR)
        until(lambda: {g["verdict"] for g in ghosts()} == {"leaked", "half-closed"}, "a leak")
        assert client.fileno() >= 0


# ---- all of them, for long ----

def all_of_them_for_long():
    """No ghost is there for longer than a minute. The shipped alerts take five of them."""
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(systemd_listens())
        for number, (serve, _) in enumerate(SERVERS):
            stack.enter_context(serve(PORT + number))
        before = set()
        for minute in range(MINUTES):
            for number, (_, request) in enumerate(SERVERS):
                ask(request, PORT + number)
            time.sleep(60)  # for nothing: what they do meanwhile is what is looked at
            rows = ghosts()
            now = {(row["inode"], row["verdict"]) for row in rows}
            print(f"# minute {minute + 1}: {len(rows)} ghosts", *(row["why"] for row in rows), flush=True)
            assert not now & before, rows
            before = now
        assert manager.poll() is None


for case in [all_of_them_for_long] if MINUTES else [
        java, node, go, nginx, redis, postgres, systemd, what_leaks_is_found_beside_them]:
    test(case)

if __name__ == "__main__":
    sys.exit(main())
