#!/usr/bin/python3
"""What comes between a run and its end: Ctrl-C, a terminal that is lost, an injector that is killed."""

import fcntl
import os
import pty
import signal
import subprocess
import termios
import unittest

from stage import CONTROLLER, INJECTOR, PROGRAM, SITE, Stage

INTERRUPTED, INCONCLUSIVE, ABORTED, UNCONFIRMED = 130, 6, 4, 5


class Interrupted(Stage):
    def assert_ended(self, run, code, outcome):
        """The exit code, nothing left, and a history that says the same."""
        self.assertEqual(run.wait(60), code, self.said(run))
        self.assertEqual(self.look.wait_for_nothing(5), [])
        self.assertEqual([end for _, end in self.outcomes()], [outcome])
        self.assertEqual(self.firedrill("judge", "last")[0], code)

    def held(self):
        run = self.begin_run(self.experiment())
        self.until_held(run)
        return run

    def test_ctrl_c_is_told_once_and_the_rest_is_counted(self):
        run = self.held()
        run.send_signal(signal.SIGINT)
        self.assert_ended(run, INTERRUPTED, "aborted")
        said = self.said(run)
        self.assertRegex(said, r"(?m)^ +\+[0-9.]+s  stopped by Ctrl-C$")
        self.assertRegex(said, r"(?m)^ +\+[0-9.]+s  fault hold is off, read back")
        self.assertRegex(said, r"(?m)^ +\+[0-9.]+s  aborted; every fault undone$")
        after = said.split("stopped by Ctrl-C\n")[1].splitlines()
        self.assertEqual(after[-2:], ["1 expectation was not judged (the run was interrupted)",
                                      "inconclusive: 1 not judged, 1 passed; aborted by Ctrl-C; every fault undone "
                                      "(exit 130)"])
        self.assertLess(len(after), 10, said)

    def test_a_remedy_that_is_interrupted_says_what_became_of_it(self):
        program = '      programs: [{name: wait, path: /bin/sleep, arguments: ["60"], leaves: changed}]\n'
        policy = "policy: {lastingRemedies: true}"
        self.site = self.write("site.yaml", SITE.format(port=self.server.port, policy=policy).replace(
            "      profiles:", program + "      profiles:", 1))
        with open(self.experiment()) as file:
            text = file.read()
        path = self.write("mended.yaml", text.replace(
            "  expect:", "  remedies: [{name: mend, target: db-node, at: 0s, runProgram: {program: wait}}]\n  expect:", 1))
        run = self.begin_run(path)
        self.until(lambda: "remedy mend runs" in self.said(run) or run.poll() is not None, "the remedy")
        run.send_signal(signal.SIGINT)
        self.assert_ended(run, INTERRUPTED, "aborted")
        self.assertRegex(self.said(run), r"remedy mend failed: interrupted: ended: the run was stopped")
        # It said "undoes everything".
        self.assertIn("Ctrl-C stops it and undoes every fault; what mend changes stays\n", self.said(run))
        report = " ".join(self.firedrill("report", "last")[1].split())
        self.assertIn("mend on node-a remedy FAILED: interrupted it said ended: the run was stopped "
                      "leaves the system perhaps CHANGED", report)
        self.assertNotIn("still running", report)

    def test_a_hangup_stops_and_undoes_like_ctrl_c(self):
        run = self.held()
        run.send_signal(signal.SIGHUP)
        self.assert_ended(run, INTERRUPTED, "aborted")
        self.assertIn("stopped by the loss of its terminal\n", self.said(run))

    def test_a_terminal_that_is_closed_stops_and_undoes_the_run(self):
        mine, its = pty.openpty()

        def on_it():
            os.setsid()
            fcntl.ioctl(its, termios.TIOCSCTTY, 0)

        run = subprocess.Popen([PROGRAM, "run", self.experiment(), "--site", self.site, "--state-dir", self.state],
                               env={**self.look.environment(), "TERM": "xterm"}, stdin=its, stdout=its, stderr=its,
                               preexec_fn=on_it)
        self.addCleanup(run.wait)
        self.addCleanup(run.kill)
        os.close(its)
        written = b""
        while b"in force" not in written:
            written += os.read(mine, 65536)  # Fails when the run ends.
        # As when a window is closed, or a connection breaks: nobody is there any more to be told.
        os.close(mine)
        self.assertEqual(run.wait(60), INTERRUPTED)
        self.assertEqual(self.look.wait_for_nothing(5), [])
        self.assertEqual([end for _, end in self.outcomes()], ["aborted"])

    def injector(self):
        self.until(lambda: self.processes("firedrill-injector"), "an injector")
        return self.processes("firedrill-injector")[0]

    def test_a_killed_injector_is_started_again_and_what_it_held_is_doubted(self):
        run = self.held()
        self.injector().send(signal.SIGKILL)
        self.assert_ended(run, INCONCLUSIVE, "completed")
        said = " ".join(self.said(run).split())
        self.assertIn("the injector of node-a ended by itself and was started again, to look what is left", said)
        self.assertRegex(said, r"inconclusive hold .* it was off after [0-9.]+m?s of 30s: its injector had ended; it was "
                               "looked for, and is gone")
        self.assertIn("completed; every fault undone (exit 6)", said)

    def test_a_killed_injector_that_comes_back_too_late_aborts_the_run_and_confirms_the_undo(self):
        # A controller and an injector that stand by themselves: nobody but the test starts one again.
        socket = "unix:" + os.path.join(self.folder, "daemon")
        self.begin(CONTROLLER, "--listen", socket, "--site", self.site)
        injector = (INJECTOR, "--site", self.site, "--node", "node-a", "--controller", socket)
        first = self.begin(*injector)
        self.until(lambda: self.firedrill("plan", self.experiment(), "--site", self.site, "--controller", socket)[0] == 0,
                   "the node at the controller")
        with open(self.experiment()) as file:
            patient = self.write("patient.yaml", file.read().replace("lease: 2s", "lease: 30s"))
        run = self.begin(PROGRAM, "run", patient, "--site", self.site, "--controller", socket)
        self.until_held(run)
        first.kill()
        self.until(lambda: "stopped by the loss of a node: node node-a has been silent" in self.said(run), "the stop")
        self.begin(*injector)
        self.assertEqual(run.wait(60), ABORTED, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertIn("fault hold is off, read back", said)
        self.assertIn("aborted by the loss of a node", said)
        self.assertIn("every fault undone (exit 4)", said)
        self.assertEqual(self.look.sessions(), [])

    def test_an_injector_that_cannot_be_kept_alive_leaves_the_undo_unconfirmed_though_nothing_is_left(self):
        run = self.held()
        for _ in range(3):
            victim = self.injector()
            victim.send(signal.SIGKILL)
            self.assertTrue(victim.ended(10))
        self.assertEqual(run.wait(60), UNCONFIRMED, self.said(run))
        # They died with it; only nobody has looked.
        self.assertEqual(self.look.sessions() + self.look.processes(), [])
        said = " ".join(self.said(run).split())
        self.assertIn("UNDO NOT CONFIRMED: a person must look.", said)
        self.assertIn("look there with: firedrill leftovers", said)
        code, out, err = self.firedrill("leftovers")
        self.assertEqual((code, err), (0, ""), out)
        self.assertEqual(self.look.wait_for_nothing(5), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
