#!/usr/bin/python3
"""The independent look sees what it is there to see: each kind of leftover is planted, and found."""

import os
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import psycopg2  # noqa: E402
from bare_postgres import BarePostgres  # noqa: E402
from look import Look, Process, children_of  # noqa: E402


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
        self.assertEqual([], self.look.everything())

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


if __name__ == "__main__":
    unittest.main()
