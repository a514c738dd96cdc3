#!/usr/bin/python3
"""An application with a warm pool on live traffic that is disturbed: only what was meant is slow, and it heals.

FIREDRILL_BIN is the folder of the binaries. Needs root: without it no connection can be redirected.
"""

import os
import signal
import socket
import statistics
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request

import psycopg2

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from on_a_lab import HERE, INJECTOR, WIRE, Lab, OnALab  # noqa: E402
from look import Process, connect  # noqa: E402
from redirects import links_of, redirects  # noqa: E402

SLOWED = os.path.join(HERE, "slowed.yaml")
PASSED, INTERRUPTED = 0, 130
ROUTES = {"login": "/login?email=user1@shop.example", "images": "/api/images"}
DELAY_S = 0.2
# What a delayed request may lack of the delay, and an undelayed one may take of it, on a busy machine.
AT_LEAST_S = 0.75 * DELAY_S
HEALED_WITHIN_S = 3.0
OVER_WITHIN_S = 40
# The exporter closes its connection when it is scraped next.
CLOSED_WITHIN_S = 5
POOL_CLIENTS = 4


class BySocket(Lab):
    """Its superuser comes by the Unix socket: those who look are not themselves led through the fault."""

    def connect(self):
        with open(self.path("postgres.password")) as word:
            return connect(self.path("postgresql"), self.ports["postgresql"], word.read().strip())


class Shopper(threading.Thread):
    """Asks one route of the shop all the time: [(begun, code, seconds)]."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.url, self.asked, self.stopped = url, [], threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(0.01):
            begun = time.monotonic()
            try:
                with urllib.request.urlopen(self.url, timeout=10) as answer:
                    answer.read()
                    code = answer.status
            except urllib.error.HTTPError as error:
                code = error.code
            except OSError as error:
                code = str(error)
            self.asked.append((begun, code, time.monotonic() - begun))

    def stop(self):
        self.stopped.set()
        self.join()


@unittest.skipUnless(os.geteuid() == 0, "needs root: only root may redirect connections")
class WarmPool(OnALab):
    @classmethod
    def setUpClass(cls):
        cls.shared = BySocket()
        cls.addClassCleanup(cls.shared.down)

    def setUp(self):
        self.use(self.shared)
        shop = self.lab.urls["shop"]
        # Several at a time, so that the pool has several connections.
        self.shoppers = {route: [Shopper(shop + path) for _ in range(POOL_CLIENTS)] for route, path in ROUTES.items()}
        for shopper in sum(self.shoppers.values(), []):
            self.addCleanup(shopper.stop)
        time.sleep(1)

    def median(self, route, since, until=None):
        """Of the requests that began in that time, and were answered well."""
        until = until or time.monotonic()
        took = [seconds for shopper in self.shoppers[route] for begun, code, seconds in list(shopper.asked)
                if since <= begun and begun + seconds <= until and code == 200]
        self.assertGreater(len(took), 3, f"too few answers of {route}")
        return statistics.median(took)

    def medians(self, seconds):
        begun = time.monotonic()
        time.sleep(seconds)
        return {route: self.median(route, begun) for route in ROUTES}

    def broken(self, since):
        return [(route, code) for route, shoppers in self.shoppers.items() for shopper in shoppers
                for begun, code, _ in list(shopper.asked) if begun >= since and code != 200]

    def by_whom(self, pid):
        with open(f"/proc/{pid}/cmdline", "rb") as words:
            return words.read().split(b"\0")

    def children(self, program):
        found = []
        for pid in self.look.pids():
            try:
                process = Process(pid)
            except OSError:
                continue
            if process.program == program:
                self.addCleanup(process.close)
                found.append(process)
            else:
                process.close()
        return found

    def goes_direct(self):
        """Whether the server sees the very connection that a client made."""
        with open(self.lab.path("dba.password")) as word:
            client = psycopg2.connect(host="127.0.0.1", port=self.lab.ports["postgresql"], user="firedrill_dba",
                                      dbname="shop", password=word.read().strip(), connect_timeout=10)
        with client.cursor() as cursor:
            cursor.execute("SELECT inet_client_port()")
            seen = cursor.fetchone()[0]
        with client, socket.socket(fileno=os.dup(client.fileno())) as made:
            mine = made.getsockname()[1]
        client.close()
        return mine == seen

    def find_links(self):
        """The worker of this run; its redirects are in `links`, and are seen in the kernel's own list."""
        worker, = self.children(WIRE)
        self.links = links_of(worker.pid)
        self.assertTrue(self.links and self.links <= set(redirects()), "the look sees no redirect while there is one")
        return worker

    def wait_for(self, condition, what, seconds, process=None):
        limit = time.monotonic() + seconds
        while not condition():
            if process is not None:
                self.assertIsNone(process.poll(), f"the run ended before: {what}")
            self.assertLess(time.monotonic(), limit, f"not within {seconds} s: {what}")
            time.sleep(0.05)

    def is_slow(self):
        latest = self.shoppers["login"][0].asked[-1]
        return latest[1] == 200 and latest[2] >= AT_LEAST_S

    def assert_slowed(self, base, during):
        self.assertGreater(during["login"] - base["login"], AT_LEAST_S, (base, during))
        self.assertLess(during["images"] - base["images"], DELAY_S / 4, (base, during))

    def assert_base(self, base, after):
        for route in ROUTES:
            self.assertLess(after[route] - base[route], DELAY_S / 4, (route, base, after))

    def assert_nothing_stays(self):
        """The pool's connections, and the exporter's, are carried on until they close; then there is nothing."""
        self.assertEqual(set(), self.links & set(redirects()))
        self.assertTrue(self.goes_direct())
        with self.look.connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL")
        # The shop notices at its next queries.
        self.assertEqual([], self.look.wait_for_nothing(CLOSED_WITHIN_S), "left when all connections were closed")

    def test_only_logins_are_slow_and_the_verdict_says_so(self):
        base = self.medians(1)
        process = self.start("run", SLOWED, "--json", os.path.join(self.folder, "run.json"), "--junit",
                             os.path.join(self.folder, "run.xml"))
        self.wait_for(self.is_slow, "logins slowed", OVER_WITHIN_S, process)
        self.assertFalse(self.goes_direct())
        self.find_links()
        self.assert_slowed(base, self.medians(1.5))
        result = self.end(process)
        ended = time.monotonic()
        self.assert_end(result, PASSED, "passed", "completed")
        self.assertEqual({"slow-users", "logins-slow", "fast-again"}, set(result.expectations()))
        self.assert_base(base, self.medians(1))
        self.assertEqual([], self.broken(ended))
        self.assert_nothing_stays()

    def test_a_killed_injector_heals_it(self):
        base = self.medians(1)
        process = self.start("run", SLOWED)
        self.wait_for(self.is_slow, "logins slowed", OVER_WITHIN_S, process)
        self.assert_slowed(base, self.medians(1.5))
        worker = self.find_links()
        mine = [injector for injector in self.children(INJECTOR) if b"lab-db" in self.by_whom(injector.pid)]
        self.assertEqual(1, len(mine))
        mine[0].send(signal.SIGKILL)
        killed = time.monotonic()
        self.assertTrue(mine[0].ended(5))
        self.wait_for(lambda: not self.links & set(redirects()), "no redirect", HEALED_WITHIN_S)
        self.assertTrue(self.goes_direct())
        # A login that was held when it happened is answered all the same.
        time.sleep(max(0, killed + 2 * DELAY_S - time.monotonic()))
        self.assert_base(base, self.medians(1))
        self.assertEqual([], self.broken(killed), "a request broke because the injector was killed")
        self.assertFalse(worker.ended(), "who carries the pool's connections is gone")
        process.send_signal(signal.SIGINT)
        self.end(process)
        self.assert_nothing_stays()


if __name__ == "__main__":
    unittest.main(verbosity=2)
