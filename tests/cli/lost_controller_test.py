#!/usr/bin/python3
"""A controller that dies leaves a run without an end: whoever comes next ends it, truly; a living one is left alone."""

import os
import signal
import unittest

from stage import CONTROLLER, PROGRAM, Stage


class LostController(Stage):
    def kill_all(self):
        """Everything of the run at once, as when a machine's memory is full."""
        victims = [process for program in ("firedrill", "firedrill-controller", "firedrill-injector",
                                           "firedrill-reaper") for process in self.processes(program)]
        self.assertGreaterEqual(len(victims), 4)
        # The reaper first: else it would have a moment to act.
        for victim in reversed(victims):
            victim.send(signal.SIGKILL)
        for victim in victims:
            self.assertTrue(victim.ended(10))

    def daemon(self):
        socket = os.path.join(self.folder, "daemon")
        daemon = self.begin(CONTROLLER, "--listen", f"unix:{socket}", "--site", self.site)
        self.until(lambda: os.path.exists(socket) or daemon.poll() is not None, "the daemon's socket")
        self.assertIsNone(daemon.poll(), self.said(daemon))
        return daemon

    def test_the_client_that_is_left_ends_the_run_with_a_summary_and_its_reports(self):
        junit = os.path.join(self.folder, "out.xml")
        run = self.begin(PROGRAM, "run", self.experiment(), "--site", self.site, "--junit", junit)
        self.until_held(run)
        [controller] = self.processes("firedrill-controller")
        controller.send(signal.SIGKILL)
        self.assertEqual(run.wait(60), 4, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertIn("aborted by the loss of its controller", said)
        self.assertIn("every fault undone (exit 4)", said)
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["aborted"])
        code, out, err = self.firedrill("report", "last")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(" ".join(out.split()), r"hold on node-a subject .* undone at \+[0-9.]+s.* read back an independent look")
        self.assertEqual(self.firedrill("judge", "last")[0], 4)
        self.assertTrue(os.path.exists(junit))
        self.assertEqual(self.look.wait_for_nothing(5), [])

    def test_nobody_is_left_and_leftovers_ends_the_run(self):
        run = self.begin_run(self.experiment())
        self.until_held(run)
        self.kill_all()
        [(name, outcome)] = self.outcomes()
        self.assertEqual(outcome, "unfinished")
        # Reading changes nothing, and says what it is that is read.
        for command in ("report", "judge"):
            code, out, err = self.firedrill(command, "last")
            self.assertIn(f"run {name} was left unfinished by a controller that has died; `firedrill leftovers`", err)
        self.assertEqual(self.outcomes(), [(name, "unfinished")])
        code, out, err = self.firedrill("leftovers")
        self.assertEqual((code, err), (0, ""), out)
        self.assertIn(f"run {name} of held had lost its controller: it is ended as aborted, every fault undone", out)
        self.assertEqual(self.outcomes(), [(name, "aborted")])
        code, out, err = self.firedrill("judge", name)
        self.assertEqual((code, err), (4, ""), out)
        self.assertIn("aborted by the loss of its controller", out)
        self.assertNotIn("had lost", self.firedrill("leftovers")[1])

    def test_the_next_run_ends_the_lost_one_first(self):
        self.until_held(self.begin_run(self.experiment()))
        self.kill_all()
        second = self.begin_run(self.experiment(duration="1s"))
        self.assertEqual(second.wait(60), 0, self.said(second))
        self.assertIn("had lost its controller: it is ended as aborted, every fault undone", self.said(second))
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["completed", "aborted"])

    def test_a_daemon_ends_it_too_and_confirms_nothing_that_it_cannot_see(self):
        self.until_held(self.begin_run(self.experiment()))
        self.kill_all()
        daemon = self.daemon()
        self.assertIn("was left unfinished by a controller that has died", self.said(daemon))
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["aborted"])
        code, out, err = self.firedrill("judge", "last")
        self.assertEqual((code, err), (5, ""), out)
        self.assertIn("undo NOT confirmed", " ".join(out.split()))

    def test_a_living_one_is_left_alone_by_everyone(self):
        run = self.begin_run(self.experiment(duration="8s"))
        self.until_held(run)
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["running"])
        code, out, err = self.firedrill("leftovers")
        self.assertEqual((code, err), (0, ""))
        self.assertNotIn("had lost", out)
        _, _, err = self.firedrill("report", "last")
        self.assertIn("is still going on; this is how it stands", err)
        daemon = self.daemon()
        self.assertNotIn("left unfinished", self.said(daemon))
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["running"])
        self.assertEqual(run.wait(60), 0, self.said(run))
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["completed"])

    def test_one_that_only_hangs_is_alive(self):
        run = self.begin_run(self.experiment())
        self.until_held(run)
        [controller] = self.processes("firedrill-controller")
        controller.send(signal.SIGSTOP)
        _, out, _ = self.firedrill("leftovers")
        self.assertNotIn("had lost", out)
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["running"])
        # Its client ends it, in the end.
        self.assertEqual(run.wait(60), 4, self.said(run))
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["aborted"])

    def test_killed_before_anything_was_applied_there_is_nothing_to_confirm(self):
        run = self.begin_run(self.experiment(gate=2))
        self.until(lambda: "gate" in self.said(run), "the gate")
        self.kill_all()
        self.daemon()
        self.assertEqual(self.firedrill("judge", "last")[0], 4)

    def test_no_file_of_a_dead_controller_stays(self):
        self.until_held(self.begin_run(self.experiment()))
        self.kill_all()
        controllers = os.path.join(self.state, "controllers")
        self.assertEqual(len(os.listdir(controllers)), 1)
        self.firedrill("leftovers")
        self.assertEqual(os.listdir(controllers), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
