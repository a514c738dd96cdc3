#!/usr/bin/python3
"""A file STOP on a node, put there by hand: with a controller, and with none."""

import os
import time
import unittest

from daemon_stage import DaemonStage

# A second is promised; a busy machine starts threads and looks at servers late.
PROMPT_S = 5


class StopFile(DaemonStage):
    def put(self, *folders):
        path = os.path.join(self.state, *folders, "STOP")
        open(path, "w").close()
        return path

    def gone_since(self, begun):
        self.assertEqual(self.look.wait_for_nothing(PROMPT_S, self.look.sessions), [])
        print(f"everything off after {1000 * (time.monotonic() - begun):.0f} ms")

    def controller(self, port=0):
        # Else the file of the state folder would be the controller's lever as well.
        self.controller_state = os.path.join(self.folder, "controller-state")
        begin = self.begin
        self.begin = lambda *words: begin(*words, state=self.controller_state)
        try:
            return super().controller(port)
        finally:
            self.begin = begin

    def test_a_file_in_the_nodes_folder_stops_it_across_restarts_until_it_is_removed(self):
        self.stops_the_node("nodes", "node-a")

    def test_a_file_in_the_state_folder_stops_every_node_of_the_machine(self):
        self.stops_the_node()

    def stops_the_node(self, *folders):
        _, injector = self.up()
        run = self.begin_remote(self.experiment())
        self.until_held(run)
        begun = time.monotonic()
        path = self.put(*folders)
        self.gone_since(begun)
        self.ends_inconclusive(run)
        words = f"the node node-a is stopped by the file {path}; find out who put it there, and remove it to go on"
        self.assertIn(words, " ".join(self.said(run).split()))
        self.until(lambda: " stopped " in self.ask("get", "injectors", as_who="viewer")[1], "the controller to be told")
        self.refused(words)
        injector.terminate()
        self.assertEqual(injector.wait(30), 0, self.said(injector))
        self.registered(self.injector())
        self.refused(words)
        os.unlink(path)
        self.until(lambda: " connected " in self.ask("get", "injectors", as_who="viewer")[1], "the node again")
        run = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 0, self.said(run))

    def test_sigterm_to_its_injector_ends_everything_there(self):
        _, injector = self.up()
        run = self.begin_remote(self.experiment())
        self.until_held(run)
        begun = time.monotonic()
        injector.terminate()
        self.gone_since(begun)
        self.assertEqual(injector.wait(30), 0, self.said(injector))
        self.ends_inconclusive(run)

    def ends_inconclusive(self, run):
        # Nobody has stopped the run: its fault was ended for it, and so it has shown nothing.
        self.assertEqual(run.wait(60), 6, self.said(run))
        self.assertIn("every fault undone", " ".join(self.said(run).split()))

    def refused(self, words):
        run = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 3, self.said(run))
        self.assertIn(words, " ".join(self.said(run).split()))
        self.assertEqual(self.look.sessions(), [])

    def test_a_private_run_honours_it_at_its_start_and_in_its_middle(self):
        os.makedirs(self.state, exist_ok=True)
        path = self.put()
        run = self.begin_run(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 3, self.said(run))
        self.assertIn(f"remove {path}", " ".join(self.said(run).split()))
        os.unlink(path)
        run = self.begin_run(self.experiment())
        self.until_held(run)
        begun = time.monotonic()
        self.put()
        self.gone_since(begun)
        # It is the lever of the private controller, too.
        self.assertEqual(run.wait(60), 4, self.said(run))
        os.unlink(path)
        run = self.begin_run(self.experiment())
        self.until_held(run)
        begun = time.monotonic()
        of_node = self.put("nodes", "node-a")
        self.gone_since(begun)
        self.ends_inconclusive(run)
        run = self.begin_run(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 3, self.said(run))
        self.assertIn(f"stopped by the file {of_node}", " ".join(self.said(run).split()))
        os.unlink(of_node)
        run = self.begin_run(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 0, self.said(run))


if __name__ == "__main__":
    unittest.main(verbosity=2)
