#!/usr/bin/python3
"""Whose run it is: it ends with its client, unless it was detached; it goes on with a controller that is started
again in time; and whatever dies, and whenever, nothing of it stays."""

import os
import re
import signal
import socket
import threading
import time
import unittest

from daemon_stage import DaemonStage
from stage import PROGRAM


class Link:
    """Carries what goes to a port, until it is cut: then both ends hear nothing more, and are not told."""

    def __init__(self, port):
        self.to = port
        self.whole = threading.Event()
        self.whole.set()
        self.ends = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            self.ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one, other):
        try:
            while data := one.recv(65536):
                self.whole.wait()
                other.sendall(data)
        except OSError:
            pass

    def close(self):
        self.whole.set()
        # A thread in accept() is woken by this, and not by close().
        self.listener.shutdown(socket.SHUT_RDWR)
        for end in [self.listener, *self.ends]:
            end.close()


class Ownership(DaemonStage):
    def long_leased(self, duration):
        """Lease and grace outlast what a busy machine takes to start a controller."""
        with open(self.experiment(duration=duration)) as file:
            return self.write("held.yaml", file.read().replace("lease: 2s", "lease: 30s"))

    def kill(self, daemon):
        daemon.kill()
        daemon.wait(10)

    def until_connected(self):
        self.until(lambda: " connected " in self.ask("get", "injectors", as_who="viewer")[1], "the injector again")

    def report(self):
        code, out, err = self.firedrill("report", "last")
        self.assertEqual((code, err), (0, ""))
        return " ".join(out.split())

    def held(self):
        return sum("idle in transaction" in str(each) for each in self.look.sessions())

    def all_is_undone(self, within=10):
        self.assertEqual(self.look.wait_for_nothing(within, self.look.sessions), [])

    def aborted(self):
        self.until(lambda: [outcome for _, outcome in self.outcomes()] == ["aborted"], "the end of the run")
        self.assertEqual(self.firedrill("judge", "last")[0], 4)

    def detached(self, duration):
        run = self.begin(PROGRAM, "run", self.long_leased(duration), "--detach", *self.at("operator"))
        self.assertEqual(run.wait(60), 0, self.said(run))
        found = re.search("run ([a-z0-9]{8}) goes on without this client; to end it: firedrill stop ([a-z0-9]{8}) ",
                          " ".join(self.said(run).split()))
        self.assertIsNotNone(found, self.said(run))
        self.assertEqual(found[1], found[2])
        self.until(lambda: self.held() == 3, "the fault")
        return found[1]

    # ---- the controller

    def test_started_again_within_the_grace_it_goes_on_and_the_report_tells_the_gap(self):
        daemon, injector = self.up(grace="20s")
        run = self.begin_remote(self.long_leased("12s"))
        self.until_held(run)
        held = self.look.sessions()
        self.kill(daemon)
        again = self.controller(self.port)
        self.until(lambda: "goes on with run" in self.said(again), "the run again")
        self.until_connected()
        # They are the same sessions: nothing was undone, and nothing applied twice.
        self.assertEqual(self.look.sessions(), held)
        self.assertEqual(run.wait(90), 0, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertRegex(said, "the controller was started again after [0-9.]+m?s in which nobody watched; it goes on")
        self.assertIn("passed: 2 passed; completed; every fault undone", said)
        self.assertRegex(self.report(), r"nobody watched from \+[0-9.]+s to \+[0-9.]+s, during the fault: the controller was "
                                        "started again")
        self.all_is_undone()
        self.assertIsNone(injector.poll())

    def test_killed_again_and_again_it_still_ends(self):
        daemon, _ = self.up(grace="20s")
        run = self.begin_remote(self.long_leased("15s"))
        self.until_held(run)
        for _ in range(3):
            self.kill(daemon)
            daemon = self.controller(self.port)
            self.until_connected()
        self.assertEqual(run.wait(90), 0, self.said(run))
        self.all_is_undone()

    def test_after_the_grace_the_node_has_healed_itself_and_the_run_says_when(self):
        daemon, _ = self.up()
        run = self.begin_remote(self.long_leased("40s"))
        self.until_held(run)
        killed = time.monotonic()
        self.kill(daemon)
        self.all_is_undone()
        print(f"off {time.monotonic() - killed:.2f} s after the controller was killed, of a grace of 0.5 s", flush=True)
        self.controller(self.port)
        self.assertEqual(run.wait(60), 4, self.said(run))
        said = " ".join(self.said(run).split())
        found = re.search(r"hold on node-a was ended by its node while the controller was away \(([0-9.]+)(m?s)\), "
                          r"([0-9.]+)(m?s) after it was last heard: ", said)
        self.assertIsNotNone(found, said)
        away, healed = (float(found[i]) / (1000 if found[i + 1] == "ms" else 1) for i in (1, 3))
        self.assertLessEqual(0.4, healed)
        self.assertLessEqual(healed, away)
        self.assertIn("every fault undone (exit 4)", said)
        self.aborted()

    def test_a_lever_that_is_pulled_while_the_controller_is_away_ends_the_run(self):
        daemon, _ = self.up(grace="40s")
        run = self.begin_remote(self.long_leased("40s"))
        self.until_held(run)
        self.kill(daemon)
        with open(os.path.join(self.state, "STOP"), "w") as file:
            file.write("alice: a real outage\n")
        # The node would still wait.
        self.assertEqual(self.held(), 3)
        again = self.controller(self.port)
        self.all_is_undone(20)
        self.assertEqual(run.wait(60), 4, self.said(run))
        self.assertNotIn("goes on with run", self.said(again))
        self.assertIn("the emergency lever was pulled while the controller was away: alice: a real outage",
                      " ".join(self.said(run).split()))
        self.aborted()

    def test_a_node_that_is_stopped_while_the_controller_is_away_ends_the_run(self):
        daemon, _ = self.up(grace="40s")
        run = self.begin_remote(self.long_leased("40s"))
        self.until_held(run)
        self.kill(daemon)
        with open(os.path.join(self.state, "nodes", "node-a", "STOP"), "w") as file:
            file.write("alice: a real outage\n")
        self.all_is_undone()
        self.controller(self.port)
        self.assertEqual(run.wait(60), 4, self.said(run))
        self.assertIn("was ended by its node while the controller was away", " ".join(self.said(run).split()))
        self.aborted()

    # ---- the client

    def test_a_client_that_is_killed_takes_its_run_with_it(self):
        self.up(grace="20s")
        run = self.begin_remote(self.long_leased("40s"))
        self.until_held(run)
        run.kill()
        self.all_is_undone()
        self.aborted()
        self.assertIn("the client that owns the run is gone", self.report())

    def test_a_client_that_is_interrupted_ends_its_run_and_sees_it_undone(self):
        self.up(grace="20s")
        run = self.begin_remote(self.long_leased("40s"))
        self.until_held(run)
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(60), 130, self.said(run))
        self.assertEqual(self.look.sessions(), [])

    def test_a_client_that_is_interrupted_while_the_controller_is_away_ends_its_run(self):
        daemon, _ = self.up(grace="40s")
        run = self.begin_remote(self.long_leased("40s"))
        self.until_held(run)
        self.kill(daemon)
        self.until(lambda: "the connection to the controller was lost" in " ".join(self.said(run).split()), "the loss")
        run.send_signal(signal.SIGINT)
        self.controller(self.port)
        self.assertEqual(run.wait(60), 130, self.said(run))
        self.assertEqual(self.look.sessions(), [])

    def test_a_client_that_does_not_come_back_to_the_next_controller_takes_its_run_with_it(self):
        daemon, _ = self.up(grace="30s")
        run = self.begin_remote(self.long_leased("50s"))
        self.until_held(run)
        run.send_signal(signal.SIGSTOP)
        self.kill(daemon)
        run.kill()
        again = self.controller(self.port)
        self.until(lambda: "goes on with run" in self.said(again), "the run again")
        self.all_is_undone(30)
        self.aborted()
        self.assertIn("did not come back within 10s", self.report())

    def test_a_cut_link_to_the_client_ends_the_run_and_a_client_that_comes_back_is_told(self):
        self.up(grace="20s")
        link = Link(self.port)
        self.addCleanup(link.close)
        at = ("--controller", f"127.0.0.1:{link.port}", "--identity", f"{self.folder}/operator-operator")
        run = self.begin(PROGRAM, "run", self.long_leased("40s"), *at)
        self.until_held(run)
        link.whole.clear()
        self.all_is_undone(30)
        link.whole.set()
        self.aborted()
        self.assertRegex(self.report(), "the client that owns the run was silent for [0-9.]+s")
        self.assertEqual(run.wait(60), 4, self.said(run))
        self.assertIn("was silent for", " ".join(self.said(run).split()))

    # ---- nobody

    def test_a_detached_run_outlives_its_client_and_its_controller(self):
        daemon, _ = self.up(grace="20s")
        self.detached("10s")
        watch = self.begin(PROGRAM, "watch", "last", *self.at("viewer"), state=False)
        self.until(lambda: "in force" in self.said(watch), "the fault, seen by who watches")
        self.kill(daemon)
        self.until(lambda: "trying again" in self.said(watch), "the loss")
        self.controller(self.port)
        self.until(lambda: "completed" in self.firedrill("runs")[1], "the end of the run")
        self.assertEqual(self.firedrill("judge", "last")[0], 0)
        self.assertEqual(watch.wait(60), 0, self.said(watch))
        self.assertIn("completed; every fault undone", " ".join(self.said(watch).split()))
        self.all_is_undone()

    def test_a_detached_run_is_stopped_by_whoever_may(self):
        self.up(grace="20s")
        run = self.detached("50s")
        code, _, err = self.ask("stop", run, "--reason", "my turn", as_who="viewer")
        self.assertEqual(code, 3)
        self.assertIn("takes the role operator", err)
        # Nor does whoever only watches end it.
        watch = self.begin(PROGRAM, "watch", run, *self.at("viewer"), state=False)
        self.until(lambda: "in force" in self.said(watch), "the fault, seen by who watches")
        watch.send_signal(signal.SIGINT)
        watch.wait(60)
        self.assertEqual(self.held(), 3)
        # Whoever is not sure which one that was is told.
        code, out, err = self.ask("stop", "last", "--reason", "my turn", as_who="operator")
        self.assertEqual((code, err), (0, ""))
        self.assertIn(f"run {run} is being stopped and undone", out)
        self.all_is_undone()
        self.aborted()
        self.assertIn("my turn", self.report())

    def test_detaching_from_a_private_controller_is_refused(self):
        code, _, err = self.firedrill("run", self.experiment(), "--detach", "--site", self.site)
        self.assertEqual(code, 2)
        self.assertIn("a private controller ends with its client; name a team's with --controller", err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
