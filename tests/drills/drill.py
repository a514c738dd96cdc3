#!/usr/bin/python3
"""Drills on the rehearsal stack: what passes says so in every form, what cannot start or is stopped leaves nothing.

`drill.py` runs all, `drill.py HealthyLab` some. FIREDRILL_BIN is the folder of the binaries. Nothing of Firedrill is
used but its commands and what they print and write. Defects of the stack are planted by tests/matrix.
"""

import ctypes
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from on_a_lab import FIREDRILL, HERE, ROOT, Lab, OnALab  # noqa: E402

EXPERIMENT = os.path.join(ROOT, "experiments/unclosed-connections.yaml")
LEAK = os.path.join(HERE, "leak.yaml")

PASSED, USAGE, NOT_STARTED, ABORTED, INTERRUPTED = 0, 2, 3, 4, 130
CLONE_NEWNS = 0x00020000


class HealthyLab(OnALab):
    """The experiment of the repository, on a lab without a defect."""

    def test_passes(self):
        lab = Lab()
        self.addCleanup(lab.down)
        self.use(lab)
        result = self.run_file(EXPERIMENT, "--seed", "7")
        self.assert_end(result, PASSED, "passed", "completed")
        self.assertEqual({"passed"}, {verdict for verdict, _ in result.expectations().values()})
        # The watcher has seen with its own eyes what was broken, else a pass says nothing.
        self.assertGreater(self.watcher.most_held, 45)
        self.assertGreater(len(self.watcher.shop_sessions), 1)
        with open(lab.path("pages.jsonl")) as pages:
            self.assertIn("PostgresConnectionsNearLimit", pages.read())
        for name in ("timeToDetect", "timeToNotify", "timeToResolve", "timeToRecover"):
            self.assertRegex(result.judged["judgement"][name], r"^-?[0-9.]+s$")
        with open(result.report_path) as report:
            text = report.read()
        self.assertIn("slots-page", text)
        self.assert_plain(text)
        self.assertIn("seed 7", result.out)
        self.judge_again(result)

    def judge_again(self, result):
        again = self.command("judge", "last", "--json")
        self.assertEqual(PASSED, again.returncode, again.stderr)
        self.assertEqual(result.judged["judgement"], json.loads(again.stdout)["judgement"])
        report = self.command("report", "last")
        self.assertEqual(0, report.returncode, report.stderr)
        self.assertIn("slots-page", report.stdout)

    def command(self, *arguments):
        return subprocess.run([FIREDRILL, *arguments, "--state-dir", self.state], capture_output=True, text=True,
                              env=self.look.environment(), timeout=30)


class RefusalsAndInterrupts(OnALab):
    """One healthy lab: what cannot start says why and touches nothing; what is interrupted leaves nothing."""

    @classmethod
    def setUpClass(cls):
        cls.shared = Lab()
        cls.addClassCleanup(cls.shared.down)

    def setUp(self):
        self.shared.wait_until_quiet()
        self.use(self.shared)

    def refused(self, *words, code=NOT_STARTED, experiment=LEAK, site=None, arguments=(), preexec=None):
        """Exit code, clear words, nothing touched."""
        result = self.run_file(experiment, *arguments, site=site, preexec=preexec)
        self.assertEqual(code, result.code, result.said)
        for word in words:
            self.assertIn(word, result.said)
        self.assertNotIn("Traceback", result.said)
        self.assert_nothing_injected()
        return result

    def test_wrong_password_of_the_leaker(self):
        wrong = self.shared.path("wrong.password")
        with open(os.open(wrong, os.O_WRONLY | os.O_CREAT, 0o600), "w") as word:
            word.write("wrong\n")
        site = self.shared.site_with("wrong-password.yaml", r'"[^"]*leaker\.password"', json.dumps(wrong))
        result = self.refused("reports", "password", site=site)
        self.assertNotIn("wrong\n", result.said)

    def test_dead_database(self):
        held = socket.socket()
        self.addCleanup(held.close)
        held.bind(("127.0.0.1", 0))
        port = str(held.getsockname()[1])
        site = self.shared.site_with("dead-database.yaml", r"(?s)(name: leaker.*?port: )\d+(.*?port: )\d+",
                                     rf"\g<1>{port}\g<2>{port}")
        self.refused(port, "refused", site=site)

    def test_unreachable_prometheus(self):
        held = socket.socket()
        self.addCleanup(held.close)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        site = self.shared.site_with("no-prometheus.yaml", r'prometheus: \{url: "http://127.0.0.1:\d+"\}',
                                     f'prometheus: {{url: "http://127.0.0.1:{port}"}}')
        result = self.refused(f"127.0.0.1:{port}", site=site)
        self.assertIn("monitor-unreachable", result.findings())
        self.assertEqual(0, self.run_file(LEAK, "--allow", "not-started", site=site).code)

    def test_taken_webhook_port(self):
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", self.shared.ports["firedrill_webhook"]))
        taken.listen()
        self.refused(f"127.0.0.1:{self.shared.ports['firedrill_webhook']}")

    def test_no_such_site_file(self):
        self.refused("/nonexistent/site.yaml", code=USAGE, site="/nonexistent/site.yaml")

    def test_misspelt_key(self):
        path = os.path.join(self.folder, "misspelt.yaml")
        with open(LEAK) as good, open(path, "w") as bad:
            text = good.read().replace("hypothesis:", "hypotesis:")
            bad.write(text)
        line = 1 + text[:text.index("hypotesis:")].count("\n")
        result = self.refused(f"{path}:{line}:3", "hypotesis", "hypothesis", code=USAGE, experiment=path)
        self.assertIsNone(result.judged)
        self.assertFalse(os.path.exists(os.path.join(self.state, "history.db")))

    def test_wrong_flag(self):
        self.refused("--sead", code=USAGE, arguments=("--sead", "1"))

    def full_disk(self, folder):
        """In a mount namespace of the command's own: the folder is on a disk without a free byte."""
        if os.geteuid() != 0:
            self.skipTest("mounting a small disk needs root")
        os.makedirs(folder)
        libc = ctypes.CDLL(None, use_errno=True)

        def preexec():
            def check(failed):
                if failed:
                    raise OSError(ctypes.get_errno(), "mounting")
            check(libc.unshare(CLONE_NEWNS))
            check(libc.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE: stays in here
            check(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, b"size=64k,mode=700"))
            with open(os.path.join(folder, "ballast"), "wb", buffering=0) as ballast:
                try:
                    while ballast.write(bytes(4096)):
                        pass
                except OSError:
                    pass
        return preexec

    def test_full_disk_under_the_history(self):
        self.refused(self.state, "disk is full", preexec=self.full_disk(self.state))

    def test_full_disk_under_the_journal(self):
        preexec = self.full_disk(os.path.join(self.state, "nodes"))
        result = self.run_file(LEAK, preexec=preexec)
        self.assertIn(result.code, (NOT_STARTED, ABORTED), result.said)
        self.assertIn("No space left on device", result.said)
        self.assert_nothing_injected()

    def interrupt(self, number, when, experiment=LEAK):
        process = self.start("run", experiment)
        limit = time.monotonic() + 60
        while not when():
            self.assertIsNone(process.poll(), "it ended before it could be interrupted")
            self.assertLess(time.monotonic(), limit, "nothing to interrupt within 60 s")
            time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(number)
        result = self.end(process)
        result.undone_within = time.monotonic() - began
        self.assertEqual(INTERRUPTED, result.code, result.said)
        self.assert_nothing_left("after the interruption")
        self.assert_plain(result.out)
        self.assertIn("interrupted", result.said)
        self.assertLess(result.undone_within, 10)

    def test_ctrl_c_in_the_middle_of_the_fault(self):
        self.interrupt(signal.SIGINT, lambda: self.watcher.most_held > 20)

    def test_sigterm_in_the_middle_of_the_fault(self):
        self.interrupt(signal.SIGTERM, lambda: self.watcher.most_held > 20)

    def test_ctrl_c_before_anything_is_broken(self):
        begun = time.monotonic()
        self.interrupt(signal.SIGINT, lambda: time.monotonic() - begun > 1.5)
        # One may have been opened to see whether the fault would be able to act.
        self.assertLessEqual(self.watcher.most_held, 1)

    def short_experiment(self):
        """Of LEAK what an ordinary user may do at the lab: only the lab's own account can restart the shop."""
        with open(LEAK) as whole:
            text = whole.read()
        for part, count in ((r"  remedies:\n.*\n", 1), (r"    - \{name: cut,.*\n", 1), (r"    impact:\n.*\n", 1)):
            text, found = re.subn(part, "", text)
            self.assertEqual(count, found, part)
        path = os.path.join(self.folder, "short.yaml")
        with open(path, "w") as short:
            short.write(text.replace("duration: 12s", "duration: 6s"))
        return path

    def site_for(self, user):
        """A site file with copies of all that it names, which only this user may read."""
        with open(self.shared.site) as site:
            text = site.read()
        for name in ("webhook.token", "leaker.password", "dba.password", "emails.txt"):
            copy = os.path.join(self.folder, name)
            shutil.copyfile(self.shared.path(name), copy)
            os.chmod(copy, 0o600)
            text = text.replace(json.dumps(self.shared.path(name)), json.dumps(copy))
        path = os.path.join(self.folder, "site.yaml")
        with open(path, "w") as site:
            site.write(text)
        for folder, folders, names in os.walk(self.folder):
            for each in [folder] + [os.path.join(folder, name) for name in folders + names]:
                os.chown(each, user.pw_uid, user.pw_gid)
        return path

    def test_an_ordinary_user_needs_no_root_and_keeps_the_state_at_home(self):
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        for parent in pathlib.Path(FIREDRILL).resolve().parents:
            if os.geteuid() == 0 and not parent.stat().st_mode & 0o001:
                self.skipTest(f"the user {user.pw_name} cannot enter {parent}")
        experiment = self.short_experiment()
        home = os.path.join(self.folder, "home")
        os.mkdir(home)
        site = self.site_for(user)
        self.look.state = os.path.join(home, "firedrill")
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        environment = {**self.look.environment(), "XDG_STATE_HOME": home, "HOME": "/nonexistent"}
        written = os.path.join(self.folder, "run.json")

        def command(*words):
            return subprocess.run([FIREDRILL, *words], env=environment, cwd="/", stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, timeout=120, **as_user)

        done = command("run", experiment, "--site", site, "--json", written)
        said = done.stdout + done.stderr
        self.assertEqual(PASSED, done.returncode, said)
        with open(written) as file:
            judgement = json.load(file)["judgement"]
        self.assertEqual("VERDICT_PASSED", judgement["verdict"], said)
        self.assertTrue(judgement["undoConfirmed"])
        self.assertIn(f"started by {user.pw_name}@", " ".join(command("report", "last").stdout.split()))
        self.assertGreater(self.watcher.most_held, 45)
        for path in (os.path.join(home, "firedrill/history.db"), os.path.join(home, "firedrill/nodes/lab-db")):
            self.assertEqual(user.pw_uid, os.stat(path).st_uid, path)
        self.assertEqual(0o700, stat.S_IMODE(os.stat(os.path.join(home, "firedrill")).st_mode))
        self.assert_nothing_left()

    def test_plan_touches_nothing(self):
        result = self.end(self.start("plan", EXPERIMENT))
        self.assertEqual(0, result.code, result.said)
        for word in ("lab-db", "lab-app", "lab-load", "PostgresConnectionsNearLimit"):
            self.assertIn(word, result.out)
        self.assert_plain(result.out)
        self.assert_nothing_left("after the plan")
        self.assert_nothing_injected()


if __name__ == "__main__":
    unittest.main(verbosity=2)
