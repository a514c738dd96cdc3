"""Parts of the stack that come on request (`lab up --with NAME`), and the ports that they need."""

EXTRAS = {
    "gateway": "HAProxy before the shop, which tries again for its clients (setting `retries`)",
    "pgbouncer": "PgBouncer between the shop and PostgreSQL: 10 connections, given to a transaction at a time",
    "replica": "a standby that streams from the database, its exporter, and a shop that finds whoever takes writes",
    "cpu-alert": "the alert HostHighCpu; it is about the whole machine, and fires wherever that is busy",
}

PORTS = {"gateway": ("gateway", "gateway_metrics"), "pgbouncer": ("pgbouncer",), "replica": ("replica", "replica_exporter"),
         "cpu-alert": ()}


def port_names(chosen):
    return tuple(port for extra in EXTRAS if extra in chosen for port in PORTS[extra])
