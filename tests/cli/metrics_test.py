#!/usr/bin/python3
"""What a real controller tells Prometheus, and to whom."""

import re
import subprocess
import unittest
import urllib.error
import urllib.request

from daemon_stage import DaemonStage
from stage import CONTROLLER


class Metrics(DaemonStage):
    def controller(self, port=0, host="127.0.0.1"):
        file = self.write("controller.yaml", f"""apiVersion: firedrill/v1
kind: Controller
metadata: {{name: c1}}
spec:
  listen: 127.0.0.1:{port}
  identity: {self.folder}/controller-c1
  revoked: {self.folder}/ca/revoked.pem
  site: {self.folder}/controller-site.yaml
  metrics: {{listen: "{host}:0"}}
""")
        daemon = self.begin(CONTROLLER, "--config", file)
        self.until(lambda: ", epoch" in self.said(daemon) or daemon.poll() is not None, "a controller")
        self.assertIsNone(daemon.poll(), self.said(daemon))
        self.port = int(re.search(r"listens on [0-9.:]+ \(port ([0-9]+)\), epoch", self.said(daemon))[1])
        self.metrics_port = int(re.search(r"metrics are at \S+ \(port ([0-9]+)\)", self.said(daemon))[1])
        return daemon

    def text(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=20) as answer:
            self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            return answer.read().decode()

    def value(self, series):
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.text(), re.M)
        return None if found is None else float(found[1])

    def until_value(self, series, value):
        self.until(lambda: self.value(series) == value, f"{series} to be {value}: {self.value(series)}")

    def test_a_run_a_refusal_the_lever_and_a_node_that_goes_are_seen(self):
        _, injector = self.up()
        checked = subprocess.run(["promtool", "check", "metrics"], input=self.text(), capture_output=True, text=True)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""), checked.stdout)
        self.until_value('firedrill_injector_connected{node="node-a"}', 1)
        self.assertEqual(self.value('firedrill_faults{node="node-a",state="active"}'), 0)
        run = self.begin_remote(self.experiment())
        self.until_held(run)
        self.until_value('firedrill_faults{node="node-a",state="active"}', 1)
        self.until_value('firedrill_runs{phase="inject"}', 1)
        refused = self.value('firedrill_calls_refused_total{reason="permission_denied"}')
        self.assertEqual(self.ask("unlock", "--reason", "no", as_who="viewer")[0], 3)
        self.until_value('firedrill_calls_refused_total{reason="permission_denied"}', refused + 1)
        self.assertEqual(self.ask("stop", "--all", "--reason", "a secret word", as_who="operator")[0], 0)
        self.until_value("firedrill_lever_pulled", 1)
        self.assertGreater(self.value("firedrill_lever_pulled_timestamp_seconds"), 1.7e9)
        self.assertEqual(run.wait(60), 4, self.said(run))
        self.until_value('firedrill_faults{node="node-a",state="active"}', 0)
        self.assertEqual(self.ask("unlock", "--reason", "it is over", as_who="admin")[0], 0)
        self.until_value("firedrill_lever_pulled", 0)
        for of, node in (("controller", ""), ("injector", "node-a")):
            self.assertGreater(
                self.value(f'firedrill_certificate_expires_timestamp_seconds{{node="{node}",of="{of}"}}'), 1.7e9)
        # A node that dies with a fault on it had that fault; what became of it is not known here.
        run = self.begin_remote(self.experiment())
        self.until_held(run)
        self.until_value('firedrill_faults{node="node-a",state="active"}', 1)
        injector.kill()
        self.until_value('firedrill_injector_connected{node="node-a"}', 0)
        self.until_value('firedrill_faults{node="node-a",state="unknown"}', 1)
        run.wait(60)
        text = self.text()
        for word in ("a secret word", "operator", "held", "127.0.0.1"):
            self.assertNotIn(word, text)

    def test_elsewhere_than_on_loopback_a_certificate_is_asked_for(self):
        self.controller(host="0.0.0.0")

        def curl(*words, path="/metrics"):
            done = subprocess.run(["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", "--cacert", f"{self.folder}/ca.crt",
                                   f"https://127.0.0.1:{self.metrics_port}{path}", *words],
                                  capture_output=True, text=True, timeout=60)
            body, _, code = done.stdout.rpartition("\n")
            return int(code), body

        def of(role, name):
            return ("--cert", f"{self.folder}/{role}-{name}.crt", "--key", f"{self.folder}/{role}-{name}.key")

        code, body = curl()
        self.assertEqual(code, 401)
        self.assertIn("tls_config", body)
        self.assertEqual(curl(*of("injector", "node-a"))[0], 403)
        self.assertEqual(curl(*of("viewer", "viewer"), path="/")[0], 404)
        code, body = curl(*of("viewer", "viewer"))
        self.assertEqual(code, 200)
        self.assertIn("firedrill_lever_pulled 0", body)
        with self.assertRaises((urllib.error.URLError, ConnectionError)):
            self.text()
        # Nothing but reading.
        self.assertEqual(curl(*of("admin", "admin"), "-X", "POST")[0], 405)


if __name__ == "__main__":
    unittest.main(verbosity=2)
