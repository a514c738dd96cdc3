#!/usr/bin/python3
"""redis-cli and redis-benchmark, through Redis' codec."""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from stage import BIG, ClientsTest, digest, run  # noqa: E402

from bare_servers import BareRedis  # noqa: E402

SCRIPT = b"""FLUSHALL
SET a 1
INCR a
LPUSH l x y z
LRANGE l 0 -1
HSET h f v g w
HGETALL h
GET none
INCR l
MULTI
INCR a
INCR l
GET a
EXEC
MULTI
NOSUCH
EXEC
MULTI
DISCARD
WATCH a
UNWATCH
SELECT 3
GET a
SELECT 0
COMMAND COUNT
COMMAND DOCS get
NOSUCH
ZADD z 1.5 m 2 n
ZRANGE z 0 -1 WITHSCORES
XADD s 1-1 f v
XRANGE s - +
EVAL "return {1, 'two', {3, redis.call('GET', KEYS[1])}}" 1 a
OBJECT ENCODING a
SET bin "\\x00\\xff\\r\\n"
GET bin
SETRANGE far 100000 x
GETRANGE far 99990 -1
STRLEN far
DEBUG SLEEP 0
TYPE z
BLPOP nothing 0.01
ECHO hello
CLIENT REPLY ON
CLIENT NO-EVICT off
SUBSCRIBE
SPUBLISH shard word
PUBLISH nobody word
QUIT
"""


def cli(port, *words):
    return ["/usr/bin/redis-cli", "-p", str(port), *words]


class RedisClients(ClientsTest):
    protocol = "redis"

    @classmethod
    def setUpClass(cls):
        cls.server = BareRedis("--enable-debug-command", "yes")
        cls.addClassCleanup(cls.server.stop)
        cls.folder = tempfile.mkdtemp(prefix="clients-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def left(self):
        return run(cli(self.server.port, "DEBUG", "DIGEST"))

    def test_the_terminal_sees_no_difference_in_both_versions(self):
        for version in ("-2", "-3"):
            said, wire = self.through(lambda port: run(cli(port, version), SCRIPT) + self.left())
            self.has(said, b"EXECABORT", b"WRONGTYPE", b"hello")
            self.assertGreaterEqual(wire.counters.requests, SCRIPT.count(b"\n"))

    def test_an_encrypted_terminal_sees_no_difference_and_is_told_as_such(self):
        said, wire = self.through(lambda port: run(cli(port, "--tls", "--insecure"), SCRIPT) + self.left(),
                                  port=self.server.tls_port, encrypted=True)
        self.has(said, b"hello")
        self.assertEqual(wire.counters.requests, 0)

    def test_a_pipe_of_a_hundred_thousand_commands_leaves_the_same_behind(self):
        commands = os.path.join(self.folder, "commands")
        with open(commands, "wb") as file:
            for i in range(100_000):
                key, value = b"key:%d" % i, b"v" * (i % 100)
                file.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))

        def work(port):
            run(cli(self.server.port, "FLUSHALL"))
            return run(cli(port, "--pipe"), commands) + self.left()

        said, wire = self.through(work)
        self.has(said, b"errors: 0, replies: 100000")
        self.assertGreaterEqual(wire.counters.requests, 100_000)

    def test_a_value_of_a_hundred_megabytes_passes_both_ways(self):
        value = os.path.join(self.folder, "value")
        with open(value, "wb") as file:
            block = os.urandom(1_000_000)
            for i in range(BIG // len(block)):
                file.write(i.to_bytes(8, "big") + block[8:])

        def work(port):
            return run(cli(port, "-x", "SET", "big"), value) + digest(cli(port, "GET", "big"))

        said, wire = self.through(work)
        self.has(said, b"OK", f"length={BIG + 1}".encode())
        self.assertEqual(wire.counters.requests, 2)
        run(cli(self.server.port, "FLUSHALL"))

    def test_pipelines_of_a_benchmark_leave_the_same_behind(self):
        def work(port):
            run(cli(self.server.port, "FLUSHALL"))
            run(["/usr/bin/redis-benchmark", "-p", str(port), "-n", "5000", "-c", "20", "-P", "16", "-q", "-t",
                 "ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,lrange_100,mset"])
            return self.left()

        _, wire = self.through(work)
        self.assertGreater(wire.counters.requests, 60_000)

    def test_a_subscriber_hears_the_same(self):
        def work(port):
            with subprocess.Popen(cli(port, "SUBSCRIBE", "news", "weather"), stdout=subprocess.PIPE) as listener:
                said = b""
                while not said.endswith(b"weather\n2\n"):
                    said += listener.stdout.readline()
                for i in range(100):
                    run(cli(self.server.port, "PUBLISH", "news", f"item {i}"))
                while not said.endswith(b"item 99\n"):
                    line = listener.stdout.readline()
                    self.assertNotEqual(line, b"")
                    said += line
                listener.terminate()
            return said

        said, wire = self.through(work)
        self.assertEqual(said.count(b"message\nnews\nitem"), 100)
        self.assertGreaterEqual(wire.counters.requests, 1)

    def test_what_is_no_redis_passes_and_is_told(self):
        self.garbage(b"*1\r\n$x\r\n", b"-ERR Protocol error")


if __name__ == "__main__":
    unittest.main(verbosity=2)
