#!/usr/bin/python3
"""A node dies with a lost index on its server: until it is undone, or a person settles it, the server is taken, on-call
is paged, and `doctor` says so; also after a restart of the controller."""

import os
import re
import signal
import unittest
import urllib.request

from daemon_stage import DaemonStage, INJECTOR_FILE
from stage import CONTROLLER, INJECTOR, children_of

EXPERIMENT = """apiVersion: firedrill/v1
kind: Experiment
metadata: {{name: lost-{role}}}
spec:
  hypothesis: An index is lost, and comes back.
  targets:
    - {{name: db-node, selector: {{matchLabels: {{role: {role}}}}}, count: 1}}
  limits: {{environments: [lab], maxDuration: 5m}}
  steadyState:
    - {{name: answers, sql: {{from: db-node, profile: dba, statement: one}}, is: "== 1", for: 300ms, every: 100ms}}
  faults:
    - {{name: lose, target: db-node, at: 0s, duration: 120s, lease: 2s, loseIndex: {{profile: super, index: public.users_email, superuser: true}}}}
  expect:
    recovery:
      - {{name: still-answers, probe: answers, since: lose.end, within: 2s, for: 500ms}}
"""

SUPER = """      - {{name: super, postgresql: {{host: 127.0.0.1, port: {port}, database: postgres, user: postgres}}}}
    policy: {{superuser: true}}
"""


class Aftermath(DaemonStage):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("CREATE TABLE users (email text)", "CREATE INDEX users_email ON users (email)")

    def setUp(self):
        super().setUp()
        self.issue("injector", "node-b")
        self.port = 0
        self.serve()

    def tearDown(self):
        super().tearDown()
        self.server.run("UPDATE pg_index SET indisvalid = true WHERE NOT indisvalid")

    # ---- what runs

    def serve(self):
        file = self.write("controller.yaml", f"""apiVersion: firedrill/v1
kind: Controller
metadata: {{name: c1}}
spec:
  listen: 127.0.0.1:{self.port}
  identity: {self.folder}/controller-c1
  revoked: {self.folder}/ca/revoked.pem
  site: {self.folder}/controller-site.yaml
  metrics: {{listen: "127.0.0.1:0"}}
""")
        self.daemon = self.begin(CONTROLLER, "--config", file)
        self.until(lambda: ", epoch" in self.said(self.daemon) or self.daemon.poll() is not None, "a controller")
        said = self.said(self.daemon)
        self.assertIsNone(self.daemon.poll(), said)
        self.port = int(re.search(r"listens on [0-9.:]+ \(port ([0-9]+)\), epoch", said)[1])
        self.metrics = int(re.search(r"metrics are at \S+ \(port ([0-9]+)\)", said)[1])

    def restart(self):
        self.daemon.kill()
        self.daemon.wait(10)
        self.serve()

    def node(self, name, role, state):
        text = INJECTOR_FILE.format(port=self.port, folder=self.folder, identity=f"injector-{name}", name=name,
                                    server=self.server.port, role=role, host="127.0.0.1", grace="500ms")
        file = self.write(f"{name}.yaml", text + SUPER.format(port=self.server.port))
        os.chmod(file, 0o600)
        injector = self.begin(INJECTOR, "--config", file, state=os.path.join(self.folder, state))
        self.registered(injector)
        return injector

    def lose(self, role):
        return self.begin_remote(self.write(f"{role}.yaml", EXPERIMENT.format(role=role)))

    def die_for_good(self, injector):
        """Nobody is left that could undo what it has on."""
        children = children_of(injector.pid)
        [reaper] = [each for each in self.processes("firedrill-reaper") if each.pid in children]
        # The reaper first: else it would have a moment to act.
        reaper.send(signal.SIGKILL)
        injector.kill()
        injector.wait(10)

    # ---- what is seen

    def valid(self):
        with self.server.superuser.cursor() as cursor:
            cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_email'::regclass")
            return cursor.fetchone()[0]

    def value(self, series):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=20) as answer:
            found = re.search(rf"^{re.escape(series)} (\S+)$", answer.read().decode(), re.M)
        return None if found is None else float(found[1])

    def listed(self):
        return self.ask("get", "runs", as_who="viewer")[1]

    def plan(self, role):
        file = self.write(f"{role}.yaml", EXPERIMENT.format(role=role))
        code, out, err = self.ask("plan", file, as_who="operator")
        return code, " ".join((out + err).split())

    def lost_for_good(self):
        injector = self.node("node-a", "database", "a")
        run = self.lose("database")
        self.until_held(run)
        self.assertFalse(self.valid())
        self.die_for_good(injector)
        self.assertEqual(run.wait(60), 5, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertIn("lose on node-a is expired: nothing was heard of it until its lease was over", said)
        self.assertNotIn("is active", said.partition("UNDO NOT CONFIRMED")[2])
        self.assertFalse(self.valid())
        return re.search(r"run ([a-z0-9]{8})", said)[1]

    def is_taken(self, run):
        code, told = self.plan("replica")
        self.assertEqual(code, 3, told)
        self.assertIn(f"run {run} of lost-database", told)
        self.assertIn(f"firedrill settle {run} --reason WHY", told)
        self.assertIn("NOT UNDONE", self.listed())
        self.until(lambda: self.value('firedrill_faults{node="node-a",state="unknown"}') == 1, "a fault that is unknown")
        self.assertEqual(self.value('firedrill_injector_connected{node="node-a"}'), 0)
        code, told, _ = self.ask("doctor", as_who="viewer")
        self.assertEqual(code, 1, told)
        self.assertRegex(told, rf"FAIL +run {run} +of lost-database is NOT UNDONE; lose on node-a is expired")
        self.assertRegex(self.ask("get", "injectors", as_who="viewer")[1], rf"node-a +away .* lose of {run}")

    def is_free(self):
        code, told = self.plan("replica")
        self.assertEqual(code, 0, told)
        self.assertNotIn("NOT UNDONE", self.listed())
        self.until(lambda: self.value('firedrill_faults{node="node-a",state="unknown"}') in (0, None), "metrics without it")

    def test_a_server_stays_taken_until_a_person_settles_it(self):
        self.node("node-b", "replica", "b")
        run = self.lost_for_good()
        self.is_taken(run)
        self.restart()
        self.until(lambda: "node-b" in self.ask("get", "injectors", as_who="viewer")[1], "node-b")
        self.is_taken(run)
        words = ("settle", run, "--reason", "the machine was scrapped")
        code, _, err = self.ask(*words, as_who="operator")
        self.assertEqual(code, 3)
        self.assertIn("admin", err)
        self.is_taken(run)
        code, _, err = self.ask(*words, "--node", "node-b", as_who="admin")
        self.assertEqual(code, 2)
        self.assertIn("it has left nothing on node-b, but on: node-a", err)
        code, out, err = self.ask(*words, as_who="admin")
        self.assertEqual((code, err), (0, ""))
        self.assertIn(f"history of run {run}: lose@node-a", out)
        for _ in range(2):
            self.is_free()
            self.assertIn("settled by admin: the machine was scrapped", self.listed())
            report = " ".join(self.ask("report", run, as_who="viewer")[1].split())
            self.assertIn("undo settled by admin: the machine was scrapped", report)
            code, _, err = self.ask(*words, as_who="admin")
            self.assertEqual(code, 3)
            self.assertIn("it is settled already, by admin", err)
            self.restart()
            self.until(lambda: "node-b" in self.ask("get", "injectors", as_who="viewer")[1], "node-b")

    def test_only_the_node_with_the_old_state_folder_is_believed(self):
        self.node("node-b", "replica", "b")
        run = self.lost_for_good()
        stranger = self.node("node-a", "database", "empty")
        code, told = self.plan("replica")
        self.assertEqual(code, 3, told)
        self.assertFalse(self.valid())
        stranger.terminate()
        stranger.wait(30)
        self.restart()
        self.node("node-a", "database", "a")
        self.until(self.valid, "the index")
        self.until(lambda: "NOT UNDONE" not in self.listed(), "a run that is undone")
        self.is_free()
        self.restart()
        self.until(lambda: "node-b" in self.ask("get", "injectors", as_who="viewer")[1], "node-b")
        self.is_free()
        self.assertIn("after the run's end: lose on node-a is reverted: its injector had ended; it was looked for, and is gone",
                      " ".join(self.ask("report", run, as_who="viewer")[1].split()))

    def test_a_run_that_goes_on_or_is_undone_is_not_settled(self):
        self.node("node-a", "database", "a")
        run = self.lose("database")
        self.until_held(run)
        code, _, err = self.ask("settle", "last", "--reason", "why not", as_who="admin")
        self.assertEqual(code, 3)
        self.assertIn("it is going on; end it first: firedrill stop", err)
        self.assertEqual(self.ask("stop", "last", "--reason", "enough", as_who="operator")[0], 0)
        self.assertEqual(run.wait(60), 4, self.said(run))
        code, _, err = self.ask("settle", "last", "--reason", "why not", as_who="admin")
        self.assertEqual(code, 3)
        self.assertIn("there is nothing to settle, every fault of it is undone", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
