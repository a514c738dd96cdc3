#!/usr/bin/python3
"""A secret is found nowhere outside of the node that uses it: not in the controller's state, not in a report, a log, a
process' words or a temporary file, and not in what goes over the wire; whether the run passes, is refused or fails.

Everything between the processes goes through a recorder of ours, in the open. Each search has something planted that it
must find."""

import base64
import contextlib
import os
import secrets
import socket
import threading
import unittest
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stage import CONTROLLER, INJECTOR, PROGRAM, Stage
from guarded_monitoring import Exporter, Guarded
from look import environment_of, free_port

SITE = """apiVersion: firedrill/v1
kind: Site
metadata: {{name: planted}}
spec:
  environment: lab
  prometheus: {{url: "{monitoring.prometheus[0]}"{access}}}
  alertmanagers: [{{url: "{monitoring.alertmanagers[0]}"{alertmanager_access}}}]
  webhook:
    listen: {webhook}
    receivers:
      - {{name: oncall, path: /oncall, token: {{file: {monitoring.token_file}}}}}
      - {{name: canary, path: /canary, token: {{file: {monitoring.token_file}}}}}
  endpoints:
    - {{name: shop, url: "{shop}", token: {{file: {token}}}}}
  injectors:
    - name: node-a
      labels: {{role: database}}
      profiles:
        - {{name: planted-profile, postgresql: {{host: 127.0.0.1, port: {port}, database: postgres, user: planted, password: {{file: {password}}}}}}}
"""

EXPERIMENT = """apiVersion: firedrill/v1
kind: Experiment
metadata: {name: planted-experiment}
spec:
  hypothesis: Whatever becomes of a run, no secret leaves its node.
  targets:
    - {name: db-node, selector: {matchLabels: {role: database}}, count: 1}
  limits: {environments: [lab], maxDuration: 60s}
  load:
    - {name: callers, target: db-node, sendRequests: {endpoint: shop, rate: 10, requests: [{name: page, path: /page}]}}
  steadyState:
    - {name: shop-answers, http: {endpoint: shop, path: /page}, is: "status == 200", for: 1s, every: 300ms}
    - {name: few-sessions, prometheus: {query: held_sessions}, is: "== 0", for: 1s, every: 500ms}
  faults:
    - {name: hold, target: db-node, at: 0s, duration: 4s, lease: 2s, holdConnections: {profile: planted-profile, state: idleInTransaction, count: 3}}
  expect:
    alerts:
      - {name: held-page, alert: SessionsHeld, since: hold.reached, firingWithin: 10s, notification: {receiver: oncall, within: 15s}}
    recovery:
      - {name: still-answers, probe: shop-answers, since: hold.end, within: 10s, for: 1s}
"""

RULE = """groups:
  - name: sessions
    rules:
      - {alert: SessionsHeld, expr: held_sessions > 1, labels: {severity: page}}
"""


class Planted:
    """Secrets by name, in every way of writing that could carry them away."""

    def __init__(self):
        self.needles = {}

    def plant(self, name, secret):
        raw = secret.encode()
        words = {raw, urllib.parse.quote(secret, safe="").encode(), raw.hex().encode(), raw.hex().upper().encode()}
        # Base64 of what has it somewhere within: whatever stands in front shifts it by 0, 1 or 2 bytes.
        for shift in range(3):
            code = base64.b64encode(b"\0" * shift + raw)
            begin, end = (0, 2, 3)[shift], len(code) - 4
            words.add(code[begin + (shift > 0) * 2:end])
        self.needles[name] = {word for word in words if len(word) >= 8}

    def found_in(self, content):
        return sorted(name for name, words in self.needles.items() if any(word in content for word in words))


class Recorder:
    """A Unix socket in front of another one, that keeps all that goes through."""

    def __init__(self, path, behind):
        self.path, self.behind = path, behind
        self.recorded = bytearray()
        self.lines = []
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self.behind)
                self.lines += [near, far]
                for source, drain in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=(source, drain), daemon=True).start()

    def carry(self, source, drain):
        kept = bytearray()
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                kept += data
                drain.sendall(data)
        with contextlib.suppress(OSError):
            drain.shutdown(socket.SHUT_WR)
        with self.lock:
            self.recorded += kept

    def stop(self):
        self.listener.close()
        for line in self.lines:
            line.close()


class Observer(threading.Thread):
    """Looks all the time at what processes show of themselves, and at files that may be gone at the end."""

    def __init__(self, test):
        super().__init__(daemon=True)
        self.test = test
        self.seen = {}
        self.stopped = threading.Event()
        self.looks = self.contents = 0
        self.start()

    def run(self):
        while not self.stopped.wait(0.1):
            self.look()

    def look(self):
        self.looks += 1
        for pid in self.test.look.pids():
            with contextlib.suppress(OSError):
                self.note(f"the environment of {pid}", b"\0".join(environment_of(pid)))
                with open(f"/proc/{pid}/cmdline", "rb") as words:
                    self.note(f"the command line of {pid}", words.read())
        for folder in self.test.searched:
            for name, content in files_in(folder):
                self.note(name, content)

    def note(self, where, content):
        self.contents += 1
        for name in self.test.planted.found_in(content):
            self.seen[(name, where)] = True

    def stop(self):
        self.stopped.set()
        self.join()
        self.look()


def files_in(folder):
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):
                if os.path.isfile(path):
                    with open(path, "rb") as content:
                        yield path, content.read()


class Shop:
    def __init__(self, token):
        asked = self.asked = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                known = self.headers.get("Authorization") == f"Bearer {token}"
                asked.append(known)
                self.send_response(200 if known else 401)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Secrets(Stage):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.password = "planted-" + secrets.token_urlsafe(18)
        cls.server.run(f"CREATE ROLE planted LOGIN PASSWORD '{cls.password}'")
        hba = os.path.join(cls.server.folder, "data/pg_hba.conf")
        with open(hba) as lines:
            known = lines.read()
        with open(hba, "w") as lines:
            lines.write("host all planted 127.0.0.1/32 scram-sha-256\n" + known)
        cls.server.run("SELECT pg_reload_conf()")

    def setUp(self):
        super().setUp()
        # Elsewhere than the secrets themselves.
        self.searched = [self.state, os.path.join(self.folder, "t"), os.path.join(self.folder, "out")]
        os.mkdir(self.searched[2])
        self.planted = Planted()
        self.look.roles.append("planted")
        exporter = Exporter("held_sessions", lambda: sum("idle in transaction" in each for each in self.look.sessions()))
        self.addCleanup(exporter.stop)
        held, port = free_port()
        self.addCleanup(held.close)
        self.webhook = f"127.0.0.1:{port}"
        self.monitoring = Guarded(os.path.join(self.folder, "monitoring"), RULE, exporter.port, self.webhook)
        self.addCleanup(self.monitoring.stop)
        token = secrets.token_urlsafe(18)
        self.shop = Shop(token)
        self.addCleanup(self.shop.stop)
        with open(f"{self.monitoring.client}.key") as key:
            lines = key.read().splitlines()
        for name, secret in (("the password of the database", self.password), ("the token of the shop", token),
                             ("the password of Prometheus", self.monitoring.password),
                             ("the token of the webhook", self.monitoring.token),
                             ("a key in a header", "header-" + self.monitoring.token[::-1]),
                             ("the key of the certificate", lines[len(lines) // 2])):
            self.planted.plant(name, secret)
        self.files = {"password": self.monitoring.secret("db", self.password), "token": self.monitoring.secret("shop", token)}
        self.header = self.monitoring.secret("header", "header-" + self.monitoring.token[::-1])

    def up(self, password=None, port=None, basic=None):
        """A controller and an injector with a recorder between, and between the client and the controller."""
        access = self.monitoring.access(headers=f"[{{name: X-Api-Key, secret: {{file: {self.header}}}}}]",
                                        **({"basic": basic} if basic else {}))
        self.write("site.yaml", SITE.format(
            monitoring=self.monitoring, access=access, alertmanager_access=self.monitoring.access(identity=None),
            webhook=self.webhook, shop=self.shop.url, token=self.files["token"],
            password=password or self.files["password"], port=port or self.server.port))
        behind, front = (os.path.join(self.folder, name) for name in ("c", "r"))
        for path in (behind, front):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self.daemons = [self.begin(CONTROLLER, "--listen", f"unix:{behind}", "--site", self.site)]
        self.until(lambda: os.path.exists(behind), "a controller that listens")
        self.recorder = Recorder(front, behind)
        self.addCleanup(self.recorder.stop)
        self.address = f"unix:{front}"
        self.daemons.append(self.begin(INJECTOR, "--controller", self.address, "--site", self.site, "--node", "node-a",
                                       "--log-level", "debug"))
        self.until(lambda: "registered" in self.said(self.daemons[1]), "an injector that is registered")

    def run_and_search(self, code):
        observer = Observer(self)
        out = self.searched[2]
        experiment = self.write("planted.yaml", EXPERIMENT)
        run = self.begin(PROGRAM, "run", experiment, "--controller", self.address, "--junit", f"{out}/run.xml",
                         "--json", f"{out}/run.json", "--report", f"{out}/run.md")
        self.assertEqual(run.wait(120), code, "\n".join(self.said(each) for each in self.started))
        for form in ("text", "markdown", "json", "junit"):
            _, said, error = self.firedrill("report", "last", "--format", form)
            self.write(f"out/report.{form}", said + error)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            daemon.wait(60)
        for each in self.started:
            self.write(f"out/{os.path.basename(each.output)}", self.said(each))
        observer.stop()
        self.assertGreater(observer.looks, 1)
        self.until(lambda: b"planted-profile" in self.recorder.recorded, "the record of the injector's line")
        wire = bytes(self.recorder.recorded)
        # The recorder saw what the messages carry, and the files are those of this run.
        for word in (b"planted-profile", b"planted-experiment"):
            self.assertIn(word, wire)
        self.assertTrue(any(b"planted-experiment" in content for name, content in files_in(self.state)))
        self.assertGreater(os.path.getsize(f"{out}/report.text"), 200)
        found = sorted(observer.seen), self.planted.found_in(wire)
        print(f"\nsecrets found: {len(found[0]) + len(found[1])} of {len(self.planted.needles)} planted, in {observer.contents} files, "
              f"environments and command lines over {observer.looks} looks, and {len(wire)} bytes between the processes", flush=True)
        self.assertEqual(found, ([], []))
        return observer

    def test_a_run_that_passes_carries_no_secret_away(self):
        self.up()
        self.run_and_search(0)
        # They were used: else there was nothing to be carried away.
        self.assertIn(True, self.shop.asked)

    def test_a_wrong_password_of_the_database_carries_none_away(self):
        wrong = "wrong-" + secrets.token_urlsafe(18)
        self.planted.plant("the wrong password", wrong)
        self.up(password=self.monitoring.secret("wrong", wrong))
        self.run_and_search(3)

    def test_a_database_that_is_dead_carries_none_away(self):
        held, port = free_port()
        self.addCleanup(held.close)
        self.up(port=port)
        self.run_and_search(3)

    def test_a_wrong_password_of_the_monitoring_carries_none_away(self):
        wrong = "wrong-" + secrets.token_urlsafe(18)
        self.planted.plant("the wrong password", wrong)
        self.up(basic=f"{{user: firedrill, password: {{file: {self.monitoring.secret('wrong', wrong)}}}}}")
        self.run_and_search(3)

    def test_what_is_carried_away_is_found(self):
        """Each of the ways, planted."""
        self.up()
        observer = Observer(self)
        needle = self.password
        with open(os.path.join(self.searched[1], "a.log"), "w") as log:
            log.write(f"connecting with {needle}\n")
        with open(os.path.join(self.searched[2], "b"), "wb") as report:
            report.write(b"Basic " + base64.b64encode(f"firedrill:{self.monitoring.password}".encode()))
        shown = self.begin("/bin/sh", "-c", "sleep 2; :", needle)
        self.until(lambda: any("command line" in where for _, where in observer.seen), "the command line")
        shown.wait(10)
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(self.recorder.path)
            channel.sendall(b"x" * 5 + urllib.parse.quote(needle).encode())
        self.until(lambda: self.planted.found_in(bytes(self.recorder.recorded)), "the wire")
        observer.stop()
        found = {(name, os.path.basename(where)) for name, where in observer.seen}
        self.assertIn(("the password of the database", "a.log"), found)
        self.assertIn(("the password of Prometheus", "b"), found)
        self.assertEqual(self.planted.found_in(bytes(self.recorder.recorded)), ["the password of the database"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
