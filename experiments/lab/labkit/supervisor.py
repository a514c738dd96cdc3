"""The one parent of a lab's servers. When it goes, however it goes, they go.

Everything that starts a process runs on the main thread: the kernel ties a child's orphan signal to the
thread that made it.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time

from labkit import configuration, health, pace
from labkit import defects as planted
from labkit.accounts import LabError
from labkit.layout import forget, remember
from labkit.ports import HOST_OF, PortReservation
from labkit.servers import Stack
from labkit.sinks import start_sinks

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
# Niceness of a group.
FIRST = -10
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 5
RESTART_TIMEOUT_S = 15
RESET_TIMEOUT_S = 120
# What speaks PostgreSQL's protocol and not HTTP.
DATABASES = ("postgresql", "replica", "pgbouncer")
_libc = ctypes.CDLL(None, use_errno=True)


class Stop(BaseException):
    """Raised on the main thread by the signals that end a lab."""


def signal_at_parent_death(number):
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


@contextlib.contextmanager
def inside(network):
    """What the calling thread starts meanwhile sees the addresses of that namespace, and no others. Only root may."""
    if network is None:
        yield
        return
    with open("/proc/thread-self/ns/net") as home, open(network) as namespace:
        enter(namespace)
        try:
            yield
        finally:
            enter(home)


def enter(namespace):
    if _libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise LabError(f"entering the network namespace {namespace.name}: {os.strerror(ctypes.get_errno())}")


def come_first(pid):
    """As if the databases had a machine of their own: their sessions do not take the processors of all others.

    The kernel shares processors among sessions (autogroups), and each of PostgreSQL's processes is one. Only root may.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/autogroup", "w") as group:
        group.write(str(FIRST))


class Supervisor:
    def __init__(self, lab, options, say):
        self.lab = lab
        self.options = options
        self.say = say
        self.running = {}  # name → (Server, Popen)
        self.seen_dead = set()
        self.reservation = PortReservation(configuration.port_names(options.extra))
        self.ports = self.reservation.ports(options.host)
        self.stack = Stack(lab, self.ports, options, say)
        self.control = None
        self.started = False

    # Processes

    def launch(self, server):
        supervisor = os.getpid()
        network = self.options.network.get(HOST_OF.get(server.name, "database"))

        def before_exec():
            signal_at_parent_death(server.orphan_signal)
            if os.getppid() != supervisor:
                os._exit(1)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])

        with inside(network), open(self.lab.path("log", f"{server.name}.log"), "a") as log:
            process = subprocess.Popen(
                server.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.lab.dir,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": self.lab.dir, **server.environment},
                start_new_session=True, preexec_fn=before_exec, **server.account.popen_arguments())
        self.running[server.name] = (server, process)
        if self.started:
            self.come_first(server.name)

    def come_first(self, name):
        """Not while a lab starts: that would take the processors from the database of another."""
        if name not in DATABASES:
            come_first(self.running[name][1].pid)

    def stop_servers(self, names=None):
        chosen = [self.running.pop(name) for name in list(names or self.running) if name in self.running]
        for server, process in chosen:
            if process.poll() is None:
                process.send_signal(server.stop_signal)
                process.send_signal(signal.SIGCONT)  # a server that a drill stopped cannot stop otherwise
        limit = time.monotonic() + STOP_TIMEOUT_S
        for server, process in chosen:
            try:
                process.wait(max(0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(server.orphan_signal)
                try:
                    process.wait(1)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def dead(self):
        return {name: process.returncode for name, (_, process) in self.running.items()
                if process.poll() is not None}

    def wait_for(self, look, timeout=START_TIMEOUT_S):
        """Repeats `look` until it finds nothing to complain about (None)."""
        limit = time.monotonic() + timeout
        while True:
            complaint = look()
            if complaint is None:
                return
            for name, code in self.dead().items():
                raise LabError(f"{name} ended with {code} while starting:\n{self.last_words(name)}")
            if time.monotonic() > limit:
                raise LabError(f"not ready after {timeout} s: {complaint} (with --keep the logs stay)")
            time.sleep(0.05)

    def last_words(self, name):
        with open(self.lab.path("log", f"{name}.log"), errors="replace") as log:
            return "".join(log.readlines()[-15:])

    # Starting

    def start(self):
        begin = time.monotonic()
        defects, stack = self.options.defects, self.stack
        prometheus, alertmanager, shop = (
            configuration.url(self.ports, name) for name in ("prometheus", "alertmanager", "shop"))
        stack.write_files()
        self.store_description(ready=False)
        remember(self.lab)
        start_sinks(self.lab, self.ports.host("sinks"), self.ports["sinks"])
        self.launch(stack.shop())
        self.launch(stack.node_exporter())
        self.launch(stack.alertmanager())
        stack.copy_database()
        self.start_databases()
        self.launch(stack.postgres_exporter())
        for extra in ("pgbouncer", "gateway", "replica_exporter"):
            if extra in self.ports:
                self.launch(getattr(stack, extra)())
        for name, path in (("shop", "/health"), ("shop", "/login?email=user1@shop.example"),
                           ("postgres_exporter", "/metrics"), ("node_exporter", "/metrics"),
                           ("alertmanager", "/-/ready")):
            self.wait_for(lambda: health.answers(configuration.url(self.ports, name) + path))
        if "gateway" in self.ports:
            self.wait_for(lambda: health.answers(configuration.url(self.ports, "gateway") + "/health"))
        if "silenced" in defects:
            self.wait_for(lambda: health.silence(alertmanager, self.options.alert))
        # Last, so that its first scrapes find everything up and no alert of the start is left behind.
        self.launch(stack.prometheus())
        self.wait_for(lambda: health.answers(f"{prometheus}/-/ready"))
        self.wait_for(lambda: health.targets_scraped_twice(prometheus), 20 + 6 * self.options.interval)
        self.wait_for(lambda: health.postgresql_seen(prometheus, defects))
        self.wait_for(lambda: health.rules_evaluated(prometheus))
        if "already-firing" in defects:
            self.wait_for(lambda: health.alert_fires(prometheus, self.options.alert))
        elif not planted.ALERT_AT_ONCE.intersection(defects):
            self.wait_for(lambda: health.active_alerts(prometheus))
        self.listen()
        with open(self.options.site, "w") as site:
            site.write(configuration.site_text(self.lab, self.ports, self.options.interval))
        if self.options.interval != 1:
            pace.write_all(self.lab.path("experiments"), self.options.interval)
        self.started = True
        for name in self.running:
            self.come_first(name)
        self.took = time.monotonic() - begin
        self.store_description(ready=True)

    def start_databases(self):
        for name in ("postgresql", "replica"):
            if name in self.ports:
                self.launch(self.stack.database(name))
                self.wait_for(lambda: health.postgresql_accepts(self.ports.host(name), self.ports[name]))

    def store_description(self, ready):
        self.lab.store({
            "ready": ready, "dir": self.lab.dir, "pid": os.getpid(), "site": self.options.site,
            "defects": list(self.options.defects), "alert": self.options.alert, "interval": f"{self.options.interval}s",
            "rows": self.options.rows, "extras": list(self.options.extra), "ports": self.ports, "hosts": self.ports.hosts,
            "urls": {name: configuration.url(self.ports, name) for name in self.ports if name not in DATABASES},
            "servers": {name: process.pid for name, (_, process) in self.running.items()}})

    # Serving

    def listen(self):
        self.control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control.bind(self.lab.control_socket)
        os.chmod(self.lab.control_socket, 0o600)
        self.control.listen(8)

    def serve(self):
        """Answers requests one after the other until told to stop."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            while True:
                if selector.select(timeout=0.5):
                    channel, _ = self.control.accept()
                    with channel:
                        channel.settimeout(1)
                        self.answer(channel)
                self.note_deaths()

    def note_deaths(self):
        for name, code in self.dead().items():
            if name not in self.seen_dead:
                self.seen_dead.add(name)
                print(f"{time.strftime('%H:%M:%S')} {name} ended by itself with {code}", file=sys.stderr,
                      flush=True)

    def answer(self, channel):
        try:
            request = json.loads(channel.makefile().readline())
            if request["do"] == "stop":
                channel.sendall(b'{"ok": true}\n')
                raise Stop
            if request["do"] in self.ACTIONS:
                reply = self.act(request)
            elif request["do"] == "status":
                reply = {"ok": True, "servers": {
                    name: {"pid": process.pid, "ended": process.poll()}
                    for name, (_, process) in self.running.items()}}
            else:
                reply = {"ok": False, "error": f"unknown request {request['do']}"}
            channel.sendall(json.dumps(reply).encode() + b"\n")
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"a request failed: {error!r}", file=sys.stderr, flush=True)

    def act(self, request):
        """What is asked for is done when this returns, or has failed for the reason in the answer."""
        begin = time.monotonic()
        try:
            self.ACTIONS[request["do"]](self, request, begin + RESTART_TIMEOUT_S)
            self.store_description(ready=True)
        except LabError as error:
            return {"ok": False, "error": str(error)}
        except (OSError, subprocess.SubprocessError) as error:
            return {"ok": False, "error": f"{request['do']}: {error}; mend that and say `lab reset --dir {self.lab.dir}`, "
                                          f"which makes all of it anew, or `lab down`"}
        return {"ok": True, "took": round(time.monotonic() - begin, 2)}

    def restart(self, names, limit):
        self.stop_servers(names)
        for name in names:
            self.seen_dead.discard(name)
            self.launch(getattr(self.stack, name)())
        for name in names:
            if name in DATABASES:
                self.wait_for(lambda: health.postgresql_accepts(self.ports.host(name), self.ports[name]), limit - time.monotonic())
            else:
                self.wait_for(lambda: health.answers(configuration.url(self.ports, name) + "/health"),
                              limit - time.monotonic())

    def restart_shop(self, request, limit):
        self.stack.uploads_mounted = "uploads-unmounted" not in self.options.defects
        self.restart(["shop"], limit)

    def restart_database(self, request, limit):
        self.restart(["postgresql"], limit)

    def stop_primary(self, request, limit):
        self.stop_servers(["postgresql"])

    def deploy(self, request, limit):
        self.release_changed(self.stack.releases.deploy(request["settings"]), limit)

    def roll_back(self, request, limit):
        self.stack.releases.roll_back()
        self.release_changed({"shop", "gateway"}, limit)

    def release_changed(self, servers, limit):
        if "gateway" in servers and "gateway" in self.ports:
            self.stack.write_gateway()
        self.restart([name for name in ("shop", "gateway") if name in servers and name in self.ports], limit)

    def reset(self, request, limit):
        """As `up` made it, the data too; what monitoring remembers stays."""
        databases = [name for name in ("postgresql", "replica") if name in self.ports]
        self.stop_servers(["shop", *databases])
        self.stack.uploads_mounted = True
        for name in databases:
            self.seen_dead.discard(name)
        self.stack.copy_database()
        self.start_databases()
        self.roll_back(request, time.monotonic() + RESTART_TIMEOUT_S)  # copying may have taken all of `limit`

    ACTIONS = {"restart-shop": restart_shop, "restart-database": restart_database, "stop-primary": stop_primary,
               "deploy": deploy, "roll-back": roll_back, "reset": reset}

    # Stopping

    def stop(self):
        """Leaves no process and no directory. Legal at any moment after construction."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self.stop_servers()
        self.reservation.close()
        if self.options.keep:
            forget(self.lab)
        else:
            self.lab.remove()


def run(lab, options, say, ready):
    """Runs a lab on the calling process until it is told to stop; `ready(supervisor)` is called once."""
    def raise_stop(number, frame):
        raise Stop

    os.makedirs(lab.path("log"), exist_ok=True)
    lock = lab.lock()
    supervisor = None
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, raise_stop)
        supervisor = Supervisor(lab, options, say)
        supervisor.start()
        ready(supervisor)
        supervisor.serve()
    except Stop:
        pass
    finally:
        if supervisor:
            supervisor.stop()
        else:
            lab.remove()
        lock.close()
