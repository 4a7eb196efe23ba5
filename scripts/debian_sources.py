# SPDX-License-Identifier: MIT
"""Sources of Debian's packages, by an apt with lists of its own, for what is built from them."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "finack"
NAME = pathlib.Path(sys.argv[0]).name


def say(*words):
    print(f"{NAME}:", *words, file=sys.stderr, flush=True)


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **{"cwd": ROOT, **options})
    if done.returncode:
        sys.exit(f"{done.stdout}{NAME}: failed: {' '.join(str(word) for word in command)}")
    return done.stdout


class Sources:
    """Of one release, this machine's if none is named; nothing of the system changes."""

    def __init__(self, folder, release=""):
        self.folder, self.release = folder, release
        self.folder.mkdir(parents=True, exist_ok=True)

    def archives(self):
        """Those that apt takes this machine's release from, also the one for security."""
        about = dict(re.findall(r'^(\w+)="?([^"\n]*)', pathlib.Path("/etc/os-release").read_text(),
                                re.MULTILINE))
        own = about.get("VERSION_CODENAME", "sid")
        asked = run("apt-get", "update", "--print-uris")
        parts = "main universe" if about.get("ID") == "ubuntu" else "main"
        found = re.findall(
            rf"^'(\S+)/dists/({own}(?:-updates|-security)?)/InRelease'", asked, re.MULTILINE)
        if self.release not in ("", own):
            found = [(where, self.release) for where, suite in found if suite == own]
        return [f"deb-src {where} {suite} {parts}" for where, suite in found]

    def apt(self, *words):
        lists, state = self.folder / "lists", self.folder / "status"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        state.touch()
        options = {"Dir::Etc::sourcelist": self.folder / "sources.list",
                   "Dir::Etc::sourceparts": "/dev/null", "Dir::State::lists": lists,
                   "Dir::State::status": state, "Dir::Cache": self.folder / "cache",
                   "Acquire::Languages": "none", "Acquire::Retries": "3",
                   "APT::Sandbox::User": os.environ.get("USER", "root"),
                   "APT::Update::Error-Mode": "any"}
        run("apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items()), *words,
            cwd=self.folder)

    def fetch(self, packages):
        """The upstream's own, without what Debian changes; once."""
        if (self.folder / "made").exists():
            return
        archives = self.archives()
        if not archives:
            sys.exit(f"{NAME}: apt's sources on this machine name no archive of its own release")
        (self.folder / "sources.list").write_text("\n".join([*archives, ""]))
        self.apt("update")
        self.apt("source", "--tar-only", *packages)
        for packed in self.folder.glob("*.orig.tar.*"):
            if not packed.name.endswith(".asc"):
                shutil.unpack_archive(packed, self.folder)
        (self.folder / "made").touch()

    def find(self, package):
        (found,) = (path for path in self.folder.glob(f"{package}-*") if path.is_dir())
        return found
