#!/usr/bin/python3
"""Workers that carry live traffic: one that dies, one that does not understand, one that only carries on what was left."""

import signal
import socket
import sys
import unittest

from wire_stage import WireStage

sys.dont_write_bytecode = True
from bare_servers import BareRedis  # noqa: E402

INCONCLUSIVE = 6


class LostWorker(WireStage):
    KIND = "redis"
    Server = BareRedis
    FAULT = {"slow": ("delayQueries", {"delay": "50ms"}, {})}

    def words_of(self, port, ask):
        return ["redis-cli", "-h", "127.0.0.1", "-p", str(port), *ask.split()]

    def pooled(self):
        """A connection that stays open."""
        pooled = socket.create_connection(("127.0.0.1", self.ports["slow"]), 10)
        self.addCleanup(pooled.close)
        self.assert_carried(pooled)
        return pooled

    def assert_carried(self, pooled):
        pooled.sendall(b"PING\r\n")
        self.assertEqual(b"+PONG\r\n", pooled.recv(100))

    def leftovers(self):
        code, said, err = self.firedrill("leftovers")
        self.assertEqual((0, ""), (code, err), said)
        return " ".join(said.split())

    def test_a_fault_whose_worker_dies_is_over_and_the_run_says_why(self):
        run = self.begin_faults(self.FAULT)
        self.pooled()
        self.in_force("slow")
        worker, = self.processes("firedrill-wire")
        worker.send(signal.SIGKILL)
        self.assertEqual(INCONCLUSIVE, run.wait(60), self.said(run))
        why = f"the process that carried the traffic ({worker.pid}) was killed by signal 9"
        self.assertIn(f"fault slow is off, read back: {why}", self.said(run))
        self.assertRegex(" ".join(self.said(run).split()), "it was off after .* of 60s: the process that carried the traffic")
        self.assert_nothing_left()

    def test_a_connection_that_is_not_understood_is_counted_and_not_broken(self):
        self.begin_faults(self.FAULT)
        strange = socket.create_connection(("127.0.0.1", self.ports["slow"]), 10)
        self.addCleanup(strange.close)
        strange.sendall(b"*1\r\n!4\r\nPING\r\n")
        self.assertIn(b"-ERR Protocol error", strange.recv(200), "the server's own word, passed on")
        self.pooled()
        self.assertIn("1 connection passes unmatched: ", self.in_force("slow"))

    def test_one_that_only_carries_on_is_named(self):
        run = self.begin_faults(self.FAULT)
        pooled = self.pooled()
        self.in_force("slow")
        worker, = self.processes("firedrill-wire")
        self.assertNotIn("disturbs nothing", self.leftovers(), "its injector lives")
        run.send_signal(signal.SIGINT)
        run.wait(60)
        self.assert_carried(pooled)
        said = self.leftovers()
        self.assertIn(f"process {worker.pid} (firedrill-wire) disturbs nothing and carries on 1 open connection", said)
        self.assertIn(f"to redis/127.0.0.1/{self.server.port}", said)
        pooled.close()
        self.assertTrue(worker.ended(5), "it carries nothing any more")
        self.assertIn("no node of this machine carries anything", self.leftovers())
        self.assert_nothing_left()


if __name__ == "__main__":
    unittest.main()
