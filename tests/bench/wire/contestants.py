"""The proxies that are compared: each as one process tree with one thread of relay, on ports that were free."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time

PROXIES = ("bare", "firedrill", "haproxy", "nginx", "pgbouncer")


def free_port():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
        return True
    except OSError:
        return False


class Contestant:
    """A started proxy: where it listens, and what it costs."""

    def __init__(self, name, process, ports):
        self.name = name
        self.process = process
        self.ports = ports

    def tree(self):
        pids, found = [self.process.pid], []
        while pids:
            pid = pids.pop()
            found.append(pid)
            try:
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/children") as children:
                        pids += [int(child) for child in children.read().split()]
            except FileNotFoundError:
                pass
        return found

    def cpu_ns(self):
        """Time on a CPU so far, of all threads: schedstat counts nanoseconds where stat counts 10 ms."""
        total = 0
        for pid in self.tree():
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat") as figures:
                    total += int(figures.read().split()[0])
        return total

    def memory_kib(self):
        """Memory that is this tree's own: shared pages of the program do not count."""
        total = 0
        for pid in self.tree():
            with open(f"/proc/{pid}/smaps_rollup") as lines:
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
        return total

    def pin(self, cpus):
        for pid in self.tree():
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), cpus)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Contestants:
    """Starts one proxy after the other in front of a server; a context, at whose end all are stopped."""

    def __init__(self, programs):
        self.programs = programs
        self.folder = tempfile.mkdtemp(prefix="wire-bench-")
        self.stack = contextlib.ExitStack()
        self.stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _start_own(self, name, arguments):
        """A program of ours: its first line is its port."""
        with tempfile.TemporaryFile("w+", dir=self.folder) as log:
            process = subprocess.Popen([str(word) for word in arguments], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=log, text=True, cwd="/")
        contestant = Contestant(name, process, [])
        self.stack.callback(contestant.stop)
        line = process.stdout.readline()
        self.stack.callback(process.stdout.close)
        if not line:
            raise RuntimeError(f"{name} did not start")
        contestant.ports.append(int(line))
        return contestant

    def _start(self, name, arguments, port):
        log = open(os.path.join(self.folder, f"{name}-{port}.log"), "w")
        process = subprocess.Popen([str(word) for word in arguments], stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=subprocess.STDOUT, cwd="/")
        log.close()
        contestant = Contestant(name, process, [port])
        self.stack.callback(contestant.stop)
        limit = time.monotonic() + 10
        while not answers(port):
            if process.poll() is not None or time.monotonic() > limit:
                with open(os.path.join(self.folder, f"{name}-{port}.log")) as words:
                    raise RuntimeError(f"{name} did not start:\n{words.read()}")
            time.sleep(0.02)
        return contestant

    def _write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def start(self, name, server, protocol="tcp", extra=()):
        """A proxy of the kind `name` in front of 127.0.0.1:`server`."""
        if name == "bare":
            return self._start_own(name, [self.programs / "wire_bare_loop", server])
        if name == "firedrill":
            return self._start_own(name, [self.programs / "wire_proxy", "--server", f"127.0.0.1:{server}", "--protocol",
                                          protocol, *extra])
        port = free_port()
        if name == "haproxy":
            path = self._write(f"haproxy-{port}.cfg", f"""
global
  maxconn 9000
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen all
  bind 127.0.0.1:{port}
  server one 127.0.0.1:{server}
""")
            return self._start(name, ["/usr/sbin/haproxy", "-db", "-f", path], port)
        if name == "nginx":
            path = self._write(f"nginx-{port}.conf", f"""
daemon off;
user nobody nogroup;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {self.folder}/nginx-{port}.pid;
error_log stderr error;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ worker_connections 12000; }}
stream {{
  server {{
    listen 127.0.0.1:{port};
    proxy_pass 127.0.0.1:{server};
    proxy_timeout 1h;
    proxy_half_close on;
  }}
}}
""")
            return self._start(name, ["/usr/sbin/nginx", "-p", self.folder, "-c", path], port)
        if name == "pgbouncer":
            path = self._write(f"pgbouncer-{port}.ini", f"""
[databases]
* = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = 100
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits
""")
            os.chmod(self.folder, 0o755)
            os.chmod(path, 0o644)
            return self._start(name, ["/usr/sbin/pgbouncer", "-u", "nobody", path], port)
        raise ValueError(name)
