"""Bare servers of a test's own, each on ports that were free: MariaDB, Redis, HTTP servers; nothing of them stays."""

import contextlib
import ctypes
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../experiments/lab"))

from labkit.accounts import Account  # noqa: E402
from look import free_port  # noqa: E402

START_TIMEOUT_S = 60
PR_SET_PDEATHSIG = 1


def make_certificate(folder, account):
    """A key and a certificate that nobody vouches for."""
    key, certificate = os.path.join(folder, "key.pem"), os.path.join(folder, "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    os.chmod(key, 0o600)
    for path in (key, certificate):
        account.own(path)
    return key, certificate


class BareServer:
    """`_start` spawns it, with `settings` behind its own words, and waits until it answers."""

    account = "nobody"

    def __init__(self, *settings):
        self.settings = settings
        self.folder = tempfile.mkdtemp(prefix="bare-server-")
        self.process = None
        self.owner = Account(self.account)
        self.owner.own(self.folder)
        self._held = []
        self.port = self.another_port()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def another_port(self):
        held, port = free_port()
        self._held.append(held)
        return port

    def spawn(self, *words):
        parent = os.getpid()

        def before_exec():
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        with open(os.path.join(self.folder, "log"), "a") as log:
            self.process = subprocess.Popen([*words, *self.settings], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                            preexec_fn=before_exec, **self.owner.popen_arguments())

    def until_answered(self, ask):
        limit = time.monotonic() + START_TIMEOUT_S
        while not ask():
            if self.process.poll() is not None or time.monotonic() > limit:
                with open(os.path.join(self.folder, "log")) as words:
                    raise RuntimeError(f"{type(self).__name__} did not start:\n{words.read()}")
            time.sleep(0.05)

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait(10)
        for held in self._held:
            held.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class BareMariadb(BareServer):
    """`tester`, with that password, may do everything; TLS is offered."""

    account = "mysql"

    def _start(self):
        data = os.path.join(self.folder, "data")
        key, certificate = make_certificate(self.folder, self.owner)
        with open(os.path.join(self.folder, "log"), "a") as log:
            subprocess.run(["/usr/bin/mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--tmpdir={self.folder}",
                            "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
                            "--innodb-log-file-size=4M", "--innodb-flush-method=nosync"],
                           check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                           **self.owner.popen_arguments())
        self.socket = os.path.join(self.folder, "socket")
        self.spawn("/usr/sbin/mariadbd", "--no-defaults", f"--datadir={data}", f"--tmpdir={self.folder}",
                   f"--socket={self.socket}", f"--pid-file={self.folder}/pid", f"--port={self.port}",
                   "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin", "--innodb-buffer-pool-size=16M",
                   "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync",
                   f"--ssl-key={key}", f"--ssl-cert={certificate}")
        self.until_answered(lambda: self.run("SELECT 1").returncode == 0)
        self.run("CREATE DATABASE test; GRANT ALL ON *.* TO tester@'127.0.0.1' IDENTIFIED BY 'tester'")

    def run(self, sql):
        """As root, past every listener."""
        return subprocess.run(["mariadb", "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch",
                               "--skip-column-names", "-e", sql], capture_output=True, text=True, timeout=60)


class BareRedis(BareServer):
    """Plain on `port`, TLS on `tls_port`."""

    account = "nobody"

    def _start(self):
        key, certificate = make_certificate(self.folder, self.owner)
        self.tls_port = self.another_port()
        self.spawn("/usr/bin/redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir",
                   self.folder, "--tls-port", str(self.tls_port), "--tls-key-file", key, "--tls-cert-file", certificate,
                   "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
        self.until_answered(lambda: self.run("PING").stdout == "PONG\n")

    def run(self, *words):
        return subprocess.run(["redis-cli", "-h", "127.0.0.1", "-p", str(self.port), *words], capture_output=True,
                              text=True, timeout=60)


class BareNginx(BareServer):
    """Configured by `configuration`, in which {folder}, {port}, {tls_port}, {key} and {certificate} are filled in."""

    configuration = None

    def _start(self):
        key, certificate = make_certificate(self.folder, self.owner)
        self.tls_port = self.another_port()
        with open(os.path.join(self.folder, "configuration"), "w") as file:
            file.write(self.configuration.format(folder=self.folder, port=self.port, tls_port=self.tls_port, key=key,
                                                 certificate=certificate))
        self.spawn("/usr/sbin/nginx", "-p", self.folder, "-c", file.name, "-e", "stderr")
        self.until_answered(self._listens)

    def _listens(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True


class BareHttp:
    """HTTP/1.1 that answers each path with its name; `/big` with many bytes, `/slow` after a long time."""

    BIG = 100_000
    SLOW_S = 20

    def __init__(self):
        outer = self
        # Connections on which something was asked, and those of them that are asked something slow now.
        self.open, self.slow, self.stopping = 0, 0, threading.Event()

        class Answers(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            asked = False

            def finish(self):
                outer.open -= self.asked
                with contextlib.suppress(OSError):
                    super().finish()

            def do_GET(self):
                outer.open += not self.asked
                self.asked = True
                if self.path == "/slow":
                    outer.slow += 1
                    outer.stopping.wait(outer.SLOW_S)
                    outer.slow -= 1
                body = b"x" * outer.BIG if self.path == "/big" else self.path.encode()
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass  # a connection that is reset is what some tests are about

        self.server = Server(("127.0.0.1", 0), Answers)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()
