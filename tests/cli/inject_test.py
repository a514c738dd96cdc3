#!/usr/bin/python3
"""`firedrill inject`: one fault by hand on real traffic, its end by every way, and what wrong words are told."""

import os
import pathlib
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
import unittest

import psycopg2

from stage import PROGRAM, Stage

sys.dont_write_bytecode = True
from look import free_port  # noqa: E402

DELAY_S = 0.3


class Inject(Stage):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("CREATE TABLE users (id int)", "CREATE TABLE images (id int)")

    def connect(self, port=None):
        return psycopg2.connect(host="127.0.0.1", port=port or self.server.port, user="postgres",
                                dbname="postgres", sslmode="disable", gssencmode="disable", connect_timeout=10)

    def took(self, session, table):
        """The fastest of three: what the machine does meanwhile is no matter then."""
        times = []
        with session.cursor() as cursor:
            for _ in range(3):
                begun = time.monotonic()
                cursor.execute(f"SELECT count(*) FROM {table}")
                times.append(time.monotonic() - begun)
        return min(times)

    def begin_inject(self, *words):
        process = self.begin(PROGRAM, "inject", "delay-queries", "--upstream", f"127.0.0.1:{self.server.port}",
                             "--protocol", "postgresql", "--match", "table=users", "--delay", f"{DELAY_S}s", *words)
        self.until(lambda: self.processes("firedrill-wire") or process.poll() is not None, "a worker")
        self.assertIsNone(process.poll(), self.said(process))
        return process

    def slowed(self):
        with self.connect() as session:
            slow = self.took(session, "users") >= DELAY_S
            if slow:
                self.assertLess(self.took(session, "images"), DELAY_S)
            return slow

    @unittest.skipUnless(os.geteuid() == 0, "a redirect needs root")
    def test_clients_that_know_nothing_are_slowed_until_ctrl_c(self):
        process = self.begin_inject()
        self.until(self.slowed, "one table slowed")
        self.until(lambda: "requests met" in self.said(process), "live counters")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(30), 130, self.said(process))
        self.assertIn("touched: ", self.said(process))
        self.assertFalse(self.slowed())
        self.until(lambda: not self.processes("firedrill-wire"), "no worker left")

    @unittest.skipUnless(os.geteuid() == 0, "a redirect needs root")
    def test_two_at_one_server_end_one_after_the_other(self):
        first = self.begin_inject()
        self.until(self.slowed, "one table slowed")
        code, out, err = self.firedrill("inject", "delay-queries", "--upstream", f"127.0.0.1:{self.server.port}",
                                        "--protocol", "postgresql", "--delay", "50ms", "--duration", "2s",
                                        state=self.state + "-of-another")
        self.assertIn("is off, read back", out + err)
        self.assertNotEqual(code, 5, out + err)
        self.assertTrue(self.slowed())
        first.send_signal(signal.SIGINT)
        self.assertEqual(first.wait(30), 130, self.said(first))

    @unittest.skipUnless(os.geteuid() == 0, "a redirect needs root")
    def test_a_killed_injector_heals_the_traffic(self):
        self.begin_inject()
        self.until(self.slowed, "one table slowed")
        pooled = self.connect()
        self.assertGreaterEqual(self.took(pooled, "users"), DELAY_S)
        for injector in self.processes("firedrill-injector"):
            injector.send(signal.SIGKILL)
        self.until(lambda: self.took(pooled, "users") < DELAY_S, "the pooled connection goes on untouched")
        self.assertFalse(self.slowed())
        pooled.close()

    def test_a_fault_that_ends_early_was_in_force_and_says_why_it_ended(self):
        process, port = self.listening("delay-queries", "--delay", "1ms")
        with self.connect(port) as session, session.cursor() as cursor:
            cursor.execute("SELECT 1")
            self.until(lambda: "in force" in self.said(process), "in force")
        for injector in self.processes("firedrill-injector"):
            injector.send(signal.SIGKILL)
        self.assertEqual(process.wait(60), 6, self.said(process))
        said = " ".join(self.said(process).split())
        self.assertIn("it ended early; undone, and read back (exit 6)", said)
        self.assertRegex(said, r"it was in force for [0-9.]+m?s of 1h: its injector had ended")
        self.assertNotIn("not seen in force", said)
        self.assertNotIn("its time is over", said)

    def test_a_fault_that_ends_before_it_is_seen_in_force_has_ended_early_too(self):
        """It was called one whose time is over and that no client met, whatever it had held."""
        process, _ = self.listening("delay-queries", "--delay", "1ms")
        self.until(lambda: "0 of 0 requests met" in self.said(process), "its counters")
        for injector in self.processes("firedrill-injector"):
            injector.send(signal.SIGKILL)
        self.assertEqual(process.wait(60), 6, self.said(process))
        said = self.said(process)
        self.assertIn("it ended early; undone, and read back (exit 6)\n", said)
        self.assertRegex(said, r"(?m)^it was off after [0-9.]+m?s of 1h, before it was seen in force: its injector had")
        self.assertRegex(said, r"(?m)^touched, as last seen [0-9.]+m?s before the end: 0 of 0 requests met")
        for word in ("its time is over", "no client came", "not seen in force:"):
            self.assertNotIn(word, said)

    def test_a_fault_that_nobody_met_has_had_its_time(self):
        process, _ = self.listening("delay-queries", "--delay", "1ms", "--duration", "2s")
        self.assertEqual(process.wait(60), 6, self.said(process))
        said = self.said(process)
        self.assertIn("its time is over; undone, and read back (exit 6)\n", said)
        self.assertIn("no client came through it", said)
        self.assertRegex(said, r"(?m)^touched: 0 of 0 requests met; 0 connections open$")

    def test_clients_that_the_server_itself_refuses_are_told_of_while_it_lasts(self):
        held, dead = free_port()
        held.close()
        process, port = self.listening("delay-queries", "--delay", "1ms", upstream=dead)
        for _ in range(10):
            with self.assertRaises(psycopg2.OperationalError):
                self.connect(port)
        told = f"10 clients were refused by the server itself at 127.0.0.1:{dead}: is it up?"
        self.until(lambda: told in self.said(process), "it is told live")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(30), 130, self.said(process))
        self.assertRegex(self.said(process), r"(?m)^touched: 0 of 0 requests met; 0 connections open; " + told)

    def test_a_usual_port_tells_the_protocol_which_is_said(self):
        held, port = free_port()
        held.close()
        process = self.begin(PROGRAM, "inject", "delay-queries", "--listen", f"127.0.0.1:{port}", "--upstream",
                             "127.0.0.2:5432", "--match", "table=users", "--delay", "200ms")
        self.until(lambda: " is on at " in self.said(process) or process.poll() is not None, "it is on")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(30), 130, self.said(process))
        self.assertIn("protocol: postgresql, which is usual at the port of 127.0.0.2:5432; --protocol names another\n",
                      self.said(process))

    def test_an_undo_that_nobody_confirms_is_told_in_words_of_one_fault(self):
        process, port = self.listening("delay-queries", "--delay", "1ms")
        for _ in range(3):
            self.until(lambda: self.processes("firedrill-injector") or process.poll() is not None, "an injector")
            for injector in self.processes("firedrill-injector"):
                injector.send(signal.SIGKILL)
                self.assertTrue(injector.ended(10))
        self.assertEqual(process.wait(60), 5, self.said(process))
        said = self.said(process)
        self.assertIn("; UNDO NOT CONFIRMED: a person must look (exit 5)\n", said)
        self.assertIn("look with: firedrill leftovers\n", said)
        for word in ("No alert fired", "passed", "inconclusive", "steady state"):
            self.assertNotIn(word, said)

    def test_bytes_that_are_held_are_not_said_never_to_have_come(self):
        process, port = self.listening("delay-bytes", "--delay", "60s")
        with socket.create_connection(("127.0.0.1", port), 10) as held:
            held.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
            self.until(lambda: "1 connection open" in self.said(process), "the connection")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(30), 130, self.said(process))
            # They are delivered: the server answers the question for TLS by one letter.
            held.settimeout(30)
            self.assertIn(held.recv(1), (b"N", b"S"))
        self.assertRegex(self.said(process), r"(?m)^touched.*: bytes were held, 1 time, .*what it holds is let go")

    def test_a_listener_ends_with_its_time(self):
        held, port = free_port()
        held.close()
        process = self.begin_inject("--listen", f"127.0.0.1:{port}", "--duration", "3s")

        def slow():
            try:
                with self.connect(port) as session:
                    return self.took(session, "users") >= DELAY_S
            except psycopg2.OperationalError:
                return False
        self.until(slow, "slowed through the listener")
        self.assertEqual(process.wait(60), 0, self.said(process))
        self.assertIn("is off, read back", self.said(process))

    def listening(self, kind, *words, upstream=None):
        """A fault at an address of its own, on: (its process, the port)."""
        held, port = free_port()
        held.close()
        process = self.begin(PROGRAM, "inject", kind, "--upstream", f"127.0.0.1:{upstream or self.server.port}",
                             "--protocol", "postgresql", "--listen", f"127.0.0.1:{port}", *words)
        self.until(lambda: " is on at " in self.said(process) or process.poll() is not None, "it is on")
        self.assertIsNone(process.poll(), self.said(process))
        return process, port

    def test_what_was_counted_is_true_to_the_last_moment(self):
        process, port = self.listening("delay-queries", "--delay", "1ms")
        with self.connect(port) as session, session.cursor() as cursor:
            for _ in range(20):
                cursor.execute("SELECT 1")
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(30), 130, self.said(process))
        met = re.search(r"(?m)^touched: (\d+) of (\d+) requests met", self.said(process))
        self.assertIsNotNone(met, self.said(process))
        # The driver begins the transaction by a request of its own.
        self.assertEqual(int(met[1]), 21, self.said(process))
        # What is said of a server that refuses, and of a protocol that nobody gave, is said of those only.
        self.assertNotIn("refused", self.said(process))
        self.assertNotIn("protocol", self.said(process))

    def test_figures_that_are_old_say_so(self):
        process, port = self.listening("delay-queries", "--delay", "1ms")
        self.until(lambda: "requests met" in self.said(process), "counters")
        for injector in self.processes("firedrill-injector"):
            injector.send(signal.SIGSTOP)
        self.assertIn(process.wait(60), (4, 5, 6), self.said(process))
        self.assertRegex(self.said(process), r"touched, as last seen [0-9.ms]+ before the end: ")

    def test_one_seed_hits_the_same_requests_again(self):
        def pattern(seed):
            process, port = self.listening("fail-queries", "--error", "57014", "--match", "verb=select,share=0.5",
                                           "--seed", seed)
            self.assertIn(f"seed {seed};", self.said(process))
            hits = []
            session = self.connect(port)
            session.autocommit = True
            with session.cursor() as cursor:
                for _ in range(30):
                    try:
                        cursor.execute("SELECT 1")
                        hits.append(False)
                    except psycopg2.Error:
                        hits.append(True)
            session.close()
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(30), 130, self.said(process))
            return hits
        first = pattern("7")
        self.assertIn(True, first)
        self.assertIn(False, first)
        self.assertEqual(pattern("7"), first)
        self.assertNotEqual(pattern("8"), first)

    def test_a_killed_client_leaves_no_folder_for_good(self):
        process, _ = self.listening("delay-queries", "--delay", "1ms")

        def folders():
            return [name for name in os.listdir(self.look.temporary) if name.startswith("firedrill-")]
        living = folders()
        self.assertTrue(living)
        self.firedrill("leftovers")
        self.assertEqual(folders(), living)
        process.kill()
        process.wait(30)
        self.until(lambda: not self.look.processes(), "everything has ended by itself")
        self.assertEqual(self.firedrill("leftovers")[0], 0)
        self.assertEqual(folders(), [])

    def test_nothing_is_said_of_expectations_that_there_are_not(self):
        process, port = self.listening("delay-queries", "--delay", "1ms", "--duration", "3s")
        with self.connect(port) as session, session.cursor() as cursor:
            cursor.execute("SELECT 1")
            self.until(lambda: "in force" in self.said(process), "in force")
        self.assertEqual(process.wait(60), 0, self.said(process))
        said = self.said(process)
        for word in ("expect", "steady state", "gate", "preflight", "passed"):
            self.assertNotIn(word, said)
        self.assertIn("its time is over; undone, and read back (exit 0)\n", said)

    def test_a_refusal_is_told_once(self):
        code, out, err = self.firedrill("inject", "delay-queries", "--delay", "1s", "--client-user", "no-such",
                                        "--upstream", f"127.0.0.1:{self.server.port}", "--protocol", "postgresql")
        self.assertEqual(code, 2, out + err)
        self.assertEqual((out + err).count("this machine has no user"), 1, out + err)
        self.assertIn("refused; nothing of it stays (exit 2)", out)

    def test_a_node_may_have_an_environment_of_its_own(self):
        with open(self.site) as site:
            text = site.read()
        site = self.write("staging.yaml", text.replace("- name: node-a", "- name: node-a\n      environment: staging"))
        code, out, err = self.firedrill("inject", "hold-connections", "--site", site, "--profile", "holder",
                                        "--count", "2", "--state", "idle", "--duration", "1s")
        self.assertEqual(code, 0, out + err)

    def test_what_lint_would_refuse_is_refused_before_anything_starts(self):
        """An error of another server, a tcp server's requests, a profile that there is not: in lint's words."""
        for words, said in (
                (("fail-queries", "--error", "1205", "--upstream", "127.0.0.1:1", "--protocol", "postgresql"),
                 "1205 is no SQLSTATE of an error; profile 'upstream' of node 'this-machine' is a postgresql server; "
                 "write 55P03, as 1205 is of MySQL\n"),
                (("delay-queries", "--delay", "1s", "--upstream", "127.0.0.1:1", "--protocol", "tcp"),
                 "is a tcp server: nobody looks into its requests; "),
                (("delay-queries", "--delay", "1s", "--site", self.site, "--profile", "holdr"),
                 "has the profile 'holdr'; did you mean 'holder'?\n")):
            code, out, err = self.firedrill("inject", *words)
            self.assertEqual((code, out), (2, ""), out + err)
            self.assertIn(said, err)
            self.assertIn("nothing was started", err)

    def test_a_server_that_lets_nobody_in_is_no_fault_left_behind(self):
        with open(self.site) as site:
            text = site.read()
        wrong = os.path.join(self.folder, "wrong.yaml")
        with open(wrong, "w") as site:
            site.write(text.replace("user: ", "user: no-such-"))
        code, out, err = self.firedrill("inject", "hold-connections", "--site", wrong, "--profile", "holder",
                                        "--count", "3", "--duration", "3s")
        self.assertEqual(code, 4, out + err)
        self.assertNotIn("STUCK", out + err)

    def test_what_cannot_be_done_is_refused_in_clear_words(self):
        """A taken port, the server's own one, an error of another server, an expression that is none."""
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        upstream = ("--upstream", f"127.0.0.1:{self.server.port}", "--protocol", "postgresql")
        for words, exit_code, said in (
                (("delay-queries", "--delay", "1s", "--match.regex", "("), 2, "not a regular expression: missing ): ("),
                (("fail-queries", "--error", "1205"), 2, "1205 is no SQLSTATE"),
                (("delay-queries", "--delay", "1s", "--client-user", "no-such"), 2, "this machine has no user"),
                (("delay-queries", "--uniform.min", "2s", "--uniform.max", "1s"), 2, "exchange them"),
                (("delay-queries", "--delay", "1s", "--listen", "127.0.0.1:1", "--reconnect"), 2, "leave them out"),
                (("delay-queries", "--delay", "1s", "--listen", f"127.0.0.1:{self.server.port}"), 2, "in a circle"),
                (("delay-queries", "--delay", "1s", "--listen", f"127.0.0.1:{taken.getsockname()[1]}"), 4,
                 "choose another `listen`")):
            code, out, err = self.firedrill("inject", *words, *upstream, "--duration", "5s")
            self.assertEqual(code, exit_code, out + err)
            self.assertIn(said, " ".join((out + err).split()))
        self.assertEqual([], self.look.wait_for_nothing(5, self.look.processes))

    @unittest.skipUnless(os.geteuid() == 0, "root, to become somebody else")
    def test_an_ordinary_user_is_shown_the_way_that_needs_no_rights(self):
        nobody = pwd.getpwnam("nobody")
        for parent in pathlib.Path(PROGRAM).resolve().parents:
            if not parent.stat().st_mode & 0o001:
                self.skipTest(f"the user nobody cannot enter {parent}")
        os.chmod(self.folder, 0o711)
        os.mkdir(self.state)
        for folder in (self.state, self.look.temporary):
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)

        def inject(*words):
            done = subprocess.run([PROGRAM, "inject", "delay-queries", "--upstream", f"127.0.0.1:{self.server.port}",
                                   "--protocol", "postgresql", "--delay", "1s", "--duration", "1s", *words,
                                   "--state-dir", self.state], env=self.look.environment(), cwd="/", timeout=60,
                                  capture_output=True, text=True, user=nobody.pw_uid, group=nobody.pw_gid,
                                  extra_groups=[])
            return done.returncode, " ".join((done.stdout + done.stderr).split())
        code, said = inject()
        self.assertEqual(code, 2, said)
        self.assertIn("add --listen 127.0.0.1:6432", said)
        held, port = free_port()
        held.close()
        code, said = inject("--listen", f"127.0.0.1:{port}")
        self.assertIn("its time is over; undone, and read back", said)

    def test_wrong_words_are_told_what_may_have_been_meant(self):
        for words, said in ((("delay-querys",), "did you mean delay-queries?"),
                            (("--duration", "1s"), "name the fault first"),
                            (("delay-queries", "--recconect"), "did you mean --reconnect?"),
                            (("delay-queries", "--delay", "1s"), "Add --upstream HOST:PORT --protocol"),
                            (("stall-connections", "--upstream", "127.0.0.1:1"),
                             "--protocol is missing, and port 1 does not tell it, as these do: 5432 postgresql, "),
                            (("lose-index", "--profile", "x", "--index", "a.b"), "here: give --site FILE\n"),
                            (("delay-queries", "--profile", "x", "--delay", "1s"),
                             "or --upstream HOST:PORT with --protocol\n")):
            code, out, err = self.firedrill("inject", *words)
            self.assertEqual(code, 2, out + err)
            self.assertIn(said, err)
        code, out, _ = self.firedrill("inject", "delay-queries", "--help")
        self.assertEqual(code, 0)
        self.assertIn("--match.tables", out)


if __name__ == "__main__":
    unittest.main()
