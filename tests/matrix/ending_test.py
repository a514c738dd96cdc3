#!/usr/bin/python3
"""However the matrix ends, nothing of it stays: no lab, no program that keeps a processor busy. And no try finds what one
before it has left.

The labs are no labs here: a program that is up for as long as a lab would be, and takes its time to go down.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

import matrix  # noqa: E402
import table  # noqa: E402

GONE_S = 60
CELL = "unclosed-connections/rule-deleted"

LAB = """#!/usr/bin/python3
import json, os, shutil, signal, sys, time
folder = sys.argv[sys.argv.index("--dir") + 1]
path = os.path.join(folder, "lab.json")
if sys.argv[1] == "down":
    with open(path) as described:
        os.kill(json.load(described)["pid"], signal.SIGTERM)
    while os.path.exists(folder):
        time.sleep(0.05)
    sys.exit(0)
def end(number, frame):
    time.sleep(@SLOW_S@)
    shutil.rmtree(folder)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
with open(os.environ["SEEN"], "a") as seen:
    print(os.getpid(), folder, file=seen)
if @STAGE@ != "up":
    with open(path + ".new", "w") as described:
        json.dump({"ready": True, "pid": os.getpid(), "ports": {}, "urls": {}}, described)
    os.rename(path + ".new", path)
time.sleep(600)
"""

MATRIX = """
import os, signal, sys, time
sys.path[:0] = [@HERE@]
import matrix, on_a_lab
on_a_lab.LAB = @LAB@
matrix.come_first = lambda pid: None
matrix.CellRun.use = lambda self, lab: time.sleep(600)
matrix.fingerprint_of = lambda cell: "of no programs"
matrix.Children.COMMAND = (sys.executable, "-B", __file__)
class Noted(matrix.Busy):
    def __init__(self):
        super().__init__()
        with open(os.environ["SEEN"], "a") as seen:
            print(self.process.pid, "busy", file=seen)
matrix.Busy = Noted
sys.exit(matrix.main())
"""


def state_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "gone"


def wait_until(what):
    limit = time.monotonic() + GONE_S
    while not (found := what()) and time.monotonic() < limit:
        time.sleep(0.05)
    return found


class EndingTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fd-ending-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.seen_path = os.path.join(self.folder, "seen")

    def write(self, name, text, **words):
        path = os.path.join(self.folder, name)
        for word, value in words.items():
            text = text.replace(f"@{word}@", repr(value))
        with open(path, "w") as written:
            written.write(text)
        os.chmod(path, 0o755)
        return path

    def seen(self):
        """(pid, the folder of a lab, or `busy`), of all that has been started."""
        if not os.path.exists(self.seen_path):
            return []
        with open(self.seen_path) as seen:
            return [(int(pid), what) for pid, what in map(str.split, seen.read().splitlines())]

    def start(self, stage, slow_s=0.5):
        lab = self.write("lab", LAB, STAGE=stage, SLOW_S=slow_s)
        runner = subprocess.Popen(
            [sys.executable, "-B", self.write("runner.py", MATRIX, HERE=HERE, LAB=lab), "--only", CELL, "--busy", "--results",
             os.path.join(self.folder, "results.jsonl")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "SEEN": self.seen_path, "TMPDIR": self.folder}, start_new_session=True)
        self.addCleanup(self.end, runner)
        self.assertTrue(wait_until(lambda: len(self.seen()) == 2 or runner.poll() is not None))
        self.assertIsNone(runner.poll(), runner.poll() is not None and runner.stdout.read())
        if stage != "up":
            folder = next(what for _, what in self.seen() if what != "busy")
            wait_until(lambda: os.path.exists(os.path.join(folder, "lab.json")))
            time.sleep(0.5)
        return runner

    def end(self, runner):
        if runner.poll() is None:
            runner.kill()
        runner.communicate()
        for pid, _ in self.seen():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def assert_nothing_stays(self):
        for pid, what in self.seen():
            self.assertTrue(wait_until(lambda: state_of(pid) in "gone Z"), f"{what} still runs")
            if what != "busy":
                self.assertTrue(wait_until(lambda: not os.path.exists(what)), f"{what} is still there")

    def test_a_signal_ends_labs_and_the_busy_program_before_the_matrix(self):
        for stage in ("up", "run"):
            for number in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(stage=stage, number=number.name):
                    runner = self.start(stage)
                    runner.send_signal(number)
                    out, _ = runner.communicate(timeout=GONE_S)
                    self.assertEqual(130, runner.returncode, out)
                    self.assertEqual({"gone"}, {state_of(pid) for pid, _ in self.seen()})
                    self.assert_nothing_stays()
                    os.unlink(self.seen_path)

    def test_a_second_signal_and_a_third_hurry_nobody(self):
        runner = self.start("run", slow_s=2)
        for _ in range(3):
            runner.send_signal(signal.SIGINT)
            time.sleep(0.4)
        out, _ = runner.communicate(timeout=GONE_S)
        self.assertEqual(130, runner.returncode, out)
        self.assert_nothing_stays()

    def test_a_matrix_that_is_killed_leaves_nothing(self):
        for stage in ("up", "run"):
            with self.subTest(stage=stage):
                runner = self.start(stage)
                runner.kill()
                runner.wait()
                self.assert_nothing_stays()
                os.unlink(self.seen_path)

    def test_a_cell_that_is_killed_leaves_no_lab(self):
        runner = self.start("run")
        (pid, folder), = [each for each in self.seen() if each[1] != "busy"]
        with open(f"/proc/{pid}/stat") as stat:
            os.kill(int(stat.read().rpartition(")")[2].split()[1]), signal.SIGKILL)
        out, _ = runner.communicate(timeout=GONE_S)
        self.assertIn(b"told nothing", out)
        self.assert_nothing_stays()


class FakeLab:
    up = []

    def __init__(self, *defects, **options):
        self.slow_plans = False
        self.up.append(self)

    def down(self):
        self.up.remove(self)

    def facts(self):
        return {"plans: slow"} if self.slow_plans else set()

    def path(self, name):
        return "/dev/null"


class TriesTest(unittest.TestCase):
    def observe(self, ends, why="steady state did not hold within 30s", circumstances=()):
        """A cell whose tries end so: the lab of each is left spoilt."""
        found = []

        class Run(matrix.CellRun):
            def use(self, lab):
                self.lab = lab
                self.watcher = types.SimpleNamespace(most_held=0)

            def run_file(self, path):
                outcome = ends[len(found)]
                found.append((self.lab.slow_plans, len(FakeLab.up)))
                self.lab.slow_plans = True
                verdict = "inconclusive" if outcome == table.NOT_STARTED else "passed"
                judged = {"begin": "2026-01-02T03:04:00Z", "end": "2026-01-02T03:05:00Z", "judgement": {
                    "reason": why, "findings": [{"kind": "KIND_CIRCUMSTANCE", "code": each} for each in circumstances]}}
                return types.SimpleNamespace(verdict=lambda: verdict, outcome=lambda: outcome, judged=judged, code=0,
                                             out="", took=1, said="", expectations=dict)

            def assert_told_alike(self, result):
                """Nothing was written."""

            def changed(self, before, actual):
                return sorted(before)
        originals = matrix.Lab, matrix.room_for
        matrix.Lab, matrix.room_for = FakeLab, contextlib.nullcontext
        try:
            run = Run()
            told = run.observe(table.Cell(table.EXPERIMENTS["lost-index"], "healthy-1"))
            self.assertTrue(run.doCleanups())
        finally:
            matrix.Lab, matrix.room_for = originals
        self.assertEqual([], FakeLab.up)
        return found, told

    def test_a_try_does_not_find_what_the_one_before_has_left(self):
        for ends in ([table.COMPLETED], [table.NOT_STARTED, table.COMPLETED], [table.NOT_STARTED] * matrix.TRIES):
            found, told = self.observe(ends)
            self.assertEqual([(False, 1)] * len(ends), found)
            self.assertEqual((len(ends), []), (told["tries"], told["changed"]))

    def test_only_a_steady_state_that_did_not_hold_is_tried_again(self):
        for why, circumstances in (("Slots is firing already", ["already-firing"]), ("Slots has a live group", ["live-group"]),
                                   ("node db went silent during preflight", []),
                                   ("steady state did not hold within 30s", ["already-firing"])):
            found, told = self.observe([table.NOT_STARTED] * matrix.TRIES, why, circumstances)
            self.assertEqual((1, 1), (len(found), told["tries"]))


class BusyTest(unittest.TestCase):
    def test_one_processor_is_kept_busy_and_its_line_says_so(self):
        busy = matrix.Busy()
        try:
            self.assertEqual({busy.cpu}, os.sched_getaffinity(busy.process.pid))
            before = busy.spent()
            wait_until(lambda: busy.spent()[0] >= before[0] + 0.3)
            told = busy.since(before)
            self.assertEqual({"cpu", "nice", "share"}, set(told))
            self.assertGreater(told["share"], 0)
            self.assertLessEqual(told["share"], 1.1)
        finally:
            busy.stop()
        self.assertEqual("gone", state_of(busy.process.pid))
        self.assertIsNone(busy.since(before))

    def test_busy_cells_have_names_of_their_own_and_are_told_apart(self):
        cell = next(table.cells(0))
        busy = dataclasses.replace(cell, busy=True)
        self.assertNotEqual(cell.key, busy.key)
        line = {"cell": cell.key, "fingerprint": matrix.fingerprint_of(cell), "actual": {}, "took_s": 1}
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as results:
            for each in (line, {**line, "cell": busy.key}):
                each["actual"] = {"exit": 0, "verdict": "passed", "outcome": "completed", "failed": [], "doubted": [],
                                  "circumstances": []}
                print(json.dumps(each), file=results, flush=True)
                known = matrix.known_of([cell, busy], results.name)
                self.assertIn(each["cell"], known)
            self.assertEqual({cell.key, busy.key}, set(known))
        line.update({"clocks": {}, "changed": [], "complaints": [], "busy": {"cpu": 1, "nice": 0, "share": 0.97}})
        self.assertIn("kept one processor busy; it got 97 to 97 % of it", matrix.written.page([busy], {busy.key: line}))
        self.assertNotIn("busy", matrix.written.page([cell], {cell.key: {**line, "busy": None}}).replace("too busy", ""))


if __name__ == "__main__":
    unittest.main()
