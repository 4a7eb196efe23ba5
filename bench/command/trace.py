# SPDX-License-Identifier: MIT
"""`finack trace` against strace(1) on a program that makes and closes connections, and against no
tracer at all on one that moves much through one connection. The programs tell their own time."""

import pathlib
import statistics
import subprocess

import ratio

CHURN_ROUNDS = 33
CONNECTIONS = "500"
BULK_ROUNDS = 61
MEBIBYTES = "1024"
STRACE = ["strace", "-o", "/dev/null", "-f", "--seccomp-bpf", "-e",
          "trace=%network,close,dup,dup2,dup3,epoll_ctl,fcntl"]


def told(*command):
    """The seconds that the program of ours in a command says it took."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300)
    return float(done.stdout)


def quiet(times):
    """The faster half: three programs on two processors are easily disturbed."""
    return sorted(times)[:len(times) // 2 + 1]


def churn(finack, programs):
    program = [str(programs / "churn"), CONNECTIONS]
    times = ratio.in_turns({
        "alone": lambda: told(*program),
        "finack": lambda: told(finack, "trace", "-o", "/dev/null", "--", *program),
        "strace": lambda: told(*STRACE, *program),
    }, CHURN_ROUNDS)
    alone = statistics.median(quiet(times["alone"]))
    slower = {name: [time - alone for time in quiet(times[name])] for name in ("finack", "strace")}
    return ratio.ratio("trace.churn/strace", 0.6, slower["finack"], slower["strace"])


def bulk(finack, programs):
    program = [str(programs / "bulk"), MEBIBYTES]
    times = ratio.in_turns({
        "alone": lambda: told(*program),
        "finack": lambda: told(finack, "trace", "-o", "/dev/null", "--", *program),
    }, BULK_ROUNDS)
    return ratio.ratio("trace.bulk/native", 1.03, quiet(times["finack"]), quiet(times["alone"]))


def measure(finack):
    """The results of both; the programs lie beside the other benchmarks."""
    programs = pathlib.Path(finack).parent / "bench"
    return [churn(finack, programs), bulk(finack, programs)]
