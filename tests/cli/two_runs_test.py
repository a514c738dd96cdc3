#!/usr/bin/python3
"""Two runs in one state folder: the second says at once what is the matter, and the first never notices."""

import os
import re
import signal
import time
import unittest

from stage import INJECTOR, PROGRAM, Stage

BY_A_RUN = (r"firedrill: node node-a is in use by another run \(process (\d+)\): wait until it has ended, "
            r"or use another --state-dir\n")
# Injectors alone wait 3 s for a lock.
AT_ONCE_S = 2


class TwoRuns(Stage):
    def refused(self, *words):
        """What a command says on standard error that is refused at once, having started nothing."""
        before = {process.pid for process in self.processes("firedrill-injector")}
        begun = time.monotonic()
        code, out, err = self.firedrill(*words)
        self.assertLess(time.monotonic() - begun, AT_ONCE_S, err)
        self.assertEqual((code, out), (3, ""), err)
        self.assertEqual({process.pid for process in self.processes("firedrill-injector")}, before)
        return err

    def test_the_second_is_refused_at_once_and_the_first_goes_on(self):
        first = self.begin_run(self.experiment(duration="6s"))
        self.until_held(first)
        for command in ("run", "plan"):
            err = self.refused(command, self.experiment(), "--site", self.site)
            self.assertRegex(err, f"^{BY_A_RUN}$")
            self.assertEqual(int(re.match(BY_A_RUN, err).group(1)), first.pid)
        self.assertEqual(first.wait(60), 0, self.said(first))
        self.assertNotIn("started again", self.said(first))
        self.assertEqual([outcome for _, outcome in self.outcomes()], ["completed"])
        self.assertEqual(self.firedrill("plan", self.experiment(), "--site", self.site)[0], 0)

    def test_of_two_that_start_at_once_the_loser_names_the_other(self):
        # What the second finds is chance: both looks at the lock are met in a few rounds.
        for _ in range(3):
            both = [self.begin_run(self.experiment(duration="2s")) for _ in range(2)]
            ends = sorted((process.wait(60), self.said(process)) for process in both)
            self.assertEqual([code for code, _ in ends], [0, 3], ends)
            self.assertRegex(ends[1][1], BY_A_RUN)
            for _, said in ends:
                self.assertNotIn("started again", said)
                self.assertNotIn("no-target", said)

    def test_an_injector_that_serves_a_controller_is_told_from_a_run(self):
        self.begin(INJECTOR, "--site", self.site, "--node", "node-a", "--controller",
                   f"unix:{self.folder}/nobody")
        lock = os.path.join(self.state, "nodes/node-a/lock")
        self.until(lambda: os.path.exists(lock) and os.path.getsize(lock) > 0, "the lock")
        # What becomes the reaper is a second injector until then.
        self.until(lambda: self.processes("firedrill-reaper"), "its reaper")
        err = self.refused("run", self.experiment(), "--site", self.site)
        self.assertIn("node node-a is in use by an injector that serves a controller (process "
                      f"{self.started[-1].pid}): name that one with --controller", err)

    def test_the_lock_file_of_a_dead_process_refuses_nobody(self):
        first = self.begin_run(self.experiment())
        self.until_held(first)
        # The client and the injector's reaper too: nobody is left to tidy up.
        victims = [process for program in ("firedrill", "firedrill-controller", "firedrill-reaper",
                                           "firedrill-injector") for process in self.processes(program)]
        for victim in victims:
            victim.send(signal.SIGKILL)
        first.wait(10)
        with open(os.path.join(self.state, "nodes/node-a/lock")) as file:
            self.assertIn(int(file.read()), [victim.pid for victim in victims])
        code, out, err = self.firedrill("run", self.experiment(duration="1s"), "--site", self.site)
        self.assertEqual(code, 0, out + err)

    def test_a_run_whose_client_is_dead_is_waited_for(self):
        first = self.begin_run(self.experiment())
        self.until_held(first)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        code, out, err = self.firedrill("run", self.experiment(duration="1s"), "--site", self.site)
        self.assertEqual(code, 0, out + err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
