"""An independent look at what a run has left: sessions at the server, processes, files, open journal records; and
at what it may have changed: a server's settings, indexes and roles, the machine's packet filter, queues and cgroups.

It uses nothing of Firedrill's: sessions come from the tests' own superuser connection, processes from /proc.
Every process that a run starts inherits a mark in its environment; the look searches all of /proc for it.
"""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import time
import uuid

import psycopg2

MARK = "FIREDRILL_TEST_MARK"
SESSIONS = """
    SELECT pid, usename, application_name, coalesce(state, '') FROM pg_stat_activity
    WHERE (application_name LIKE 'firedrill%%' AND NOT coalesce(usename = ANY(%s), false))
       OR usename = ANY(%s)
    ORDER BY pid
"""
# Each row is one fact: two looks at a server that nobody has changed find the same ones.
FACTS = {
    "setting": "SELECT name || ' = ' || setting FROM pg_settings",
    "setting in a file": "SELECT sourcefile || ' ' || name || ' = ' || setting FROM pg_file_settings",
    "setting of a role": "SELECT setdatabase::text || '/' || setrole::text || ' ' || setconfig::text FROM pg_db_role_setting",
    "role": "SELECT rolname || ' ' || rolcanlogin::text || ' ' || rolconnlimit || ' ' || coalesce(rolvaliduntil::text, '-') "
            "FROM pg_roles",
    "relation": "SELECT oid::regclass || ' ' || relkind::text FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'",
    "index": "SELECT indexrelid::regclass || ' of ' || indrelid::regclass || ' valid ' || indisvalid::text || ' ready ' || "
             "indisready::text || ' live ' || indislive::text || ' ' || pg_get_indexdef(indexrelid) FROM pg_index "
             "WHERE indexrelid >= 16384",
    "prepared transaction": "SELECT gid FROM pg_prepared_xacts",
    "replication slot": "SELECT slot_name FROM pg_replication_slots",
    "extension": "SELECT extname || ' ' || extversion FROM pg_extension",
    "in recovery": "SELECT pg_is_in_recovery()::text",
}
NOT_THERE = "does not answer"
# A control group that a run has made; those of unit tests, which have no run, come and go beside us.
OF_A_RUN = re.compile(r"firedrill-[a-z0-9]{8}-")


def facts_of(server, connect_to):
    """Lines about one PostgreSQL server, of the database that `connect_to` connects to."""
    try:
        connection = connect_to()
    except psycopg2.OperationalError:
        return {f"{server}: {NOT_THERE}"}
    with contextlib.closing(connection), connection.cursor() as cursor:
        found = set()
        for kind, question in FACTS.items():
            cursor.execute(question)
            found |= {f"{server}: {kind} {row}" for row, in cursor}
        return found


def facts_of_machine():
    """Lines about what a fault of the network or of the machine would leave; needs root for all of it."""
    found = set()
    for name, command in (("nft", ["nft", "list", "ruleset"]), ("tc", ["tc", "qdisc", "show"])):
        said = subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        found |= {f"{name}: {line.strip()}" for line in said.stdout.splitlines() if line.strip(" }")}
    for folder, folders, _ in os.walk("/sys/fs/cgroup"):
        found |= {f"cgroup: {os.path.join(folder, name)}" for name in folders if OF_A_RUN.match(name)}
    return found


def connect(host, port, password=None, database="postgres"):
    """A superuser's session; it finds a slot also when ordinary users find none."""
    connection = psycopg2.connect(host=host, port=port, user="postgres", dbname=database, password=password,
                                  application_name="the look", connect_timeout=5)
    connection.autocommit = True
    return connection


def environment_of(pid):
    """Its variables; a process in the middle of an exec shows none for a moment, and is asked again."""
    os.readlink(f"/proc/{pid}/exe")  # OSError for a kernel's thread or a zombie, which have none
    for _ in range(20):
        with open(f"/proc/{pid}/environ", "rb") as environment:
            text = environment.read()
        if text:
            return text.split(b"\0")
        time.sleep(0.001)
    return []


class Look:
    """What the runs of one test left.

    `roles` are the database roles that nobody but a run uses. `temporary` is the TMPDIR of the runs: all of
    what is in it is theirs. `state` is their --state-dir. `others` are roles of other runs at the same server.
    With `reconnect` the server may have been restarted, or another may have taken its place.
    """

    def __init__(self, connection, roles, temporary, state, others=(), reconnect=None):
        self.connection = connection
        self.reconnect = reconnect
        self.roles = list(roles)
        self.others = list(others)
        self.temporary = temporary
        self.state = state
        self.started = []  # pids of the commands, which may name folders after themselves
        self.mark = f"{MARK}={uuid.uuid4().hex}"

    def environment(self):
        name, _, value = self.mark.partition("=")
        return {**os.environ, name: value, "TMPDIR": self.temporary}

    def sessions(self):
        try:
            return self.sessions_seen()
        except psycopg2.Error:
            if self.reconnect is None:
                raise
            self.connection.close()
            self.connection = self.reconnect()
            return self.sessions_seen()

    def sessions_seen(self):
        with self.connection.cursor() as cursor:
            cursor.execute(SESSIONS, (self.others, self.roles))
            return [f"session {pid} of {role} '{name}' {state}" for pid, role, name, state in cursor]

    def pids(self):
        """Living processes with our mark; a zombie has nothing any more."""
        found = {}
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if self.mark.encode() not in environment_of(name):
                    continue
                with open(f"/proc/{name}/cmdline", "rb") as command:
                    found[int(name)] = command.read().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
        found.pop(os.getpid(), None)
        return found

    def processes(self, besides=()):
        return [f"process {pid}: {command}" for pid, command in sorted(self.pids().items())
                if pid not in besides]

    def end_processes(self):
        """Ends what still lives, after it was reported."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                process = Process(pid)
                process.send(signal.SIGKILL)
                process.ended(5)
                process.close()

    def files(self):
        """Everything in TMPDIR, and what the state folder should not have between runs."""
        found = [f"file {os.path.join(folder, name)}" for folder, folders, names in os.walk(self.temporary)
                 for name in folders + names]
        found += [f"folder /tmp/{name}" for pid in self.started for name in os.listdir("/tmp")
                  if name.startswith(f"firedrill-{pid}-")]
        for folder, _, names in os.walk(self.state):
            found += [f"file {os.path.join(folder, name)}" for name in names
                      if name.endswith((".sock", ".new", ".tmp")) or name == "STOP"]
        return found

    def journals(self):
        """Records of what is, or may be, still on."""
        found = []
        for folder, _, names in os.walk(self.state):
            if "journal" in names:
                found += [f"journal of {os.path.basename(folder)}: {line}"
                          for line in open_records(os.path.join(folder, "journal"))]
        return found

    def everything(self, besides=()):
        return self.sessions() + self.processes(besides) + self.files() + self.journals()

    def wait_for_nothing(self, seconds, parts=None):
        """What is still there when the time is over; [] as soon as there is nothing."""
        parts = parts or self.everything
        limit = time.monotonic() + seconds
        while True:
            left = parts()
            if not left or time.monotonic() > limit:
                return left
            time.sleep(0.02)


def open_records(path):
    """Lines `begin N` and `undo N` of a journal that no `done N` follows."""
    records = {}
    try:
        with open(path, errors="replace") as journal:
            lines = journal.read().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        words = line.split(" ", 3)
        if len(words) >= 3 and words[1] == "done":
            records.pop(words[2], None)
        else:
            records[words[2] if len(words) >= 3 else line] = line
    return list(records.values())


def children_of(pid):
    """Direct children, from the kernel's own list."""
    found = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as listed:
                found += [int(child) for child in listed.read().split()]
    return found


class Process:
    """A process held by a pidfd: a reused pid cannot be hit."""

    def __init__(self, pid):
        self.pid = pid
        self.fd = os.pidfd_open(pid)
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            words = command.read().split(b"\0")
        self.program = os.path.basename(words[0].decode(errors="replace"))

    def send(self, number):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.fd, number)

    def ended(self, within=0):
        return bool(select.select([self.fd], [], [], within)[0])

    def close(self):
        os.close(self.fd)


def free_port():
    """A loopback port that is free now; nobody is given it as "any port" as long as the socket is kept."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held, held.getsockname()[1]
