#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The static command, in a root with nothing else in it. Runs in namespaces.sh, as root.

usage: test_static.py FINACK [QEMU]     (prints TAP)

QEMU runs it, if it is for another processor; no more of Linux is emulated than qemu-user does, so
that stages may be unverifiable there.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))

from tap import main, test

FINACK, QEMU = pathlib.Path(sys.argv[1]), sys.argv[2:3]


@contextlib.contextmanager
def machine(*mounts, files=()):
    """A root with the command, and with what is named; gives its folder."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        root = pathlib.Path(name)
        shutil.copy(FINACK, root / "finack")
        for file in [*files, *QEMU]:
            shutil.copy(file, root)
        for mount in mounts:
            target = root / mount.lstrip("/")
            target.mkdir()
            subprocess.run(["mount", "--rbind", mount, target], check=True)
            stack.callback(subprocess.run, ["umount", "-l", target], check=True)
        yield root


def start(root, *arguments):
    qemu = [f"/{pathlib.Path(path).name}" for path in QEMU]
    return subprocess.Popen([*qemu, "/finack", *arguments], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={},
                            preexec_fn=lambda: (os.chroot(root), os.chdir("/")))


def finack(root, *arguments):
    process = start(root, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@contextlib.contextmanager
def certificate():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out",
             folder / "trusted.pem"], check=True, stderr=subprocess.DEVNULL)
        yield folder / "trusted.pem", folder / "key.pem"


@contextlib.contextmanager
def tls_server(trusted, key, closes):
    """Answers each connection's close; gives the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, key)

    def serve():
        for _ in range(closes):
            accepted = server.accept()[0]
            with contextlib.suppress(OSError), context.wrap_socket(accepted, True) as client:
                while client.recv(100):
                    pass
                client.unwrap().close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@test
def it_says_which_it_is():
    with machine() as root:
        status, out, err = finack(root, "--version")
        assert (status, err) == (0, "") and out.startswith("finack "), (status, out, err)


@test
def tls_closes_with_a_certificate_that_is_verified():
    with certificate() as (trusted, key), machine("/proc", files=[trusted]) as root, \
            tls_server(trusted, key, 2) as port:
        to = ("probe", "--tls", "--sni", "localhost", "--courtesy", "full")
        status, out, err = finack(root, *to, "--cafile", "/trusted.pem", "--json",
                                  f"127.0.0.1:{port}")
        (close,) = json.loads(out)
        assert {"notified", "answered", "eof"} <= set(close["stages"]), (close, err)
        assert QEMU or (status, close["outcome"]) == (0, "graceful"), (close, err)
        status, out, err = finack(root, *to, f"127.0.0.1:{port}")
        assert status == 2 and "--cafile FILE" in err, (status, out, err)


if not QEMU:
    @test
    def all_kinds_of_peers_are_closed_as_expected():
        with machine("/proc") as root:
            status, out, err = finack(root, "probe")
            assert status == 0 and " as expected" in out, (status, out, err)

    @test
    def a_leak_is_found():
        with socket.create_server(("127.0.0.1", 0)) as server, machine("/proc") as root, \
                socket.create_connection(server.getsockname()) as leaked:
            server.accept()[0].close()
            status, out, err = finack(root, "ps", "--ghosts", "--json")
            (row,) = (row for row in json.loads(out)["sockets"] if row["verdict"] == "leaked")
            assert status == 1, (out, err)
            assert row["holders"][0]["pid"] == os.getpid(), row
            assert row["local"]["port"] == leaked.getsockname()[1], row

    @test
    def a_command_is_traced():
        with machine("/proc", "/dev") as root:
            status, out, err = finack(root, "trace", "--stack", "--", "/finack", "ps")
            assert status == 0 and "0 ghosts" in err, (status, out, err)

    @test
    def metrics_are_served():
        with machine("/proc") as root:
            with start(root, "export", "--listen", "127.0.0.1:9799") as exporter:
                try:
                    with urllib.request.urlopen(exporter.stdout.readline(), timeout=60) as page:
                        assert "finack_sockets{" in page.read().decode()
                finally:
                    exporter.terminate()

    LEAKY = """
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
static int make_one(void) { return socket(AF_INET, SOCK_STREAM, 0); }
int main(int argc, char **argv)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof a;
    int listener = make_one(), client = make_one(), kept;
    bind(listener, (void *) &a, size);
    listen(listener, 1);
    getsockname(listener, (void *) &a, &size);
    connect(client, (void *) &a, size);
    kept = accept(listener, 0, 0);
    close(client);
    close(listener);
    return argc > 1 ? close(kept) : pause();
}
"""

    @test
    def where_all_else_is_busybox_and_musl():
        """As Alpine is: a shell of busybox, and a program that another C library runs."""
        script = ("/leaky & until /finack ps --ghosts --command leaky | /bin/busybox grep -q ^leaked; "
                  "do :; done; /finack ps --ghosts; echo ended with $?; /finack trace --stack /leaky once")
        with machine("/proc", "/dev", files=["/bin/busybox"]) as root:
            (root / "lib").mkdir()
            shutil.copy("/lib/ld-musl-x86_64.so.1", root / "lib")
            (root / "bin").mkdir()
            (root / "busybox").rename(root / "bin" / "busybox")
            (root / "leaky.c").write_text(LEAKY, encoding="ascii")
            subprocess.run(["musl-gcc", "-O0", "-rdynamic", "-o", "leaky", "leaky.c"], cwd=root,
                           check=True)
            shell = subprocess.Popen(
                ["/bin/busybox", "sh", "-c", script], stdin=subprocess.DEVNULL, env={}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: (os.chroot(root), os.chdir("/")))
            try:
                shell.wait(60)
            finally:
                os.killpg(shell.pid, signal.SIGKILL)
            out = shell.stdout.read()
            shell.stdout.close()
        assert "leaked" in out and " leaky[" in out and "ended with 1" in out, out
        assert "at main (" in out and "0 ghosts" in out, out


if __name__ == "__main__":
    sys.exit(main())
