#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What `meson install` leaves is found and used as a stranger's program would.

usage: test_install.py MESON SOURCE_FOLDER [--here]       (prints TAP)

With --here, where somebody could do so, it is installed into this system as a user would, and nothing in
the environment helps to find it: scripts/deb does that in a fresh Debian.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tap import main, test

MESON, ROOT = sys.argv[1], Path(sys.argv[2]).resolve()
HERE = sys.argv[3:] == ["--here"]
WORK = Path(tempfile.mkdtemp(prefix="finack-install-"))
PREFIX = WORK / "prefix"
ENV = dict(os.environ, DESTDIR="")
if not HERE:
    ENV |= {"PKG_CONFIG_PATH": str(PREFIX / "lib/pkgconfig"), "LD_LIBRARY_PATH": str(PREFIX / "lib"),
            "CMAKE_PREFIX_PATH": str(PREFIX)}


def run(*command, **more):
    done = subprocess.run(list(map(str, command)), check=False, text=True, timeout=300,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=ENV, **more)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}"
    return done.stdout


def hang_up(program):
    """The program as a client of a server that answers and ends; its receipt."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            connection, _ = listener.accept()
            with connection:
                while connection.recv(1 << 16):
                    pass
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return run(program, listener.getsockname()[1])
        finally:
            thread.join()


def folder(name):
    path = WORK / name
    path.mkdir()
    for example in ("close.c", "close_tls.c"):
        shutil.copy(ROOT / "examples" / example, path)
    return path


def flags(*args):
    return run("pkg-config", "--cflags", "--libs", *args).split()


def do_as_told(said):
    for name, value in re.findall(r"run: export (\w+)=(\S+)", said):
        ENV[name] = value
    for command in re.findall(r"run as root: (.*)", said):
        run("sh", "-c", command)


@test
def test_the_summary_tells_what_is_to_be_done():
    where = [] if HERE else [f"--prefix={PREFIX}", "--libdir=lib"]
    said = run(MESON, "setup", WORK / "out", ROOT, *where, "--buildtype=release",
               "-Ddefault_library=both", "-Dtls=enabled", "-Dtool=disabled", "-Dman=disabled")
    if not HERE:
        assert f"echo {PREFIX}/lib >/etc/ld.so.conf.d/finack.conf && ldconfig" in said, said
        assert "for pkg-config" not in said, said  # PKG_CONFIG_PATH has it
    run(MESON, "install", "-C", WORK / "out")
    if HERE:
        do_as_told(said)


@test
def test_the_library_needs_nothing():
    """Whatever else is missing, nothing has to be switched off by hand."""
    missing = WORK / "missing"
    missing.mkdir()
    env = {**ENV, "PKG_CONFIG_LIBDIR": str(missing), "PKG_CONFIG_PATH": ""}
    done = subprocess.run([MESON, "setup", str(WORK / "alone"), str(ROOT), "--buildtype=release"],
                          env=env, check=False, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, done.stdout
    targets = json.loads(run(MESON, "introspect", "--targets", WORK / "alone"))
    assert "finack" in {target["name"] for target in targets}


@test
def test_what_is_missing_is_told_in_one_line():
    # An interpreter whose headers are elsewhere, for the script that asks.
    (WORK / "sitecustomize.py").write_text(
        "import sys, sysconfig\n"
        "if 'has-headers.py' in ' '.join(sys.orig_argv):\n"
        "    sysconfig.get_path = lambda name: '/nonexistent'\n")
    done = subprocess.run([MESON, "setup", str(WORK / "never"), str(ROOT), "-Dpython=enabled"],
                          env={**ENV, "CC": "/nonexistent", "PYTHONPATH": str(WORK)},
                          check=False, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if "ERROR:" in line]
    assert "a C compiler" in line and "Python.h of " in line, done.stdout


@test
def test_pkg_config():
    here = folder("pkgconfig")
    run("cc", "close.c", "-o", "a", *flags("finack"), cwd=here)
    assert hang_up(here / "a").startswith("graceful, end=fin"), "no receipt"
    run("cc", "close_tls.c", "-o", "b", *flags("finack-openssl"), cwd=here)


@test
def test_the_archive():
    """Linked in; libmnl stays shared where a distribution has no archive of it."""
    here = folder("archive")
    libs = [x for x in flags("--static", "finack") if x != "-lfinack"]
    archive = run("pkg-config", "--variable=libdir", "finack").strip() + "/libfinack.a"
    run("cc", "close.c", "-o", "a", archive, *libs, cwd=here)
    assert "libfinack" not in run("ldd", here / "a")
    assert hang_up(here / "a").startswith("graceful, end=fin"), "no receipt"


@test
def test_cmake():
    here = folder("cmake")
    (here / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(user C)\n"
        "find_package(finack 0.1 REQUIRED COMPONENTS openssl)\n"
        "add_executable(a close.c)\ntarget_link_libraries(a finack::finack)\n"
        "add_executable(b close_tls.c)\ntarget_link_libraries(b finack::openssl)\n")
    run("cmake", "-S", here, "-B", here / "out")
    run("cmake", "--build", here / "out")
    assert hang_up(here / "out/a").startswith("graceful, end=fin"), "no receipt"


@test
def test_a_version_that_is_not_there_is_refused():
    here = folder("version")
    (here / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(user C)\nfind_package(finack 99.0)\n"
        "message(STATUS \"found=${finack_FOUND}\")\n")
    assert "found=0" in run("cmake", "-S", here, "-B", here / "out").replace("FALSE", "0")


@test
def test_a_subproject_of_meson():
    here = folder("subproject")
    (here / "subprojects").mkdir()
    (here / "subprojects/finack").symlink_to(ROOT)
    (here / "subprojects/finack.wrap").write_text(
        "[wrap-file]\ndirectory = finack\n[provide]\ndependency_names = finack\n")
    (here / "meson.build").write_text(
        "project('user', 'c')\n"
        "executable('a', 'close.c', dependencies: dependency('finack', version: '>=0.1'))\n")
    run(MESON, "setup", here / "out", here, "--force-fallback-for=finack",
        "-Dfinack:tool=disabled", "-Dfinack:man=disabled")
    run("ninja", "-C", here / "out")
    assert hang_up(here / "out/a").startswith("graceful, end=fin"), "no receipt"


if __name__ == "__main__":
    status = main()
    shutil.rmtree(WORK)
    sys.exit(status)
