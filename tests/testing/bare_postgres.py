"""A PostgreSQL of a test's own: new data, a port that was free, an unprivileged account; nothing of it stays."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import psycopg2

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../experiments/lab"))

from labkit.accounts import DATABASE_ACCOUNT, Account, postgresql_program  # noqa: E402
from look import connect, free_port  # noqa: E402

START_TIMEOUT_S = 30
PR_SET_PDEATHSIG = 1


class BarePostgres:
    """Answers on 127.0.0.1 to anyone without a password, as the test's own roles."""

    def __init__(self, *settings):
        self.folder = tempfile.mkdtemp(prefix="bare-postgres-")
        self.process = None
        try:
            self._start(settings)
        except BaseException:
            self.stop()
            raise

    def _start(self, settings):
        account = Account(DATABASE_ACCOUNT)
        account.own(self.folder)
        data = os.path.join(self.folder, "data")
        log = open(os.path.join(self.folder, "log"), "w")
        subprocess.run([postgresql_program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N"],
                       check=True, stdout=log, stderr=log, cwd="/", **account.popen_arguments())
        self._held, self.port = free_port()
        options = ("listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}",
                   "fsync=off", "max_connections=40", "shared_buffers=16MB",
                   "dynamic_shared_memory_type=mmap") + settings
        parent = os.getpid()

        def before_exec():
            # The server ends its own sessions on SIGQUIT; after SIGKILL of a test it could not.
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        self.process = subprocess.Popen(
            [postgresql_program("postgres"), "-D", data] + [word for option in options for word in ("-c", option)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", preexec_fn=before_exec,
            **account.popen_arguments())
        log.close()
        limit = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.superuser = connect("127.0.0.1", self.port)
                return
            except psycopg2.OperationalError:
                if self.process.poll() is not None or time.monotonic() > limit:
                    with open(os.path.join(self.folder, "log")) as words:
                        raise RuntimeError("PostgreSQL did not start:\n" + words.read()) from None
                time.sleep(0.05)

    def run(self, *statements):
        with self.superuser.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(10)
            self._held.close()
        shutil.rmtree(self.folder, ignore_errors=True)
