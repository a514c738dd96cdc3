#!/usr/bin/python3
"""Ctrl-C on a terminal at the worst moments of a run: what is left, what is said, and the exit code."""

import contextlib
import os
import pty
import select
import signal
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../testing"))

from case import CLIENT, CONTROLLER  # noqa: E402
from crash import Campaign  # noqa: E402
from look import Look, children_of  # noqa: E402

INTERRUPTED, UNCONFIRMED = 130, 5
CTRL_C = b"\x03"
ENDS_WITHIN_S = 60


class Terminal:
    """A run on a terminal of its own."""

    def __init__(self, words, environment):
        self.said = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execve(words[0], words, {**environment, "TERM": "dumb"})
            finally:
                os._exit(127)
        self.code = None

    def hear(self, seconds):
        """Reads until something was said or the time is over; False when it has ended."""
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:  # nobody holds the other end any more
                data = b""
            self.said += data.decode(errors="replace")
            return bool(data)
        return True

    def wait_for(self, words):
        limit = time.monotonic() + ENDS_WITHIN_S
        while words not in self.said:
            if not self.hear(0.2) or time.monotonic() > limit:
                raise AssertionError(f"it never said '{words}':\n{self.said}")

    def press(self):
        os.write(self.fd, CTRL_C)

    def end(self):
        """The exit code, and how long it took to end."""
        begin = time.monotonic()
        while self.hear(0.2) and time.monotonic() - begin < ENDS_WITHIN_S:
            pass
        if time.monotonic() - begin >= ENDS_WITHIN_S:
            raise AssertionError(f"it has not ended within {ENDS_WITHIN_S} s:\n{self.said}")
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code, time.monotonic() - begin

    def close(self):
        os.close(self.fd)
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


class Interrupts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        binaries = os.environ.get("FIREDRILL_BIN", os.path.join(HERE, "../../build/bin"))
        cls.program = os.path.join(binaries, CLIENT)
        cls.campaign = Campaign(binaries, 0, lanes=1)
        cls.addClassCleanup(cls.campaign.close, keep=False)
        cls.lane = cls.campaign.lanes[0]

    def start(self, *changes, command="run"):
        folder = tempfile.mkdtemp(dir=self.campaign.folder)
        temporary, self.state = os.path.join(folder, "t"), os.path.join(folder, "state")
        os.mkdir(temporary)
        self.look = Look(self.lane.superuser, self.lane.roles, temporary, self.state)
        experiment = os.path.join(folder, "experiment.yaml")
        with open(self.campaign.short) as short, open(experiment, "w") as file:
            text = short.read()
            for old, new in changes:
                self.assertIn(old, text)
                text = text.replace(old, new)
            file.write(text)
        self.run_ = Terminal([self.program, command, experiment, "--site", self.lane.site,
                              "--state-dir", self.state],
                             self.look.environment())
        self.look.started.append(self.run_.pid)
        self.addCleanup(self.look.end_processes)
        self.addCleanup(self.run_.close)
        return self.run_

    def ends(self, codes, within, words="interrupted: every fault is being undone"):
        code, took = self.run_.end()
        self.assertIn(code, codes, self.run_.said)
        self.assertEqual(code == UNCONFIRMED, "you left before" in self.run_.said, self.run_.said)
        self.assertLess(took, within, self.run_.said)
        self.assertIn(words, self.run_.said)
        return self.run_.said

    def assert_nothing_left(self, within=1.0):
        self.assertEqual([], self.look.wait_for_nothing(within), self.run_.said)

    def interrupt(self, when, *changes, presses=1):
        run = self.start(*changes)
        run.wait_for(when)
        for _ in range(presses):
            run.press()
            time.sleep(0.02)
        # Who asks three times may have left before it was seen that all is undone.
        said = self.ends((INTERRUPTED,) if presses < 3 else (INTERRUPTED, UNCONFIRMED), 5)
        self.assert_nothing_left(1.0 if presses < 3 else 3.0)
        return said

    def test_before_the_controller_answers(self):
        for command in ("run", "plan"):
            for asked in (False, True):  # before its socket is there, and when it is
                with self.subTest(command=command, asked=asked):
                    run = self.start(command=command)
                    controller = None
                    while not controller:
                        controller = next((pid for pid, words in self.look.pids().items()
                                           if words.split(" ")[0].endswith("/" + CONTROLLER)), None)
                    while asked and not any(each.endswith("/c") for each in self.look.files()):
                        time.sleep(0.002)
                    os.kill(controller, signal.SIGSTOP)
                    time.sleep(0.1)
                    run.press()
                    # One that hangs when it was asked for a run is given up after 6 s, as without Ctrl-C.
                    self.ends((INTERRUPTED,), 8, "interrupted")
                    self.assert_nothing_left()

    def test_during_preflight(self):
        said = self.interrupt("preflight")
        self.assertNotIn("is on at", said)

    def test_during_the_gate(self):
        said = self.interrupt("gate:", ("for: 500ms", "for: 5s"))
        self.assertNotIn("is on at", said)

    RAMP = (("ramp: 300ms", "ramp: 3s"), ("count: 5", "count: 30"), ("duration: 3s", "duration: 20s"))

    def test_during_the_ramp(self):
        said = self.interrupt("fault hold is on", *self.RAMP)
        self.assertIn("fault hold is off, read back", said)

    def test_twice_and_three_times_during_the_ramp(self):
        for presses in (2, 3):
            with self.subTest(presses):
                self.interrupt("fault hold is on", *self.RAMP, presses=presses)

    def test_while_everything_is_undone(self):
        self.interrupt("time is over", presses=3)

    def test_during_the_recovery(self):
        self.interrupt("every fault has ended")

    @contextlib.contextmanager
    def frozen_server(self):
        """A server that does not answer: nobody can see that anything is gone."""
        server = self.campaign.server.process.pid
        frozen = [server] + children_of(server)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)

    def test_the_third_leaves_when_the_undoing_takes_long(self):
        run = self.start(*self.RAMP)
        run.wait_for("fault hold is on")
        with self.frozen_server():
            run.press()
            run.wait_for("wait for the end")
            run.press()
            run.wait_for("once more to leave")
            run.press()
            said = self.ends((UNCONFIRMED,), 2)
            self.assertIn("firedrill leftovers", said)
            self.assertIn("fault hold", said.partition("you left")[2])
        # What was left behind goes on undoing, and ends.
        self.assert_nothing_left(10)


if __name__ == "__main__":
    unittest.main(verbosity=2)
