#!/usr/bin/python3
"""The promises of the rehearsal stack: it comes up whole, it goes away whole, and labs do not meet."""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request

sys.dont_write_bytecode = True
LAB = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../experiments/lab/lab"))
sys.path.insert(0, os.path.dirname(LAB))

from labkit import configuration, defects, extras, layout, pace, releases  # noqa: E402
from labkit.accounts import LabError, program  # noqa: E402
from labkit.ports import Ports  # noqa: E402

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
        two = self.up("two", "--defect", "rule-deleted", "--site", os.path.join(self.folder, "two.yaml"),
                      "--with", "gateway", "--with", "pgbouncer", "--set", "retries=2", "--set", "pool-size=15")
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
        third = lab("up", "--dir", os.path.join(self.folder, "three"), "--site", os.path.join(self.folder, "two.yaml"), check=False)
        self.assertEqual(1, third.returncode)
        self.assertIn(f"is the site file of the lab in {two}, which runs", third.stderr)
        self.assert_site_is_usable(os.path.join(self.folder, "two.yaml"), two)

        # Of a crowd that asks for reports, so many get one at a time, and nobody else is kept waiting.
        counted = dict(part.split(": ") for part in
                       lab("crowd", "--dir", one, "--rate", "200", "--seconds", "1").stdout.strip().split(", "))
        self.assertGreater(int(counted["200"]), 0)
        self.assertGreater(int(counted["503"]), 0)
        self.assertEqual(200, sum(int(count) for count in counted.values()))
        self.assertIn("user", json.loads(fetch(urls["shop"] + "/login?email=user1@shop.example")))

        before = described(one)["servers"]["shop"]
        lab("restart-shop", "--dir", one)
        self.assertNotEqual(before, described(one)["servers"]["shop"])
        if os.geteuid() == 0 and os.path.exists("/proc/self/autogroup"):
            for name, nice in (("shop", "-10"), ("prometheus", "-10"), ("postgresql", "0")):
                with open(f"/proc/{described(one)['servers'][name]}/autogroup") as group:
                    self.assertEqual(nice, group.read().split()[-1], name)
        self.assertIn("alive", fetch(urls["shop"] + "/health"))

        self.settings_are_changed_live_and_by_a_release(two)
        # The look must be able to see, else "nothing found" proves nothing.
        self.assertGreaterEqual(len(processes_of(one)), 7)
        self.assertGreaterEqual(len(processes_of(two)), 9)
        lab("down", "--dir", one)
        self.assertEqual(set(), processes_of(one))
        self.assertFalse(os.path.exists(one))
        self.assertIn("alive", fetch(described(two)["urls"]["shop"] + "/health"))
        lab("down", "--dir", two)
        self.assertEqual([], os.listdir(self.folder))

    def settings_are_changed_live_and_by_a_release(self, directory):
        """Behind its gateway and PgBouncer, where the ordinary shop has neither."""
        urls = described(directory)["urls"]
        login = urls["gateway"] + "/login?email=user1@shop.example"
        shop = described(directory)["servers"]["shop"]
        self.assertIn('"user"', fetch(login))
        self.assertIn("db_pool_max 15.0", fetch(urls["shop"] + "/metrics"))
        lab("set", "--dir", directory, "pool-size=30", "leak-share=1")
        self.assertEqual(shop, described(directory)["servers"]["shop"])
        fetch(login)
        self.assertIn("db_pool_max 30.0", fetch(urls["shop"] + "/metrics"))
        self.assertIn('state="in_use"} 1.0', fetch(urls["shop"] + "/metrics"))
        refused = lab("set", "--dir", directory, "statement-timeout=1s", check=False)
        self.assertIn("it takes a deployment", refused.stderr)

        # The leak outlives its flag, and a restart the flag: only both together end it.
        lab("set", "--dir", directory, "leak-share=0")
        self.assertIn('state="in_use"} 1.0', fetch(urls["shop"] + "/metrics"))
        lab("deploy", "--dir", directory, "statement-timeout=50ms")
        self.assertIn('state="in_use"} 0.0', fetch(urls["shop"] + "/metrics"))
        self.assertIn("db_pool_max 30.0", fetch(urls["shop"] + "/metrics"))
        # Only a limit that PgBouncer passes on cancels a scan of a million rows.
        lab("set", "--dir", directory, "login-query=lower-email")
        with self.assertRaises(urllib.error.HTTPError) as cancelled:
            fetch(urls["shop"] + "/login?email=user1@shop.example")
        self.assertEqual({"error": "57014"}, json.load(cancelled.exception))

        lab("roll-back", "--dir", directory)
        self.assertIn("db_pool_max 15.0", fetch(urls["shop"] + "/metrics"))
        self.assertIn('"user"', fetch(login))
        self.assertEqual({"pool-size": "15", "retries": "2"},
                         {name: value for name, value in json.loads(fetch(urls["shop_operations"] + "/settings")).items()
                          if value != releases.SETTINGS[name].default})

    def rules(self, directory):
        groups = json.loads(fetch(described(directory)["urls"]["prometheus"] + "/api/v1/rules"))["data"]["groups"]
        return {rule["name"] for group in groups for rule in group["rules"]}

    def assert_site_is_usable(self, path, directory):
        import yaml
        with open(path) as opened:
            spec = yaml.safe_load(opened)["spec"]
        self.assertEqual(["lab-db", "lab-app", "lab-load"], [each["name"] for each in spec["injectors"]])
        names = fetch(spec["prometheus"]["url"] + "/api/v1/label/__name__/values")
        for name in ("pg_table_seq_rows", "pg_statement_seconds", "pg_client_lock_waiters", "db_pool_waiting",
                     "process_resident_memory_bytes", "node_netstat_TcpExt_ListenOverflows"):
            self.assertIn(f'"{name}"', names)
        secrets = [each["token"]["file"] for each in spec["webhook"]["receivers"]]
        secrets += [each["postgresql"]["password"]["file"] for each in spec["injectors"][0]["profiles"]]
        for secret in secrets:
            self.assertTrue(secret.startswith(directory))
            self.assertEqual(0o600, os.stat(secret).st_mode & 0o777)
            self.assertGreater(os.path.getsize(secret), 10)
        self.assertTrue(os.access(spec["injectors"][1]["programs"][0]["path"], os.X_OK))

    def test_a_standby_takes_over_and_a_reset_makes_the_pair_anew(self):
        """A killed supervisor leaves none of the two."""
        directory = self.up("killed", "--with", "replica")
        urls, ports = described(directory)["urls"], described(directory)["ports"]
        upload = urllib.request.Request(urls["shop"] + "/api/images", method="POST")
        first = json.loads(fetch(upload))["id"]
        standby = self.database(directory, ports["replica"])
        self.assertTrue(wait_until(lambda: self.ask(standby, "SELECT max(id) FROM images") == first, 5))
        lab("stop-primary", "--dir", directory)
        self.ask(standby, "SELECT pg_promote()")
        # The shop's pool notices the loss with its first question, and then finds who takes writes.
        self.assertTrue(wait_until(lambda: self.answers(upload), 10))
        self.assertGreater(self.ask(standby, "SELECT max(id) FROM images"), first)
        standby.close()
        lab("reset", "--dir", directory)
        standby = self.database(directory, ports["replica"])
        self.assertTrue(self.ask(standby, "SELECT pg_is_in_recovery()"))
        self.assertLess(self.ask(standby, "SELECT max(id) FROM images"), first)
        standby.close()
        self.assertTrue(wait_until(lambda: self.answers(upload), 10))

        self.assertGreaterEqual(len(processes_of(directory)), 9)
        os.kill(described(directory)["pid"], signal.SIGKILL)
        self.assertTrue(wait_until(lambda: not processes_of(directory), 3), processes_of(directory))
        self.assertIn("dead", lab("status", "--dir", directory, check=False).stdout)
        lab("down", "--dir", directory)
        self.assertFalse(os.path.exists(directory))

    @staticmethod
    def database(directory, port):
        import psycopg2
        with open(os.path.join(directory, "postgres.password")) as word:
            connection = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="shop", password=word.read())
        connection.autocommit = True
        return connection

    @staticmethod
    def ask(connection, question):
        with connection.cursor() as cursor:
            cursor.execute(question)
            return cursor.fetchone()[0]

    @staticmethod
    def answers(question):
        try:
            return bool(fetch(question))
        except OSError:
            return False

    def test_down_ends_a_stopped_database_of_a_killed_supervisor(self):
        directory = self.up("stopped")
        servers = described(directory)["servers"]
        os.kill(servers["postgresql"], signal.SIGSTOP)
        os.kill(described(directory)["pid"], signal.SIGKILL)
        self.assertTrue(wait_until(lambda: servers["prometheus"] not in processes_of(directory), 3))
        self.assertIn(servers["postgresql"], processes_of(directory))
        made = [row for row in layout.segments() if row["cpid"] == str(servers["postgresql"])]
        self.assertEqual(len(made), 1)
        # Somebody who reads its logs, in its folder.
        reader = subprocess.Popen(["/bin/sleep", "60"], cwd=directory, env={"HOME": "/root"})
        lab("down", "--dir", directory)
        self.assertIsNone(reader.poll())
        reader.kill()
        reader.wait()
        self.assertTrue(wait_until(lambda: not processes_of(directory), 3), processes_of(directory))
        self.assertFalse(os.path.exists(directory))
        # It could not free its shared memory itself.
        self.assertEqual([row for row in layout.segments() if row["shmid"] == made[0]["shmid"]], [])

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
                                 (("up", "--defect", "table-unnamed"), "has no table to leave out"),
                                 (("up", "--dir", foreign), "is not empty and was not made by the lab"),
                                 (("up", "--dir", os.path.join(self.folder, "l" * 80)), "choose a shorter --dir"),
                                 (("up", "--set", "pool-size=many"), "pool-size cannot be 'many', but 1 to 999"),
                                 (("up", "--set", "pool=20"), "there is no setting 'pool'"),
                                 (("up", "--set", "retries=3"), "`retries` needs `lab up --with gateway`"),
                                 (("up", "--with", "pgbouncer", "--with", "replica"), "not both"),
                                 (("down", "--dir", foreign), "there is no lab in")):
            done = lab(*arguments, check=False)
            self.assertEqual(1, done.returncode)
            self.assertIn(words, done.stderr)
        self.assertIn("0 is not more than 0", lab("crowd", "--rate", "0", check=False).stderr)
        self.assertEqual(["precious"], os.listdir(foreign))


class DefectTest(unittest.TestCase):
    def test_every_defect_of_a_rule_changes_that_rule_only(self):
        sound = configuration.rule_texts(1, [])
        slots, scans = defects.SLOTS_ALERT, "PgSeqScanSurge"
        for name, alert, gone, come in (("rule-deleted", slots, slots, ""), ("rule-deleted", scans, scans, ""),
                                        ("threshold-too-high", slots, "> 0.8", "> 1.5"),
                                        ("threshold-too-high", scans, "> 5e5", "> 1e9"),
                                        ("already-firing", slots, "> 0.8", "> 0.01"),
                                        ("already-firing", scans, "> 5e5", "> -1"),
                                        ("for-10m", slots, "for: 2s", "for: 10m"),
                                        ("for-10m", scans, "for: 1s", "for: 10m"),
                                        ("rule-flaps", slots, "> 0.8\n", "% 3 < 1"),
                                        ("rule-flaps", scans, "> 5e5\n", "% 3 < 1"),
                                        ("page-flaps", slots, "> 0.8\n", "% 5 < 3"),
                                        ("page-flaps", scans, "for: 1s", "for: 0s"),
                                        ("label-wrong", scans, "severity: page\n", "severity: pager"),
                                        ("table-unnamed", scans, ", table", "by (instance)")):
            planted = configuration.rule_texts(1, [name], alert=alert)
            self.assertEqual(sound["shop.yml"], planted["shop.yml"])
            pattern = defects.rule_pattern(alert)
            self.assertEqual(pattern.sub("", sound["postgresql.yml"]), pattern.sub("", planted["postgresql.yml"]))
            changed = pattern.search(planted["postgresql.yml"])
            self.assertNotIn(gone, changed[0] if changed else "")
            self.assertIn(come, changed[0] if changed else "")
            self.assertIn("- alert: PostgresDown", planted["postgresql.yml"])

    def test_a_metric_that_is_dropped_is_dropped_where_it_is_scraped(self):
        ports = Ports({name: 20000 + index for index, name in enumerate(configuration.port_names([]))})
        for alert, about in defects.ALERTS.items():
            text = configuration.prometheus_text(ports, 1, ["metric-absent"], alert)
            self.assertEqual(1, text.count(f"regex: {about.metric}, action: drop"))
        self.assertNotIn("relabel", configuration.prometheus_text(ports, 1, []))

    def test_a_defect_that_does_not_fit_the_rules_is_refused(self):
        with self.assertRaises(LabError):
            defects.edit_rule({"shop.yml": "groups: []\n"}, defects.SLOTS_ALERT, lambda rule: "")

    def test_every_rule_fires_on_what_it_is_for(self):
        with tempfile.TemporaryDirectory(prefix="lab-rules-") as folder:
            os.mkdir(os.path.join(folder, "rules"))
            for name, text in configuration.rule_texts(1, [], extras.EXTRAS).items():
                with open(os.path.join(folder, "rules", name), "w") as written:
                    written.write(text)
            shutil.copy(os.path.join(os.path.dirname(__file__), "rules_test.yml"), folder)
            promtool = program("promtool", "prometheus")
            tests = os.path.join(folder, "rules_test.yml")
            done = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True)
            self.assertEqual(0, done.returncode, done.stdout + done.stderr)

            # None is left out, and a rule that is broken is seen.
            with open(tests) as opened:
                said = opened.read()
            for name, text in configuration.rule_texts(1, [], extras.EXTRAS).items():
                for alert in re.findall(r"- alert: (\w+)", text):
                    self.assertRegex(said, rf"alertname: {alert}\n +exp_alerts:\n +- exp_labels")
            shop = os.path.join(folder, "rules", "shop.yml")
            with open(shop) as opened:
                text = opened.read()
            with open(shop, "w") as broken:
                broken.write(text.replace('state="in_use"', 'state="in-use"'))
            done = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True)
            self.assertEqual(1, done.returncode)
            self.assertIn("AppPoolSaturated", done.stdout + done.stderr)

    def test_an_alert_about_the_whole_machine_is_there_on_request_only(self):
        self.assertNotIn("with-cpu-alert.yml", configuration.rule_texts(1, []))
        self.assertIn("HostHighCpu", configuration.rule_texts(1, [], ["cpu-alert"])["with-cpu-alert.yml"])

    def test_windows_and_durations_follow_the_interval(self):
        text = configuration.rule_texts(15, [])["shop.yml"]
        self.assertIn("[75s]", text)
        self.assertIn("for: 45s", text)
        self.assertNotIn("[5s]", text)

    def test_experiments_follow_the_interval(self):
        written = {
            "spec": {
                "limits": {"maxDuration": "2m"},
                "faults": [{"at": "0s", "duration": "40s"}],
                "remedies": [{"at": "22s"}],
                "steadyState": [{"name": "images", "load": "shoppers", "over": "3s", "for": "5s"},
                                {"name": "slots", "prometheus": {"query": "max(x)"}, "for": "5s"}],
                "expect": {
                    "impact": [{"within": "10s"}],
                    "alerts": [{"firingWithin": "8s", "notification": {"within": "10s"}, "resolved": {"within": "12s"}}],
                    "recovery": [{"probe": "images", "since": "lost.start", "within": "6s", "for": "14s"},
                                 {"probe": "logins", "since": "lost.end", "within": "8s", "for": "3s"},
                                 {"probe": "slots", "since": "pool.done", "within": "6s"},
                                 {"prometheus": {"query": "rate(x[5s])"}, "within": "6s"}]}}}
        self.assertEqual(written, pace.paced(written, 1))
        spec = pace.paced(written, 15)["spec"]
        self.assertEqual({"maxDuration": "10m"}, spec["limits"])
        self.assertEqual([{"at": "0s", "duration": "200s"}], spec["faults"])
        self.assertEqual([{"at": "110s"}], spec["remedies"])
        self.assertEqual(written["spec"]["steadyState"], spec["steadyState"])
        self.assertEqual(written["spec"]["expect"]["impact"], spec["expect"]["impact"])
        self.assertEqual([{"firingWithin": "120s", "notification": {"within": "150s"}, "resolved": {"within": "120s"}}],
                         spec["expect"]["alerts"])
        self.assertEqual([{"probe": "images", "since": "lost.start", "within": "6s", "for": "70s"},
                          {"probe": "logins", "since": "lost.end", "within": "8s", "for": "3s"},
                          # What Prometheus is asked is seen no sooner than it is scraped.
                          {"probe": "slots", "since": "pool.done", "within": "60s"},
                          {"prometheus": {"query": "rate(x[75s])"}, "within": "60s"}], spec["expect"]["recovery"])

    def test_generated_files_please_promtool_and_amtool(self):
        wanted = 2 + sum(defects.fits(name, alert) for name in defects.DEFECTS for alert in defects.ALERTS)
        self.assertEqual(wanted, lab("check").stdout.count("ok "))


if __name__ == "__main__":
    unittest.main(verbosity=2)
