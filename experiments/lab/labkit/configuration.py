"""The configuration files of a lab's servers and the site file for Firedrill, as texts.

Pure: given the directory, the ports, the interval and the defects, the same texts come out.
"""

import glob
import json
import os
import re

from labkit import defects as planted
from labkit import extras, pace
from labkit.accounts import LabError

ON_REQUEST = "with-"  # rules/with-NAME.yml is for `lab up --with NAME`
SOURCE_DIR = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))

PORT_NAMES = ("postgresql", "shop", "postgres_exporter", "node_exporter", "prometheus", "alertmanager",
              "shop_operations", "sinks", "firedrill_webhook")


def port_names(chosen):
    return PORT_NAMES + extras.port_names(chosen)


# Job → the ports where its metrics are.
JOBS = {"shop": ("shop_operations",), "postgresql": ("postgres_exporter", "replica_exporter"), "node": ("node_exporter",),
        "prometheus": ("prometheus",), "alertmanager": ("alertmanager",), "gateway": ("gateway_metrics",)}


def url(ports, name):
    return f"http://{ports.at(name)}"


def rule_texts(interval_s, defects, chosen=(), alert=planted.SLOTS_ALERT):
    """File name → text; windows and `for` are multiplied by the interval, for they fit one of 1 s."""
    texts = {}
    for path in sorted(glob.glob(os.path.join(SOURCE_DIR, "rules", "*.yml"))):
        name = os.path.basename(path)
        if name.startswith(ON_REQUEST) and name.removeprefix(ON_REQUEST).removesuffix(".yml") not in chosen:
            continue
        with open(path) as rules:
            text = rules.read()
        text = pace.windows(text, interval_s)
        text = re.sub(r"for: (\d+)s", lambda match: f"for: {int(match[1]) * interval_s}s", text)
        texts[name] = text
    return planted.edit_rules(texts, defects, alert)


def prometheus_text(ports, interval_s, defects, alert=planted.SLOTS_ALERT):
    """A target for each server of `ports` that has metrics."""
    # An exporter that cannot log in waits 1 s before it answers; a scrape each second would time out
    # and show `up` 0 instead of pg_up 0.
    slower = f"""
    scrape_interval: {3 * interval_s}s
    scrape_timeout: {3 * interval_s}s""" if "exporter-blind" in defects else ""
    # Somebody saved what nobody seemed to look at.
    dropped = f"""
    metric_relabel_configs:
      - {{source_labels: [__name__], regex: {planted.ALERTS[alert].metric}, action: drop}}""" if "metric-absent" in defects else ""
    targets = "".join(
        f"""
  - job_name: {job}{slower + dropped if job == "postgresql" else ""}
    static_configs:
      - targets: [{", ".join(f'"{ports.at(port)}"' for port in names if port in ports)}]"""
        for job, names in JOBS.items() if names[0] in ports)
    return f"""\
global:
  scrape_interval: {interval_s}s
  scrape_timeout: {interval_s}s
  evaluation_interval: {interval_s}s
  external_labels:
    env: lab
rule_files:
  - rules/*.yml
alerting:
  alertmanagers:
    - static_configs:
        - targets: ["{ports.at('alertmanager')}"]
scrape_configs:{targets}
"""


def alertmanager_text(ports, interval_s, defects, token_file):
    def firedrill(path):
        return f"""
      - url: {url(ports, 'firedrill_webhook')}{path}
        send_resolved: true
        http_config:
          authorization:
            credentials_file: {token_file}"""

    page_receiver = "tickets" if "route-wrong" in defects else "oncall"
    oncall_to_firedrill = "" if "receiver-not-wired" in defects else firedrill("/oncall")
    return f"""\
route:
  receiver: tickets
  group_by: [alertname, instance]
  group_wait: 0s
  group_interval: {2 * interval_s}s
  repeat_interval: 1h
  routes:
    - matchers: ['firedrill_canary=~".+"']
      receiver: firedrill-canary
      group_by: ['...']
    - matchers: ['severity="page"']
      receiver: {page_receiver}
receivers:
  - name: tickets
    webhook_configs:
      - url: {url(ports, 'sinks')}/tickets
        send_resolved: true
  - name: oncall
    webhook_configs:
      - url: {url(ports, 'sinks')}/pager
        send_resolved: true{oncall_to_firedrill}
  - name: firedrill-canary
    webhook_configs:{firedrill("/firedrill-canary")}
"""


def postgresql_text(lab, ports, name):
    """Of the server `name`, which is a key of `ports` and a folder of the lab: postgresql, or replica."""
    wal = "wal_level = replica\nmax_wal_senders = 4\nwal_keep_size = 256MB" if "replica" in ports else \
        "wal_level = minimal\nmax_wal_senders = 0"
    return f"""\
listen_addresses = '{ports.host(name)}'
port = {ports[name]}
unix_socket_directories = '{lab.path(name)}'
hba_file = '{lab.path(name, "pg_hba.conf")}'
max_connections = 60
superuser_reserved_connections = 3
# All of `users` fits: a scan then costs CPU, not a copy out of the page cache.
shared_buffers = 768MB
# Files, not /dev/shm: a killed server then leaves nothing outside of its directory.
dynamic_shared_memory_type = mmap
fsync = off
synchronous_commit = off
{wal}
min_wal_size = 32MB
max_wal_size = 256MB
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.save = off
lc_messages = 'C'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d %a '
log_connections = off
"""


def hba_text(ports):
    """From elsewhere only where the lab is spread over several hosts."""
    origins = ["127.0.0.1/32"] + ["samenet"] * bool(ports.hosts)
    return "local all all scram-sha-256\n" + "".join(
        f"host {database} all {origin} scram-sha-256\n" for origin in origins for database in ("all", "replication"))


def database_url(ports, password):
    """Where the shop finds its database: behind the pooler, or at whichever of a pair takes writes."""
    if "pgbouncer" in ports:
        return f"postgresql+psycopg2://shop:{password}@{ports.at('pgbouncer')}/shop"
    if "replica" in ports:
        return (f"postgresql+psycopg2://shop:{password}@/shop?host={ports.at('postgresql')}"
                f"&host={ports.at('replica')}&target_session_attrs=read-write")
    return f"postgresql+psycopg2://shop:{password}@{ports.at('postgresql')}/shop"


def pgbouncer_text(lab, ports):
    if "replica" in ports:
        raise LabError("PgBouncer 1.18 cannot tell who of a pair takes writes: ask for pgbouncer or replica, not both")
    return f"""\
[databases]
shop = host={ports.host('postgresql')} port={ports['postgresql']} dbname=shop
[pgbouncer]
listen_addr = {ports.host('pgbouncer')}
listen_port = {ports['pgbouncer']}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {lab.path("pgbouncer", "users.txt")}
admin_users = postgres
stats_users = exporter
pool_mode = transaction
default_pool_size = 10
max_client_conn = 500
# The shop gives up after 2 s; PgBouncer would keep its question for 2 min.
query_wait_timeout = 5
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
"""


def gateway_text(ports, retries):
    """An upload is not tried again: nobody knows whether the first one was done."""
    again = f"""
    retries {retries}
    retry-on all-retryable-errors
    http-request disable-l7-retry if METH_POST""" if int(retries) else "\n    retries 0"
    return f"""\
global
    maxconn 4000
    nbthread 1
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    # A question that the shop has not answered by then is asked again; the shop goes on with the first one.
    timeout server 3s
    timeout http-request 5s
frontend customers
    bind {ports.at('gateway')}
    default_backend shop
frontend metrics
    bind {ports.at('gateway_metrics')}
    http-request use-service prometheus-exporter
backend shop{again}
    server shop {ports.at('shop')}
"""


# What the shop's /sales asks, as one number: a probe wants one.
SALES_REPORT = ("SELECT count(*) FROM (SELECT date_trunc('day', created_at) AS day, count(*) AS orders, "
                "sum(cents) AS cents FROM orders GROUP BY 1 ORDER BY 1 DESC) AS days")


def site_text(lab, ports, interval_s=1):
    crowd_s = 35 * pace.stretch(interval_s)

    def quoted(*parts):
        return json.dumps(lab.path(*parts))

    def program(name, *words, leaves, timeout="20s"):
        words = ", ".join(json.dumps(word) for word in words + ("--dir", lab.dir))
        return f"""
        - {{name: {name}, path: {json.dumps(os.path.join(SOURCE_DIR, "lab"))}, arguments: [{words}], timeout: {timeout}, leaves: {leaves}}}"""

    def profile(name, user, secret, server="postgresql"):
        return f"""
        - name: {name}
          postgresql: {{host: {ports.host(server)}, port: {ports[server]}, user: {user}, database: shop, password: {{file: {quoted(secret)}}}}}"""

    old_primary = "" if "replica" not in ports else f"""
    - {{name: primary, url: "tcp://{ports.at('postgresql')}"}}"""
    pair = "" if "replica" not in ports else (
        profile("primary", "postgres", "postgres.password")
        + profile("standby", "postgres", "postgres.password", server="replica"))
    return f"""\
# Written by `lab up`: what Firedrill may know of and do to the lab in {lab.dir}.
apiVersion: firedrill/v1
kind: Site
metadata: {{name: lab}}
spec:
  environment: lab
  prometheus: {{url: "{url(ports, 'prometheus')}"}}
  alertmanagers:
    - {{url: "{url(ports, 'alertmanager')}"}}
  webhook:
    listen: "127.0.0.1:{ports['firedrill_webhook']}"
    receivers:
      - {{name: oncall, path: /oncall, token: {{file: {quoted('webhook.token')}}}}}
      - {{name: firedrill-canary, path: /firedrill-canary, token: {{file: {quoted('webhook.token')}}}}}
  pages: ['severity="page"']
  endpoints:
    - {{name: shop, url: "{url(ports, 'gateway' if 'gateway' in ports else 'shop')}"}}
    - {{name: shop-operations, url: "{url(ports, 'shop_operations')}"}}{old_primary}
  announce: []
  injectors:
    - name: lab-db
      labels: {{role: database, service: shop}}
      # A superuser may take an index away; a promoted standby stays one.
      policy: {{superuser: true, lastingRemedies: true}}
      profiles:{profile("leaker", "reports", "leaker.password")}
          statements:
            - {{name: sales-report, sql: "{SALES_REPORT}"}}{profile("dba", "firedrill_dba", "dba.password")}
          statements:
            - name: sessions-of-run
              sql: "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'firedrill:' || $1 || ':%' AND usename <> current_user"
              parameters: [run]
            - name: usable-indexes
              sql: "SELECT count(*) FROM pg_index WHERE indrelid = 'public.users'::regclass AND indisvalid"
            - name: shop-idle-in-transaction
              sql: "SELECT count(*) FROM pg_stat_activity WHERE usename = 'shop' AND state = 'idle in transaction'"
          remedyStatements:
            - name: end-idle-transactions
              sql: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('shop', 'reports') AND state = 'idle in transaction'"
              leaves: nothing
              timeout: 5s
            - name: end-shop-sessions
              sql: "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'"
              leaves: nothing
              timeout: 5s{profile("admin", "postgres", "postgres.password")}{pair}
      subjects:
        - {{name: database, pidfile: {quoted('postgresql', 'data', 'postmaster.pid')}}}
      programs:{program("restart-database", "restart-database", leaves="nothing")}{
    program("stop-primary", "stop-primary", leaves="changed") if pair else ""}
    - name: lab-app
      labels: {{role: app, service: shop}}
      policy: {{lastingRemedies: true}}
      profiles:
        - name: front
          http: {{host: {ports.host('shop')}, port: {ports['shop']}}}
      programs:{program("crowd", "crowd", "--rate", "100", "--seconds", str(crowd_s), leaves="nothing", timeout=f"{crowd_s + 15}s")}{
    program("restart-shop", "restart-shop", leaves="nothing")}{
    program("roll-back", "roll-back", leaves="nothing")}{
    program("deploy-bigger-pool", "deploy", "pool-size=50", leaves="changed")}{
    program("deploy-statement-timeout", "deploy", "statement-timeout=150ms", leaves="changed")}{
    program("deploy-weak-statement-timeout", "deploy", "statement-timeout=500ms", leaves="changed")}{
    program("deploy-lower-email", "deploy", "login-query=lower-email", leaves="changed")}{
    program("deploy-leak", "deploy", "leak-share=0.05", leaves="changed")}{
    program("deploy-reports", "deploy", "admin-reports=10", leaves="changed")}
    - name: lab-load
      labels: {{role: load}}
      endpoints: [shop]
      values:
        - {{name: shop-emails, file: {quoted('emails.txt')}}}
"""
