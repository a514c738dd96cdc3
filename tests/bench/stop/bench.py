#!/usr/bin/python3
"""How long the emergency lever takes to end what a hundred real injectors have on, over TLS.

Each injector is a process of its own and holds a connection to a server in here, which sees when it ends: that is
what is measured, from before the lever's program is started. What the injectors say of themselves is not asked.
"""

import argparse
import json
import os
import pathlib
import re
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE_S = 300
GOAL_MS = 500

CONTROLLER = """apiVersion: firedrill/v1
kind: Controller
metadata: {{name: c1}}
spec:
  listen: 127.0.0.1:0
  identity: {folder}/controller-c1
  site: {folder}/site.yaml
  stop: {{listen: "127.0.0.1:0"}}
  limits: {{nodes: 1000, faults: 1000}}
"""

SITE = """apiVersion: firedrill/v1
kind: Site
metadata: {{name: bench}}
spec:
  environment: lab
  endpoints:
    - {{name: held, url: "tcp://127.0.0.1:{port}"}}
"""

INJECTOR = """apiVersion: firedrill/v1
kind: Injector
metadata: {{name: {name}}}
spec:
  controller: 127.0.0.1:{port}
  identity: {folder}/injector-{name}
  node:
    name: {name}
    environment: lab
    labels: {{role: held}}
    profiles:
      - {{name: held, tcp: {{host: 127.0.0.1, port: {server}}}}}
"""

EXPERIMENT = """apiVersion: firedrill/v1
kind: Experiment
metadata: {{name: bench-stop}}
spec:
  hypothesis: Held connections are gone at once when the lever is pulled.
  targets:
    - {{name: all, selector: {{matchLabels: {{role: held}}}}, count: {count}}}
  limits: {{environments: [lab], maxDuration: 10m}}
  steadyState:
    - {{name: answers, tcp: {{endpoint: held}}, is: "connected == 1", every: 1s, for: 1s}}
  faults:
    - {{name: hold, target: all, at: 0s, duration: 5m, lease: 60s, holdConnections: {{profile: held, protocol: tcp, count: {each}}}}}
  expect:
    recovery:
      - {{name: still-answers, probe: answers, since: hold.end, within: 5s, for: 1s}}
"""


def say(words):
    print(words, file=sys.stderr, flush=True)


class Server(threading.Thread):
    """Accepts on a port for each injector, and notes when each of its connections ends."""

    def __init__(self, ports):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        self.ports = []
        self.open = {}
        self.ended = {}
        for _ in range(ports):
            listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            listener.setblocking(False)
            self.ports.append(listener.getsockname()[1])
            self.open[self.ports[-1]] = 0
            self.selector.register(listener, selectors.EVENT_READ, (listener, self.ports[-1], True))

    def run(self):
        while True:
            for key, _ in self.selector.select():
                now = time.monotonic()
                sock, port, listens = key.data
                if listens:
                    connection, _ = sock.accept()
                    connection.setblocking(False)
                    self.selector.register(connection, selectors.EVENT_READ, (connection, port, False))
                    self.open[port] += 1
                    continue
                try:
                    if sock.recv(4096):
                        continue
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                self.selector.unregister(sock)
                sock.close()
                self.open[port] -= 1
                self.ended[port] = now


class Bench:
    def __init__(self, options):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="fd-bench-stop-")
        self.children = []
        self.environment = {**os.environ, "XDG_STATE_HOME": self.folder}

    def file(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o600)
        return path

    def program(self, name):
        return os.path.join(self.options.programs, name)

    def run(self, *words):
        done = subprocess.run([self.program("firedrill"), *words], cwd=self.folder, capture_output=True, text=True,
                              timeout=PATIENCE_S, env=self.environment)
        if done.returncode:
            raise SystemExit(f"firedrill {' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    def begin(self, name, *words):
        log = os.path.join(self.folder, f"{len(self.children)}.log")
        with open(log, "w") as file:
            child = subprocess.Popen([self.program(name), *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                     env=self.environment, start_new_session=True)
        child.log = log
        self.children.append(child)
        return child

    def said(self, child):
        with open(child.log) as file:
            return file.read()

    def until(self, condition, what):
        limit = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > limit:
                raise SystemExit(f"waited {PATIENCE_S} s for {what}\n{self.said(self.children[-1])[-3000:]}")
            time.sleep(0.05)

    def issue(self, role, name, *words):
        self.run("pki", "issue", "ca", "--role", role, "--name", name, *words)

    def up(self):
        self.names = [f"node-{number:03}" for number in range(self.options.injectors)]
        self.server = Server(len(self.names))
        self.server.start()
        self.run("pki", "init", "ca")
        self.issue("controller", "c1", "--host", "127.0.0.1")
        for role in ("operator", "admin", "viewer"):
            self.issue(role, role)
        for name in self.names:
            self.issue("injector", name)
        self.file("site.yaml", SITE.format(port=self.server.ports[0]))
        config = self.file("controller.yaml", CONTROLLER.format(folder=self.folder))
        controller = self.begin("firedrill-controller", "--config", config, "--state-dir", f"{self.folder}/controller")
        self.until(lambda: "epoch" in self.said(controller) or controller.poll() is not None, "the controller")
        said = self.said(controller)
        try:
            self.port = int(re.search(r"listens on [0-9.:]+ \(port ([0-9]+)\), epoch", said)[1])
            self.stop_port = int(re.search(r"the lever listens on [0-9.:]+ \(port ([0-9]+)\)", said)[1])
        except TypeError:
            raise SystemExit(said) from None
        for name, server in zip(self.names, self.server.ports):
            file = self.file(f"{name}.yaml", INJECTOR.format(name=name, port=self.port, folder=self.folder, server=server))
            self.begin("firedrill-injector", "--config", file, "--state-dir", f"{self.folder}/nodes")
        self.until(lambda: self.run("get", "injectors", *self.at("viewer")).count(" connected ") == len(self.names),
                   f"{len(self.names)} injectors")
        self.experiment = self.file("stop.yaml", EXPERIMENT.format(count=len(self.names), each=self.options.each))

    def at(self, who):
        return ("--controller", f"127.0.0.1:{self.port}", "--identity", f"{self.folder}/{who}-{who}")

    def pull(self, way):
        if way == "firedrill":
            return self.run("stop", "--all", "--reason", "measured", *self.at("operator"))
        done = subprocess.run(["curl", "-sS", "--fail-with-body", "--max-time", "30", "--cacert", f"{self.folder}/ca.crt",
                               "--cert", f"{self.folder}/operator-operator.crt",
                               "--key", f"{self.folder}/operator-operator.key", "-d", "measured",
                               f"https://127.0.0.1:{self.stop_port}/stop"], capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise SystemExit(f"curl: {done.stderr}{done.stdout}")
        return done.stdout

    def round(self, way):
        """Milliseconds until each injector's last connection had ended, and until the lever's program had."""
        run = self.begin("firedrill", "run", self.experiment, *self.at("operator"), "--state-dir", f"{self.folder}/client")
        wanted = self.options.each
        # The probe at the controller opens connections of its own, to the first port.
        self.until(lambda: run.poll() is not None or all(
            count >= wanted for count in self.server.open.values()), "every fault in force")
        if run.poll() is not None:
            raise SystemExit(self.said(run)[-3000:])
        time.sleep(1)
        self.server.ended.clear()
        begun = time.monotonic()
        self.pull(way)
        answered = time.monotonic()
        ports = self.server.ports[1:]
        self.until(lambda: all(self.server.open[port] == 0 for port in ports), "every fault off")
        times = [1000 * (self.server.ended[port] - begun) for port in ports]
        run.wait(PATIENCE_S)
        self.run("unlock", "--reason", "measured", *self.at("admin"))
        return times, 1000 * (answered - begun)

    def down(self):
        for child in self.children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def row(way, times, answers):
    cuts = statistics.quantiles(times, n=1000)
    return {"way": way, "injectors": len(times), "p50_ms": round(cuts[499], 1), "p90_ms": round(cuts[899], 1),
            "p99_ms": round(cuts[989], 1), "worst_ms": round(max(times), 1), "answered_ms": round(statistics.median(answers), 1)}


def main():
    # What was started is stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", default=str(HERE.parents[2] / "build/bin"), help="where the binaries are")
    parser.add_argument("--injectors", type=int, default=100, help="processes; one more than is measured")
    parser.add_argument("--each", type=int, default=2, help="connections that each of them holds")
    parser.add_argument("--rounds", type=int, default=5, help="pulls of each way")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    # One's port also gets the probe's own connections: it counts for nothing.
    options.injectors += 1
    bench = Bench(options)
    measured = {"firedrill": ([], []), "curl": ([], [])}
    try:
        bench.up()
        for number in range(options.rounds):
            for way, (times, answers) in measured.items():
                of_round, answered = bench.round(way)
                times += of_round
                answers.append(answered)
                say(f"round {number + 1}, {way}: worst {max(of_round):.0f} ms, answered after {answered:.0f} ms")
    finally:
        bench.down()
    rows = [row(way, *each) for way, each in measured.items()]
    keys = list(rows[0])
    print("| " + " | ".join(keys) + " |\n|" + "|".join("---" for _ in keys) + "|")
    for each in rows:
        print("| " + " | ".join(str(each[key]) for key in keys) + " |")
    for each in rows:
        print(f"p99 of {each['way']}: {each['p99_ms']} ms, {'within' if each['p99_ms'] <= GOAL_MS else 'OVER'} the goal of {GOAL_MS} ms")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
