#!/usr/bin/python3
"""Network namespaces as machines: a controller, a node with the database and its monitoring, a node with the shop and
the load, and a laptop, over TLS with certificates of `firedrill pki`. A run begins at the laptop; cables are pulled,
the controller is killed, the lever is pulled; and a schedule starts it again. Needs root; everything is made by the test and gone after it."""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import yaml

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/testing"))

from look import connect  # noqa: E402
from on_a_lab import LAB, LAB_TIMEOUT_S, dying_with_us  # noqa: E402

BINARIES = os.environ.get("FIREDRILL_BIN", os.path.join(ROOT, "build/bin"))
PORT = 7443
HOSTS = {"controller": "10.77.0.1", "database": "10.77.0.2", "shop": "10.77.0.3", "laptop": "10.77.0.4"}
SWITCH = "switch"
CLONE_NEWNET = 0x40000000
# Node → machine.
NODES = {"lab-db": "database", "lab-app": "shop", "lab-load": "shop"}
LEASE_S = 2.0
# How long a node waits for its controller where its file does not say.
GRACE_S = 0.5
# From its controller's death until the faults are off.
WITHOUT_CONTROLLER_S = 1.0
# Beyond the lease: 100 ms are promised, the rest is what a busy machine takes to look.
MARGIN_S = 0.1
LOOK_EVERY_S = 0.02
PATIENCE_S = 90
RUN_TIMEOUT_S = 180
LEAKER = "reports"
FIRST = os.path.join(ROOT, "experiments/unclosed-connections.yaml")
EVERY_MINUTE, EVERY_YEAR = "* * * * *", "0 0 1 1 *"

# A leak and nothing else, for as long as nobody ends it.
LEAK = """apiVersion: firedrill/v1
kind: Experiment
metadata: {name: leak}
spec:
  hypothesis: However a run ends, the leak ends with it.
  targets:
    - {name: db-node, selector: {matchLabels: {role: database}}, count: 1}
  limits: {environments: [lab], maxDuration: 2m}
  steadyState:
    - {name: answers, sql: {from: db-node, profile: dba, statement: usable-indexes}, is: "> 0", for: 300ms, every: 100ms}
  faults:
    - {name: leak, target: db-node, at: 0s, duration: DURATION, lease: 2s, holdConnections: {profile: leaker, state: idleInTransaction, count: 5}}
  expect:
    recovery:
      - {name: still-answers, probe: answers, since: leak.end, within: 5s, for: 500ms}
"""

# The server itself is held back, and its clients feel it.
STARVED = """apiVersion: firedrill/v1
kind: Experiment
metadata: {name: starved}
spec:
  hypothesis: A database that gets a third of the processor time that it needs makes logins slow, and only for as long.
  targets:
    - {name: db-node, selector: {matchLabels: {role: database}}, count: 1}
    - {name: load-node, selector: {matchLabels: {role: load}}, count: 1}
  limits: {environments: [lab], maxDuration: 2m}
  load:
    - name: shoppers
      target: load-node
      sendRequests:
        endpoint: shop
        rate: 40
        timeout: 5s
        values: {email: shop-emails}
        requests: [{name: login, path: "/login?email={email}"}]
  steadyState:
    - {name: logins-answer, load: shoppers, request: login, is: "ok >= 97%, p95 < 250ms", over: 2s, for: 1s}
  faults:
    - {name: starve, target: db-node, at: 0s, duration: 10s, throttleCpu: {subject: database, ofUse: 0.3}}
  expect:
    impact:
      - {name: logins-slow, load: shoppers, request: login, is: "p95 >= 100ms", over: 2s, since: starve.start, within: 10s}
    recovery:
      - {name: fast-again, probe: logins-answer, since: starve.end, within: 20s, for: 1s}
"""


def ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")
    return done.returncode == 0


class Machines:
    """A namespace for each host, and one for the switch between them. Names end with our pid."""

    def __init__(self):
        self.made = []
        try:
            for name in (SWITCH, *HOSTS):
                ip("netns", "add", self.name(name))
                self.made.append(name)
                ip("-n", self.name(name), "link", "set", "lo", "up")
            switch = self.name(SWITCH)
            ip("-n", switch, "link", "add", "br0", "type", "bridge")
            ip("-n", switch, "link", "set", "br0", "up")
            for name, address in HOSTS.items():
                ip("-n", switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", self.name(name))
                ip("-n", switch, "link", "set", name, "master", "br0", "up")
                ip("-n", self.name(name), "addr", "add", f"{address}/24", "dev", "eth0")
                ip("-n", self.name(name), "link", "set", "eth0", "up")
        except BaseException:
            self.remove()
            raise

    def name(self, host):
        return f"fd{os.getpid()}-{host}"

    def file(self, host):
        return f"/run/netns/{self.name(host)}"

    def at(self, host):
        """In front of a command: /sys stays what it is, unlike under `ip netns exec`."""
        return ["nsenter", f"--net={self.file(host)}"]

    def cable(self, host, state):
        ip("-n", self.name(SWITCH), "link", "set", host, state)

    def remove(self):
        for name in self.made:
            ip("netns", "del", self.name(name), check=False)


class SpreadLab:
    """A lab whose shop is on a machine of its own; its supervisor is on the database's."""

    def __init__(self, machines):
        self.dir = tempfile.mkdtemp(prefix="fd-lab-")
        words = [word for name, host in (("database", "database"), ("shop", "shop"), ("firedrill", "controller"))
                 for word in ("--host", f"{name}={HOSTS[host]}")]
        with tempfile.TemporaryFile("w+") as said:
            self.process = subprocess.Popen(
                [*machines.at("database"), LAB, "up", "--dir", self.dir, "--die-with-parent", *words,
                 "--network", f"shop={machines.file('shop')}"], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True, preexec_fn=dying_with_us(signal.SIGTERM))
            limit = time.monotonic() + LAB_TIMEOUT_S
            while not (described := self.described()).get("ready"):
                if self.process.poll() is not None or time.monotonic() > limit:
                    said.seek(0)
                    self.down()
                    raise RuntimeError(f"lab up: {said.read()}")
                time.sleep(0.1)
        self.ports = described["ports"]

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def described(self):
        try:
            with open(self.path("lab.json")) as described:
                return json.load(described)
        except FileNotFoundError:
            return {}

    def site(self):
        with open(self.path("site.yaml")) as site:
            return yaml.safe_load(site)["spec"]

    def connect(self):
        """By the socket in its folder: no cable is needed for that."""
        with open(self.path("postgres.password")) as word:
            return connect(self.path("postgresql"), self.ports["postgresql"], word.read().strip())

    def down(self):
        self.process.terminate()
        self.process.wait(LAB_TIMEOUT_S)
        shutil.rmtree(self.dir, ignore_errors=True)


class Doorway(threading.Thread):
    """Where a reverse proxy would be: brings what comes to the controller's address to the receiver on its loopback."""

    def __init__(self, machines, port):
        super().__init__(daemon=True)
        self.namespace, self.port = machines.file("controller"), port
        self.lines = []
        self.ready = threading.Event()
        self.start()
        if not self.ready.wait(10):
            raise RuntimeError("no doorway to the receiver of notifications")

    def run(self):
        # Of this thread alone: what it opens belongs to that machine.
        with open(self.namespace) as namespace:
            if ctypes.CDLL(None).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                return
        self.listener = socket.create_server((HOSTS["controller"], self.port))
        self.ready.set()
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                except OSError:
                    near.close()
                    continue
                self.lines += [near, far]
                for source, drain in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=(source, drain), daemon=True).start()

    @staticmethod
    def carry(source, drain):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                drain.sendall(data)
        with contextlib.suppress(OSError):
            drain.shutdown(socket.SHUT_WR)

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join(10)
        for line in (self.listener, *self.lines):
            line.close()


class Watcher(threading.Thread):
    """How many sessions the leaker holds, as the server says, all the time."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.connection = lab.connect()
        self.held = 0
        self.stopped = threading.Event()
        self.start()

    def run(self):
        with contextlib.closing(self.connection), self.connection.cursor() as cursor:
            while not self.stopped.wait(LOOK_EVERY_S):
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s AND state = 'idle in transaction'",
                               (LEAKER,))
                self.held = cursor.fetchone()[0]

    def stop(self):
        self.stopped.set()
        self.join()


@unittest.skipUnless(os.geteuid() == 0, "only root makes network namespaces: not looked at")
class OverTheNetwork(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="fd-net-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.machines = Machines()
        cls.addClassCleanup(cls.machines.remove)
        cls.lab = SpreadLab(cls.machines)
        cls.addClassCleanup(cls.lab.down)
        cls.watcher = Watcher(cls.lab)
        cls.addClassCleanup(cls.watcher.stop)
        doorway = Doorway(cls.machines, cls.lab.ports["firedrill_webhook"])
        cls.addClassCleanup(doorway.stop)
        cls.pki("init", "ca")
        cls.pki("issue", "ca", "--role", "controller", "--name", "c1", "--host", HOSTS["controller"])
        for node in NODES:
            cls.pki("issue", "ca", "--role", "injector", "--name", node)
        for role in ("operator", "admin"):
            cls.pki("issue", "ca", "--role", role, "--name", role)
        cls.write_files()

    @classmethod
    def pki(cls, *words):
        subprocess.run([os.path.join(BINARIES, "firedrill"), "pki", *words], cwd=cls.folder, check=True,
                       capture_output=True, timeout=60)

    @classmethod
    def write(cls, name, kind, spec):
        path = os.path.join(cls.folder, name)
        with open(path, "w") as written:
            yaml.safe_dump({"apiVersion": "firedrill/v1", "kind": kind, "metadata": {"name": name.split(".")[0]},
                            "spec": spec}, written)
        os.chmod(path, 0o600)
        return path

    @classmethod
    def write_files(cls):
        site = cls.lab.site()
        nodes = {node["name"]: node for node in site.pop("injectors")}
        controller = {"listen": f"{HOSTS['controller']}:{PORT}", "identity": f"{cls.folder}/controller-c1",
                      "revoked": f"{cls.folder}/ca/revoked.pem", "site": cls.write("site.yaml", "Site", site)}
        cls.controller_file = cls.write("controller.yaml", "Controller", controller)
        for node in NODES:
            cls.write(f"{node}.yaml", "Injector", {
                "controller": f"{HOSTS['controller']}:{PORT}", "identity": f"{cls.folder}/injector-{node}",
                "node": {**nodes[node], "environment": "lab"}})

    def setUp(self):
        self.started = []
        self.addCleanup(self.end_all)
        self.daemon = self.start_controller()
        self.injectors = {node: self.start_injector(node) for node in NODES}
        for node, injector in self.injectors.items():
            self.until(lambda: "registered with the controller" in self.said(injector), f"{node} registered")

    def end_all(self):
        for host in HOSTS:
            self.machines.cable(host, "up")
        for process in reversed(self.started):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.started):
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def begin(self, host, program, *words):
        output = os.path.join(self.folder, f"output-{self.id().split('.')[-1]}-{len(self.started)}")
        with open(output, "w") as opened:
            process = subprocess.Popen([*self.machines.at(host), os.path.join(BINARIES, program), *words],
                                       stdin=subprocess.DEVNULL, stdout=opened, stderr=opened, cwd=self.folder,
                                       preexec_fn=dying_with_us(signal.SIGTERM))
        process.output = output
        self.started.append(process)
        return process

    def said(self, process):
        with open(process.output) as opened:
            return opened.read()

    def until(self, condition, what, patience=PATIENCE_S):
        limit = time.monotonic() + patience
        while not condition():
            if time.monotonic() > limit:
                self.fail(f"waited {patience} s for: {what}\n" + "\n".join(self.said(each) for each in self.started))
            time.sleep(LOOK_EVERY_S)

    def start_controller(self):
        daemon = self.begin("controller", "firedrill-controller", "--config", self.controller_file, "--state-dir",
                            os.path.join(self.folder, "state-controller"))
        self.until(lambda: "listens on" in self.said(daemon), "a controller that listens")
        return daemon

    def start_injector(self, node):
        return self.begin(NODES[node], "firedrill-injector", "--config", os.path.join(self.folder, f"{node}.yaml"),
                          "--state-dir", os.path.join(self.folder, f"state-{NODES[node]}"))

    def at(self, who):
        return ("--controller", f"{HOSTS['controller']}:{PORT}", "--identity", f"{self.folder}/{who}-{who}")

    def ask(self, *words, who="operator"):
        done = subprocess.run([*self.machines.at("laptop"), os.path.join(BINARIES, "firedrill"), *words, *self.at(who)],
                              capture_output=True, text=True, timeout=PATIENCE_S)
        return done.returncode, done.stdout + done.stderr

    def write_text(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as written:
            written.write(text)
        return path

    def run_leak(self, duration="60s"):
        path = self.write_text("leak.yaml", LEAK.replace("DURATION", duration))
        run = self.begin("laptop", "firedrill", "run", path, *self.at("operator"), "--state-dir",
                         os.path.join(self.folder, "state-laptop"))
        self.until(lambda: self.watcher.held == 5 or run.poll() is not None, "the leak in force")
        self.assertIsNone(run.poll(), self.said(run))
        return run

    def seconds_until_healed(self, within):
        begin = time.monotonic()
        while self.watcher.held:
            self.assertLess(time.monotonic() - begin, within, f"{self.watcher.held} sessions are still held")
            time.sleep(LOOK_EVERY_S)
        return time.monotonic() - begin

    def report(self):
        done = subprocess.run([os.path.join(BINARIES, "firedrill"), "report", "last", "--state-dir",
                               os.path.join(self.folder, "state-controller")], capture_output=True, text=True, timeout=60)
        return " ".join((done.stdout + done.stderr).split())

    def test_1_the_first_experiment_runs_from_a_laptop(self):
        run = self.begin("laptop", "firedrill", "run", FIRST, *self.at("operator"), "--state-dir",
                         os.path.join(self.folder, "state-laptop"))
        self.assertEqual(run.wait(RUN_TIMEOUT_S), 0, self.said(run))
        self.assertIn("every fault undone", self.said(run))
        self.assertEqual(self.watcher.held, 0)
        self.assertIn("started by operator", self.report())

    def test_2_a_node_that_is_cut_off_heals_itself(self):
        run = self.run_leak()
        self.machines.cable("database", "down")
        took = self.seconds_until_healed(PATIENCE_S)
        print(f"\ncut off: healed {took:.2f} s after the cable was pulled (lease {LEASE_S:.0f} s)", flush=True)
        self.assertLessEqual(took, LEASE_S + MARGIN_S + 2 * LOOK_EVERY_S)
        self.assertIsNone(self.injectors["lab-db"].poll())
        self.machines.cable("database", "up")
        # Nobody is told that all went as planned: the fault was not there for as long as it should have been.
        self.assertEqual(run.wait(PATIENCE_S), 6, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertIn("leak on lab-db was ended before its time: nobody renewed its lease", said)
        self.assertIn("1 inconclusive", said)
        self.assertIn("every fault undone", said)
        self.assertEqual(self.watcher.held, 0)

    def test_3_a_controller_that_is_killed_and_started_again_ends_the_run_with_the_truth(self):
        run = self.run_leak()
        self.daemon.kill()
        self.daemon.wait()
        took = self.seconds_until_healed(PATIENCE_S)
        print(f"\ncontroller killed: healed {took:.2f} s later (grace {GRACE_S} s)", flush=True)
        self.assertLessEqual(took, WITHOUT_CONTROLLER_S)
        self.start_controller()
        self.assertEqual(run.wait(PATIENCE_S), 4, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertIn("leak on lab-db was ended by its node while the controller was away", said)
        self.assertIn("every fault undone", said)
        self.until(lambda: self.ask("get", "injectors")[1].count(" connected ") == len(NODES), "every injector again")
        self.assertIn("aborted", self.report())
        again = self.run_leak("1s")
        self.assertEqual(again.wait(PATIENCE_S), 0, self.said(again))

    def test_4_the_lever_ends_it(self):
        run = self.run_leak()
        begin = time.monotonic()
        code, said = self.ask("stop", "--all", "--reason", "a drill of the lever")
        self.assertEqual(code, 0, said)
        self.seconds_until_healed(PATIENCE_S)
        print(f"\nstop --all: healed {time.monotonic() - begin:.2f} s after it was typed", flush=True)
        self.assertEqual(run.wait(PATIENCE_S), 4, self.said(run))
        code, said = self.ask("run", os.path.join(self.folder, "leak.yaml"))
        self.assertEqual(code, 3, said)
        self.assertRegex(" ".join(said.split()), "the emergency lever is pulled")
        self.assertEqual(self.ask("unlock", "--reason", "it is over", who="admin")[0], 0)

    def active_alerts(self):
        """As the monitoring says on its own machine."""
        def get(server, path):
            return json.loads(subprocess.run([*self.machines.at("database"), "curl", "-sf", "-m", "5", server["url"] + path],
                                             check=True, capture_output=True).stdout)
        site = self.lab.site()
        alerts = get(site["prometheus"], "/api/v1/alerts")["data"]["alerts"]
        alerts += get(site["alertmanagers"][0], "/api/v2/alerts")
        return [each["labels"]["alertname"] for each in alerts if "firedrill_canary" not in each["labels"]]

    def apply(self, cron):
        with open(FIRST) as first:
            path = self.write_text("first.yaml", f'{first.read()}  schedule: {{cron: "{cron}", timeZone: Europe/Berlin, '
                                                 "startingDeadline: 30s}\n")
        code, said = self.ask("apply", path)
        self.assertEqual(code, 0, said)
        return said

    def slots(self):
        code, said = self.ask("describe", "experiment", "unclosed-connections", "-o", "json")
        self.assertEqual(code, 0, said)
        return [(slot["run"], slot["missed"], slot["reason"]) for slot in json.loads(said)["slots"]]

    def test_5_by_its_schedule_it_runs_again_whoever_watches(self):
        self.until(lambda: not self.active_alerts(), "an end of all alerts")
        self.assertIn("created (version 1), next slot", self.apply(EVERY_MINUTE))
        self.assertEqual(self.slots(), [])
        self.until(lambda: any(run or missed for run, missed, _ in self.slots()), "a slot that is decided")
        [(run, missed, reason)] = self.slots()
        self.assertEqual(missed, "", reason)
        # While it goes on; the next minute is not its business any more.
        self.assertIn(f"schedule.cron: {EVERY_MINUTE} -> {EVERY_YEAR}", self.apply(EVERY_YEAR))
        watching = self.begin("laptop", "firedrill", "watch", run, *self.at("operator"))
        self.until(lambda: self.watcher.held > 0, "the leak")
        # Who watches may go; the run is nobody's.
        watching.kill()
        watching = self.begin("laptop", "firedrill", "watch", run, *self.at("operator"))
        self.assertEqual(watching.wait(RUN_TIMEOUT_S), 0, self.said(watching))
        self.assertIn("every fault undone", self.said(watching))
        self.assertEqual(self.watcher.held, 0)
        self.assertIn("started by schedule:unclosed-connections", self.report())
        self.assertEqual(self.slots(), [(run, "", "")])

    def control_groups(self):
        """Of every process of the server: where it is, and what limits it."""
        with open(self.lab.path("postgresql", "data", "postmaster.pid")) as file:
            postmaster = file.readline().strip()
        with open(f"/proc/{postmaster}/cgroup") as file:
            return file.read()

    def test_6_the_database_itself_is_held_back_and_let_go(self):
        before = self.control_groups()
        run = self.begin("laptop", "firedrill", "run", self.write_text("starved.yaml", STARVED), *self.at("operator"),
                         "--state-dir", os.path.join(self.folder, "state-laptop"))
        self.until(lambda: "starve in force" in self.said(run) or run.poll() is not None, "the server held back")
        self.assertNotEqual(self.control_groups(), before)
        self.assertEqual(run.wait(RUN_TIMEOUT_S), 0, self.said(run))
        self.assertIn("every fault undone", self.said(run))
        self.assertEqual(self.control_groups(), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
