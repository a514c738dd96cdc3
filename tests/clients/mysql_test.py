#!/usr/bin/python3
"""The terminal of MariaDB, its dump and its load generator, and a driver of Perl's, through MySQL's codec."""

import os
import shutil
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from stage import BIG, ClientsTest, digest, run  # noqa: E402

from bare_servers import BareMariadb  # noqa: E402

SCRIPT = """
CREATE OR REPLACE TABLE c (a INT, b VARCHAR(20), c DATETIME, d BLOB, e DOUBLE);
INSERT INTO c VALUES (1, 'x', '2020-01-02', NULL, 1.5), (2, NULL, NULL, 'blob', NULL);
SELECT * FROM c; SELECT nonsense; SHOW COLUMNS FROM c; USE mysql; SELECT DATABASE(); USE test;
DELIMITER //
CREATE OR REPLACE PROCEDURE p() BEGIN SELECT 1, 2; SELECT 'two'; UPDATE c SET a = 3; END //
SELECT 1; SELECT 2; DO 3; SELECT bad; SELECT 4 //
DELIMITER ;
CALL p(); SELECT COUNT(*) FROM c;
PREPARE s FROM 'SELECT ? + 1, b FROM c WHERE e = ? OR e IS NULL'; SET @a = 4, @e = 1.5; EXECUTE s USING @a, @e;
EXECUTE s USING @a, @a; DEALLOCATE PREPARE s; EXECUTE s;
START TRANSACTION; DELETE FROM c; ROLLBACK; SELECT COUNT(*) FROM c; ANALYZE TABLE c;
SELECT REPEAT('y', 70000); SELECT REPEAT('z', 17000000) LIKE 'z%'; SELECT seq FROM seq_1_to_5000;
ALTER TABLE c ENGINE=InnoDB; SELECT 1 LIMIT 0; DO 1; EXPLAIN SELECT * FROM c; SHOW WARNINGS; SELECT 1/0; SHOW WARNINGS;
LOCK TABLES c WRITE; UNLOCK TABLES; KILL QUERY 4000000; HELP 'select';
DROP TABLE c; DROP PROCEDURE p;
"""


# The driver prepares at the server: the terminal cannot.
PREPARED = r"""
use strict; use DBI;
my ($port, $at_server) = @ARGV;
my $db = DBI->connect("DBI:MariaDB:database=test;host=127.0.0.1;port=$port;mariadb_server_prepare=$at_server;"
                      . "mariadb_server_prepare_disable_fallback=1", "tester", "tester",
                      {RaiseError => 1, PrintError => 0});
$db->do("CREATE OR REPLACE TABLE d (a INT PRIMARY KEY, b VARCHAR(200), c DOUBLE, d DATETIME, e LONGBLOB)");
my $put = $db->prepare("INSERT INTO d VALUES (?, ?, ?, ?, ?)");
$put->execute($_, $_ % 7 ? "row $_ '\\\"" : undef, $_ / 8, "2020-01-02 03:04:05", "\0\xff" x ($_ * 10)) for 1 .. 200;
print eval { $put->execute(1, undef, undef, undef, undef); 1 } ? "twice\n" : $db->errstr . "\n";
my $get = $db->prepare("SELECT a, b, c, d, LENGTH(e), MD5(e) FROM d WHERE a > ? ORDER BY a");
for my $from (0, 150, 1000) {
  $get->execute($from);
  while (my @row = $get->fetchrow_array) { print join("|", map { $_ // "NULL" } @row), "\n" }
}
my $big = "b" x 20_000_000;
$put->execute(1000, undef, undef, undef, $big);
my $whole = $db->prepare("SELECT e FROM d WHERE a = ?");
$whole->execute(1000);
print(($whole->fetchrow_array)[0] eq $big ? "the same\n" : "another\n");
print eval { $db->prepare("SELECT nonsense FROM d WHERE a = ?")->execute(1); 1 } ? "?" : $db->errstr, "\n";
$db->do("DROP TABLE d");
"""
SETTINGS = ["--local-infile=1", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=64M",
            "--max-allowed-packet=256M"]


def client(port, *words, program="mariadb", tls=False):
    # The server's own certificate is self-made: nobody vouches for it.
    return [f"/usr/bin/{program}", "--no-defaults", "-h127.0.0.1", f"-P{port}", "-utester", "-ptester",
            "--ssl" if tls else "--skip-ssl", *words]


class MysqlClients(ClientsTest):
    protocol = "mysql"

    @classmethod
    def setUpClass(cls):
        cls.server = BareMariadb(*SETTINGS)
        cls.addClassCleanup(cls.server.stop)
        cls.folder = tempfile.mkdtemp(prefix="clients-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def terminal(self, *words, tls=False):
        return lambda port: run(client(port, "--force", "--table", "--comments", "--max-allowed-packet=256M", *words,
                                       "test", tls=tls), SCRIPT.encode())

    def test_the_terminal_sees_no_difference(self):
        said, wire = self.through(self.terminal())
        self.has(said, b"| two |", b"Unknown column 'nonsense'", b"Division by 0", b"Unknown prepared statement")
        self.assertGreater(wire.counters.requests, 40)

    def test_an_encrypted_terminal_sees_no_difference_and_is_told_as_such(self):
        said, wire = self.through(self.terminal(tls=True), encrypted=True)
        self.has(said, b"| two |")
        self.assertEqual(wire.counters.requests, 0)

    def test_a_compressed_terminal_sees_no_difference_and_is_told_as_such(self):
        said, _ = self.through(self.terminal("--compress"), lost=(1, "the stream is compressed"))
        self.has(said, b"| two |")

    def test_files_of_the_client_are_loaded_and_dumped_the_same(self):
        rows = os.path.join(self.folder, "rows")
        with open(rows, "w") as file:
            file.writelines(f"{i}\t{'row ' * (i % 40)}{i}\n" for i in range(250_000))

        def work(port):
            load = (f"CREATE OR REPLACE TABLE big (a INT PRIMARY KEY, b TEXT); LOAD DATA LOCAL INFILE '{rows}' "
                    "INTO TABLE big; SELECT COUNT(*), SUM(LENGTH(b)) FROM big;"
                    "LOAD DATA LOCAL INFILE '/nonexistent' INTO TABLE big; SELECT 'after';")
            said = run(client(port, "--local-infile=1", "--force", "test"), load.encode(), code=0)
            return said + digest(client(port, "--skip-dump-date", "test", "big", program="mariadb-dump"))

        said, wire = self.through(work)
        self.has(said, b"250000", b"after")
        self.assertGreater(sum(up.length for up, _ in wire.said), os.path.getsize(rows))
        self.assertGreater(sum(down.length for _, down in wire.said), os.path.getsize(rows))
        self.assertGreater(wire.counters.requests, 15)

    def test_a_result_of_a_hundred_megabytes_passes_whole(self):
        query = f"SELECT REPEAT(MD5(seq), 32) FROM seq_1_to_{BIG // 1024 + 1}"
        said, wire = self.through(lambda port: digest(client(port, "--quick", "-N", "-e", query, "test")))
        self.assertGreater(wire.said[0][1].length, BIG)
        self.assertGreaterEqual(wire.counters.requests, 2)

    def test_a_driver_that_prepares_at_the_server_sees_no_difference(self):
        def prepared():
            return int(self.server.run("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'").stdout.split()[1])

        before = prepared()
        said, wire = self.through(lambda port: run(["/usr/bin/perl", "-e", PREPARED, str(port), "1"]))
        self.assertGreater(prepared() - before, 400)
        self.has(said, b"Duplicate entry '1'", b"200|row 200", b"|NULL|", b"the same", b"Unknown column 'nonsense'")
        self.assertEqual(said, run(["/usr/bin/perl", "-e", PREPARED, str(self.server.port), "0"]))
        self.assertGreater(wire.counters.requests, 200)

    def test_many_clients_leave_the_same_behind(self):
        def work(port):
            run(client(port, "--create-schema=slap", "--no-drop", "--concurrency=8", "--number-of-queries=2000",
                       "--create=CREATE TABLE t (a INT PRIMARY KEY AUTO_INCREMENT, b INT)", "--delimiter=;",
                       "--query=INSERT INTO t (b) VALUES (7);SELECT COUNT(*) FROM t;INSERT INTO t (b) SELECT 5",
                       program="mariadb-slap"))
            return run(client(port, "-e", "SELECT COUNT(*), SUM(b) FROM slap.t; DROP DATABASE slap"))

        said, wire = self.through(work)
        self.has(said, b"COUNT")
        self.assertGreater(wire.counters.requests, 2000)

    def test_what_is_no_mysql_passes_and_is_told(self):
        self.garbage(b"GET / HTTP/1.1\r\n\r\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
