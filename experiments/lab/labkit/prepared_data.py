"""The shop's database, made once, kept in a cache and copied for each lab.

Everything is done in PostgreSQL's single-user mode: no server, no port and no password is needed, and a
killed preparation leaves nothing running.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess

from labkit.accounts import LabError, postgresql_program
from labkit.layout import cache_dir

KEPT_DATABASES = 4  # of different sizes or versions, in the cache

FIRST_USER_OBJECT = 16384  # PostgreSQL's FirstNormalObjectId

ROLES = ("shop", "reports", "firedrill_dba", "exporter")

CREATE = """
CREATE DATABASE shop
"""

# Tables and indexes are made in the transaction that fills them: so none of it goes through the WAL, which each lab
# would have to copy. `users` is large enough for a scan of it to hurt, and its index on e-mails is an ordinary one:
# a unique one may not be taken away. `reports` is the leaking client: an ordinary login, so that the server's
# limit for ordinary users holds for it. That it may see what others' sessions are is for Firedrill: else parallel workers,
# which take no slot, would be counted as if they did.
FILL = """
BEGIN
CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, password_hash text NOT NULL)
INSERT INTO users (email, password_hash) SELECT 'user' || n || '@shop.example', '$2b$12$' || left(md5(n::text) || md5('x' || n), 53) FROM generate_series(1, {rows}) AS n
CREATE INDEX users_email_idx ON users (email)
CREATE TABLE images (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL, name text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())
INSERT INTO images (user_id, name) SELECT 1 + n % 1000, 'image-' || n || '.jpg' FROM generate_series(1, 20000) AS n
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint NOT NULL, cents bigint NOT NULL, created_at timestamptz NOT NULL)
INSERT INTO orders (user_id, cents, created_at) SELECT 1 + n % 1000, 100 + n % 9900, now() - n * interval '1 minute' FROM generate_series(1, 150000) AS n
COMMIT
CREATE EXTENSION pg_stat_statements
CREATE ROLE shop LOGIN
CREATE ROLE reports LOGIN IN ROLE pg_read_all_stats
CREATE ROLE firedrill_dba LOGIN IN ROLE pg_signal_backend, pg_monitor
CREATE ROLE exporter LOGIN IN ROLE pg_monitor
REVOKE CONNECT ON DATABASE shop FROM public
GRANT CONNECT ON DATABASE shop TO shop, reports, firedrill_dba, exporter
GRANT SELECT, INSERT, UPDATE ON users, images TO shop
GRANT SELECT ON orders TO shop
GRANT SELECT ON users, images, orders TO reports
VACUUM ANALYZE
CHECKPOINT
"""


def email(number):
    """The e-mail of user `number`, counted from 1; the same as in FILL."""
    return f"user{number}@shop.example"


def single_user(data, account, database, statements, wal_level="minimal"):
    """Runs one statement per line on a stopped database."""
    # A standby may not have fewer connections than its data's last server had.
    command = [postgresql_program("postgres"), "--single", "-D", data, "-c", "fsync=off", "-c", "max_connections=20",
               "-c", f"wal_level={wal_level}", "-c", "max_wal_senders=0", "-c", "log_min_messages=warning",
               "-c", "dynamic_shared_memory_type=mmap", "-c", "maintenance_work_mem=128MB",
               "-c", "min_wal_size=32MB", "-c", "max_wal_size=64MB", database]
    done = subprocess.run(command, input=statements, text=True, capture_output=True, cwd="/",
                          **account.popen_arguments())
    # Single-user mode ends with success whatever became of the statements.
    if done.returncode != 0 or any(word in done.stderr for word in ("ERROR:", "FATAL:", "PANIC:")):
        raise LabError(f"preparing the database in {data} failed:\n{done.stderr.strip()}")


def fingerprint(rows):
    with open(__file__, "rb") as code:
        version = postgresql_program("postgres")
        return hashlib.sha256(code.read() + f"{version} {rows}".encode()).hexdigest()[:16]


def prepare(target, account, rows):
    os.makedirs(target, mode=0o700)
    account.own(target)
    made = subprocess.run(
        [postgresql_program("initdb"), "-D", target, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
         "--auth=reject", "--no-sync", "--no-instructions"],
        capture_output=True, text=True, cwd="/", **account.popen_arguments())
    if made.returncode != 0:
        raise LabError(f"initdb failed in {target}:\n{made.stderr.strip()}")
    # What single-user mode makes would get the numbers of system objects, which nobody may change.
    numbered = subprocess.run([postgresql_program("pg_resetwal"), "-o", str(FIRST_USER_OBJECT), "-D", target],
                              capture_output=True, text=True, cwd="/", **account.popen_arguments())
    if numbered.returncode != 0:
        raise LabError(f"pg_resetwal failed in {target}:\n{numbered.stderr.strip()}")
    single_user(target, account, "postgres", CREATE.strip() + "\n")
    single_user(target, account, "shop", FILL.strip().format(rows=rows) + "\n")


@contextlib.contextmanager
def cache_lock(mode):
    os.makedirs(cache_dir(), exist_ok=True)
    with open(os.path.join(cache_dir(), "lock"), "w") as lock_file:
        fcntl.flock(lock_file, mode)
        yield


def cached_data(account, rows, say):
    """The path of the prepared data directory for `rows` users; makes it when it is not there."""
    ready = os.path.join(cache_dir(), fingerprint(rows), "pgdata")
    if os.path.isdir(ready):
        return ready
    with cache_lock(fcntl.LOCK_EX):
        if os.path.isdir(ready):
            return ready
        say(f"preparing the database once, {rows} users, in {os.path.dirname(ready)}")
        unfinished = os.path.dirname(ready) + ".new"
        shutil.rmtree(unfinished, ignore_errors=True)
        os.makedirs(unfinished)
        prepare(os.path.join(unfinished, "pgdata"), account, rows)
        os.rename(unfinished, os.path.dirname(ready))
        drop_oldest()
    return ready


def drop_oldest():
    folders = [os.path.join(cache_dir(), name) for name in os.listdir(cache_dir())]
    prepared = [folder for folder in folders if os.path.isdir(os.path.join(folder, "pgdata"))]
    for folder in sorted(prepared, key=os.path.getmtime)[:-KEPT_DATABASES]:
        shutil.rmtree(folder, ignore_errors=True)


def copy_data(target, account, rows, passwords, extra_sql, say, wal_level="minimal"):
    """Makes a database of its own out of the prepared one, with its own passwords.

    With `wal_level` replica, a copy of what comes out can follow it as a standby.
    """
    while True:
        ready = cached_data(account, rows, say)
        with cache_lock(fcntl.LOCK_SH):
            if not os.path.isdir(ready):
                continue  # Another lab, which needed room for its own, was quicker.
            os.utime(os.path.dirname(ready))  # What is in use is the last to be dropped.
            copy_folder(ready, target)
        break
    statements = [f"ALTER ROLE {role} PASSWORD '{word}'" for role, word in passwords.items()]
    statements += extra_sql
    single_user(target, account, "postgres", "\n".join(statements) + "\n", wal_level)


def copy_folder(source, target):
    done = subprocess.run(["cp", "-a", "--reflink=auto", source, target], capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"copying {source} to {target} failed: {done.stderr.strip()}")
