"""What the tests of faults on live traffic share: a server that is not PostgreSQL, faults each at a listener, clients."""

import json
import os
import re
import subprocess
import sys
import time

from stage import PROGRAM, Stage

sys.dont_write_bytecode = True
from look import free_port  # noqa: E402

CLIENT_TIMEOUT_S = 60

EXPERIMENT = """apiVersion: firedrill/v1
kind: Experiment
metadata: {{name: live-traffic}}
spec:
  hypothesis: Live traffic is disturbed as it was asked for, and goes on as if nothing had been.
  targets: [{{name: node, selector: {{matchLabels: {{role: server}}}}, count: 1}}]
  limits: {{environments: [lab], maxDuration: 2m}}
  steadyState: [{{name: answers, tcp: {{endpoint: it}}, is: "connected == 1", for: 200ms, every: 100ms}}]
  faults:
{faults}
  expect: {{recovery: [{{name: still-answers, probe: answers, since: {first}.end, within: 1s}}]}}
"""

SITE = """apiVersion: firedrill/v1
kind: Site
metadata: {{name: bare}}
spec:
  environment: lab
  endpoints: [{{name: it, url: "tcp://127.0.0.1:{port}"}}]
  injectors:
    - name: node-a
      labels: {{role: server}}
      profiles: {profiles}
"""


class Told:
    """What a client was told, and when."""

    def __init__(self, text, took):
        self.text, self.took = text, took


class WireStage(Stage):
    """One run with all faults of a test, each at a listener of its own, so that one is not in another's way."""

    KIND = None
    Server = None
    # More of the server's profile.
    KEYS = {}

    @classmethod
    def setUpClass(cls):
        cls.server = cls.Server()
        cls.addClassCleanup(cls.server.stop)
        if not hasattr(cls.server, "superuser"):
            cls.server.superuser = None

    @classmethod
    def tearDownClass(cls):
        pass

    def setUp(self):
        super().setUp()
        self.ports = {}

    def words_of(self, port, ask):
        """The command by which a client asks."""
        raise NotImplementedError

    def ask(self, port, ask):
        begun = time.monotonic()
        done = subprocess.run(self.words_of(port, ask), capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S,
                              stdin=subprocess.DEVNULL)
        return Told(done.stdout + done.stderr, time.monotonic() - begun)

    def begin_asking(self, port, ask):
        process = subprocess.Popen(self.words_of(port, ask), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def begin_faults(self, faults, duration="60s", port=None, flags=(), wait=True):
        """`faults`: name → (kind, its keys but profile and listen, more keys of the step)."""
        port = port or self.server.port
        # Two faults of one kind are not to be on at the same time through one profile.
        profiles = [{"name": name, self.KIND: {"host": "127.0.0.1", "port": port, **self.KEYS}} for name in faults]
        site = self.write("live-site.yaml", SITE.format(port=port, profiles=json.dumps(profiles)))
        steps = []
        for name, (kind, keys, step) in faults.items():
            held, self.ports[name] = free_port()
            held.close()
            step = {"at": "0s", **({} if kind == "resetConnections" else {"duration": duration}), **step}
            keys = {"profile": name, "listen": f"127.0.0.1:{self.ports[name]}", **keys}
            steps.append("    - " + json.dumps({"name": name, "target": "node", **step, kind: keys}))
        path = self.write("live-traffic.yaml", EXPERIMENT.format(faults="\n".join(steps), first=next(iter(faults))))
        self.run_process = self.begin(PROGRAM, "run", path, "--site", site, *flags)
        for name, (kind, _, step) in faults.items():
            if wait and kind != "resetConnections":
                self.until_said(f"fault {name} is on")
        return self.run_process

    def until_said(self, words, process=None):
        process = process or self.run_process
        self.until(lambda: words in self.said(process) or process.poll() is not None, words)
        self.assertIn(words, self.said(process))

    def in_force(self, name):
        """What the run says of a fault that it has seen biting."""
        self.until_said(f"fault {name} in force")
        return re.search(rf"fault {name} in force: (.*)", self.said(self.run_process))[1]

    def assert_nothing_left(self):
        def parts():
            return self.look.processes() + self.look.files() + self.look.journals()
        self.assertEqual([], self.look.wait_for_nothing(3, parts), self.said(self.run_process))
