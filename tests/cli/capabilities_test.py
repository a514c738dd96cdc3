#!/usr/bin/python3
"""What the kernel's capabilities are needed for, measured: each kind of fault under root with no others than those that
it takes, and with one of them less, by which it is refused before anything is touched. docs/security.md has the table."""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import psycopg2

from stage import HERE, PROGRAM, Stage

sys.dont_write_bytecode = True
from look import free_port  # noqa: E402

UNIT = os.path.join(HERE, "../../packages/systemd/firedrill-injector.service")
# linux/capability.h
NUMBERS = {"CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_NET_ADMIN": 12, "CAP_IPC_LOCK": 14, "CAP_SYS_PTRACE": 19,
           "CAP_SYS_ADMIN": 21, "CAP_SYS_NICE": 23, "CAP_PERFMON": 38, "CAP_BPF": 39}
# What takes which. Beside these: what takes none.
REDIRECT = {"CAP_SYS_ADMIN"}
DESTROY = REDIRECT | {"CAP_NET_ADMIN"}
WHO_LISTENS = {"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}
CLOSED_FOLDER = {"CAP_DAC_READ_SEARCH"}
OTHERS_GROUP = {"CAP_DAC_OVERRIDE"}
PUNCTUAL = {"CAP_SYS_NICE", "CAP_IPC_LOCK"}
DELAY_S = 0.3
# A client of PostgreSQL asks for TLS; the server answers by one letter.
KNOCK = b"\0\0\0\x08\x04\xd2\x16\x2f"
SOMEBODY = "nobody"
# Uses a processor now and then, and listens.
BUSY = """import socket, time
held = socket.create_server(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
while True:
    for _ in range(200_000): pass
    time.sleep(0.02)
"""

SITE = """apiVersion: firedrill/v1
kind: Site
metadata: {{name: bare}}
spec:
  environment: lab
  injectors:
    - name: node-a
      labels: {{role: database}}
      policy: {{superuser: true}}
      subjects: [{{name: busy, port: {subject}}}]
      programs: [{{name: nothing, path: /bin/true, leaves: nothing}}]
      profiles:
        - {{name: holder, postgresql: {{host: 127.0.0.1, port: {port}, database: postgres, user: holder}}}}
        - {{name: admin, postgresql: {{host: 127.0.0.1, port: {port}, database: postgres, user: postgres}}}}
        - name: dba
          postgresql: {{host: 127.0.0.1, port: {port}, database: postgres, user: dba}}
          statements: [{{name: one, sql: "SELECT 1"}}]
"""
EXPERIMENT = """apiVersion: firedrill/v1
kind: Experiment
metadata: {{name: taken}}
spec:
  hypothesis: What takes rights is refused where they are not, and what takes none is done.
  targets: [{{name: db-node, selector: {{matchLabels: {{role: database}}}}, count: 1}}]
  limits: {{environments: [lab], maxDuration: 60s}}
  steadyState: [{{name: answers, sql: {{from: db-node, profile: dba, statement: one}}, is: "== 1", for: 300ms, every: 100ms}}]
  faults:
{faults}
  remedies: {remedies}
  expect: {{recovery: [{{name: still-answers, probe: answers, since: {first}.end, within: 5s, for: 300ms}}]}}
"""


def within(capabilities, *words):
    """A command of root's that has, and can get, no other capabilities."""
    few = ",".join(["-all", *("+" + name.removeprefix("CAP_").lower() for name in sorted(capabilities))])
    return ["setpriv", "--no-new-privs", f"--bounding-set={few}", "--", *words]


def of_the_unit():
    with open(UNIT) as file:
        return set(re.search(r"(?m)^CapabilityBoundingSet=(.*)$", file.read())[1].split())


def cpu_groups():
    """Where control groups with the controller cpu are mounted; None where a group there would not get it."""
    with open("/proc/self/mountinfo") as file:
        mounts = [(line.split()[4], line.split(" - ")[1].split()) for line in file]
    for folder, (kind, _, options) in mounts:
        if kind == "cgroup" and "cpu" in options.split(","):
            return folder
    for folder, (kind, _, _) in mounts:
        if kind == "cgroup2":
            with open(os.path.join(folder, "cgroup.subtree_control")) as file:
                return folder if "cpu" in file.read().split() else None
    return None


@unittest.skipUnless(os.geteuid() == 0, "only root can give away what it has")
@unittest.skipUnless(shutil.which("setpriv"), "no setpriv here")
class Capabilities(Stage):
    @classmethod
    def setUpClass(cls):
        wanted = sum(1 << NUMBERS[name] for name in NUMBERS)
        said = subprocess.run(within(NUMBERS, "grep", "CapEff", "/proc/self/status"), capture_output=True, text=True).stdout
        if not said or int(said.split()[1], 16) != wanted:
            raise unittest.SkipTest(f"this root has not all of {', '.join(NUMBERS)}: nothing was measured; {said}")
        super().setUpClass()
        cls.server.run("CREATE TABLE users (id int)", "CREATE INDEX users_id ON users (id)", "CREATE TABLE images (id int)")

    def begin_inject(self, capabilities, kind, *words):
        upstream = ("--upstream", f"127.0.0.1:{self.server.port}", "--protocol", "postgresql")
        return self.begin(*within(capabilities, PROGRAM, "inject", kind, *words, "--duration", "60s",
                                  *([] if kind == "throttle-cpu" else upstream)))

    def knock(self, port=None):
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", port or self.server.port), 10) as client:
            client.sendall(KNOCK)
            client.recv(1)
        return time.monotonic() - begun

    def assert_works(self, capabilities, kind, *words, while_on=lambda: None):
        process = self.begin_inject(capabilities, kind, *words)

        def in_force():
            while_on()
            return " in force" in self.said(process) or process.poll() is not None
        self.until(in_force, "in force")
        self.assertIsNone(process.poll(), self.said(process))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(30), 130, self.said(process))
        self.assertIn("is off, read back", self.said(process))

    def assert_refused(self, capabilities, words_of_lack, kind, *words):
        process = self.begin_inject(capabilities, kind, *words)
        self.assertEqual(process.wait(30), 4, self.said(process))
        said = " ".join(self.said(process).split())
        self.assertIn("refused; nothing of it stays", said)
        self.assertRegex(said, words_of_lack)

    def assert_takes(self, needed, kind, *words, **more):
        """Exactly those: it works with them, and is refused for the lack of each, by its name."""
        self.assert_works(needed, kind, *words, **more)
        for lacking in sorted(needed):
            self.assert_refused(needed - {lacking}, f"run the injector as root.* {lacking}", kind, *words)

    def run_within(self, capabilities, faults, remedies=(), subject=1):
        """A run of faults, each in force for two seconds where it is nothing that acts once: its exit code, and what it said."""
        site = self.write("all.yaml", SITE.format(port=self.server.port, subject=subject))
        steps = []
        for kind, keys in faults.items():
            once = kind in ("terminateSessions", "resetConnections")
            step = {"name": kind.lower(), "target": "db-node", "at": "1s", **({} if once else {"duration": "2s"}), kind: keys}
            steps.append("    - " + json.dumps(step))
        path = self.write("taken.yaml", EXPERIMENT.format(faults="\n".join(steps), remedies=json.dumps(remedies),
                                                          first=next(iter(faults)).lower()))
        process = self.begin(*within(capabilities, PROGRAM, "run", path, "--site", site))
        return process.wait(60), " ".join(self.said(process).split())

    @contextlib.contextmanager
    def busy(self, group=None):
        """A process of somebody else's, in a control group, with the port at which it listens."""
        user = pwd.getpwnam(SOMEBODY)
        process = subprocess.Popen(["/usr/bin/python3", "-c", BUSY], stdout=subprocess.PIPE, text=True, cwd="/", user=user.pw_uid,
                                   group=user.pw_gid, extra_groups=[])
        try:
            process.port = int(process.stdout.readline())
            if group:
                with open(os.path.join(group, "cgroup.procs"), "w") as file:
                    file.write(str(process.pid))
            yield process
        finally:
            process.kill()
            process.wait(10)
            process.stdout.close()

    @contextlib.contextmanager
    def group(self):
        root = cpu_groups()
        if root is None:
            self.skipTest("a new control group has no controller cpu here")
        folder = os.path.join(root, f"fdtest-capabilities-{os.getpid()}")
        os.mkdir(folder)
        try:
            yield folder
        finally:
            self.until(lambda: self.removed(folder), "the group empty")

    @staticmethod
    def removed(folder):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        return not os.path.exists(folder)

    def test_clients_of_a_server_take_none(self):
        client = psycopg2.connect(host="127.0.0.1", port=self.server.port, user="holder", dbname="postgres")
        code, said = self.run_within(set(), {
            "holdConnections": {"profile": "holder", "state": "idleInTransaction", "count": 3},
            "loseIndex": {"profile": "admin", "index": "public.users_id", "superuser": True},
            "lockTable": {"profile": "admin", "table": "public.images", "superuser": True},
            "stormQueries": {"profile": "dba", "statement": "one", "rate": 5},
            "terminateSessions": {"profile": "dba", "user": "holder"},
        }, [{"name": "nothing", "target": "db-node", "at": "2s", "runProgram": {"program": "nothing"}}])
        self.assertEqual(code, 0, said)
        with self.assertRaises(psycopg2.OperationalError), client.cursor() as cursor:
            cursor.execute("SELECT 1")

    def test_traffic_that_comes_to_an_address_takes_none(self):
        held, port = free_port()
        held.close()

        def knock():
            with contextlib.suppress(OSError):
                self.knock(port)
        self.assert_works(set(), "delay-bytes", "--delay", f"{DELAY_S}s", "--listen", f"127.0.0.1:{port}", while_on=knock)

    def test_traffic_that_knows_nothing_takes_sys_admin(self):
        slowest = 0

        def knock():
            nonlocal slowest
            slowest = max(slowest, self.knock())
        self.assert_takes(REDIRECT, "delay-bytes", "--delay", f"{DELAY_S}s", while_on=knock)
        self.assertGreaterEqual(slowest, DELAY_S)
        self.assertLess(self.knock(), DELAY_S)

    def test_what_may_be_begun_and_its_end_not_be_seen_is_refused(self):
        """An injector that might put programs at a cgroup, but not list them, said that it had looked."""
        self.assert_refused({"CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"}, "listing the kernel's BPF links: .* CAP_SYS_ADMIN",
                            "delay-bytes", "--delay", "1s")

    def test_ending_connections_takes_net_admin_too(self):
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as client:
            for lacking in sorted(DESTROY):
                self.assert_refused(DESTROY - {lacking}, lacking, "reset-connections")
            client.sendall(KNOCK)
            self.assertTrue(client.recv(1))
            process = self.begin_inject(DESTROY, "reset-connections")
            self.assertEqual(process.wait(30), 0, self.said(process))
            with self.assertRaises(OSError):
                client.recv(1)
        self.assert_refused(REDIRECT, "CAP_NET_ADMIN", "delay-bytes", "--delay", "1s", "--reconnect")

    def test_holding_back_processes_takes_none_where_the_group_is_roots(self):
        with self.group() as group, self.busy(group):
            self.assert_works(set(), "throttle-cpu", "--cpus", "0.01", "--cgroup", "/" + os.path.basename(group))

    def test_who_listens_is_found_by_sys_ptrace_and_dac_read_search(self):
        with self.group() as group, self.busy(group) as busy:
            self.assert_takes(WHO_LISTENS, "throttle-cpu", "--cpus", "0.01", "--port", str(busy.port))

    def test_the_group_of_another_user_takes_dac_override(self):
        owner = pwd.getpwnam(SOMEBODY).pw_uid
        with self.group() as group, self.busy(group):
            for path in (group, *(os.path.join(group, name) for name in os.listdir(group))):
                os.chown(path, owner, -1)
            self.assert_takes(OTHERS_GROUP, "throttle-cpu", "--cpus", "0.01", "--cgroup", "/" + os.path.basename(group))

    def test_a_pidfile_in_a_closed_folder_takes_dac_read_search(self):
        closed = os.path.join(self.folder, "closed")
        os.mkdir(closed)
        with self.group() as group, self.busy(group) as busy:
            path = os.path.join(closed, "pid")
            with open(path, "w") as file:
                file.write(f"{busy.pid}\n")
            for each in (path, closed):
                os.chown(each, pwd.getpwnam(SOMEBODY).pw_uid, -1)
            os.chmod(closed, 0o700)
            self.assert_takes(CLOSED_FOLDER, "throttle-cpu", "--cpus", "0.01", "--pidfile", path)

    def test_priority_and_locked_memory(self):
        """What keeps undoing punctual is never refused: it is taken where it may be."""
        for capabilities in (set(), *({each} for each in PUNCTUAL)):
            held, port = free_port()
            held.close()
            process = self.begin_inject(capabilities, "delay-bytes", "--delay", "1s", "--listen", f"127.0.0.1:{port}")
            self.until(lambda: " is on at " in self.said(process) or process.poll() is not None, "it is on")
            for name in ("firedrill-injector", "firedrill-reaper"):
                one, = self.processes(name)
                self.assertEqual(any(map(self.is_preferred, self.threads(one.pid))), "CAP_SYS_NICE" in capabilities, name)
                self.assertEqual(self.locked(one.pid) > 0, "CAP_IPC_LOCK" in capabilities, name)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(30), 130, self.said(process))

    @staticmethod
    def threads(pid):
        return map(int, os.listdir(f"/proc/{pid}/task"))

    @staticmethod
    def is_preferred(thread):
        return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO

    @staticmethod
    def locked(pid):
        with open(f"/proc/{pid}/status") as file:
            return int(re.search(r"(?m)^VmLck:\s+(\d+)", file.read())[1])

    def test_a_run_is_refused_before_it_starts(self):
        with self.busy() as busy:
            for lacking, kind, keys in (("CAP_SYS_ADMIN", "delayBytes", {"profile": "holder", "delay": "1s"}),
                                        ("CAP_NET_ADMIN", "delayBytes", {"profile": "holder", "delay": "1s", "reconnect": True}),
                                        ("CAP_NET_ADMIN", "resetConnections", {"profile": "holder"}),
                                        ("CAP_SYS_PTRACE", "throttleCpu", {"subject": "busy", "cpus": 0.5})):
                with socket.create_connection(("127.0.0.1", self.server.port), 10):
                    code, said = self.run_within(of_the_unit() - {lacking}, {kind: keys}, subject=busy.port)
                self.assertEqual(code, 3, said)
                self.assertRegex(said, f"not started .node-a refuses {kind.lower()}: .*{lacking}")

    def test_the_unit_grants_what_is_needed_and_no_more(self):
        unit = of_the_unit()
        # Whoever may write in spite of modes may read and search, too.
        self.assertEqual(unit, DESTROY | WHO_LISTENS - CLOSED_FOLDER | OTHERS_GROUP | PUNCTUAL)
        self.assert_works(unit, "delay-bytes", "--delay", f"{DELAY_S}s", "--reconnect", while_on=self.knock)
        with self.group() as group, self.busy(group) as busy:
            os.chown(group, pwd.getpwnam(SOMEBODY).pw_uid, -1)
            self.assert_works(unit, "throttle-cpu", "--cpus", "0.01", "--port", str(busy.port))


if __name__ == "__main__":
    unittest.main()
