#!/usr/bin/python3
"""Encrypted streams that were to be matched: never silently unmatched. Whole runs against servers with TLS."""

import os
import sys
import threading
import unittest

from wire_stage import WireStage

sys.dont_write_bytecode = True
from bare_postgres import BarePostgres  # noqa: E402
from bare_servers import BareMariadb, BareRedis, make_certificate  # noqa: E402
from labkit.accounts import DATABASE_ACCOUNT, Account  # noqa: E402

PASSED, REFUSED, INCONCLUSIVE = 0, 2, 6


class Encrypted:
    """A run whose fault meets only encrypted connections is inconclusive; met in the clear, it passes."""

    FAULT = ("delayQueries", {"delay": "50ms"}, {})

    def run_with_client(self, fault=FAULT, duration="2s", **client):
        """The run, and what its fault said of itself; a client asks again and again meanwhile."""
        run = self.begin_faults({"it": fault}, duration=duration,
                                flags=("--report", os.path.join(self.folder, "report.txt")), **client)
        stopped = threading.Event()

        def ask():
            while not stopped.wait(0.2):
                self.asked.append(self.ask(self.ports["it"], self.ASK))
        self.asked = []
        asking = threading.Thread(target=ask)
        asking.start()
        code = run.wait(60)
        stopped.set()
        asking.join()
        self.assertTrue(any(self.ANSWER in each.text for each in self.asked[:5]), [each.text for each in self.asked])
        _, said, _ = self.firedrill("report", "last")
        return code, " ".join(said.split())

    def test_is_reported_and_the_verdict_hangs_on_it(self):
        self.tls = True
        code, said = self.run_with_client()
        self.assertEqual(INCONCLUSIVE, code, said)
        self.assertRegex(said, r"\d+ of \d+ connections are encrypted: not looked into")
        self.assertIn("never in force", said)

    def test_in_the_clear_the_same_run_passes(self):
        self.tls = False
        code, said = self.run_with_client()
        self.assertEqual(PASSED, code, said)
        self.assertNotIn("encrypted", said)


class SaysGoodbye(Encrypted):
    """The server closes upon what a client says before it goes: that must be kept back, and is not seen under TLS."""

    LEAK = ("leakConnections", {}, {})

    def test_a_leak_is_no_leak_then_and_the_verdict_hangs_on_it(self):
        self.tls = True
        code, said = self.run_with_client(self.LEAK, "4s")
        self.assertEqual(INCONCLUSIVE, code, said)
        self.assertRegex(said, r"0 connections are open at the server though their clients have gone or said goodbye.*"
                               r"\d+ of \d+ connections are encrypted: not looked into")
        self.assertIn("never in force", said)

    def test_in_the_clear_the_same_leak_is_one(self):
        self.tls = False
        code, said = self.run_with_client(self.LEAK, "4s")
        self.assertEqual(PASSED, code, said)
        self.assertNotIn("encrypted", said)


class Postgresql(SaysGoodbye, WireStage):
    KIND = "postgresql"
    KEYS = {"user": "postgres", "database": "postgres"}
    ASK, ANSWER = "SELECT 'an' || 'swer'", "answer"

    @staticmethod
    def Server():
        server = BarePostgres()
        key, certificate = make_certificate(server.folder, Account(DATABASE_ACCOUNT))
        server.run("ALTER SYSTEM SET ssl = on", f"ALTER SYSTEM SET ssl_key_file = '{key}'",
                   f"ALTER SYSTEM SET ssl_cert_file = '{certificate}'", "SELECT pg_reload_conf()")
        return server

    def words_of(self, port, ask):
        return ["psql", "--no-psqlrc", "--tuples-only", "--command", ask,
                f"host=127.0.0.1 port={port} user=postgres dbname=postgres gssencmode=disable "
                f"sslmode={'require' if self.tls else 'disable'}"]

    def test_a_profile_that_demands_tls_is_refused_before_anything_is_touched(self):
        self.KEYS = {**self.KEYS, "sslMode": "verify-full"}
        for fault in (self.FAULT, self.LEAK):
            run = self.begin_faults({"it": fault}, wait=False)
            self.assertEqual(REFUSED, run.wait(60), self.said(run))
            self.assertIn("nobody looks into what is encrypted", " ".join(self.said(run).split()))


class Mariadb(SaysGoodbye, WireStage):
    KIND = "mysql"
    Server = BareMariadb
    ASK, ANSWER = "SELECT CONCAT('an', 'swer')", "answer"

    def words_of(self, port, ask):
        return ["mysql", "--no-defaults", "--ssl" if self.tls else "--skip-ssl", "--host=127.0.0.1",
                f"--port={port}", "--user=tester", "--password=tester", "--batch", "-e", ask]


class Redis(Encrypted, WireStage):
    KIND = "redis"
    Server = BareRedis
    ASK, ANSWER = "PING", "PONG"

    def run_with_client(self):
        return super().run_with_client(port=self.server.tls_port if self.tls else self.server.port)

    def words_of(self, port, ask):
        return ["redis-cli", "-h", "127.0.0.1", "-p", str(port), *(["--tls", "--insecure"] if self.tls else []), ask]


if __name__ == "__main__":
    unittest.main()
