#!/usr/bin/python3
"""throttleCpu by hand on control groups of version 2: run by vm_test.py in a machine that has nothing else to do."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
PROGRAM = os.path.join(os.environ["FIREDRILL_BIN"], "firedrill")
ROOT = "/sys/fs/cgroup"
CONTROLLERS = "+cpu +memory +pids"
PATIENCE_S = 60
ASKED = 0.1
SPIN = "while :; do :; done"
LISTENER = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 7777))
def spin():
    while True: pass
for _ in range(3): threading.Thread(target=spin).start()
"""


def read(*path):
    with open(os.path.join(*path)) as file:
        return file.read().strip()


def write(text, *path):
    with open(os.path.join(*path), "w") as file:
        file.write(text)


def where(pid):
    return ROOT + read(f"/proc/{pid}/cgroup").removeprefix("0::").rstrip("/")


def groups():
    """Every group, with all of it that a fault might change."""
    files = ("cgroup.type", "cgroup.subtree_control", "cpu.max", "cpu.weight")
    return {folder: [read(folder, name) for name in files if name in names] for folder, _, names in os.walk(ROOT)}


class ThrottleCpu(unittest.TestCase):
    def setUp(self):
        # As systemd has it: whoever works is in a leaf, and the slices pass on what they have.
        self.service = self.group("system.slice", "shop.service")
        write(CONTROLLERS, ROOT, "cgroup.subtree_control")
        write(CONTROLLERS, ROOT, "system.slice", "cgroup.subtree_control")
        # Whoever is in the root, as Firedrill is, goes before those that only keep the processor busy.
        write("1", ROOT, "system.slice", "cpu.weight")
        self.folder = self.enterContext(tempfile.TemporaryDirectory())

    def group(self, *names):
        folder = ROOT
        for name in names:
            folder = os.path.join(folder, name)
            if not os.path.exists(folder):
                os.mkdir(folder)
                self.addCleanup(self.until, lambda folder=folder: self.removed(folder), f"an end of {folder}")
        return folder

    @staticmethod
    def removed(folder):
        try:
            os.rmdir(folder)
        except OSError:
            pass
        return not os.path.exists(folder)

    def until(self, true, what):
        limit = time.monotonic() + PATIENCE_S
        while not true():
            self.assertLess(time.monotonic(), limit, f"waited for {what}")
            time.sleep(0.05)

    def begin(self, folder, *command):
        """A process that works in the group."""
        process = subprocess.Popen(["/bin/sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$@"', "sh", *command],
                                   stdout=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(process.wait)
        self.addCleanup(os.killpg, process.pid, signal.SIGKILL)
        self.until(lambda: read(f"/proc/{process.pid}/cmdline").split("\0")[:-1] == list(command), "its program")
        write(f"{process.pid}\n", self.folder, "pid")
        return process

    def spin(self, folder):
        # Firedrill goes first, in the root too.
        return self.begin(folder, "/bin/sh", "-c", f"renice -n 19 $$ > /dev/null; {SPIN}")

    def inject(self, *subject):
        """Begun: its private controller has ten seconds to start, for which an emulated processor may be too slow."""
        for _ in range(5):
            self.said = tempfile.mktemp(dir=self.folder)
            with open(self.said, "w") as out:
                process = subprocess.Popen([PROGRAM, "inject", "throttle-cpu", "--cpus", str(ASKED), *subject, "--duration",
                                            "5m", "--state-dir", self.said + "-state"], stdout=out, stderr=out)
            process.said = self.said
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            self.until(lambda: "; it ends after" in read(self.said) or process.poll() is not None, "its start")
            if process.poll() is None or "; it ends after" in read(self.said):
                return process
        self.fail(read(self.said))

    def in_force(self, *subject):
        process = self.inject(*subject)
        self.until(lambda: "in force" in read(self.said) or process.poll() is not None, "it in force")
        self.assertIsNone(process.poll(), read(self.said))
        return process

    def by_pidfile(self):
        return "--pidfile", os.path.join(self.folder, "pid")

    def end(self, process):
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(PATIENCE_S), 130, read(process.said))
        self.assertIn("is off, read back", read(process.said))

    def refused(self, *subject):
        process, before = self.inject(*subject), groups()
        self.assertEqual(process.wait(PATIENCE_S), 4, read(self.said))
        self.assertEqual(groups(), before)
        return " ".join(read(self.said).split())

    def share(self, folder, seconds=2):
        def used():
            return time.monotonic(), int(re.search(r"usage_usec (\d+)", read(folder, "cpu.stat"))[1]) / 1e6
        (begun, before), _ = used(), time.sleep(seconds)
        now, after = used()
        print(f"    {self._testMethodName}: {folder} used {(after - before) / (now - begun):.3f} processors, {read(folder, 'cpu.max')}")
        return (after - before) / (now - begun)

    def held_and_let_go(self, process, *subject, ends=None):
        """A process among others: held back in a group of ours, and back again. What it is said to be is measured."""
        before, home = groups(), where(process.pid)
        self.assertGreater(self.alone(process.pid), 2 * ASKED)
        fault = self.in_force(*subject)
        inner = where(process.pid)
        self.assertTrue(inner.startswith(home + "/firedrill-"), inner)
        self.assertLess(self.share(inner), ASKED * 1.2)
        # Not stopped; less than asked where Firedrill itself keeps the only processor busy.
        self.assertGreater(self.share(inner), ASKED * 0.2)
        (ends or self.end)(fault)
        self.assertEqual(where(process.pid), home)
        self.assertEqual(groups(), before)
        self.assertGreater(self.alone(process.pid), 2 * ASKED)

    def alone(self, pid, seconds=2):
        """What the process itself uses, without the group."""
        def used():
            fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            return time.monotonic(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        (begun, before), _ = used(), time.sleep(seconds)
        now, after = used()
        return (after - before) / (now - begun)

    def test_a_process_with_a_neighbour_in_a_leaf(self):
        self.begin(self.service, "/bin/sleep", "1000")
        self.held_and_let_go(self.spin(self.service), *self.by_pidfile())

    def test_whoever_listens_with_all_its_threads(self):
        self.begin(self.service, "/bin/sleep", "1000")
        process = self.begin(self.service, "/usr/bin/python3", "-c", LISTENER)
        self.until(lambda: len(os.listdir(f"/proc/{process.pid}/task")) == 4, "its threads")
        self.held_and_let_go(process, "--port", "7777")

    def test_a_child_that_nobody_has_waited_for(self):
        self.begin(self.service, "/bin/sleep", "1000")
        process = self.begin(self.service, "/bin/bash", "-c", "sleep 0.1 & exec yes")
        self.until(lambda: "yes" in read(f"/proc/{process.pid}/comm"), "a parent that waits for nobody")
        self.held_and_let_go(process, *self.by_pidfile())

    def test_a_process_in_the_root_beside_slices(self):
        self.begin(self.service, "/bin/sleep", "1000")
        self.held_and_let_go(self.spin(ROOT), *self.by_pidfile())

    def test_refuses_to_change_the_shares_of_others(self):
        write("-cpu", ROOT, "system.slice", "cgroup.subtree_control")
        write("-cpu", ROOT, "cgroup.subtree_control")
        self.spin(ROOT)
        self.assertIn(f"would change the shares of {ROOT}/", self.refused(*self.by_pidfile()))

    def test_a_killed_injector_is_undone_by_its_reaper(self):
        def ends(fault):
            [injector] = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and
                          read(f"/proc/{pid}/comm") == "firedrill-injec"]
            os.kill(injector, signal.SIGKILL)
            self.assertEqual(fault.wait(PATIENCE_S), 6, read(self.said))
        self.begin(self.service, "/bin/sleep", "1000")
        self.held_and_let_go(self.spin(self.service), *self.by_pidfile(), ends=ends)

    def test_a_group_of_its_own_gets_its_own_limit_back(self):
        process = self.spin(self.service)
        for limit, subject in (("max 100000", self.by_pidfile()),
                               ("150000 200000", ("--cgroup", "/system.slice/shop.service")),
                               ("1000000 1000000", ("--unit", "shop.service"))):
            with self.subTest(limit=limit, subject=subject):
                write(limit, self.service, "cpu.max")
                fault = self.in_force(*subject)
                self.assertEqual(where(process.pid), self.service)
                self.assertLess(self.share(self.service), ASKED * 1.2)
                self.end(fault)
                self.assertEqual(read(self.service, "cpu.max"), limit)

    def test_a_slice_with_all_that_is_in_it(self):
        self.spin(self.service)
        self.spin(self.group("system.slice", "other.service"))
        fault, slice_ = self.in_force("--cgroup", "/system.slice"), os.path.join(ROOT, "system.slice")
        self.assertLess(self.share(slice_), ASKED * 1.2)
        self.end(fault)
        self.assertEqual(read(slice_, "cpu.max"), "max 100000")

    def test_two_in_one_group_leave_nothing_whoever_ends_first(self):
        self.begin(self.service, "/bin/sleep", "1000")
        before = groups()
        for order in (0, 1), (1, 0):
            with self.subTest(order=order):
                processes, faults = [], []
                for _ in order:
                    processes.append(self.spin(self.service))
                    faults.append(self.in_force(*self.by_pidfile()))
                    self.assertNotEqual(where(processes[-1].pid), self.service)
                for each in order:
                    self.end(faults[each])
                    self.assertEqual(where(processes[each].pid), self.service)
                self.assertEqual(groups(), before)
                for process in processes:
                    process.send_signal(signal.SIGSTOP)

    def threads_of(self, domain, name):
        folder = self.group(*domain.removeprefix(ROOT + "/").split("/"), name)
        write("threaded", folder, "cgroup.type")
        return folder

    def test_a_threaded_group(self):
        workers = self.threads_of(self.service, "workers")
        write("+cpu", self.service, "cgroup.subtree_control")
        with self.subTest("as the subject"):
            process = self.spin(self.service)
            write(str(process.pid), workers, "cgroup.procs")
            fault = self.in_force("--cgroup", "/system.slice/shop.service/workers")
            self.assertLess(self.share(workers), ASKED * 1.2)
            self.end(fault)
            self.assertEqual(read(workers, "cpu.max"), "max 100000")
        with self.subTest("with neighbours in it"):
            neighbour = self.spin(self.service)
            write(str(neighbour.pid), workers, "cgroup.procs")
            write(f"{process.pid}\n", self.folder, "pid")
            neighbour.send_signal(signal.SIGSTOP)
            self.held_and_let_go(process, *self.by_pidfile())
        with self.subTest("beside others"):
            neighbour.send_signal(signal.SIGCONT)
            neighbour.send_signal(signal.SIGSTOP)
            self.held_and_let_go(self.spin(self.service), *self.by_pidfile())

    def test_refuses_a_group_without_the_controller(self):
        inner = self.group("system.slice", "shop.service", "inner")
        self.spin(inner)
        for subject in (self.by_pidfile(), ("--cgroup", "/system.slice/shop.service/inner")):
            said = self.refused(*subject)
            self.assertIn("has no controller cpu, since the", said)
            line = re.search(r"echo \+cpu > \S+/cgroup.subtree_control", said)[0]
        subprocess.run(["/bin/sh", "-c", line], check=True)
        self.end(self.in_force(*self.by_pidfile()))

    def test_refuses_what_version_2_permits_no_group_beside(self):
        """Processes of its own, and a group with others: nothing can be threaded here."""
        other = self.group("system.slice", "shop.service", "other")
        self.begin(other, "/bin/sleep", "1000")
        self.begin(self.service, "/bin/sleep", "1000")
        self.spin(self.service)
        said = self.refused(*self.by_pidfile())
        self.assertIn(f"has {other} in it", said)
        self.assertIn("name the whole group as the subject", said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
