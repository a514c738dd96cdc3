"""What the tests of the command line share: a state folder of their own, a bare PostgreSQL, commands."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../testing"))

from bare_postgres import BarePostgres  # noqa: E402
from look import Look, Process, children_of  # noqa: E402

BINARIES = os.environ.get("FIREDRILL_BIN", os.path.join(HERE, "../../build/bin"))
PROGRAM = os.path.join(BINARIES, "firedrill")
CONTROLLER = os.path.join(BINARIES, "firedrill-controller")
INJECTOR = os.path.join(BINARIES, "firedrill-injector")
PATIENCE_S = 60
ROLES = ("holder", "dba")

EXPERIMENT = """apiVersion: firedrill/v1
kind: Experiment
metadata: {{name: held}}
spec:
  hypothesis: A few held sessions are gone when their time is over.
  targets:
    - {{name: db-node, selector: {{matchLabels: {{role: database}}}}, count: 1}}
  limits: {{environments: [lab], maxDuration: 60s}}
  steadyState:
    - {{name: answers, sql: {{from: db-node, profile: dba, statement: one}}, is: "== {gate}", for: 300ms, every: 100ms}}
  faults:
    - {{name: hold, target: db-node, at: 0s, duration: {duration}, lease: 2s, holdConnections: {{profile: holder, state: idleInTransaction, count: 3}}}}
  expect:
    recovery:
      - {{name: still-answers, probe: answers, since: hold.end, within: 2s, for: 500ms}}
"""

SITE = """apiVersion: firedrill/v1
kind: Site
metadata: {{name: bare}}
spec:
  environment: lab
  injectors:
    - name: node-a
      labels: {{role: database}}
      {policy}
      profiles:
        - {{name: holder, postgresql: {{host: 127.0.0.1, port: {port}, database: postgres, user: holder}}}}
        - name: dba
          postgresql: {{host: 127.0.0.1, port: {port}, database: postgres, user: dba}}
          statements: [{{name: one, sql: "SELECT 1"}}]
"""


def closed_hours():
    """A node's policy with a window that is not open now, whatever the time is."""
    day = subprocess.run(["date", "+%w"], env={"TZ": "Pacific/Kiritimati"}, capture_output=True, text=True).stdout
    return ('policy: {hours: [{from: "00:00", to: "00:01", timeZone: Pacific/Kiritimati, '
            f'days: [{(int(day) + 3) % 7}]}}]}}')


class Stage(unittest.TestCase):
    """A folder for each test; a server for each class."""

    @classmethod
    def setUpClass(cls):
        cls.server = BarePostgres()
        cls.server.run(*(f"CREATE ROLE {role} LOGIN" for role in ROLES),
                       "GRANT pg_monitor, pg_signal_backend TO dba")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fd-cli-")
        self.state = os.path.join(self.folder, "state")
        temporary = os.path.join(self.folder, "t")
        os.mkdir(temporary)
        self.look = Look(self.server.superuser, ROLES, temporary, self.state)
        self.started = []
        self.site = self.write("site.yaml", SITE.format(port=self.server.port, policy=""))

    def tearDown(self):
        self.look.end_processes()
        for process in self.started:
            process.wait(10)
            if process.stdout:
                process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def experiment(self, duration="30s", gate=1):
        return self.write("held.yaml", EXPERIMENT.format(duration=duration, gate=gate))

    def firedrill(self, *words, state=None):
        """A whole command: (exit code, standard output, standard error)."""
        done = subprocess.run([PROGRAM, *words, "--state-dir", state or self.state], env=self.look.environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S)
        return done.returncode, done.stdout, done.stderr

    def begin(self, *words, state=None, preexec=None):
        """A command that goes on; what it says is in `output`. `state`: another folder, or False: it has to do with none."""
        output = os.path.join(self.folder, f"output-{len(self.started)}")
        folder = [] if state is False else ["--state-dir", state or self.state]
        with open(output, "w") as file:
            process = subprocess.Popen([*words, *folder], env=self.look.environment(), stdin=subprocess.DEVNULL, stdout=file,
                                       stderr=file, start_new_session=True, preexec_fn=preexec)
        self.look.started.append(process.pid)
        self.started.append(process)
        process.output = output
        return process

    def begin_run(self, experiment):
        return self.begin(PROGRAM, "run", experiment, "--site", self.site)

    def said(self, process):
        with open(process.output) as file:
            return file.read()

    def until(self, condition, what):
        limit = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > limit:
                outputs = "\n".join(self.said(each) for each in self.started)
                self.fail(f"waited {PATIENCE_S} s for: {what}\n{outputs}")
            time.sleep(0.02)

    def until_held(self, process):
        self.until(lambda: "in force" in self.said(process) or process.poll() is not None, "the fault in force")
        self.assertIsNone(process.poll(), self.said(process))

    def processes(self, program):
        """Living ones of this test, by their program; nobody else's."""
        found = []
        for pid in self.look.pids():
            try:
                process = Process(pid)
            except OSError:
                continue
            if process.program == program:
                found.append(process)
                self.addCleanup(process.close)
            else:
                process.close()
        return found

    def outcomes(self):
        """`firedrill runs`, newest first: [(run, outcome)]."""
        code, out, err = self.firedrill("runs")
        self.assertEqual((code, err), (0, ""))
        return re.findall(r"^([a-z0-9]{8}) +\S+ +(\w+(?: \w+)?) +held$", out, re.M)
