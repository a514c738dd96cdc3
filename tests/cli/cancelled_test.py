#!/usr/bin/python3
"""Queries that `delayQueries` holds are cancelled by real clients: Ctrl-C of the terminals, drivers of Python and Node."""

import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

from wire_stage import WireStage

sys.dont_write_bytecode = True
import psycopg2  # noqa: E402
import psycopg2.errors  # noqa: E402
from bare_postgres import BarePostgres  # noqa: E402
from bare_servers import BareMariadb  # noqa: E402

# Longer than a client of these tests waits for anything.
DELAY_S = 90
HELD = {"slow": ("delayQueries", {"match": {"tables": ["users"]}, "delay": f"{DELAY_S}s"}, {})}
NODE = shutil.which("node")
NODE_DRIVER = pathlib.Path(__file__).resolve().parents[2] / "build/clients/node_modules/pg"

# The driver gives up by itself, and asks the server to cancel as its users do: on a second connection.
NODE_SCRIPT = """
const { Client } = require(process.argv[1]);
const to = { host: '127.0.0.1', port: +process.argv[2], user: 'postgres', database: 'postgres' };
(async () => {
  const client = new Client(to);
  await client.connect();
  for (const question of [['select * from users'], ['select * from users where id = $1', [1]],
                          [{ name: 'named', text: 'select id from users' }]]) {
    const giveUp = setInterval(() => {
      const other = new Client(to);
      other.connection.on('connect', () => other.connection.cancel(client.processID, client.secretKey));
      other.connection.connect(to.port, to.host);
    }, 500);
    console.log(await client.query(...question).then(() => 'answered', (error) => error.code));
    clearInterval(giveUp);
  }
  console.log((await client.query('select 7 as seven')).rows[0].seven);
  await client.end();
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
"""


# System calls in which a program waits for a socket, not for its input.
WAITS = {"poll": "7", "ppoll": "271", "recvfrom": "45", "pselect6": "270", "select": "23"}


class Cancelled(WireStage):
    def terminal(self, *words):
        """One that Ctrl-C reaches: interrupts are ignored in what a shell has put into the background."""
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def type(self, process, text):
        process.stdin.write(text)
        process.stdin.flush()

    def until_line(self, process, words):
        said = []
        while not said or words not in said[-1]:
            said.append(process.stdout.readline())
            self.assertTrue(said[-1], said)

    @staticmethod
    def call_of(pid):
        with open(f"/proc/{pid}/syscall") as file:
            return file.read().split()[0]

    def interrupt_once_it_waits(self, process):
        self.until(lambda: self.call_of(process.pid) in WAITS.values(), "the terminal waiting for its server")
        process.send_signal(signal.SIGINT)


class Postgresql(Cancelled):
    KIND = "postgresql"
    Server = BarePostgres
    KEYS = {"user": "postgres", "database": "postgres"}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("CREATE TABLE users (id int)", "INSERT INTO users VALUES (1)")

    def setUp(self):
        super().setUp()
        self.begin_faults(HELD)

    def connect(self):
        connection = psycopg2.connect(host="127.0.0.1", port=self.ports["slow"], user="postgres", dbname="postgres")
        self.addCleanup(connection.close)
        return connection

    def rows(self):
        with psycopg2.connect(host="127.0.0.1", port=self.server.port, user="postgres", dbname="postgres") as connection:
            with connection.cursor() as cursor:
                cursor.execute("select count(*) from users")
                return cursor.fetchone()[0]

    def cancelled_meanwhile(self, connection, statement):
        """As a watchdog of an application does it, again and again."""
        cursor = connection.cursor()
        over = threading.Event()

        def watch():
            while not over.wait(0.5):
                connection.cancel()
        watchdog = threading.Thread(target=watch)
        watchdog.start()
        begun = time.monotonic()
        try:
            with self.assertRaises(psycopg2.errors.QueryCanceled) as caught:
                cursor.execute(statement)
        finally:
            over.set()
            watchdog.join()
        self.assertLess(time.monotonic() - begun, DELAY_S)
        self.assertEqual("57014", caught.exception.pgcode)
        self.assertIn("canceling statement due to user request", str(caught.exception))
        return cursor

    def test_ctrl_c_of_psql_ends_a_held_query_and_the_session_goes_on(self):
        begun = time.monotonic()
        # It ends with the statement that is interrupted unless a person sits before it.
        pid, screen = pty.fork()
        if pid == 0:
            os.environ.update(TERM="dumb", PSQL_HISTORY="/dev/null")
            os.execv("/usr/bin/psql", ["psql", "-X", "-q", "-A", "-t", "-n", "-P", "pager=off", "host=127.0.0.1 user=postgres "
                                       f"dbname=postgres sslmode=disable port={self.ports['slow']}"])
        self.addCleanup(os.close, screen)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.kill, pid, signal.SIGKILL)
        said = ""

        def until(words):
            nonlocal said
            while words not in said:
                ready, _, _ = select.select([screen], [], [], DELAY_S)
                self.assertTrue(ready, said)
                said += os.read(screen, 4096).decode()
        os.write(screen, b"select 'here ' || 'we are';\n")
        until("here we are")
        os.write(screen, b"select * from users;\n")
        self.until(lambda: self.call_of(pid) in WAITS.values(), "psql waiting for its server")
        os.write(screen, b"\x03")
        until("canceling statement due to user request")
        os.write(screen, b"select 'go ' || 'on';\n")
        until("go on")
        self.assertLess(time.monotonic() - begun, DELAY_S)
        # What nobody has waited out says nothing of the delay, but that the fault was met.
        self.assertIn("1 cancelled by their clients meanwhile", self.in_force("slow"))

    def test_a_driver_of_python_cancels_in_and_out_of_a_transaction(self):
        connection = self.connect()
        connection.autocommit = True
        cursor = self.cancelled_meanwhile(connection, "insert into users values (2)")
        cursor.execute("select 7")
        self.assertEqual((7,), cursor.fetchone())
        connection.autocommit = False
        cursor.execute("create table kept (id int)")
        cursor.execute("savepoint s")
        self.cancelled_meanwhile(connection, "insert into users values (3)")
        with self.assertRaises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute("select 7")
        cursor.execute("rollback to s")
        connection.commit()
        self.assertEqual(1, self.rows())
        self.assertRegex(self.in_force("slow"), "[12] cancelled by their clients meanwhile")

    @unittest.skipUnless(NODE_DRIVER.exists() and NODE, f"no {NODE_DRIVER}: npm install pg")
    def test_a_driver_of_node_cancels_by_both_protocols(self):
        done = subprocess.run([NODE, "-e", NODE_SCRIPT, str(NODE_DRIVER), str(self.ports["slow"])], capture_output=True,
                              text=True, timeout=DELAY_S)
        self.assertEqual("57014\n57014\n57014\n7\n", done.stdout, done.stderr)

    def test_a_cancel_is_nobody_elses(self):
        mine, other = self.connect(), self.connect()
        mine.autocommit = True
        cursor = mine.cursor()
        waiting = threading.Thread(target=lambda: cursor.execute("insert into users values (4)"))
        waiting.start()
        for _ in range(4):
            time.sleep(0.25)
            other.cancel()
        self.assertTrue(waiting.is_alive(), "another session's cancel has ended it")
        self.run_process.send_signal(signal.SIGINT)
        waiting.join(60)
        self.assertFalse(waiting.is_alive())
        self.assertEqual(2, self.rows(), "it went on when the fault was over")
        self.server.run("DELETE FROM users WHERE id = 4")


class Mariadb(Cancelled):
    KIND = "mysql"
    Server = BareMariadb

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.run("USE test; CREATE TABLE users (id INT); INSERT INTO users VALUES (1)")

    def words(self, *more):
        return ["mysql", "--no-defaults", "--skip-ssl", "--host=127.0.0.1", f"--port={self.ports['slow']}", "--user=tester",
                "--password=tester", "--batch", "--skip-column-names", "--database=test", *more]

    def test_ctrl_c_of_the_terminal_ends_a_held_query(self):
        self.begin_faults(HELD)
        begun = time.monotonic()
        process = self.terminal(*self.words("--force", "--unbuffered"))
        # What it waits for next is what it is interrupted in.
        self.type(process, "BEGIN;\nSELECT 'here we are';\n")
        self.assertEqual("here we are\n", process.stdout.readline())
        self.type(process, "INSERT INTO users VALUES (2);\n")
        self.interrupt_once_it_waits(process)
        self.until_line(process, "ERROR 1317 (70100)")
        self.type(process, "SELECT 'go on';\nCOMMIT;\n")
        self.until_line(process, "go on")
        process.stdin.close()
        process.wait(60)
        self.assertLess(time.monotonic() - begun, DELAY_S)
        self.assertEqual("1\n", self.server.run("SELECT COUNT(*) FROM test.users").stdout)


if __name__ == "__main__":
    unittest.main()
