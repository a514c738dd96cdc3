#!/usr/bin/python3
"""A certificate that expires while it is used: what is open is cut in that second, and not before."""

import re
import time
import unittest

from daemon_stage import DaemonStage
from stage import PROGRAM

# The shortest that `firedrill pki issue` makes.
GOOD_FOR_S = 60


class Expired(DaemonStage):
    def brief(self, role, name):
        """A certificate that is over in a minute; when it was asked for."""
        asked = time.monotonic()
        self.issue(role, name, "--for", "1m")
        return asked

    def begin_long(self, who):
        with open(self.experiment(duration="2m")) as file:
            text = file.read().replace("maxDuration: 60s", "maxDuration: 3m")
        run = self.begin(PROGRAM, "run", self.write("held.yaml", text), "--controller", f"127.0.0.1:{self.port}",
                         "--identity", f"{self.folder}/{who}")
        self.until_held(run)
        return run

    def ended_in_time(self, asked):
        # Not before it was over; a whole second, for certificates count in seconds.
        self.assertGreater(time.monotonic() - asked, GOOD_FOR_S - 1)

    def test_a_run_ends_with_the_certificate_of_its_client(self):
        daemon, injector = self.up()
        asked = self.brief("operator", "brief")
        run = self.begin_long("operator-brief")
        self.assertNotEqual(run.wait(2 * GOOD_FOR_S), 0, self.said(run))
        self.ended_in_time(asked)
        self.assertEqual(self.look.wait_for_nothing(5, self.look.sessions), [])
        self.assertRegex(" ".join(self.said(run).split()), r"/operator/brief expired on \S+: issue a new one")
        self.until(lambda: "aborted" in self.firedrill("runs")[1], "the end of the run")
        self.assertIn("expired on", " ".join(self.firedrill("report", "last")[1].split()))
        self.assertIsNone(daemon.poll())
        self.assertIsNone(injector.poll())

    def test_a_node_heals_itself_when_its_certificate_expires_and_the_run_is_told_why(self):
        asked = self.brief("injector", "node-a")
        daemon, injector = self.up()
        run = self.begin_long("operator-operator")
        # It is off, as is seen here; that node will not tell.
        self.assertEqual(run.wait(2 * GOOD_FOR_S), 5, self.said(run))
        self.ended_in_time(asked)
        self.assertEqual(self.look.wait_for_nothing(5, self.look.sessions), [])
        self.assertRegex(" ".join(self.said(run).split()),
                         r"node node-a has been silent for [0-9.]+m?s: the certificate of spiffe://[a-z]+/injector/node-a expired on")
        self.issue("injector", "node-a")
        self.until(lambda: re.search("(?m)^node-a +connected", self.ask("get", "injectors", as_who="viewer")[1]),
                   "the injector again")
        self.assertIsNone(injector.poll())
        self.assertIsNone(daemon.poll())


if __name__ == "__main__":
    unittest.main(verbosity=2)
