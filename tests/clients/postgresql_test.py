#!/usr/bin/python3
"""psql, pgbench, pg_dump, and drivers that speak the protocol themselves, through PostgreSQL's codec."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from stage import BIG, ClientsTest, TESTS, Wire, digest, run  # noqa: E402

from bare_postgres import BarePostgres  # noqa: E402
from bare_servers import make_certificate  # noqa: E402
from labkit.accounts import DATABASE_ACCOUNT, Account  # noqa: E402
import pg8000  # noqa: E402

NODE_DRIVER = TESTS.parent / "build/clients/node_modules/pg"

SCRIPT = r"""\set VERBOSITY verbose
drop table if exists c; create table c (a int primary key, b text, d timestamptz, e numeric, f bytea);
\copy c (a, b) from stdin
1	one
2	two\nlines
3	\N
\.
copy c to stdout;
copy c (a, b) to stdout (format csv, header);
select * from c order by a; table c; values (1, 'x'), (2, null);
select a / 0 from c; select 1; select nonsense;
insert into c values (1) on conflict do nothing; insert into c values (1);
begin; insert into c values (4, 'four'); savepoint s; select 1/0; rollback to s; commit; select count(*) from c;
select 1 as x, 'y' as y \gdesc
select 'select ' || g from generate_series(1, 50) g \gexec
prepare q (int) as select $1 + 1; execute q(7); deallocate q; execute q(8); discard all;
do $$ begin raise notice 'psst'; raise warning 'hey'; end $$;
listen x; notify x, 'hello'; select 7; unlisten *;
set timezone = 'Asia/Tokyo'; show timezone; select '2020-01-01 00:00+00'::timestamptz;
\set FETCH_COUNT 100
select g, repeat('z', g % 50) from generate_series(1, 5000) g;
\unset FETCH_COUNT
\lo_import /etc/debian_version
\lo_unlink :LASTOID
\copy c (a) from stdin
not a number
\.
copy c to program 'false'; copy c from '/nonexistent';
select repeat('x', 200000);
begin; declare k cursor for select generate_series(1, 1000); fetch 10 from k; move 900 in k; fetch all from k; commit;
select '';; /* nothing */ ; --
explain (costs off) select * from c where a = 1;
\d c
select lo_unlink(oid) from pg_largeobject_metadata;
drop table c;
"""

PIPELINE = r"""\startpipeline
insert into p values (:client_id, 1);
select count(*) from p where a = :client_id;
select :client_id + 1;
insert into p values (:client_id, 2);
\endpipeline
begin;
\startpipeline
update p set b = b + 1 where a = :client_id;
select sum(b) from p where a = :client_id;
\endpipeline
end;
"""

NODE_SCRIPT = """
const { Client } = require(process.argv[1]);
(async () => {
  const to = { host: '127.0.0.1', port: +process.argv[2], user: 'postgres', database: 'postgres' };
  if (process.argv[3] === 'tls') to.ssl = { rejectUnauthorized: false };
  const client = new Client(to), other = new Client(to);
  await client.connect(); await other.connect();
  const said = [];
  const ask = async (...question) => {
    try { said.push((await client.query(...question)).rows); } catch (error) { said.push([error.code, error.message]); }
  };
  await ask('drop table if exists n'); await ask('create table n (a int primary key, b jsonb, c timestamptz)');
  for (let i = 0; i < 300; ++i) {
    await ask({ name: 'put', text: 'insert into n values ($1, $2, $3) returning a',
                values: [i % 290, { i, words: ['x', null] }, new Date(1e12 + i)] });
  }
  await Promise.all([...Array(100).keys()].map((i) => ask('select $1::int + 1 as next, b from n where a = $1', [i])));
  await ask('begin'); await ask('select 1/0'); await ask('select 1'); await ask('rollback');
  await ask('select 1 as one; select 2 as two');
  await ask({ text: 'select a, b from n order by a', rowMode: 'array' });
  const heard = new Promise((done) => client.on('notification', (note) => done([note.channel, note.payload])));
  await ask('listen news'); await other.query("select pg_notify('news', 'from another session')");
  said.push(await heard);
  await client.end(); await other.end();
  process.stdout.write(JSON.stringify(said));
})().catch((error) => { console.error(error); process.exit(1); });
"""


def psql(port, *words, mode="disable"):
    return ["/usr/bin/psql", "-X", "-q", f"host=127.0.0.1 port={port} user=postgres dbname=postgres "
            f"sslmode={mode} client_encoding=UTF8", *words]


def pgbench(port, *words):
    run(["/usr/bin/pgbench", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", *words, "postgres"],
        environment={"PGSSLMODE": "disable"})


def without_pids(said):
    return re.sub(rb"server process with PID \d+", b"server process", said)


def work_of_pg8000(port):
    """What a Python program sees that speaks the protocol without libpq."""
    said = []
    connection = pg8000.connect(user="postgres", host="127.0.0.1", port=port, database="postgres")
    cursor = connection.cursor()

    def ask(text, *values):
        try:
            cursor.execute(text, values)
            said.append(cursor.fetchall() if cursor.description else cursor.rowcount)
        except pg8000.DatabaseError as error:
            said.append(repr(error.args))
            connection.rollback()

    ask("drop table if exists d")
    ask("create table d (a int primary key, b text, c bytea, e float8, f timestamp)")
    connection.commit()
    cursor.executemany("insert into d (a, b, c) values (%s, %s, %s)",
                       [(i, f"row {i} ümlaut", bytes(range(i % 256))) for i in range(300)])
    connection.commit()
    for i in range(100):
        ask("select a, b, c, e, f from d where a = %s or a = %s", i, 2 * i)
    ask("select 1 / %s", 0)
    ask("insert into d (a) values (%s)", 1)
    ask("select * from nowhere")
    ask("select g, repeat('w', g %% 100) from generate_series(1, %s) g", 20000)
    with tempfile.TemporaryFile() as file:
        cursor.execute("copy d (a, b) to stdout", stream=file)
        file.seek(0)
        said.append(file.read())
        file.seek(0)
        cursor.execute("create temp table back (a int, b text)")
        cursor.execute("copy back from stdin", stream=file)
    ask("select count(*), max(b) from back")
    connection.commit()
    connection.close()
    return repr(said).encode()


class PostgresqlClients(ClientsTest):
    protocol = "postgresql"

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="clients-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        account = Account(DATABASE_ACCOUNT)
        account.own(cls.folder)
        key, certificate = make_certificate(cls.folder, account)
        cls.server = BarePostgres("ssl=on", f"ssl_cert_file={certificate}", f"ssl_key_file={key}")
        cls.addClassCleanup(cls.server.stop)

    def test_psql_sees_no_difference(self):
        said, wire = self.through(lambda port: without_pids(run(psql(port, "-a"), SCRIPT.encode())))
        self.has(said, b"psst", b"division by zero", b'Asynchronous notification "x" with payload "hello"', b"1,one",
                 b"Asia/Tokyo", b"(5000 rows)")
        # 50 of them by \gexec, 51 by the cursor behind FETCH_COUNT.
        self.assertGreater(wire.counters.requests, 160)

    def test_an_encrypted_psql_sees_no_difference_and_is_told_as_such(self):
        said, wire = self.through(lambda port: without_pids(run(psql(port, "-a", mode="require"), SCRIPT.encode())),
                                  encrypted=True)
        self.has(said, b"psst")
        self.assertEqual(wire.counters.requests, 0)

    def test_pgbench_leaves_the_same_behind_with_every_protocol(self):
        def work(port, mode):
            pgbench(port, "-i", "-q", "-s", "1")
            pgbench(port, "-n", "-M", mode, "-c", "4", "-j", "1", "-t", "50", "--random-seed=7")
            return self.ask("select sum(abalance), sum(abalance::bigint * aid) from pgbench_accounts",
                            "select sum(bbalance) from pgbench_branches", "select sum(tbalance * tid) from "
                            "pgbench_tellers", "select count(*), sum(delta * aid) from pgbench_history")

        left = set()
        for mode in ("simple", "extended", "prepared"):
            said, wire = self.through(lambda port: work(port, mode))
            left.add(said)
            self.has(said, "(200,")
            # Seven statements a transaction, and five logins.
            self.assertGreater(wire.counters.requests, 1400)
        self.assertEqual(len(left), 1)

    def test_pipelines_of_pgbench_leave_the_same_behind(self):
        script = os.path.join(self.folder, "pipeline.sql")
        pathlib.Path(script).write_text(PIPELINE)

        def work(port, mode):
            self.server.run("drop table if exists p", "create table p (a int, b int)")
            pgbench(port, "-n", "-M", mode, "-c", "4", "-t", "50", "-f", script)
            return self.ask("select a, count(*), sum(b) from p group by a order by a")

        for mode in ("extended", "prepared"):
            said, wire = self.through(lambda port: work(port, mode))
            self.assertEqual(said.count(", 100, "), 4)
            # Eight a turn.
            self.assertGreater(wire.counters.requests, 4 * 50 * 7)

    def test_copies_of_tens_of_megabytes_pass_both_ways(self):
        rows = os.path.join(self.folder, "rows")
        with open(rows, "w") as file:
            file.writelines(f"{i}\t{'row ' * (i % 40)}{i}\n" for i in range(400_000))
        size = os.path.getsize(rows)
        self.assertGreater(size, 30_000_000)

        def work(port, mode):
            self.server.run("drop table if exists big", "create unlogged table big (a int, b text)")
            run(psql(port, "-c", r"\copy big from '" + rows + "'", mode=mode))
            out = digest(psql(port, "-c", r"\copy big to stdout", mode=mode))
            if mode == "require":
                return [out]
            return [out, digest(psql(port, "-c", "copy big to stdout (format binary)", mode=mode)),
                    run(psql(port, "-c", r"\copy big (a) from stdin", mode=mode), b"5\nbad\n6\n", code=1)]

        said, wire = self.through(lambda port: work(port, "disable"))
        self.has(said[0], f"length={size},".encode())
        self.has(said[2], b"invalid input syntax")
        self.assertGreater(sum(up.length for up, _ in wire.said), size)
        self.assertGreater(sum(down.length for _, down in wire.said), 2 * size)
        self.assertEqual(wire.counters.requests, 8)
        self.through(lambda port: work(port, "require"), encrypted=True)

    def test_a_result_of_a_hundred_megabytes_passes_whole(self):
        query = f"select repeat(md5(g::text), 32) from generate_series(1, {BIG // 1024 + 1}) g"
        said, wire = self.through(lambda port: digest(psql(port, "-A", "-t", "-c", query)))
        self.assertGreater(wire.said[0][1].length, BIG)
        self.assertEqual(wire.counters.requests, 2)

    def test_a_dump_is_the_same(self):
        def work(port):
            said = run(["/usr/bin/pg_dump", "-d", f"host=127.0.0.1 port={port} user=postgres dbname=postgres "
                        "sslmode=disable"])
            # A key that is drawn anew each time.
            return re.sub(rb"\n\\(un)?restrict .*", b"", said)

        self.server.run("create table if not exists dumped as select g, md5(g::text) from generate_series(1, 50000) g")
        said, wire = self.through(work)
        self.has(said, b"COPY public.dumped")
        self.assertGreater(wire.counters.requests, 20)

    def test_a_statement_that_is_interrupted_is_cancelled_at_the_server(self):
        def work(port):
            # Interrupts are ignored in what a shell has put into the background; psql does not change that.
            client = subprocess.Popen(psql(port, "-c", "select pg_sleep(100)"), stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT,
                                      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
            limit = time.monotonic() + 30
            while "(1,)" not in self.ask("select 1 from pg_stat_activity where query = 'select pg_sleep(100)' "
                                         "and wait_event = 'PgSleep'"):
                self.assertLess(time.monotonic(), limit)
                time.sleep(0.02)
            client.send_signal(signal.SIGINT)
            return client.communicate(timeout=60)[0]

        said, wire = self.through(work)
        self.has(said, b"canceling statement due to user request")
        # The session, and the request to cancel, which is one packet of 16 bytes.
        self.assertEqual(sorted(up.length for up, _ in wire.said)[0], 16)
        self.assertEqual(wire.counters.accepted, 2)

    def test_a_driver_of_pythons_own_sees_no_difference(self):
        said, wire = self.through(work_of_pg8000)
        self.has(said, "row 198 ümlaut".encode())
        self.has(said, b"division by zero")
        self.assertGreater(wire.counters.requests, 400)

    @unittest.skipUnless(NODE_DRIVER.exists() and shutil.which("node"), f"no {NODE_DRIVER}: npm install pg")
    def test_a_driver_of_nodes_own_sees_no_difference(self):
        def work(port, *words):
            return run([shutil.which("node"), "-e", NODE_SCRIPT, str(NODE_DRIVER), str(port), *words])

        said, wire = self.through(work)
        answers = json.loads(said)
        self.assertIn(["news", "from another session"], answers)
        self.assertIn(["22012", "division by zero"], answers)
        self.assertGreater(wire.counters.requests, 400)
        self.through(lambda port: work(port, "tls"), encrypted=True)

    def test_the_taps_see_one_wrong_byte(self):
        with Wire(self.protocol, self.server.port, spoil_at=150) as wire:
            said = run(psql(wire.port, "-c", "select 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"))
        self.has(said, b"a`a")
        self.assertNotEqual(wire.said, wire.heard)
        self.assertEqual([up.length for up, _ in wire.said], [up.length for up, _ in wire.heard])

    def test_what_is_no_postgresql_passes_and_is_told(self):
        self.garbage(b"GET / HTTP/1.1\r\n\r\n")

    def ask(self, *questions):
        answers = []
        with self.server.superuser.cursor() as cursor:
            for question in questions:
                cursor.execute(question)
                answers.append(cursor.fetchall())
        return repr(answers)


if __name__ == "__main__":
    unittest.main(verbosity=2)
