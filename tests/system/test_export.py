#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`finack export`: what it serves, and a real Prometheus that scrapes it and fires an alert. Runs where
there are no other sockets (namespaces.sh).

usage: test_export.py FINACK MONITORING        (prints TAP)
"""

import contextlib
import json
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from http.client import HTTPConnection

from ps_support import (
    COMMAND, CONTAINER, FINACK, TCP_CLOSE_WAIT, TCP_FIN_WAIT2, Python, as_nobody, connection,
    contained, for_all, in_state, reset_at_close, until,
)
from tap import main, test

MONITORING = sys.argv[2]
SAMPLE = re.compile(r'^(finack_\w+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Exporter:
    def __init__(self, *args, through=(FINACK,)):
        self.process = subprocess.Popen([*through, "export", *args], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        line = self.process.stdout.readline().decode()
        match = re.fullmatch(r"http://\[?([^]]+)\]?:(\d+)/metrics\n", line)
        assert match, (line, self.process.stderr.read())
        self.host, self.port = match[1], int(match[2])

    def get(self, path="/metrics", method="GET"):
        line = HTTPConnection(self.host, self.port, timeout=30)
        with contextlib.closing(line):
            line.request(method, path)
            response = line.getresponse()
            return response.status, response.headers, response.read().decode()

    def samples(self):
        """A dictionary of (name, labels) and values. A fresh look."""
        def look():
            status, headers, text = self.get()
            assert status == 200, text
            assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", headers
            samples = {}
            for row in text.splitlines():
                if not row.startswith("#"):
                    match = SAMPLE.match(row)
                    key = (match[1], tuple(sorted(LABEL.findall(match[2] or ""))))
                    assert key not in samples, key
                    samples[key] = float(match[3])
            return samples
        first = look()[("finack_looks_total", ())]
        return until(lambda: (s := look())[("finack_looks_total", ())] > first and s, "a look")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        out, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0 and not out and not errors, (out, errors)


def count(samples, **labels):
    return sum(value for (name, pairs), value in samples.items()
               if name == "finack_sockets" and labels.items() <= dict(pairs).items())


@test
def verdicts_are_metrics():
    with Exporter() as exporter, connection() as (client, server):
        assert (exporter.host, exporter.port) == ("127.0.0.1", 9799)
        assert count(exporter.samples(), verdict="leaked") == 0
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        in_state(server, TCP_FIN_WAIT2)
        samples = exporter.samples()
        assert count(samples, verdict="leaked", state="CLOSE_WAIT", command=COMMAND) == 1, samples
        assert count(samples, verdict="half-closed", state="FIN_WAIT2") == 1, samples
        assert samples[("finack_receive_queue_bytes", (("command", COMMAND),))] == 1, samples
        age = samples[("finack_leaked_oldest_seconds", (("command", COMMAND),))]
        assert 0 < age < 60, samples
        later = exporter.samples()
        assert later[("finack_leaked_oldest_seconds", (("command", COMMAND),))] > age, later
        assert later[("finack_look_failures_total", ())] == 0, later


@test
def containers_are_labels_if_asked_for():
    listen = "s = socket.create_server(('127.0.0.1', 0)); say(s.getsockname()[1]); wait()"
    pod = "12345678-90ab-cdef-1234-567890abcdef"
    with contained(listen, pod), socket.create_server(("127.0.0.1", 0)):
        with Exporter("--containers") as exporter:
            samples = exporter.samples()
            inside = {"container": CONTAINER[:12], "pod": r"web-\\x227d"}
            assert count(samples, state="LISTEN", **inside) == 1, samples
            assert count(samples, state="LISTEN", command=COMMAND) == 2, samples
        with Exporter() as exporter:
            assert not any("container" in dict(pairs) for _, pairs in exporter.samples())


@test
def labels_are_bounded():
    with contextlib.ExitStack() as stack:
        for name in ("aa", "bb", "cc", 'd"\\\n\x01'):
            stack.enter_context(Python("""
open("/proc/self/comm", "w").write(sys.argv[1])
kept = [socket.socket() for _ in range(3)]
say("here"); wait()
""", name)).read()
        with Exporter("--commands", "2") as exporter:
            samples = exporter.samples()
            commands = {dict(pairs)["command"] for name, pairs in samples
                        if name == "finack_sockets"} - {"(other commands)"}
            assert len(commands) == 2, commands
            assert count(samples, command="(other commands)") >= 6, samples
            labels = {label for name, pairs in samples if name == "finack_sockets"
                      for label, _ in pairs}
            assert labels == {"verdict", "state", "command"}, labels
        with Exporter() as exporter:
            _, _, text = exporter.get()
            assert 'command="d\\\\x22\\\\x5c\\\\x0a\\\\x01"' in text, text
            assert not re.search(r"[^\n -~]", text) and not re.search(r"\d+\.\d+\.\d+\.\d+", text)
            check = subprocess.run(["promtool", "check", "metrics"], input=text.encode(),
                                   capture_output=True, check=False, timeout=60)
            assert check.returncode == 0 and not check.stdout + check.stderr, check


@test
def ports_are_labels_if_they_are_asked_for():
    with connection() as (client, _):
        port = str(client.getsockname()[1])
        with Exporter("--port", f"1,{port}") as exporter:
            samples = exporter.samples()
            assert count(samples, state="ESTABLISHED", port=port) == 2, samples
            ports = {dict(pairs).get("port") for name, pairs in samples if name == "finack_sockets"}
            assert ports == {None, port}, ports


@test
def http():
    with Exporter("--listen", "[::1]:9800") as exporter:
        assert exporter.host == "::1"
        assert exporter.get("/")[0] == 200 and exporter.get("/x")[0] == 404
        status, headers, text = exporter.get(method="HEAD")
        assert status == 200 and text == "" and int(headers["Content-Length"]) > 100
        status, headers, _ = exporter.get(method="POST")
        assert status == 405 and headers["Allow"] == "GET, HEAD"
        # Others are served while one says nothing, or what is no HTTP.
        with socket.create_connection(("::1", 9800)) as silent, \
                socket.create_connection(("::1", 9800)) as rude:
            rude.sendall(b"\x00\xff\r\n\r\n")
            assert exporter.get()[0] == 200
            assert silent.fileno() >= 0
        looks = exporter.get()[2], exporter.get()[2]
        assert looks[0] == looks[1] or "finack_looks_total" in looks[1]


@test
def slow_clients_do_not_keep_others_out():
    """More than are served at once, each with a request that never ends."""
    with Exporter() as exporter, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection((exporter.host, exporter.port)))
                for _ in range(80)]
        for line in slow:
            with contextlib.suppress(ConnectionError):
                line.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert exporter.get()[0] == 200
        last = slow[-1]
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while not select.select([last], [], [], 0.5)[0]:  # a byte now and then buys no time
                last.sendall(b"a")
                assert time.monotonic() - began < 60
        assert exporter.get()[0] == 200
        assert exporter.get("/metrics%00x")[0] == 404


@test
def bad_input_gets_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for args, word in [
                (["--listen", f"127.0.0.1:{port}"], "in use"),
                (["--listen", "192.0.2.1:9799"], "cannot listen on 192.0.2.1:9799"),
                (["--listen", "example.org:80"], "no address"),
                (["--listen", "127.0.0.1"], "no port"),
                (["--listen", "127.0.0.1:0"], "port '0'"),
                (["--commands", "0"], "--commands '0'"),
                (["--port", "x"], "--port 'x'"),
                (["--netns", "nowhere"], "nowhere"),
                (["--bogus"], "--bogus"),
                (["x"], "'x'")]:
            run = subprocess.run([FINACK, "export", *args], capture_output=True, check=False,
                                 timeout=60)
            lines = run.stderr.decode().splitlines()
            assert run.returncode == 2 and not run.stdout, (args, run)
            assert len(lines) == 1 and lines[0].startswith("finack export: "), (args, lines)
            assert word in lines[0], (args, lines)
    run = subprocess.run([FINACK, "export", "--help"], capture_output=True, check=True, timeout=60)
    assert run.stdout.startswith(b"usage: finack export")


def promtool(*args):
    run = subprocess.run(["promtool", *args], cwd=MONITORING, capture_output=True, check=False,
                         timeout=60)
    assert run.returncode == 0, (run.stdout + run.stderr).decode()


def shipped(name, pattern):
    with open(f"{MONITORING}/{name}", encoding="utf-8") as file:
        found = re.search(pattern, file.read(), re.MULTILINE)
    assert found, (name, pattern)
    return found[1]


@test
def the_service_sees_what_others_have():
    """As the unit starts it: not as root, but with these capabilities."""
    service = "finack-export.service"
    command = shipped(service, r"^ExecStart=/usr/bin/finack (.*)$").split()
    capabilities = shipped(service, "^AmbientCapabilities=(.*)$")
    assert capabilities == shipped(service, "^CapabilityBoundingSet=(.*)$")
    some = ",".join("+" + name.removeprefix("CAP_").lower() for name in capabilities.split())
    with for_all() as program, socket.create_server(("127.0.0.1", 0)):
        who = ["--reuid=65534", "--regid=65534", "--clear-groups"] if as_nobody() else []
        with Exporter(*command[1:], through=(
                "setpriv", *who, "--no-new-privs", f"--inh-caps=-all,{some}",
                f"--ambient-caps=-all,{some}", f"--bounding-set=-all,{some}", program)) as exporter:
            samples = exporter.samples()
            assert count(samples, state="LISTEN", command=COMMAND) == 1, samples
            assert samples[("finack_not_looked_at", (("what", "processes"),))] == 0, samples


@test
def the_daemon_set_starts_it():
    command = json.loads(shipped("finack-daemonset.yaml", r"^ *command: (\[.*\])$"))
    assert command[0] == "finack"
    with Exporter(*command[2:]) as exporter:
        assert exporter.host == "0.0.0.0" and exporter.get()[0] == 200
    service = set(shipped("finack-export.service", "^AmbientCapabilities=(.*)$").split())
    pod = json.loads(shipped("finack-daemonset.yaml", r"^ *add: (\[.*\])$"))
    assert {f"CAP_{name}" for name in pod} == service


@test
def rules_are_good():
    promtool("check", "rules", "finack-rules.yml")
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "rules-test.yml")


class Prometheus:
    """The real one, with the rules as they are, but impatient."""

    def __init__(self, folder):
        for name in ("prometheus.yml", "finack-rules.yml"):
            with open(f"{MONITORING}/{name}", encoding="utf-8") as file:
                text = file.read()
            text = text.replace("_interval: 15s", "_interval: 1s").replace("for: 5m", "for: 1s")
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", "--web.listen-address=127.0.0.1:9090"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"GOMAXPROCS": "2"})

    def ask(self, path, **query):
        line = HTTPConnection("127.0.0.1", 9090, timeout=30)
        with contextlib.closing(line):
            try:
                line.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
                value = json.load(line.getresponse())
            except (ConnectionError, json.JSONDecodeError):
                return None
            assert value["status"] == "success", (query, value)
            return value["data"]

    def __enter__(self):
        until(lambda: self.ask("status/config"), "Prometheus")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)


def dashboard_queries():
    with open(f"{MONITORING}/grafana-dashboard.json", encoding="utf-8") as file:
        dashboard = json.load(file)
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers) > 5, numbers
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "1m")
            yield panel["title"], re.sub(r"\$(job|instance)", ".*", text)


@test
def a_leaked_socket_fires_the_alert():
    with tempfile.TemporaryDirectory() as folder, Exporter(), Prometheus(folder) as prometheus, \
            connection() as (client, server):
        def firing():  # on a slow machine Prometheus' own connections may count for a while
            return [alert for alert in prometheus.ask("alerts")["alerts"]
                    if alert["state"] == "firing" and alert["labels"]["command"] == COMMAND]
        until(lambda: prometheus.ask("query", query='up{job="finack"} == 1')["result"], "a scrape")
        until(lambda: prometheus.ask("query", query="instance:finack_sockets:sum > 0")["result"],
              "a recorded rule")
        assert not firing()
        server.shutdown(socket.SHUT_WR)
        in_state(client, TCP_CLOSE_WAIT)
        in_state(server, TCP_FIN_WAIT2)
        (alert,) = until(firing, "the alert", seconds=60)
        assert alert["labels"] == {
            "alertname": "SocketsLeaked", "severity": "warning", "job": "finack",
            "instance": "127.0.0.1:9799", "command": COMMAND}, alert
        for title, query in dashboard_queries():
            result = prometheus.ask("query", query=query)
            assert result["result"] or title in ("Not looked at",), (title, query, result)
        reset_at_close(server)
        server.close()
        client.close()
        until(lambda: not firing(), "the end of the alert", seconds=60)


if __name__ == "__main__":
    sys.exit(main())
