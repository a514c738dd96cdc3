#!/usr/bin/python3
"""The promises of the rehearsal stack: it comes up whole, it goes away whole, and labs do not meet."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

sys.dont_write_bytecode = True
LAB = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../experiments/lab/lab"))
sys.path.insert(0, os.path.dirname(LAB))

from labkit import configuration, defects  # noqa: E402
from labkit.accounts import LabError  # noqa: E402

PR_SET_PDEATHSIG = 1


def lab(*arguments, check=True):
    done = subprocess.run([LAB, *arguments], capture_output=True, text=True, timeout=90)
    if check and done.returncode != 0:
        raise AssertionError(f"lab {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done


def processes_of(directory):
    """Looks in /proc for whoever works in the directory or names it: no list that the lab itself keeps."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            where = os.readlink(f"/proc/{name}/cwd").removesuffix(" (deleted)")
            with open(f"/proc/{name}/cmdline", "rb") as command:
                named = f"{directory}/".encode() in command.read()
        except OSError:
            continue
        if where == directory or where.startswith(f"{directory}/") or named:
            found.add(int(name))
    return found - {os.getpid()}


def wait_until(condition, seconds):
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def described(directory):
    with open(os.path.join(directory, "lab.json")) as stored:
        return json.load(stored)


def fetch(address):
    with urllib.request.urlopen(address, timeout=5) as answer:
        return answer.read().decode()


class LabTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="lab-test-")
        os.chmod(folder.name, 0o755)
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)

    def up(self, name, *arguments):
        directory = os.path.join(self.folder, name)
        self.addCleanup(lambda: lab("down", "--dir", directory, check=False))
        lab("up", "--dir", directory, *arguments)
        return directory

    def test_two_labs_run_side_by_side_and_leave_nothing(self):
        one = self.up("one")
        two = self.up("two", "--defect", "rule-deleted", "--site", os.path.join(self.folder, "two.yaml"))
        ports_one, ports_two = (set(described(each)["ports"].values()) for each in (one, two))
        self.assertFalse(ports_one & ports_two)

        urls = described(one)["urls"]
        self.assertIn("user", json.loads(fetch(urls["shop"] + "/login?email=user1@shop.example")))
        self.assertEqual(20, len(json.loads(fetch(urls["shop"] + "/api/images"))["images"]))
        self.assertIn('db_errors_total{code="53300"} 0.0', fetch(urls["shop"] + "/metrics"))
        self.assertIn(defects.SLOTS_ALERT, self.rules(one))
        self.assertNotIn(defects.SLOTS_ALERT, self.rules(two))
        self.assertEqual(self.rules(one) - {defects.SLOTS_ALERT}, self.rules(two))
        self.assert_site_is_usable(os.path.join(one, "site.yaml"), one)
        self.assert_site_is_usable(os.path.join(self.folder, "two.yaml"), two)

        before = described(one)["servers"]["shop"]
        lab("restart-shop", "--dir", one)
        self.assertNotEqual(before, described(one)["servers"]["shop"])
        self.assertIn("alive", fetch(urls["shop"] + "/health"))

        # The look must be able to see, else "nothing found" proves nothing.
        self.assertGreaterEqual(len(processes_of(one)), 7)
        lab("down", "--dir", one)
        self.assertEqual(set(), processes_of(one))
        self.assertFalse(os.path.exists(one))
        self.assertIn("alive", fetch(described(two)["urls"]["shop"] + "/health"))
        lab("down", "--dir", two)
        self.assertEqual([], os.listdir(self.folder))

    def rules(self, directory):
        groups = json.loads(fetch(described(directory)["urls"]["prometheus"] + "/api/v1/rules"))["data"]["groups"]
        return {rule["name"] for group in groups for rule in group["rules"]}

    def assert_site_is_usable(self, path, directory):
        import yaml
        with open(path) as opened:
            spec = yaml.safe_load(opened)["spec"]
        self.assertEqual(["lab-db", "lab-app", "lab-load"], [each["name"] for each in spec["injectors"]])
        self.assertIn("pg", fetch(spec["prometheus"]["url"] + "/api/v1/label/__name__/values"))
        secrets = [each["token"]["file"] for each in spec["webhook"]["receivers"]]
        secrets += [each["postgresql"]["password"]["file"] for each in spec["injectors"][0]["profiles"]]
        for secret in secrets:
            self.assertTrue(secret.startswith(directory))
            self.assertEqual(0o600, os.stat(secret).st_mode & 0o777)
            self.assertGreater(os.path.getsize(secret), 10)
        self.assertTrue(os.access(spec["injectors"][1]["programs"][0]["path"], os.X_OK))

    def test_a_killed_supervisor_leaves_no_server(self):
        directory = self.up("killed")
        self.assertGreaterEqual(len(processes_of(directory)), 7)
        os.kill(described(directory)["pid"], signal.SIGKILL)
        self.assertTrue(wait_until(lambda: not processes_of(directory), 3), processes_of(directory))
        self.assertIn("dead", lab("status", "--dir", directory, check=False).stdout)
        lab("down", "--dir", directory)
        self.assertFalse(os.path.exists(directory))

    def test_down_ends_a_stopped_database_of_a_killed_supervisor(self):
        directory = self.up("stopped")
        servers = described(directory)["servers"]
        os.kill(servers["postgresql"], signal.SIGSTOP)
        os.kill(described(directory)["pid"], signal.SIGKILL)
        self.assertTrue(wait_until(lambda: servers["prometheus"] not in processes_of(directory), 3))
        self.assertIn(servers["postgresql"], processes_of(directory))
        lab("down", "--dir", directory)
        self.assertTrue(wait_until(lambda: not processes_of(directory), 3), processes_of(directory))
        self.assertFalse(os.path.exists(directory))

    def test_a_lab_in_the_foreground_ends_with_its_parent(self):
        directory = os.path.join(self.folder, "foreground")
        parent = subprocess.Popen(
            ["/bin/sh", "-c", '"$0" up --die-with-parent --dir "$1" & wait', LAB, directory],
            stdout=subprocess.PIPE, text=True,
            preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
        with parent.stdout as said:
            for line in said:
                if "stop it" in line:
                    break
            self.assertGreaterEqual(len(processes_of(directory)), 7)
            parent.kill()
            parent.wait()
        self.assertTrue(wait_until(lambda: not processes_of(directory) and not os.path.exists(directory), 8))

    def test_the_look_for_leftovers_sees_a_leftover(self):
        os.mkdir(os.path.join(self.folder, "x"))
        planted = subprocess.Popen(["/bin/sleep", "60"], cwd=os.path.join(self.folder, "x"))
        try:
            self.assertEqual({planted.pid}, processes_of(self.folder))
        finally:
            planted.kill()
            planted.wait()

    def test_a_mistake_starts_nothing_and_says_what_to_do(self):
        foreign = os.path.join(self.folder, "foreign")
        os.mkdir(foreign)
        with open(os.path.join(foreign, "precious"), "w"):
            pass
        for arguments, words in ((("up", "--defect", "rule-delted"), "`lab defects` lists them"),
                                 (("up", "--dir", foreign), "is not empty and was not made by the lab"),
                                 (("up", "--dir", os.path.join(self.folder, "l" * 80)), "choose a shorter --dir"),
                                 (("down", "--dir", foreign), "there is no lab in")):
            done = lab(*arguments, check=False)
            self.assertEqual(1, done.returncode)
            self.assertIn(words, done.stderr)
        self.assertEqual(["precious"], os.listdir(foreign))


class DefectTest(unittest.TestCase):
    def test_every_defect_of_a_rule_changes_that_rule_only(self):
        sound = configuration.rule_texts(1, [])
        for name, gone, come in (("rule-deleted", defects.SLOTS_ALERT, ""),
                                 ("threshold-too-high", "> 0.8", "> 1.5"),
                                 ("already-firing", "> 0.8", "> 0.01"),
                                 ("for-10m", "for: 2s", "for: 10m")):
            planted = configuration.rule_texts(1, [name])
            self.assertEqual(sound["shop.yml"], planted["shop.yml"])
            self.assertNotIn(gone, planted["postgresql.yml"])
            self.assertIn(come, planted["postgresql.yml"])
            self.assertIn("- alert: PostgresDown", planted["postgresql.yml"])

    def test_a_defect_that_does_not_fit_the_rules_is_refused(self):
        with self.assertRaises(LabError):
            defects.edit_rule({"shop.yml": "groups: []\n"}, defects.SLOTS_ALERT, lambda rule: "")

    def test_generated_files_please_promtool_and_amtool(self):
        self.assertEqual(1 + len(defects.DEFECTS) + 1, lab("check").stdout.count("ok "))


if __name__ == "__main__":
    unittest.main(verbosity=2)
