#!/usr/bin/python3
"""The independent look sees what it is there to see: each kind of leftover is planted, and found."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import psycopg2  # noqa: E402
from bare_postgres import BarePostgres  # noqa: E402
from look import NOT_THERE, Look, Process, children_of, connect, facts_of, facts_of_machine  # noqa: E402

# In a network of its own, where nobody else plans anything.
IN_A_NETWORK = """
import json, subprocess, sys
sys.path.insert(0, sys.argv[1])
from look import facts_of_machine
looks = [sorted(facts_of_machine())]
for planted in (["nft", "add", "table", "inet", "left"], ["tc", "qdisc", "add", "dev", "lo", "root", "pfifo"]):
    subprocess.run(planted, check=True)
    looks.append(sorted(facts_of_machine()))
print(json.dumps(looks))
"""


class LookTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = BarePostgres()
        cls.addClassCleanup(cls.server.stop)
        cls.server.run("CREATE ROLE reports LOGIN", "CREATE ROLE other LOGIN")

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="look-test-")
        self.addCleanup(folder.cleanup)
        self.temporary = os.path.join(folder.name, "tmp")
        self.state = os.path.join(folder.name, "state")
        os.makedirs(os.path.join(self.state, "nodes", "lab-db"))
        os.makedirs(self.temporary)
        self.look = Look(self.server.superuser, ["reports"], self.temporary, self.state)
        # The session of the test before may be about to leave.
        self.gone()

    def session(self, user, name):
        connection = psycopg2.connect(host="127.0.0.1", port=self.server.port, user=user, dbname="postgres",
                                      application_name=name)
        self.addCleanup(connection.close)
        return connection

    def gone(self):
        self.assertEqual([], self.look.wait_for_nothing(5))

    def test_sees_a_session_by_its_name(self):
        connection = self.session("other", "firedrill:x:y")
        self.assertIn("firedrill:x:y", "".join(self.look.wait_for_nothing(0.1)))
        connection.close()
        self.gone()

    def test_sees_a_session_by_its_role_whatever_it_calls_itself(self):
        connection = self.session("reports", "psql")
        self.assertIn("of reports 'psql'", "".join(self.look.everything()))
        connection.close()
        self.gone()

    def test_does_not_see_sessions_of_others(self):
        self.session("other", "shop")
        self.assertEqual([], self.look.everything())

    def test_does_not_see_another_run_at_the_same_server(self):
        look = Look(self.server.superuser, ["reports"], self.temporary, self.state, others=["other"])
        self.session("other", "firedrill:x:y")
        self.assertEqual([], look.everything())
        self.session("postgres", "firedrill:x:y")
        self.assertIn("of postgres 'firedrill:x:y'", "".join(look.everything()))

    def test_sees_a_process_and_its_detached_children(self):
        child = subprocess.Popen(["/bin/sh", "-c", "setsid sleep 60 & echo $!; exec sleep 60"],
                                 stdout=subprocess.PIPE, text=True, env=self.look.environment())
        grandchild = Process(int(child.stdout.readline()))
        self.assertIn(grandchild.pid, children_of(child.pid))
        self.assertEqual({child.pid, grandchild.pid}, set(self.look.pids()))
        child.kill()
        child.wait()
        child.stdout.close()
        self.assertEqual({grandchild.pid}, set(self.look.pids()))
        grandchild.send(9)
        self.assertTrue(grandchild.ended(5))
        grandchild.close()
        self.gone()

    def test_sees_a_stale_folder(self):
        folder = os.path.join(self.temporary, "firedrill-1-abcdef")
        os.mkdir(folder)
        self.assertEqual([f"file {folder}"], self.look.everything())
        os.rmdir(folder)
        self.gone()

    def test_sees_a_stale_folder_outside_of_the_temporary_one(self):
        self.look.started.append(os.getpid())
        folder = tempfile.mkdtemp(prefix=f"firedrill-{os.getpid()}-", dir="/tmp")
        self.addCleanup(lambda: os.path.exists(folder) and os.rmdir(folder))
        self.assertEqual([f"folder {folder}"], self.look.everything())
        os.rmdir(folder)
        self.gone()

    def test_sees_records_of_a_journal_that_are_not_done(self):
        with open(os.path.join(self.state, "nodes", "lab-db", "journal"), "w") as journal:
            journal.write('# a comment\n01234567 begin 1 run="r" fault="a" planned="{}"\n'
                          '01234567 undo 2 run="r" fault="b" kind="k" by_hand: x y\n01234567 done 1 gone\n')
        self.assertEqual(['journal of lab-db: 01234567 undo 2 run="r" fault="b" kind="k" by_hand: x y'],
                         self.look.everything())

    def facts(self):
        return facts_of("db", lambda: connect("127.0.0.1", self.server.port))

    def test_sees_what_a_run_may_change_of_a_server(self):
        self.server.run("CREATE TABLE kept (number int)", "CREATE INDEX kept_number ON kept (number)")
        before = self.facts()
        self.assertEqual(before, self.facts())
        for change, back, words in (
                ("ALTER SYSTEM SET work_mem = '5MB'", "ALTER SYSTEM RESET work_mem", "work_mem = "),
                ("ALTER ROLE other SET work_mem = '5MB'", "ALTER ROLE other RESET work_mem", "setting of a role"),
                ("ALTER ROLE other CONNECTION LIMIT 5", "ALTER ROLE other CONNECTION LIMIT -1", "role other"),
                ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'kept_number'::regclass",
                 "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'kept_number'::regclass", "valid false"),
                ("CREATE TABLE left_behind ()", "DROP TABLE left_behind", "relation left_behind")):
            self.server.run(change, "SELECT pg_reload_conf()")
            self.assertIn(words, "\n".join(self.facts() ^ before))
            self.server.run(back, "SELECT pg_reload_conf()")
            self.assertEqual(set(), self.facts() ^ before, change)

    def test_sees_that_a_server_is_not_there(self):
        def refused():
            raise psycopg2.OperationalError("connection refused")
        self.assertEqual({f"db: {NOT_THERE}"}, facts_of("db", refused))

    @unittest.skipUnless(os.geteuid() == 0, "needs root: a network of its own")
    def test_sees_a_rule_of_the_packet_filter_and_a_queue(self):
        done = subprocess.run(["unshare", "-n", sys.executable, "-B", "-c", IN_A_NETWORK,
                               os.path.dirname(os.path.realpath(__file__))], capture_output=True, text=True)
        self.assertEqual(0, done.returncode, done.stderr)
        before, with_table, with_queue = map(set, json.loads(done.stdout))
        self.assertEqual({"nft: table inet left {"}, with_table - before)
        self.assertIn("tc: qdisc pfifo", "".join(with_queue - with_table))

    @unittest.skipUnless(os.access("/sys/fs/cgroup", os.W_OK), "needs root: a cgroup")
    def test_sees_a_cgroup(self):
        folder = f"/sys/fs/cgroup/firedrill-look{os.getpid() % 10000:04}-slow"
        try:
            os.mkdir(folder)
        except OSError as error:
            self.skipTest(f"no cgroup can be made here: {error}")
        try:
            self.assertIn(f"cgroup: {folder}", facts_of_machine())
        finally:
            os.rmdir(folder)
        self.assertNotIn(f"cgroup: {folder}", facts_of_machine())


if __name__ == "__main__":
    unittest.main()
