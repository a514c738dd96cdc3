"""What the tests of daemons share: a controller and an injector with certificates at both ends."""

import ctypes
import os
import re
import subprocess

from stage import CONTROLLER, INJECTOR, PROGRAM, Stage  # noqa: E402

CONTROLLER_FILE = """apiVersion: firedrill/v1
kind: Controller
metadata: {{name: c1}}
spec:
  listen: 127.0.0.1:{port}
  identity: {folder}/controller-c1
  revoked: {folder}/ca/revoked.pem
  site: {folder}/controller-site.yaml
  limits: {limits}
"""

INJECTOR_FILE = """apiVersion: firedrill/v1
kind: Injector
metadata: {{name: node-a}}
spec:
  controller: 127.0.0.1:{port}
  identity: {folder}/{identity}
  grace: {grace}
  node:
    name: {name}
    environment: lab
    labels: {{role: {role}}}
    profiles:
      - {{name: holder, postgresql: {{host: {host}, port: {server}, database: postgres, user: holder}}}}
      - name: dba
        postgresql: {{host: 127.0.0.1, port: {server}, database: postgres, user: dba}}
        statements: [{{name: one, sql: "SELECT 1"}}]
"""

CONTROLLER_SITE = """apiVersion: firedrill/v1
kind: Site
metadata: {name: bare}
spec: {environment: lab}
"""


CLONE_NEWNS = 0x20000
LIBC = ctypes.CDLL(None, use_errno=True)


def with_small_disk(folder):
    """Before a program starts: in a mount namespace of its own the folder is a small disk."""
    def check(failed):
        if failed:
            raise OSError(ctypes.get_errno(), "mounting")

    def mount():
        check(LIBC.unshare(CLONE_NEWNS))
        check(LIBC.mount(b"none", b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE: stays in here
        check(LIBC.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, b"size=16m,mode=700"))
    return mount


class DaemonStage(Stage):
    """An authority, a certificate of each role, and daemons that use them."""

    limits = "{runs: 8}"

    def setUp(self):
        super().setUp()
        self.write("controller-site.yaml", CONTROLLER_SITE)
        self.pki("init", "ca")
        self.issue("controller", "c1", "--host", "127.0.0.1")
        self.issue("injector", "node-a")
        for role in ("viewer", "operator", "admin"):
            self.issue(role, role)

    def pki(self, *words):
        done = subprocess.run([PROGRAM, "pki", *words], cwd=self.folder, capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def issue(self, role, name, *words):
        return self.pki("issue", "ca", "--role", role, "--name", name, *words)

    def controller(self, port=0):
        file = self.write("controller.yaml", CONTROLLER_FILE.format(port=port, folder=self.folder, limits=self.limits))
        daemon = self.begin(CONTROLLER, "--config", file)
        self.until(lambda: "listens on" in self.said(daemon) or daemon.poll() is not None, "a controller that listens")
        if daemon.poll() is None:
            self.port = int(re.search(r"\(port ([0-9]+)\)", self.said(daemon))[1])
        return daemon

    def injector(self, name="node-a", identity="injector-node-a", role="database", host="127.0.0.1",
                 grace="500ms"):
        file = self.write(f"{name}.yaml", INJECTOR_FILE.format(
            port=self.port, folder=self.folder, identity=identity, name=name, server=self.server.port, role=role,
            host=host, grace=grace))
        os.chmod(file, 0o600)
        return self.begin(INJECTOR, "--config", file)

    def registered(self, injector):
        self.until(lambda: "registered with the controller" in self.said(injector) or injector.poll() is not None,
                   "an injector that is registered")
        self.assertIsNone(injector.poll(), self.said(injector))

    def at(self, who):
        return ("--controller", f"127.0.0.1:{self.port}", "--identity", f"{self.folder}/{who}-{who}")

    def ask(self, *words, as_who):
        done = subprocess.run([PROGRAM, *words, *self.at(as_who)], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def begin_remote(self, experiment, as_who="operator"):
        return self.begin(PROGRAM, "run", experiment, *self.at(as_who))

    def up(self, grace="500ms"):
        daemon = self.controller()
        injector = self.injector(grace=grace)
        self.registered(injector)
        return daemon, injector
