"""The configuration files of a lab's servers and the site file for Firedrill, as texts.

Pure: given the directory, the ports, the interval and the defects, the same texts come out.
"""

import glob
import json
import os
import re

from labkit import defects as planted

SOURCE_DIR = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))

PORT_NAMES = ("postgresql", "shop", "postgres_exporter", "node_exporter", "prometheus", "alertmanager",
              "sinks", "firedrill_webhook")


def url(ports, name):
    return f"http://127.0.0.1:{ports[name]}"


def rule_texts(interval_s, defects):
    """File name → text; windows and `for` are multiplied by the interval, for they fit one of 1 s."""
    texts = {}
    for path in sorted(glob.glob(os.path.join(SOURCE_DIR, "rules", "*.yml"))):
        with open(path) as rules:
            text = rules.read()
        text = re.sub(r"\[(\d+)s\]", lambda match: f"[{int(match[1]) * interval_s}s]", text)
        text = re.sub(r"for: (\d+)s", lambda match: f"for: {int(match[1]) * interval_s}s", text)
        texts[os.path.basename(path)] = text
    return planted.edit_rules(texts, defects)


def prometheus_text(ports, interval_s, defects):
    # An exporter that cannot log in waits 1 s before it answers; a scrape each second would time out
    # and show `up` 0 instead of pg_up 0.
    slower = f"""
    scrape_interval: {3 * interval_s}s
    scrape_timeout: {3 * interval_s}s""" if "exporter-blind" in defects else ""
    targets = "".join(
        f"""
  - job_name: {job}{slower if job == "postgresql" else ""}
    static_configs:
      - targets: ["127.0.0.1:{ports[port]}"]"""
        for job, port in (("shop", "shop"), ("postgresql", "postgres_exporter"),
                          ("node", "node_exporter"), ("prometheus", "prometheus"),
                          ("alertmanager", "alertmanager")))
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
        - targets: ["127.0.0.1:{ports['alertmanager']}"]
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


def postgresql_text(lab, ports):
    return f"""\
listen_addresses = '127.0.0.1'
port = {ports['postgresql']}
unix_socket_directories = '{lab.path("postgresql")}'
hba_file = '{lab.path("postgresql", "pg_hba.conf")}'
max_connections = 60
superuser_reserved_connections = 3
shared_buffers = 256MB
# Files, not /dev/shm: a killed server then leaves nothing outside of its directory.
dynamic_shared_memory_type = mmap
fsync = off
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
min_wal_size = 32MB
max_wal_size = 256MB
lc_messages = 'C'
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d %a '
log_connections = off
"""


HBA_TEXT = """\
local all all scram-sha-256
host  all all 127.0.0.1/32 scram-sha-256
"""


def site_text(lab, ports):
    def quoted(*parts):
        return json.dumps(lab.path(*parts))

    restart = json.dumps(os.path.join(SOURCE_DIR, "lab"))
    postgresql = f"host: 127.0.0.1, port: {ports['postgresql']}"
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
    - {{name: shop, url: "{url(ports, 'shop')}"}}
  announce: []
  injectors:
    - name: lab-db
      labels: {{role: database, service: shop}}
      profiles:
        - name: leaker
          postgresql: {{{postgresql}, user: reports, database: shop, password: {{file: {quoted('leaker.password')}}}}}
        - name: dba
          postgresql: {{{postgresql}, user: firedrill_dba, database: shop, password: {{file: {quoted('dba.password')}}}}}
          statements:
            - name: sessions-of-run
              sql: "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'firedrill:' || $1 || ':%' AND usename <> current_user"
              parameters: [run]
    - name: lab-app
      labels: {{role: app, service: shop}}
      programs:
        - {{name: restart-shop, path: {restart}, arguments: [restart-shop, --dir, {json.dumps(lab.dir)}], timeout: 20s, leaves: nothing}}
    - name: lab-load
      labels: {{role: load}}
      endpoints: [shop]
      values:
        - {{name: shop-emails, file: {quoted('emails.txt')}}}
"""
