#!/usr/bin/python3
"""A definition that is applied to a real controller is started by its schedule: once a slot, whatever happens to the
controller, and by nothing else. And what a person sees of runs, experiments and injectors."""

import datetime
import json
import os
import re
import sqlite3
import subprocess
import time
import unittest

import yaml

from daemon_stage import CONTROLLER_FILE, DaemonStage
from stage import CONTROLLER, PROGRAM

SCHEDULE = '  schedule: {{cron: "{cron}", timeZone: Europe/Berlin, startingDeadline: {deadline}}}\n'


def seconds_into_the_minute():
    return time.time() % 60


class Schedules(DaemonStage):
    def scheduled(self, cron="* * * * *", deadline="50s", duration="1s"):
        path = self.experiment(duration=duration)
        with open(path, "a") as file:
            file.write(SCHEDULE.format(cron=cron, deadline=deadline))
        return path

    def away_from_a_new_minute(self, at_least=15):
        """What is applied now is not due for so many seconds."""
        self.until(lambda: 2 < seconds_into_the_minute() < 60 - at_least, "the middle of a minute")

    def slots(self):
        code, out, err = self.ask("describe", "experiment", "held", "-o", "json", as_who="viewer")
        self.assertEqual((code, err), (0, ""))
        return json.loads(out)["slots"]

    @staticmethod
    def answer(*words):
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def kill(self, daemon):
        daemon.kill()
        daemon.wait(30)

    def test_fires_once_across_a_controller_that_is_killed_and_started_again(self):
        daemon, _ = self.up()
        self.away_from_a_new_minute(20)
        code, out, err = self.ask("apply", self.scheduled(), as_who="operator")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"^experiment held created \(version 1\), next slot \S+:00.000Z\n$")
        self.assertEqual(self.slots(), [], "applying it has started it")
        # Nobody is there when it is due.
        self.until(lambda: seconds_into_the_minute() > 55, "the end of the minute")
        self.kill(daemon)
        self.until(lambda: 1 < seconds_into_the_minute() < 50, "the slot")
        due = datetime.datetime.utcnow().strftime("%Y-%m-%dT%H:%M:00Z")
        daemon = self.controller(self.port)
        self.until(lambda: self.slots() and self.slots()[0]["run"], "the run of the slot")
        run = self.slots()[0]["run"]
        # And killed again, while the run is going on or just over.
        self.kill(daemon)
        daemon = self.controller(self.port)
        time.sleep(6)
        slots = self.slots()
        self.assertEqual([(slot["due"], slot["run"]) for slot in slots if slot["due"] == due], [(due, run)])
        code, out, err = self.ask("describe", "run", run[:5], as_who="viewer")
        self.assertEqual((code, err), (0, ""), out)
        self.assertIn("by schedule:held, detached", out)
        runs = sqlite3.connect(f"{self.state}/history.db").execute(
            "SELECT COUNT(*) FROM run WHERE experiment = 'held'").fetchone()[0]
        fired = sqlite3.connect(f"{self.state}/history.db").execute(
            "SELECT COUNT(*) FROM slot WHERE run <> ''").fetchone()[0]
        self.assertEqual(runs, fired)
        self.assertEqual(self.look.wait_for_nothing(5, self.look.sessions), [])

    def test_a_slot_whose_deadline_is_over_and_one_under_the_lever_are_records_with_their_reasons(self):
        daemon, _ = self.up()
        self.away_from_a_new_minute()
        self.assertEqual(self.ask("apply", self.scheduled(deadline="1s"), as_who="operator")[0], 0)
        self.until(lambda: seconds_into_the_minute() > 56, "the end of the minute")
        self.kill(daemon)
        self.until(lambda: 3 < seconds_into_the_minute() < 30, "the slot")
        self.controller(self.port)
        self.until(self.slots, "a record of the slot")
        self.assertEqual(self.slots()[0]["missed"], "down")
        self.assertIn("no controller was there", self.slots()[0]["reason"])
        self.assertEqual(self.slots()[0]["run"], "")
        self.assertEqual(self.ask("stop", "--all", "--reason", "an outage", as_who="operator")[0], 0)
        self.until(lambda: len(self.slots()) > 1, "the next slot")
        self.assertEqual(self.slots()[0]["missed"], "refused")
        self.assertIn("the emergency lever is pulled (operator: an outage)", self.slots()[0]["reason"])
        self.assertIn("no runs yet", self.ask("get", "runs", as_who="viewer")[1])

    def test_what_is_applied_changed_and_deleted_is_said(self):
        self.up()
        path = self.scheduled(cron="0 10 * * 2")
        code, _, err = self.ask("apply", path, as_who="viewer")
        self.assertEqual(code, 3)
        self.assertIn("takes the role operator", err)
        code, _, err = self.answer(PROGRAM, "apply", path)
        self.assertEqual(code, 2)
        self.assertIn("name the controller with --controller", err)
        self.assertIn("there is no command get run; did you mean runs?", self.answer(PROGRAM, "get", "run")[2])
        self.assertIn("say what to describe, one of: injector, run, experiment", self.answer(PROGRAM, "describe")[2])
        self.assertIn("no experiment was applied", self.ask("get", "experiments", as_who="viewer")[1])
        self.assertIn("experiment held created (version 1), next slot", self.ask("apply", path, as_who="operator")[1])
        self.assertIn("experiment held unchanged (version 1)", self.ask("apply", path, as_who="operator")[1])
        code, out, _ = self.ask("apply", self.scheduled(cron="0 11 * * 2", duration="2s"), as_who="admin")
        self.assertEqual(code, 0)
        self.assertIn("experiment held changed (version 2)", out)
        self.assertIn("  faults[hold].duration: 1s -> 2s\n", out)
        self.assertIn("  schedule.cron: 0 10 * * 2 -> 0 11 * * 2\n", out)
        code, out, err = self.ask("get", "experiments", as_who="viewer")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"(?m)^held +2 +20\S+:00:00.000Z +- +0 11 \* \* 2 Europe/Berlin +admin$")
        self.assertIn("cron: \"0 11 * * 2\"", self.ask("describe", "experiment", "held", as_who="viewer")[1])
        self.assertEqual(self.ask("delete", "experiment", "held", as_who="operator")[0], 0)
        code, _, err = self.ask("delete", "experiment", "held", as_who="operator")
        self.assertEqual(code, 2)
        self.assertIn("there is none", err)

    def test_an_error_in_a_schedule_is_told_with_its_place_and_nothing_is_applied(self):
        self.up()
        good = self.scheduled()
        with open(good) as file:
            text = file.read()
        for wrong, right, said in (("Berlin", "Berlyn", "the time zone 'Europe/Berlyn' does not load"),
                                   ("* * * * *", "* 25 * * *", "'25' is no hour: 0 to 23"),
                                   ("startingDeadline: 50s", "startingDeadline: 5", "startingDeadline")):
            bad = self.write("bad.yaml", text.replace(wrong, right))
            code, out, err = self.ask("apply", good, bad, as_who="operator")
            self.assertEqual((code, out), (2, ""))
            self.assertIn(said, err)
            self.assertRegex(err, r"bad.yaml:16:\d+: error")
            self.assertIn("nothing was applied", err)
        self.assertEqual(self.ask("get", "experiments", "-o", "name", as_who="viewer")[1], "")

    def test_lists_and_single_things_in_every_form(self):
        self.up()
        code, out, err = self.ask("get", "runs", as_who="viewer")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("no runs yet at 127.0.0.1", out)
        self.assertEqual(json.loads(self.ask("get", "runs", "-o", "json", as_who="viewer")[1]), {"runs": []})
        for _ in range(2):
            run = self.begin_remote(self.experiment(duration="1s"))
            self.assertEqual(run.wait(60), 0, self.said(run))
        newest, oldest = self.ask("get", "runs", "-o", "name", as_who="viewer")[1].split()
        code, out, _ = self.ask("get", "runs", as_who="viewer")
        self.assertRegex(out, rf"RUN +BEGUN +OUTCOME +VERDICT +EXPERIMENT\n{newest} +\S+ +completed +passed +held\n{oldest} ")
        self.assertEqual(self.ask("get", "runs", "-o", "name", "--limit", "1", as_who="viewer")[1].split(), [newest])
        as_json = json.loads(self.ask("get", "runs", "-o", "json", as_who="viewer")[1])
        self.assertEqual(yaml.safe_load(self.ask("get", "runs", "-o", "yaml", as_who="viewer")[1]), as_json)
        self.assertEqual(as_json["runs"][0]["verdict"], "VERDICT_PASSED")
        node = json.loads(self.ask("describe", "injector", "node-a", "-o", "json", as_who="viewer")[1])
        self.assertEqual(node["registration"]["environment"], "lab")
        # It is heard of each second, so only what stays can be compared.
        as_yaml = yaml.safe_load(self.ask("describe", "injector", "node-a", "-o", "yaml", as_who="viewer")[1])
        self.assertEqual(as_yaml["registration"], node["registration"])
        for words in ((), ("-o", "table")):
            table = self.ask("describe", "injector", "node-a", *words, as_who="viewer")[1]
            self.assertRegex(table, r"^injector    node-a, connected, version \S+\nlast seen   \S+Z\nenvironment lab\n"
                             r"labels      role=database\nprofiles    holder \(postgresql\), dba \(postgresql\)\n")
            self.assertRegex(table, r"(?m)^can         .*holdConnections")
        # Followed by programs: each event, and nothing else on standard output.
        code, out, err = self.ask("watch", oldest[:6], "-o", "json", as_who="viewer")
        self.assertEqual((code, err), (0, ""))
        events = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([event["seq"] for event in events], [str(seq + 1) for seq in range(len(events))])
        self.assertEqual((events[0]["run"], events[-1]["finished"]["outcome"]), (oldest, "OUTCOME_COMPLETED"))
        as_yaml = yaml.safe_load_all(self.ask("watch", oldest, "-o", "yaml", as_who="viewer")[1])
        self.assertEqual(list(as_yaml), events)
        self.assertEqual(self.ask("watch", "last", "-o", "name", as_who="viewer"), (0, newest + "\n", ""))
        for what in ("injector", "experiment", "run"):
            code, out, err = self.ask("describe", what, "nobody", as_who="viewer")
            self.assertEqual((code, out), (2, ""))
            self.assertIn("there is no" if what == "run" else "none", err)
        # A run is named by its beginning, where no other begins so; at the controller as on this machine.
        self.assertEqual(self.ask("describe", "run", oldest[:6], "-o", "name", as_who="viewer")[1], oldest + "\n")
        for where in ((), self.at("viewer")):
            done = subprocess.run([PROGRAM, "report", oldest[:6], *where, "--state-dir", self.state],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(oldest, done.stdout)
            self.assertEqual(subprocess.run([PROGRAM, "judge", "last", *where, "--state-dir", self.state],
                                            capture_output=True, timeout=60).returncode, 0)
        self.assertIn("runs begin so", self.ask("describe", "run", os.path.commonprefix([newest, oldest]) or "",
                                                as_who="viewer")[2] if newest[0] == oldest[0] else "runs begin so")

    def test_a_run_is_watched_live_across_a_restart_and_ends_with_its_code(self):
        daemon, _ = self.up()
        run = self.begin_remote(self.experiment(duration="4s"))
        self.until_held(run)
        watching = self.begin(PROGRAM, "watch", "last", *self.at("viewer"), state=False)
        self.until(lambda: "in force" in self.said(watching), "what had been before")
        self.assertEqual(run.wait(60), 0, self.said(run))
        self.assertEqual(watching.wait(60), 0, self.said(watching))
        self.assertIn("Ctrl-C ends the watching only", self.said(watching))
        # The same lines as whoever owns it sees.
        lines = lambda text: [line for line in text.splitlines() if re.match(r" *\d+:\d+|.* (in force|undone)", line)]
        self.assertEqual(lines(self.said(watching)), lines(self.said(run)))
        self.assertIn("passed: 2 passed", self.said(watching))
        second = self.begin_remote(self.experiment())
        self.until_held(second)
        watching = self.begin(PROGRAM, "watch", "last", *self.at("viewer"), state=False)
        self.until(lambda: "in force" in self.said(watching), "the second run")
        self.kill(daemon)
        self.until(lambda: "trying again" in self.said(watching), "a connection that is lost")
        self.controller(self.port)
        # Whether it was in time for the node, or not: both see the same end.
        self.assertEqual(watching.wait(120), second.wait(120), self.said(watching))
        self.assertIn("controller", self.said(watching))
        code, _, err = self.ask("watch", "nobody", as_who="viewer")
        self.assertEqual(code, 2)
        self.assertIn("there is no such run", err)

    def test_a_backup_is_put_back_and_a_restore_is_refused_while_a_controller_lives(self):
        daemon, injector = self.up()
        self.assertEqual(self.ask("apply", self.scheduled(cron="0 10 * * 2"), as_who="operator")[0], 0)
        first = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(first.wait(60), 0, self.said(first))
        copy = os.path.join(self.folder, "copy.db")
        def store(*words):
            return self.answer(CONTROLLER, *words, "--config", f"{self.folder}/controller.yaml",
                               "--state-dir", self.state)
        code, out, err = store("backup", copy)
        self.assertEqual((code, err), (0, ""))
        self.assertIn(copy, out)
        second = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(second.wait(60), 0, self.said(second))
        code, _, err = store("restore", copy)
        self.assertEqual(code, 2)
        self.assertIn("a controller uses it (epoch 1, process", err)
        daemon.terminate()
        self.assertEqual(daemon.wait(30), 0)
        code, out, err = store("restore", copy)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("1 run and 1 experiment", out)
        self.controller(self.port)
        self.until(lambda: " connected " in self.ask("get", "injectors", as_who="viewer")[1], "the injector again")
        self.assertEqual(len(self.ask("get", "runs", "-o", "name", as_who="viewer")[1].split()), 1)
        self.assertEqual(self.ask("get", "experiments", "-o", "name", as_who="viewer")[1], "held\n")
        # The injector has obeyed a higher epoch than the copy knew of.
        third = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(third.wait(60), 0, self.said(third))

    def test_old_histories_are_forgotten(self):
        text = CONTROLLER_FILE.format(port=0, folder=self.folder, limits="{}") + "  retention: {runs: 1}\n"
        self.assertEqual(subprocess.run([PROGRAM, "lint", self.write("c.yaml", text)], capture_output=True).returncode, 0)
        self.up()
        for _ in range(3):
            run = self.begin_remote(self.experiment(duration="1s"))
            self.assertEqual(run.wait(60), 0, self.said(run))
        newest = self.ask("get", "runs", "-o", "name", as_who="viewer")[1].split()[0]
        self.started[0].terminate()
        self.assertEqual(self.started[0].wait(30), 0)
        daemon = self.begin(CONTROLLER, "--config", self.write("controller.yaml", text.replace(":0\n", f":{self.port}\n")))
        self.until(lambda: "listens on" in self.said(daemon), "a controller that listens")
        self.until(lambda: self.ask("get", "runs", "-o", "name", as_who="viewer")[1].split() == [newest],
                   "one history that is left")


if __name__ == "__main__":
    unittest.main(verbosity=2)
