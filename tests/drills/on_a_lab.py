"""What the drills stand on: a lab with its defects, a run against it, and the looks before and after."""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/testing"))

import psycopg2  # noqa: E402
from look import Look, connect, facts_of, facts_of_machine  # noqa: E402

LAB = os.path.join(ROOT, "experiments/lab/lab")
INJECTOR, WIRE = "firedrill-injector", "firedrill-wire"
FIREDRILL = os.path.join(os.environ.get("FIREDRILL_BIN", os.path.join(ROOT, "build/bin")), "firedrill")

ROLES = ("reports", "firedrill_dba")
GONE_S = 1.0
RUN_TIMEOUT_S = 180
LAB_TIMEOUT_S = 120
QUIET_TIMEOUT_S = 60
WATCH_EVERY_S = 0.03
PR_SET_PDEATHSIG = 1


class Watcher(threading.Thread):
    """What the runs do to the database, as the server itself tells it, all the time."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.lab = lab
        self.connection = lab.connect()
        self.most_held = 0
        self.shop_sessions = set()
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.wait(WATCH_EVERY_S):
            try:
                self.watch()
            except psycopg2.Error:
                # A remedy restarts the server, or another takes its place.
                self.connection.close()
                with contextlib.suppress(psycopg2.Error):
                    self.connection = self.lab.connect()

    def watch(self):
        with self.connection.cursor() as cursor:
            while not self.stopped.wait(WATCH_EVERY_S):
                # Not the short one in which a server is asked who it is.
                cursor.execute("SELECT usename, pid FROM pg_stat_activity WHERE usename IN ('reports', 'shop') "
                               "AND application_name NOT LIKE 'firedrill-control:%'")
                rows = cursor.fetchall()
                self.most_held = max(self.most_held, sum(user == "reports" for user, _ in rows))
                self.shop_sessions |= {pid for user, pid in rows if user == "shop"}

    def stop(self):
        self.stopped.set()
        self.join()
        self.connection.close()


def dying_with_us(number):
    """What the kernel sends the child when we go, however we go: for `preexec_fn`."""
    parent = os.getpid()

    def before_exec():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    return before_exec


class Lab:
    def __init__(self, *defects, alert=None, settings=(), extras=()):
        self.dir = tempfile.mkdtemp(prefix="fd-lab-")
        words = ["--alert", alert] if alert else []
        for flag, chosen in (("--defect", defects), ("--set", settings), ("--with", extras)):
            words += [word for each in chosen for word in (flag, each)]
        content = self.up(words)
        self.ports, self.urls = content["ports"], content["urls"]
        self.site = self.path("site.yaml")

    def up(self, words):
        """It goes when we go, however that is: else a test that is killed leaves servers for ever."""
        with tempfile.TemporaryFile("w+") as said:
            self.process = subprocess.Popen([LAB, "up", "--dir", self.dir, "--die-with-parent", *words], stdin=subprocess.DEVNULL,
                                            stdout=said, stderr=said, start_new_session=True, preexec_fn=dying_with_us(signal.SIGTERM))
            try:
                limit = time.monotonic() + LAB_TIMEOUT_S
                while not (content := self.described()).get("ready"):
                    if self.process.poll() is not None or time.monotonic() > limit:
                        said.seek(0)
                        raise RuntimeError(f"lab up: {said.read()}")
                    time.sleep(0.1)
                return content
            except BaseException:
                self.process.terminate()
                self.process.wait()
                shutil.rmtree(self.dir, ignore_errors=True)
                raise

    def described(self):
        try:
            with open(self.path("lab.json")) as described:
                return json.load(described)
        except FileNotFoundError:
            return {}

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def connect(self):
        """To the server that takes writes: a fault's sessions are there."""
        if "replica" not in self.ports:
            return self.connect_to("postgresql")
        try:
            return self.connect_to("postgresql")
        except psycopg2.OperationalError:
            return self.connect_to("replica")

    def connect_to(self, server, database="postgres"):
        with open(self.path("postgres.password")) as word:
            return connect("127.0.0.1", self.ports[server], word.read().strip(), database)

    def facts(self):
        """What a run may have changed of this lab, and of the machine, as lines."""
        found = facts_of_machine()
        for server in ("postgresql", "replica"):
            if server in self.ports:
                found |= facts_of(server, lambda: self.connect_to(server, "shop"))
        with urllib.request.urlopen(self.urls["shop_operations"] + "/settings", timeout=10) as answer:
            return found | {f"shop: {name} = {value}" for name, value in json.load(answer).items()}

    def site_with(self, name, pattern, replacement):
        """A copy of the site file with one thing changed."""
        with open(self.site) as site:
            text, count = re.subn(pattern, replacement, site.read())
        assert count == 1, f"{pattern} fits {count} times"
        path = self.path(name)
        with open(path, "w") as changed:
            changed.write(text)
        return path

    def active_alerts(self):
        with urllib.request.urlopen(self.urls["prometheus"] + "/api/v1/alerts", timeout=5) as answer:
            active = [each["labels"]["alertname"] for each in json.load(answer)["data"]["alerts"]]
        with urllib.request.urlopen(self.urls["alertmanager"] + "/api/v2/alerts", timeout=5) as answer:
            return active + [each["labels"]["alertname"] for each in json.load(answer)
                             if "firedrill_canary" not in each["labels"]]

    def wait_until_quiet(self):
        """Alerts of the run before would keep the next from starting."""
        limit = time.monotonic() + QUIET_TIMEOUT_S
        while active := self.active_alerts():
            if time.monotonic() > limit:
                raise RuntimeError(f"alerts are still active after {QUIET_TIMEOUT_S} s: {active}")
            time.sleep(0.2)

    def down(self):
        done = subprocess.run([LAB, "down", "--dir", self.dir], capture_output=True, text=True, timeout=LAB_TIMEOUT_S)
        if done.returncode != 0:
            raise RuntimeError(f"lab down: {done.stdout}{done.stderr}")
        self.process.wait()


class Result:
    """What a command printed, wrote and returned."""

    def __init__(self, code, out, err, folder, took):
        self.code = code
        self.out = out
        self.err = err
        self.took = took
        self.said = out + err
        self.judged = None
        path = os.path.join(folder, "run.json")
        if os.path.exists(path):
            with open(path) as written:
                self.judged = json.load(written)
        self.junit_path = os.path.join(folder, "run.xml")
        self.report_path = os.path.join(folder, "run.txt")

    def expectations(self):
        """Name → (verdict, code), of the judgement in JSON."""
        return {each["name"]: (each["verdict"].removeprefix("VERDICT_").lower(), each.get("code", ""))
                for each in self.judged["judgement"].get("results", [])}

    def findings(self):
        return {each["code"] for each in self.judged["judgement"].get("findings", [])}

    def verdict(self):
        return self.judged["judgement"]["verdict"].removeprefix("VERDICT_").lower()

    def outcome(self):
        return self.judged["judgement"]["outcome"].removeprefix("OUTCOME_").lower().replace("_", " ")


class OnALab(unittest.TestCase):
    """Runs Firedrill against a lab, and looks before and after."""

    def use(self, lab):
        self.lab = lab
        self.folder = tempfile.mkdtemp(prefix="fd-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.state = os.path.join(self.folder, "state")
        temporary = os.path.join(self.folder, "t")
        os.mkdir(temporary)
        superuser = lab.connect()
        self.addCleanup(lambda: self.look.connection.close())
        self.look = Look(superuser, ROLES, temporary, self.state, reconnect=lab.connect)
        self.addCleanup(self.look.end_processes)
        self.assert_nothing_left("before")
        self.watcher = Watcher(lab)
        self.watcher.start()
        self.addCleanup(self.watcher.stop)

    def assert_nothing_left(self, when="after the run"):
        self.assertEqual([], self.look.wait_for_nothing(GONE_S), f"left {when}")

    def start(self, *arguments, site=None, preexec=None):
        self.began = time.monotonic()
        process = subprocess.Popen(
            [FIREDRILL, *arguments, "--site", site or self.lab.site, "--state-dir", self.state],
            env=self.look.environment(), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, preexec_fn=preexec)
        self.look.started.append(process.pid)
        self.addCleanup(self.abandon, process)
        return process

    @staticmethod
    def abandon(process):
        """A test that failed does not leave its command to the next one."""
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    def end(self, process):
        try:
            out, err = process.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            self.fail(f"firedrill did not end within {RUN_TIMEOUT_S} s:\n{out}{err}")
        result = Result(process.returncode, out, err, self.folder, time.monotonic() - self.began)
        print(f"\n  exit {result.code} after {result.took:.1f} s, at most {self.watcher.most_held} sessions held",
              flush=True)
        return result

    def run_file(self, experiment, *arguments, site=None, preexec=None):
        for name in os.listdir(self.folder):
            if name.startswith("run."):
                os.unlink(os.path.join(self.folder, name))
        written = [word for flag, ending in (("--junit", "xml"), ("--json", "json"), ("--report", "txt"))
                   for word in (flag, os.path.join(self.folder, f"run.{ending}"))]
        result = self.end(self.start("run", experiment, *written, *arguments, site=site, preexec=preexec))
        self.assert_nothing_left()
        return result

    def assert_plain(self, text):
        """Lines for a file or a pipe: no colours, no cursor movements, no line written over."""
        self.assertNotRegex(text, r"[\x00-\x08\x0b-\x1f\x7f]")

    def assert_end(self, result, code, verdict, outcome):
        self.assertEqual(code, result.code, result.said)
        self.assertIsNotNone(result.judged, "no JSON was written:\n" + result.said)
        self.assertEqual((verdict, outcome), (result.verdict(), result.outcome()), result.said)
        self.assert_told_alike(result)

    def assert_told_alike(self, result):
        """By JUnit as by JSON, and in plain lines."""
        cases = list(xml.etree.ElementTree.parse(result.junit_path).getroot().iter("testcase"))
        self.assertTrue(cases)
        failed = sum(case.find("failure") is not None for case in cases)
        wanted = sum(verdict == "failed" for verdict, _ in result.expectations().values())
        self.assertEqual(wanted, failed, "failures of JUnit and JSON differ")
        self.assert_plain(result.out)

    def assert_nothing_injected(self):
        self.assertEqual(0, self.watcher.most_held, "sessions of the fault were seen")
