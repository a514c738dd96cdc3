#!/usr/bin/python3
"""Faults on the live traffic of MariaDB, Redis and HTTP, through whole runs, as `mysql`, `redis-cli` and `curl` see it."""

import signal
import sys
import time
import unittest

from wire_stage import WireStage

sys.dont_write_bytecode = True
from bare_servers import BareHttp, BareMariadb, BareRedis  # noqa: E402

DELAY_S = 0.4
BYTES_DELAY_S = 0.25
RATE = 100_000
SILENT_S = 1.0
INTERRUPTED = 130
RESET_AT_S = 3


class Faults:
    """The same promises at every server. A subclass says how its clients ask, and what they are told."""

    # Requests: that are meant, that are not, with a long answer, that take long.
    MEANT = OTHER = BIG = SLOW = None
    MATCH = None
    # error → what a client is told; the match of each.
    CODES = {}
    ANSWER = ""

    def open_at_server(self):
        """How many connections of clients the server has."""
        raise NotImplementedError

    def told(self, name, ask):
        return self.ask(self.ports[name], ask)

    def test_each_fault_is_seen_by_a_real_client_and_ends(self):
        faults = {
            "delay": ("delayQueries", {"match": self.MATCH, "delay": f"{DELAY_S}s"}, {}),
            "leak": ("leakConnections", {}, {}),
            "stall": ("stallConnections", {}, {}),
            "throttle": ("throttleBytes", {"rate": RATE, "direction": "toClient"}, {}),
            "far": ("delayBytes", {"delay": f"{BYTES_DELAY_S}s"}, {}),
            "reset": ("resetConnections", {}, {"at": f"{RESET_AT_S}s"})}
        for code, (match, _) in self.CODES.items():
            faults[f"fail-{code.lower()}"] = ("failQueries", {"match": match, "error": code}, {})
        run = self.begin_faults(faults)
        # Nothing says when the one that is not on yet listens.
        self.until(lambda: self.ANSWER in self.told("reset", self.OTHER).text, "an answer where the reset comes later")
        begun = time.monotonic()
        idle = self.begin_asking(self.ports["reset"], self.SLOW)
        stalled = self.begin_asking(self.ports["stall"], self.OTHER)
        stalled_since = time.monotonic()

        base = self.ask(self.server.port, self.MEANT)
        self.assertIn(self.ANSWER, base.text)
        slow = self.told("delay", self.MEANT)
        self.assertIn(self.ANSWER, slow.text)
        self.assertGreaterEqual(slow.took, DELAY_S)
        self.assertLess(min(self.told("delay", self.OTHER).took for _ in range(3)), DELAY_S)
        self.assertIn("requests met", self.in_force("delay"))

        for code, (_, words) in self.CODES.items():
            self.assertIn(words, self.told(f"fail-{code.lower()}", self.MEANT).text)
            self.assertIn("1 of ", self.in_force(f"fail-{code.lower()}"))

        before = self.open_at_server()
        for _ in range(3):
            self.assertIn(self.ANSWER, self.told("leak", self.MEANT).text)
        self.assertEqual(before + 3, self.open_at_server(), "their clients have gone")
        self.in_force("leak")

        self.assertGreaterEqual(self.told("far", self.OTHER).took, 2 * BYTES_DELAY_S)
        self.in_force("far")
        self.until(lambda: self.told("throttle", self.BIG).took > 0.5 and
                   "fault throttle in force" in self.said(run), "a long answer throttled")

        self.until(lambda: idle.poll() is not None, "the idle connection reset")
        self.assertLess(time.monotonic() - begun, BareHttp.SLOW_S, "it has ended by itself")
        self.until_said("fault reset has hit: 1 connection")

        time.sleep(max(0, stalled_since + SILENT_S - time.monotonic()))
        self.assertIsNone(stalled.poll(), "it was answered")
        self.in_force("stall")

        run.send_signal(signal.SIGINT)
        self.assertEqual(INTERRUPTED, run.wait(60), self.said(run))
        said, _ = stalled.communicate(timeout=30)
        self.assertIn(self.ANSWER, said, "the silent one goes on where it stopped")
        self.until(lambda: self.open_at_server() == before, "what was leaked is closed")
        self.assert_nothing_left()


class Mariadb(Faults, WireStage):
    KIND = "mysql"
    Server = BareMariadb
    MEANT, OTHER = "SELECT CONCAT('an', 'swer') FROM users", "SELECT CONCAT('an', 'swer') FROM images"
    BIG, SLOW = f"SELECT REPEAT('x', {RATE})", "SELECT SLEEP(20)"
    MATCH = {"tables": ["users"]}
    CODES = {"1205": (MATCH, "ERROR 1205 (HY000)"), "1213": (MATCH, "ERROR 1213 (40001)"),
             "1040": ({"verbs": ["connect"]}, "ERROR 1040")}
    ANSWER = "answer"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("USE test; CREATE TABLE users (id INT); INSERT INTO users VALUES (1);"
                       "CREATE TABLE images (id INT); INSERT INTO images VALUES (1)")

    def words_of(self, port, ask):
        return ["mysql", "--no-defaults", "--skip-ssl", "--host=127.0.0.1", f"--port={port}", "--user=tester",
                "--password=tester", "--batch", "--skip-column-names", "--database=test", "-e", ask]

    def open_at_server(self):
        return int(self.server.run("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'tester'"
                                   " AND command = 'Sleep'").stdout)


class Redis(Faults, WireStage):
    KIND = "redis"
    Server = BareRedis
    MEANT, OTHER, BIG, SLOW = "GET user:1", "GET image:1", "GET big", "BLPOP none 20"
    MATCH = {"tables": ["user:*"]}
    CODES = {code: ({"tables": ["user:*"]}, code + " ") for code in ("LOADING", "OOM", "READONLY")}
    ANSWER = "answer"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for key, value in (("user:1", "answer"), ("image:1", "answer"), ("big", "x" * RATE)):
            cls.server.run("SET", key, value)

    def words_of(self, port, ask):
        return ["redis-cli", "-h", "127.0.0.1", "-p", str(port), *ask.split()]

    def open_at_server(self):
        return sum("cmd=get" in line for line in self.server.run("CLIENT", "LIST").stdout.splitlines())


class Http(Faults, WireStage):
    KIND = "http"
    Server = BareHttp
    MEANT, OTHER, BIG, SLOW = "/users/answer", "/images/answer", "/big", "/slow"
    MATCH = {"tables": ["/users/*"]}
    CODES = {"503": ({"tables": ["/users/*"]}, " 503"), "429": ({"tables": ["/users/*"]}, " 429")}
    ANSWER = "answer"

    def words_of(self, port, ask):
        return ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", " %{http_code}",
                f"http://127.0.0.1:{port}{ask}"]

    def open_at_server(self):
        time.sleep(0.1)  # its threads notice a closed connection a little later
        return self.server.open - self.server.slow


if __name__ == "__main__":
    unittest.main()
