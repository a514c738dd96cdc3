#!/usr/bin/python3
"""Monitoring that lets not everybody in, and monitoring of which there are two: what `firedrill run` makes of it."""

import os
import signal
import unittest

from stage import Stage
from guarded_monitoring import Authority, Doorman, Exporter, Guarded
from look import free_port

EXPERIMENT = """apiVersion: firedrill/v1
kind: Experiment
metadata: {name: held}
spec:
  hypothesis: Held sessions page somebody, and the page ends with them.
  targets:
    - {name: db-node, selector: {matchLabels: {role: database}}, count: 1}
  limits: {environments: [lab], maxDuration: 90s}
  steadyState:
    - {name: few-sessions, prometheus: {query: held_sessions}, is: "== 0", for: 1s, every: 500ms}
  faults:
    - {name: hold, target: db-node, at: 0s, duration: DURATION, holdConnections: {profile: holder, state: idleInTransaction, count: 3}}
  expect:
    alerts:
      - name: held-page
        alert: SessionsHeld
        since: hold.reached
        firingWithin: 10s
        notification: {receiver: oncall, within: 15s}
        resolved: {since: hold.end, within: 20s}
    recovery:
      - {name: few-again, probe: few-sessions, since: hold.end, within: 10s, for: 1s}
"""

SITE = """apiVersion: firedrill/v1
kind: Site
metadata: {{name: guarded}}
spec:
  environment: lab
  prometheus: {{url: "{prometheus}"{prometheus_access}}}
  prometheusReplicas: [{replicas}]
  alertmanagers: [{alertmanagers}]
  webhook:
    listen: {webhook}
    receivers:
      - {{name: oncall, path: /oncall, token: {{file: {token}}}}}
      - {{name: canary, path: /canary, token: {{file: {token}}}}}
  injectors:
    - name: node-a
      labels: {{role: database}}
      profiles:
        - {{name: holder, postgresql: {{host: 127.0.0.1, port: {port}, database: postgres, user: holder}}}}
"""

RULE = """groups:
  - name: sessions
    rules:
      - {alert: SessionsHeld, expr: held_sessions > 1, labels: {severity: page}}
"""


class Guards(Stage):
    def setUp(self):
        super().setUp()
        self.exporter = Exporter("held_sessions", lambda: sum("idle in transaction" in each for each in self.look.sessions()))
        self.addCleanup(self.exporter.stop)
        held, port = free_port()
        self.addCleanup(held.close)
        self.webhook = f"127.0.0.1:{port}"

    def monitoring(self, rules=RULE, **options):
        monitoring = Guarded(os.path.join(self.folder, "monitoring"), rules, self.exporter.port, self.webhook, **options)
        self.addCleanup(monitoring.stop)
        return monitoring

    def site_of(self, monitoring, prometheus=None, access=None):
        def servers(urls):
            return ", ".join(f'{{url: "{url}"{monitoring.access()}}}' for url in urls)
        self.write("site.yaml", SITE.format(
            prometheus=prometheus or monitoring.prometheus[0],
            prometheus_access=monitoring.access() if access is None else access,
            replicas=servers(monitoring.prometheus[1:]), alertmanagers=servers(monitoring.alertmanagers),
            webhook=self.webhook, token=monitoring.token_file, port=self.server.port))

    def run_held(self, duration="5s"):
        experiment = self.write("held.yaml", EXPERIMENT.replace("DURATION", duration))
        return self.firedrill("run", experiment, "--site", self.site)

    def test_behind_tls_certificates_passwords_and_tenants_a_run_passes_and_each_refusal_says_what_to_do(self):
        monitoring = self.monitoring()
        self.site_of(monitoring)
        code, out, err = self.run_held()
        self.assertEqual(code, 0, out + err)
        self.assertRegex(out, r"canary|delivered to oncall")

        stranger = Authority(os.path.join(self.folder, "stranger"))
        wrong = monitoring.secret("wrong", "not the password")
        strangers = stranger.issue("client")
        open_file = monitoring.secret("open", monitoring.password)
        os.chmod(open_file, 0o644)
        for name, access, words in (
                ("another authority", monitoring.access(caFile=stranger.ca),
                 "name the authority that has issued its certificate as `caFile`"),
                ("no authority", monitoring.access(caFile=None),
                 "name the authority that has issued its certificate as `caFile`"),
                ("an authority that is not there", monitoring.access(caFile="/nowhere/ca.crt"), "`caFile` must be a file of PEM"),
                ("no certificate", monitoring.access(identity=None),
                 "asks for a certificate: name PATH.crt and PATH.key as `identity`"),
                ("a certificate of somebody else", monitoring.access(identity=strangers),
                 "it does not take our certificate: renew PATH.crt and PATH.key of `identity`"),
                ("a certificate that is not there", monitoring.access(identity="/nowhere/client"),
                 "PATH.crt and PATH.key of `identity` must be PEM that can be read"),
                ("no password", monitoring.access(basic=None),
                 "answers 401: it wants to know who asks; give it `token` or `basic` in the site file"),
                ("the wrong password", monitoring.access(basic=f"{{user: firedrill, password: {{file: {wrong}}}}}"),
                 "answers 401: it wants to know who asks; check `basic` and the secret that is named there"),
                ("a password for everybody", monitoring.access(basic=f"{{user: firedrill, password: {{file: {open_file}}}}}"),
                 "everyone may read this file")):
            with self.subTest(name):
                self.site_of(monitoring, access=access)
                code, out, err = self.run_held()
                said = " ".join((out + err).split())
                self.assertEqual(code, 3, said)
                self.assertIn("not started", said)
                self.assertIn(words, said)
                self.assertNotIn(monitoring.password, said)
                self.assertEqual(self.look.sessions(), [])

    def test_a_certificate_that_has_expired_stops_the_run_before_it_starts(self):
        self.site_of(self.monitoring(server_days=0))
        code, out, err = self.run_held()
        said = " ".join((out + err).split())
        self.assertEqual(code, 3, said)
        self.assertIn("certificate has expired", said)
        self.assertIn("renew the certificate of the server", said)

    def test_a_gateway_wants_a_tenant_and_a_redirect_is_not_followed(self):
        monitoring = self.monitoring(guarded=False)
        key = monitoring.secret("key", "a key of the gateway")
        doorman = Doorman(monitoring.prometheus[0], {"X-Scope-OrgID": "team-a", "X-Api-Key": "a key of the gateway"})
        self.addCleanup(doorman.stop)
        headers = (", headers: [{name: X-Scope-OrgID, value: %s}, {name: X-Api-Key, secret: {file: " + key + "}}]")
        self.site_of(monitoring, prometheus=doorman.url, access=headers % "team-a")
        code, out, err = self.run_held()
        self.assertEqual(code, 0, out + err)
        self.assertGreater(len(doorman.seen), 10)

        self.site_of(monitoring, prometheus=doorman.url, access=headers % "team-b")
        code, out, err = self.run_held()
        self.assertEqual(code, 3, out + err)
        self.assertIn("answers 403: it does not permit that; check `headers`", " ".join((out + err).split()))

        door = Doorman(monitoring.prometheus[0], {}, redirect_to=monitoring.prometheus[0])
        self.addCleanup(door.stop)
        self.site_of(monitoring, prometheus=door.url, access="")
        code, out, err = self.run_held()
        said = " ".join((out + err).split())
        self.assertEqual(code, 3, said)
        self.assertIn("redirects are refused, a login may hide behind them; name the last address as `url`", said)

    def test_of_a_pair_one_may_die_in_the_middle_but_not_both(self):
        monitoring = self.monitoring(guarded=False, prometheus=2, alertmanagers=2)
        self.site_of(monitoring)
        experiment = self.write("held.yaml", EXPERIMENT.replace("DURATION", "8s"))
        alertmanagers, prometheus = monitoring.servers[:2], monitoring.servers[2:]
        run = self.begin_run(experiment)
        self.until_held(run)
        prometheus[0].stop()
        alertmanagers[0].stop()
        self.assertEqual(run.wait(90), 0, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertIn("prometheus/0 tells nothing", said)
        self.assertIn("and another one answers", said)
        self.assertIn("alertmanager/0 tells nothing", said)

        # One that does not answer from the beginning is told as well. Then the last one dies: nobody sees any more.
        run = self.begin_run(experiment)
        self.until_held(run)
        prometheus[1].process.send_signal(signal.SIGSTOP)
        self.addCleanup(prometheus[1].process.send_signal, signal.SIGCONT)
        code = run.wait(90)
        said = " ".join(self.said(run).split())
        self.assertEqual(code, 6, said)
        self.assertRegex(said, r"prometheus tells nothing")
        self.assertIn("cannot be asked", said)

    def test_a_replica_with_other_rules_is_a_defect_that_says_which_one(self):
        monitoring = self.monitoring(rules=[RULE, RULE.replace("SessionsHeld", "SessionHeld")], guarded=False, prometheus=2)
        self.site_of(monitoring)
        code, out, err = self.run_held()
        said = " ".join((out + err).split())
        self.assertEqual(code, 1, said)
        self.assertIn(f"Prometheus at {monitoring.prometheus[1]} has no alerting rule SessionsHeld", said)
        self.assertEqual(self.look.sessions(), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
