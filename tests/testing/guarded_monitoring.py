"""Prometheus and Alertmanager as guarded as they come: TLS, certificates of clients, passwords; and in front of one
of them a doorman of ours for what only a gateway does, tenants and redirects. All of it a test's own."""

import base64
import crypt
import ctypes
import json
import os
import secrets
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from look import free_port

PR_SET_PDEATHSIG = 1
START_TIMEOUT_S = 60
HOST = "127.0.0.1"
warnings.filterwarnings("ignore", message=".*crypt.*", category=DeprecationWarning)


def openssl(*words, cwd):
    done = subprocess.run(["openssl", *words], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {' '.join(words)}: {done.stderr}")


class Authority:
    """Makes NAME.crt and NAME.key in its folder; ca.crt vouches for them."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=the test's authority", "-days", "2",
                "-keyout", "ca.key", "-out", "ca.crt", cwd=folder)
        self.ca = os.path.join(folder, "ca.crt")

    def issue(self, name, days=1, address=HOST):
        """Of 0 days: it has expired a second later. The path without .crt and .key."""
        with open(os.path.join(self.folder, f"{name}.ext"), "w") as written:
            written.write(f"subjectAltName = IP:{address}\nbasicConstraints = CA:FALSE\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out",
                f"{name}.csr", cwd=self.folder)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days",
                str(days), "-extfile", f"{name}.ext", "-out", f"{name}.crt", cwd=self.folder)
        return os.path.join(self.folder, name)


class Server:
    """A process that goes when we go."""

    def __init__(self, command, log):
        parent = os.getpid()

        def before_exec():
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        self.log = log
        with open(log, "a") as opened:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=opened, stderr=opened,
                                            preexec_fn=before_exec)

    def stop(self):
        self.process.kill()
        self.process.wait()


class Exporter:
    """One figure, as a function gives it."""

    def __init__(self, metric, value):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(f"{metric} {value()}\n".encode())

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Doorman:
    """Lets nobody through to `url` who does not send `wanted`; or points everybody elsewhere."""

    def __init__(self, url, wanted, redirect_to=None):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.pass_on(None)

            def do_POST(self):
                self.pass_on(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def pass_on(self, body):
                seen.append(self.path)
                if redirect_to:
                    self.send_response(302)
                    self.send_header("Location", redirect_to + self.path)
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                if any(self.headers.get(name) != value for name, value in wanted.items()):
                    return self.answer(403, b"no such tenant\n")
                request = urllib.request.Request(url + self.path, data=body, method=self.command)
                if body is not None:
                    request.add_header("Content-Type", "application/json")
                try:
                    with urllib.request.urlopen(request, timeout=5) as answer:
                        self.answer(answer.status, answer.read())
                except urllib.error.HTTPError as error:
                    self.answer(error.code, error.read())

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{HOST}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Guarded:
    """One Alertmanager for each of `alertmanagers`, and one Prometheus for each of `prometheus`, all with the same
    guard. `rules` is a rule file, `webhook` the address of Firedrill's receiver. Files of secrets are 0600."""

    def __init__(self, folder, rules, exporter_port, webhook, prometheus=1, alertmanagers=1, guarded=True,
                 server_days=1):
        self.folder = folder
        self.servers = []
        self.held = []
        os.makedirs(folder)
        self.password = secrets.token_urlsafe(18)
        self.token = secrets.token_urlsafe(18)
        self.password_file = self.secret("password", self.password)
        self.token_file = self.secret("webhook.token", self.token)
        self.authority = Authority(os.path.join(folder, "pki"))
        self.client = self.authority.issue("client")
        self.guarded = guarded
        self.server_days = server_days
        try:
            self.alertmanagers = [self.start_alertmanager(index, webhook) for index in range(alertmanagers)]
            self.prometheus = [self.start_prometheus(index, rules, exporter_port) for index in range(prometheus)]
            for url, path in [(url, "/-/ready") for url in self.alertmanagers] + [
                    (url, "/api/v1/query?query=sum(up)%3D%3D1") for url in self.prometheus]:
                self.await_answer(url + path)
        except BaseException:
            self.stop()
            raise

    def secret(self, name, content):
        path = os.path.join(self.folder, name)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as written:
            written.write(content + "\n")
        return path

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "w") as written:
            written.write(content)
        return path

    def guard(self, name, client_certificate):
        """A file for --web.config.file."""
        certificate = self.authority.issue(name, self.server_days)
        asks = f"""
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: {self.authority.ca}""" if client_certificate else ""
        return self.write(f"{name}.web.yml", f"""tls_server_config:
  cert_file: {certificate}.crt
  key_file: {certificate}.key{asks}
basic_auth_users:
  firedrill: {crypt.crypt(self.password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16))}
""")

    def port(self):
        held, port = free_port()
        self.held.append(held)
        return port

    def begin(self, name, command, client_certificate):
        port = self.port()
        words = [*command, f"--web.listen-address={HOST}:{port}", "--log.level=warn"]
        if self.guarded:
            words.append(f"--web.config.file={self.guard(name, client_certificate)}")
        self.servers.append(Server(words, os.path.join(self.folder, f"{name}.log")))
        return f"{'https' if self.guarded else 'http'}://{HOST}:{port}"

    def start_alertmanager(self, index, webhook):
        to_firedrill = "".join(f"""
  - name: {name}
    webhook_configs:
      - url: http://{webhook}/{name}
        send_resolved: true
        http_config: {{authorization: {{credentials_file: {self.token_file}}}}}""" for name in ("oncall", "canary"))
        config = self.write(f"alertmanager-{index}.yml", f"""route:
  receiver: oncall
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  routes:
    - {{matchers: ['firedrill_canary=~".+"'], receiver: canary, group_by: ['...']}}
receivers:{to_firedrill}
""")
        # Without a cluster each of them tells all it knows.
        return self.begin(f"alertmanager-{index}", [
            "/usr/bin/prometheus-alertmanager", f"--config.file={config}",
            f"--storage.path={os.path.join(self.folder, f'alertmanager-{index}')}", "--cluster.listen-address="],
            client_certificate=False)

    def start_prometheus(self, index, rules, exporter_port):
        access = f"""
      scheme: https
      tls_config: {{ca_file: {self.authority.ca}}}
      basic_auth: {{username: firedrill, password_file: {self.password_file}}}""" if self.guarded else ""
        targets = ", ".join(f'"{url.split("//")[1]}"' for url in self.alertmanagers)
        rule_file = self.write(f"rules-{index}.yml", rules[index] if isinstance(rules, list) else rules)
        config = self.write(f"prometheus-{index}.yml", f"""global:
  scrape_interval: 1s
  evaluation_interval: 1s
  external_labels: {{replica: "{index}"}}
rule_files: [{rule_file}]
alerting:
  alert_relabel_configs: [{{regex: replica, action: labeldrop}}]
  alertmanagers:
    - static_configs: [{{targets: [{targets}]}}]{access}
scrape_configs:
  - job_name: exporter
    static_configs: [{{targets: ["{HOST}:{exporter_port}"]}}]
""")
        return self.begin(f"prometheus-{index}", [
            "/usr/bin/prometheus", f"--config.file={config}",
            f"--storage.tsdb.path={os.path.join(self.folder, f'prometheus-{index}')}"], client_certificate=True)

    def await_answer(self, url):
        """Nobody checks the server's certificate here: it may be the defect of the test."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(f"{self.client}.crt", f"{self.client}.key")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}),
                                             urllib.request.HTTPSHandler(context=context))
        login = base64.b64encode(f"firedrill:{self.password}".encode()).decode()
        request = urllib.request.Request(url, headers={"Authorization": f"Basic {login}"})
        limit = time.monotonic() + START_TIMEOUT_S
        said = ""
        while time.monotonic() < limit:
            try:
                with opener.open(request, timeout=2) as answer:
                    said = answer.read().decode()
                # A query that found something, or no query at all.
                if not said.startswith("{") or json.loads(said)["data"]["result"]:
                    return
            except OSError as error:
                said = str(error)
            time.sleep(0.1)
        logs = ""
        for server in self.servers:
            with open(server.log) as log:
                logs += log.read()[-2000:]
        raise RuntimeError(f"{url} is not ready: {said}\n{logs}")

    def access(self, **other):
        """The keys of the site file that let one in, on one line; `other` replaces some, None leaves one out."""
        if not self.guarded:
            return ""
        keys = {"caFile": self.authority.ca, "identity": self.client,
                "basic": f"{{user: firedrill, password: {{file: {self.password_file}}}}}", **other}
        return "".join(f", {key}: {value}" for key, value in keys.items() if value is not None)

    def stop(self):
        for server in self.servers:
            server.stop()
        for held in self.held:
            held.close()
