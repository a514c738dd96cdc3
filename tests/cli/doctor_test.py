#!/usr/bin/python3
"""`firedrill doctor` says how this machine and a controller are, what to do, and touches nothing."""

import os
import sqlite3
import unittest

from daemon_stage import DaemonStage


def rows(text):
    """{subject: (level, what was found and what to do)}"""
    found = {}
    for line in text.splitlines():
        level, subject, words = (part.strip() for part in (line[:6], *line[6:].split("  ", 1)))
        found[subject] = (level, words)
    return found


class Doctor(DaemonStage):
    def here(self):
        code, out, err = self.firedrill("doctor")
        self.assertEqual(err, "")
        return code, rows(out)

    def there(self, who="viewer"):
        code, out, err = self.ask("doctor", as_who=who)
        self.assertEqual(err, "")
        return code, rows(out)

    def history(self):
        return os.path.join(self.state, "history.db")

    def test_a_machine_without_any_run(self):
        os.mkdir(self.state)
        code, told = self.here()
        self.assertEqual(code, 0, told)
        for subject in ("kernel", "programs", "leftovers"):
            self.assertEqual(told[subject][0], "ok", told)
        self.assertEqual(os.listdir(self.state), [])

    def test_a_state_folder_that_is_not_there(self):
        code, told = self.here()
        self.assertEqual(code, 1, told)
        self.assertEqual(told["state"][0], "FAIL")
        self.assertIn("correct --state-dir", told["state"][1])
        self.assertFalse(os.path.exists(self.state))

    def test_a_history_of_an_older_firedrill_stays_as_it_is(self):
        os.mkdir(self.state)
        with sqlite3.connect(self.history()) as database:
            database.execute("CREATE TABLE run (run TEXT PRIMARY KEY)")
            database.execute("PRAGMA user_version = 1")
        database.close()
        with open(self.history(), "rb") as file:
            before = file.read()
        code, told = self.here()
        self.assertEqual(code, 0, told)
        self.assertEqual(told["history"][0], "warn")
        self.assertIn("is of an older firedrill (schema 1)", told["history"][1])
        with open(self.history(), "rb") as file:
            self.assertEqual(file.read(), before)

    def test_a_damaged_history_fails(self):
        os.mkdir(self.state)
        with open(self.history(), "w") as file:
            file.write("this is no database" * 500)
        code, told = self.here()
        self.assertEqual(code, 1, told)
        self.assertEqual(told["history"][0], "FAIL")

    def test_what_a_dead_controller_has_left_and_a_pulled_lever_are_told(self):
        run = self.begin_run(self.experiment())
        self.until_held(run)
        code, told = self.here()
        self.assertEqual(told["history"][0], "ok", told)
        self.look.end_processes()
        with open(os.path.join(self.state, "STOP"), "w") as file:
            file.write("alice: a real outage\n")
        code, told = self.here()
        self.assertEqual(told["history"][0], "warn", told)
        self.assertIn("1 run was left unfinished", told["history"][1])
        self.assertNotEqual(told["lever"][0], "ok")
        self.assertIn("alice: a real outage", told["lever"][1])
        self.assertIn(os.path.join(self.state, "STOP"), told["lever"][1])

    def test_a_controller_is_asked_by_whoever_may_look(self):
        self.up()
        code, told = self.there()
        self.assertEqual(code, 0, told)
        self.assertEqual(told["controller"][0], "ok")
        self.assertEqual(told["your certificate"][0], "ok")
        self.assertEqual(told["lever"][0], "ok")
        self.assertEqual(self.ask("stop", "--all", "--reason", "a real outage", as_who="operator")[0], 0)
        code, told = self.there()
        self.assertNotEqual(told["lever"][0], "ok", told)
        self.assertIn("a real outage", told["lever"][1])

    def test_a_controller_that_is_not_there_fails(self):
        daemon, _ = self.up()
        daemon.kill()
        daemon.wait()
        code, told = self.there()
        self.assertEqual(code, 1, told)
        self.assertEqual(told["controller"][0], "FAIL")
        self.assertIn("does not answer", told["controller"][1])
        self.assertNotIn("SIGTERM", told["controller"][1])
        code, _, err = self.ask("stop", "--all", "--reason", "a real outage", as_who="operator")
        self.assertEqual(code, 3)
        self.assertIn("SIGTERM to its firedrill-injector ends all its faults", err)
        self.assertIn("is that its address, and does it run there? `systemctl status firedrill-controller`", err)
        for words in (("describe", "run", "last"), ("report", "last"), ("judge", "last"), ("get", "runs")):
            self.assertEqual(self.ask(*words, as_who="viewer")[0], 3, words)


if __name__ == "__main__":
    unittest.main(verbosity=2)
