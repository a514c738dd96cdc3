#!/usr/bin/python3
"""Injectors that are killed or stopped before anything is broken: the run goes on with new ones, or says why not."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../testing"))

from case import CLIENT, CONTROLLER, INJECTOR  # noqa: E402
from crash import Campaign  # noqa: E402
from look import Look  # noqa: E402

ENDS_WITHIN_S = 60
PASSED, NOT_STARTED = 0, 3
ANEW = "was stopped by a signal before the run began: it was ended, and another one started"
# Stands where the injector should: it stops itself as often as there are files in a folder.
STOPPED = """#!/bin/sh
for file in "$STOPS"/*; do
  if rm "$file" 2>/dev/null; then kill -STOP $$; break; fi
done
exec {injector} "$@"
"""


class Restarts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.binaries = os.path.realpath(os.environ.get("FIREDRILL_BIN", os.path.join(HERE, "../../build/bin")))
        cls.campaign = Campaign(cls.binaries, 0, lanes=1)
        cls.addClassCleanup(cls.campaign.close, keep=False)
        cls.lane = cls.campaign.lanes[0]

    def start(self, *changes, binaries=None, **environment):
        folder = tempfile.mkdtemp(dir=self.campaign.folder)
        temporary, state = os.path.join(folder, "t"), os.path.join(folder, "state")
        os.mkdir(temporary)
        self.look = Look(self.lane.superuser, self.lane.roles, temporary, state)
        experiment = os.path.join(folder, "experiment.yaml")
        with open(self.campaign.short) as short, open(experiment, "w") as file:
            text = short.read()
            for old, new in changes:
                self.assertIn(old, text)
                text = text.replace(old, new)
            file.write(text)
        self.output = os.path.join(folder, "output")
        with open(self.output, "w") as output:
            self.client = subprocess.Popen(
                [os.path.join(binaries or self.binaries, CLIENT), "run", experiment, "--site", self.lane.site,
                 "--state-dir", state],
                env={**self.look.environment(), **environment}, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True)
        self.begun = time.monotonic()
        self.look.started.append(self.client.pid)
        self.addCleanup(self.client.wait)
        self.addCleanup(self.look.end_processes)

    def said(self):
        with open(self.output) as output:
            return output.read()

    def wait_for(self, words):
        while words not in self.said():
            if self.client.poll() is not None or time.monotonic() - self.begun > ENDS_WITHIN_S:
                self.fail(f"it never said '{words}':\n{self.said()}")
            time.sleep(0.01)

    def ends(self, code):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.client.wait(ENDS_WITHIN_S)
        self.assertEqual(code, self.client.returncode, self.said())
        took = time.monotonic() - self.begun
        self.assertEqual([], self.look.wait_for_nothing(1.0), self.said())
        return took

    def kill_injector(self, node):
        for pid, words in self.look.pids().items():
            if words.split(" ")[0].endswith("/" + INJECTOR) and f"--node {node}" in words:
                os.kill(pid, signal.SIGKILL)
                return
        self.fail(f"{node} has no injector")

    def test_at_the_gate_the_new_one_is_asked_again(self):
        self.start(("for: 500ms", "for: 3s"))
        self.wait_for("gate:")
        time.sleep(1)
        self.kill_injector("node-a")
        self.ends(PASSED)
        self.assertIn("node node-a is back: its injector was started again", self.said())

    def test_at_the_gate_the_new_one_breaks_what_the_old_one_had_prepared(self):
        self.start(("for: 500ms", "for: 3s"))
        self.wait_for("gate:")
        time.sleep(1)
        self.kill_injector("node-b")
        self.ends(PASSED)

    @contextlib.contextmanager
    def that_stop(self, times):
        folder = tempfile.mkdtemp(dir=self.campaign.folder)
        for name in (CLIENT, CONTROLLER):
            # The same file: a program finds its siblings by its own name.
            try:
                os.link(os.path.join(self.binaries, name), os.path.join(folder, name))
            except OSError:
                shutil.copy(os.path.join(self.binaries, name), folder)
        script = os.path.join(folder, INJECTOR)
        with open(script, "w") as file:
            file.write(STOPPED.format(injector=os.path.join(self.binaries, INJECTOR)))
        os.chmod(script, 0o755)
        stops = os.path.join(folder, "stops")
        os.mkdir(stops)
        for number in range(times):
            open(os.path.join(stops, str(number)), "w").close()
        yield folder, stops

    def test_one_that_is_stopped_before_it_has_a_reaper_is_replaced(self):
        with self.that_stop(1) as (binaries, stops):
            self.start(binaries=binaries, STOPS=stops)
            self.ends(PASSED)
        self.assertIn(ANEW, self.said())

    def test_one_that_is_stopped_each_time_is_named_soon(self):
        with self.that_stop(20) as (binaries, stops):
            self.start(binaries=binaries, STOPS=stops)
            took = self.ends(NOT_STARTED)
        self.assertIn("a signal has stopped it 3 times; nothing was begun", self.said())
        self.assertLess(took, 15, self.said())


if __name__ == "__main__":
    unittest.main(verbosity=2)
