#!/usr/bin/python3
"""A run that has ended does not come back: where its end could not be written, or was made after the copy of the history
that was put back."""

import os
import re
import subprocess
import time
import unittest

from daemon_stage import DaemonStage, with_small_disk
from stage import CONTROLLER, PROGRAM

LATER_S = 9
TWO = f"""apiVersion: firedrill/v1
kind: Experiment
metadata: {{name: two}}
spec:
  hypothesis: The second fault of a run that was ended is never seen.
  targets:
    - {{name: db-node, selector: {{matchLabels: {{role: database}}}}, count: 1}}
  limits: {{environments: [lab], maxDuration: 60s}}
  steadyState:
    - {{name: answers, sql: {{from: db-node, profile: dba, statement: one}}, is: "== 1", for: 300ms, every: 100ms}}
  faults:
    - {{name: hold, target: db-node, at: 0s, duration: 8s, lease: 30s, holdConnections: {{profile: holder, state: idleInTransaction, count: 3}}}}
    - {{name: later, target: db-node, at: {LATER_S}s, duration: 20s, lease: 30s, holdConnections: {{profile: holder, state: idleInTransaction, count: 5}}}}
  expect:
    recovery:
      - {{name: still-answers, probe: answers, since: later.end, within: 2s, for: 500ms}}
"""


class EndedRuns(DaemonStage):
    def on_a_small_disk(self):
        """The controller's state folder, in a mount namespace that outlives the controller."""
        if os.geteuid() != 0:
            self.skipTest("mounting a small disk needs root")
        os.mkdir(self.state)
        self.disk = self.begin("sleep", "600", state=False, preexec=with_small_disk(self.state))
        self.inside = f"/proc/{self.disk.pid}/root{self.state}"

    def controller(self, port=0):
        if not hasattr(self, "disk"):
            return super().controller(port)
        begin = self.begin
        self.begin = lambda *words, **more: begin("nsenter", "-t", str(self.disk.pid), "-m", *words, **more)
        try:
            return super().controller(port)
        finally:
            self.begin = begin

    def fill(self):
        with open(os.path.join(self.inside, "ballast"), "wb", buffering=0) as ballast:
            with self.assertRaises(OSError):
                while ballast.write(bytes(4096)):
                    pass

    def free(self):
        os.unlink(os.path.join(self.inside, "ballast"))

    def held(self):
        return sum("idle in transaction" in str(each) for each in self.look.sessions())

    def begin_two(self):
        """Both faults are this far away at least; answers with the run."""
        self.began = time.monotonic()
        run = self.begin(PROGRAM, "run", self.write("two.yaml", TWO), "--detach", *self.at("operator"))
        self.assertEqual(run.wait(60), 0, self.said(run))
        found = re.search(r"run ([a-z0-9]{8})\s+goes\s+on\s+without", self.said(run))
        self.assertIsNotNone(found, self.said(run))
        self.until(lambda: self.held() == 3, "the first fault")
        self.held_at = time.monotonic()
        return found[1]

    def listed(self):
        return re.findall(r"^([a-z0-9]{8}) .*?\b(running|aborted|completed|unfinished)\b", self.ask("get", "runs", as_who="viewer")[1], re.M)

    def nothing_comes_back(self, run, daemon):
        """Until long after the second fault would have begun."""
        while time.monotonic() < self.held_at + LATER_S + 6:
            self.assertEqual(self.held(), 0, self.said(daemon))
            time.sleep(0.1)
        self.assertNotIn("goes on with run", self.said(daemon))
        code, out, err = self.ask("judge", run, as_who="viewer")
        self.assertEqual((code, err), (4, ""), out)

    def test_one_that_ended_on_a_full_disk_does_not_come_back_when_the_controller_is_started_again(self):
        self.on_a_small_disk()
        daemon, _ = self.up(grace="40s")
        run = self.begin_two()
        self.fill()
        self.until(lambda: self.held() == 0, "the end of the fault")
        self.until(lambda: "aborted" in self.ask("get", "runs", as_who="viewer")[1], "the end of the run")
        daemon.kill()
        daemon.wait(10)
        self.free()
        again = self.controller(self.port)
        self.until(lambda: f"undoes run {run} of two: it was not going on any more" in self.said(again), "what becomes of the run")
        self.nothing_comes_back(run, again)

    def test_its_end_is_written_when_there_is_space_and_until_then_nothing_starts(self):
        self.on_a_small_disk()
        daemon, _ = self.up(grace="40s")
        run = self.begin_two()
        self.fill()
        self.until(lambda: "aborted" in self.ask("get", "runs", as_who="viewer")[1], "the end of the run")
        # Who asks is told what is the matter.
        code, out, _ = self.ask("doctor", as_who="viewer")
        self.assertEqual(code, 1)
        said = " ".join(out.split())
        self.assertRegex(said, f"FAIL state {self.state}, 0 MiB free; make space")
        self.assertIn(f"FAIL run {run} its end is not in the history yet: appending to the history in {self.state}/history.db: "
                      "database or disk is full; make space on the disk", said)
        again = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(again.wait(60), 3, self.said(again))
        self.assertIn(f"starting a run: the end of run {run} is not in the history yet", " ".join(self.said(again).split()))
        self.assertIn("make space on the disk", " ".join(self.said(again).split()))
        self.free()
        self.until(lambda: f"run {run}: its end is in the history now" in self.said(daemon), "the end in the history")
        report = " ".join(self.ask("report", run, as_who="viewer")[1].split())
        self.assertIn("the history cannot be written: appending to", report)
        self.assertNotIn("The run has no end yet", report)
        last = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(last.wait(60), 0, self.said(last))
        daemon.terminate()
        self.assertEqual(daemon.wait(30), 0)
        after = self.controller(self.port)
        self.assertNotRegex(self.said(after), "(goes on with|undoes) run|left unfinished")

    def test_a_run_that_cannot_be_written_down_does_not_start_and_says_why(self):
        self.on_a_small_disk()
        self.up()
        self.fill()
        run = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 3, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertIn("starting a run: ", said)
        self.assertRegex(said, "make space on the disk|check the free space")
        self.free()
        again = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(again.wait(60), 0, self.said(again))

    def test_one_that_was_stopped_after_a_backup_does_not_come_back_with_it(self):
        daemon, _ = self.up(grace="40s")
        run = self.begin_two()
        copy = os.path.join(self.folder, "copy.db")
        config = os.path.join(self.folder, "controller.yaml")

        def command(*words):
            done = subprocess.run([CONTROLLER, *words, "--config", config, "--state-dir", self.state], capture_output=True,
                                  text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
        command("backup", copy)
        self.assertEqual(self.ask("stop", run, "--reason", "the sale begins", as_who="operator")[0], 0)
        self.until(lambda: self.held() == 0, "the end of the fault")
        daemon.terminate()
        self.assertEqual(daemon.wait(30), 0)
        command("restore", copy)
        again = self.controller(self.port)
        self.until(lambda: f"undoes run {run} of two: it was not going on any more" in self.said(again), "what becomes of the run")
        self.nothing_comes_back(run, again)


if __name__ == "__main__":
    unittest.main(verbosity=2)
