"""The lab's servers: their files in the lab's directory, and the command that runs each."""

import os
import secrets
import shutil
import signal

from labkit import configuration
from labkit.releases import Releases
from labkit.accounts import DATABASE_ACCOUNT, SERVER_ACCOUNT, Account, LabError, postgresql_program, program
from labkit.prepared_data import ROLES, copy_data, copy_folder, email, single_user

EMAILS_IN_FILE = 5000


class Server:
    """How one server is started and stopped."""

    def __init__(self, name, account, command, environment=None, stop_signal=signal.SIGTERM,
                 orphan_signal=signal.SIGKILL):
        self.name = name
        self.account = account
        self.command = command
        self.environment = environment or {}
        self.stop_signal = stop_signal
        # What the kernel sends when the supervisor dies without stopping its servers.
        self.orphan_signal = orphan_signal


class Stack:
    """Writes what the servers of one lab need, and knows their commands."""

    def __init__(self, lab, ports, options, say):
        self.lab = lab
        self.ports = ports
        self.options = options
        self.say = say
        self.database_account = Account(DATABASE_ACCOUNT)
        self.server_account = Account(SERVER_ACCOUNT)
        self.uploads_mounted = True
        self.passwords = {role: secrets.token_urlsafe(18) for role in ROLES + ("postgres",)}
        self.token = secrets.token_urlsafe(24)
        self.releases = Releases(lab, options.set, "gateway" in ports)
        if options.rows < EMAILS_IN_FILE:
            raise LabError(f"--rows {options.rows} is too small: at least {EMAILS_IN_FILE}")

    def write(self, text, *path, mode=0o644, account=None):
        """Secrets (0600) are never readable by others, not even between creation and chmod."""
        name = self.lab.path(*path)
        with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as opened:
            opened.write(text)
        os.chmod(name, mode)
        if account:
            account.own(name)
        return name

    def folder(self, *path, account=None):
        name = self.lab.path(*path)
        os.makedirs(name, mode=0o755)
        if account:
            account.own(name)
        return name

    def write_files(self):
        lab, ports, options, servers = self.lab, self.ports, self.options, self.server_account
        for name in ("prometheus", "prometheus/rules", "alertmanager", "shop", "exporter"):
            self.folder(name)
        self.folder("prometheus", "data", account=servers)
        self.folder("alertmanager", "data", account=servers)
        for name, text in configuration.rule_texts(options.interval, options.defects, options.extra,
                                                        options.alert).items():
            self.write(text, "prometheus", "rules", name)
        self.write(configuration.prometheus_text(ports, options.interval, options.defects, options.alert),
                   "prometheus", "prometheus.yml")

        # Two copies: one for Alertmanager's account, one for whoever runs Firedrill.
        token_file = self.write(self.token, "alertmanager", "webhook.token", mode=0o600, account=servers)
        self.write(configuration.alertmanager_text(ports, options.interval, options.defects, token_file),
                   "alertmanager", "alertmanager.yml")
        self.write(self.token, "webhook.token", mode=0o600)
        self.write(self.passwords["reports"], "leaker.password", mode=0o600)
        self.write(self.passwords["firedrill_dba"], "dba.password", mode=0o600)
        self.write(self.passwords["postgres"], "postgres.password", mode=0o600)

        known = "wrong" if "exporter-blind" in options.defects else self.passwords["exporter"]
        self.write(known, "exporter", "password", mode=0o600, account=servers)
        # Copies, for the source tree may be where the servers' account cannot read.
        shutil.copy(os.path.join(configuration.SOURCE_DIR, "exporter", "queries.yaml"),
                    lab.path("exporter", "queries.yaml"))
        self.write(configuration.database_url(ports, self.passwords["shop"]),
                   "shop", "database.url", mode=0o600, account=servers)
        for name in ("shop.py", "settings.py", "operations.py", "gunicorn.conf.py"):
            shutil.copy(os.path.join(configuration.SOURCE_DIR, "shop", name), lab.path("shop", name))
        self.folder("shop", "live", account=servers)
        self.releases.write()
        if "pgbouncer" in ports:
            self.folder("pgbouncer")
            self.write(configuration.pgbouncer_text(lab, ports), "pgbouncer", "pgbouncer.ini")
            self.write("".join(f'"{role}" "{self.passwords[role]}"\n' for role in ("shop", "exporter", "postgres")),
                       "pgbouncer", "users.txt", mode=0o600, account=servers)
        if "gateway" in ports:
            self.folder("gateway")
            self.write_gateway()
        step = options.rows // EMAILS_IN_FILE
        self.write("".join(email(1 + step * index) + "\n" for index in range(EMAILS_IN_FILE)), "emails.txt")

    def write_gateway(self):
        """Anew with each deployment."""
        with open(self.lab.path("gateway", "haproxy.cfg"), "w") as written:
            written.write(configuration.gateway_text(self.ports, self.releases.now()["retries"]))

    def copy_database(self):
        """Also in place of an old one; its servers must have ended."""
        capped = "leaker-capped" in self.options.defects
        pair = "replica" in self.ports
        for name in ("postgresql", "replica") if pair else ("postgresql",):
            shutil.rmtree(self.lab.path(name), ignore_errors=True)
            # The socket is made beside the data, hence the folder is the server's own.
            self.folder(name, account=self.database_account)
            self.write(configuration.hba_text(self.ports), name, "pg_hba.conf")
            self.write(configuration.postgresql_text(self.lab, self.ports, name), name, "postgresql.conf")
        data = self.lab.path("postgresql", "data")
        copy_data(data, self.database_account, self.options.rows, self.passwords,
                  ["ALTER ROLE reports CONNECTION LIMIT 5"] if capped else [], self.say,
                  "replica" if pair else "minimal")
        if "no-orders" in self.options.defects:
            single_user(data, self.database_account, "shop", "TRUNCATE orders\n", "replica" if pair else "minimal")
        if pair:
            # A copy of a stopped primary is a base backup.
            copy_folder(data, self.lab.path("replica", "data"))
            self.write("", "replica", "data", "standby.signal", mode=0o600, account=self.database_account)
            self.write(f"primary_conninfo = 'host={self.ports.host('postgresql')} port={self.ports['postgresql']} user=postgres "
                       f"password={self.passwords['postgres']} application_name=replica'\n",
                       "replica", "primary.conf", mode=0o600, account=self.database_account)
            with open(self.lab.path("replica", "postgresql.conf"), "a") as opened:
                opened.write("include = 'primary.conf'\n")

    def postgresql(self):
        return self.database("postgresql")

    def replica(self):
        return self.database("replica")

    def database(self, name):
        return Server(
            name, self.database_account,
            [postgresql_program("postgres"), "-D", self.lab.path(name, "data"),
             "-c", f"config_file={self.lab.path(name, 'postgresql.conf')}"],
            # Fast shutdown does not wait for clients. On SIGQUIT the server ends its own children, also one
            # in the middle of a query, and gives its shared memory back; after SIGKILL it could not.
            stop_signal=signal.SIGINT, orphan_signal=signal.SIGQUIT)

    def shop(self):
        environment = {"SHOP_BIND": self.ports.at("shop"),
                       "SHOP_DATABASE_URL_FILE": self.lab.path("shop", "database.url"),
                       "SHOP_OPERATIONS": self.ports.at("shop_operations"),
                       "SHOP_RELEASE_FILE": self.lab.path("shop", "release.json"),
                       "SHOP_LIVE_FILE": self.lab.path("shop", "live", "settings.json"),
                       "PYTHONDONTWRITEBYTECODE": "1"}
        if "pgbouncer" in self.ports:
            environment["SHOP_POOLED"] = "1"
        if "cached-logins" in self.options.defects:
            environment["SHOP_LOGIN_CACHE"] = self.lab.path("emails.txt")
        if "shop-never-reconnects" in self.options.defects:
            environment["SHOP_NEVER_RECONNECTS"] = "1"
        if "errors-cached" in self.options.defects:
            environment["SHOP_ERRORS_CACHED"] = "1"
        if "plans-stay-slow" in self.options.defects:
            environment["SHOP_PLANS_STAY"] = "1"
        if not self.uploads_mounted:
            environment["SHOP_UPLOADS_UNMOUNTED"] = "1"
        return Server("shop", self.server_account,
                      ["/usr/bin/python3", program("gunicorn", "gunicorn"), "--chdir", self.lab.path("shop"),
                       "--config", self.lab.path("shop", "gunicorn.conf.py"), "shop:app"], environment)

    def gateway(self):
        return Server("gateway", self.server_account,
                      [program("haproxy", "haproxy"), "-db", "-f", self.lab.path("gateway", "haproxy.cfg")])

    def pgbouncer(self):
        return Server("pgbouncer", self.server_account,
                      [program("pgbouncer", "pgbouncer"), self.lab.path("pgbouncer", "pgbouncer.ini")],
                      # At once, without waiting for its clients.
                      stop_signal=signal.SIGTERM)

    def postgres_exporter(self):
        return self.exporter("postgres_exporter", "postgresql")

    def replica_exporter(self):
        return self.exporter("replica_exporter", "replica")

    def exporter(self, name, server):
        return Server(name, self.server_account,
                      [program("prometheus-postgres-exporter", "prometheus-postgres-exporter"),
                       f"--web.listen-address={self.ports.at(name)}", "--log.level=warn",
                       f"--extend.query-path={self.lab.path('exporter', 'queries.yaml')}"],
                      {"DATA_SOURCE_URI": f"{self.ports.at(server)}/shop?sslmode=disable",
                       "DATA_SOURCE_USER": "exporter",
                       "DATA_SOURCE_PASS_FILE": self.lab.path("exporter", "password")})

    def node_exporter(self):
        return Server("node_exporter", self.server_account,
                      [program("prometheus-node-exporter", "prometheus-node-exporter"),
                       f"--web.listen-address={self.ports.at('node_exporter')}", "--log.level=warn",
                       "--collector.disable-defaults", "--collector.meminfo", "--collector.cpu",
                       "--collector.loadavg", "--collector.netstat", "--collector.netdev"])

    def prometheus(self):
        return Server("prometheus", self.server_account,
                      [program("prometheus", "prometheus"),
                       f"--config.file={self.lab.path('prometheus', 'prometheus.yml')}",
                       f"--storage.tsdb.path={self.lab.path('prometheus', 'data')}",
                       "--storage.tsdb.retention.time=1d",
                       f"--web.listen-address={self.ports.at('prometheus')}",
                       # Links in alerts would otherwise carry the machine's name, which may not resolve.
                       f"--web.external-url={configuration.url(self.ports, 'prometheus')}", "--log.level=warn"])

    def alertmanager(self):
        return Server("alertmanager", self.server_account,
                      [program("prometheus-alertmanager", "prometheus-alertmanager"),
                       f"--config.file={self.lab.path('alertmanager', 'alertmanager.yml')}",
                       f"--storage.path={self.lab.path('alertmanager', 'data')}",
                       f"--web.listen-address={self.ports.at('alertmanager')}",
                       f"--web.external-url={configuration.url(self.ports, 'alertmanager')}",
                       "--cluster.listen-address=", "--log.level=warn"])
