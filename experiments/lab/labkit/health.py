"""Looks from outside at whether a lab is ready: each look asks the servers, none asks the supervisor."""

import datetime
import json
import socket
import struct
import urllib.error
import urllib.parse
import urllib.request

LOOK_TIMEOUT_S = 2
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(address, body=None):
    """Status and text; (0, reason) when there is no answer."""
    request = urllib.request.Request(address)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with _direct.open(request, timeout=LOOK_TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(getattr(error, "reason", error))


def answers(address):
    status, text = fetch(address)
    return None if status == 200 else f"{address} answers {status or text}"


def postgresql_accepts(host, port):
    """Asks for TLS as every client does; a server that is up says yes or no with one byte."""
    try:
        with socket.create_connection((host, port), timeout=LOOK_TIMEOUT_S) as channel:
            channel.sendall(struct.pack("!ii", 8, 80877103))
            return None if channel.recv(1) in (b"N", b"S") else "PostgreSQL closes connections"
    except OSError as error:
        return f"PostgreSQL: {error}"


def query(prometheus, expression):
    """Label sets and values of an instant query; [] also when Prometheus does not answer."""
    status, text = fetch(f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
    if status != 200:
        return []
    return [(row["metric"], float(row["value"][1])) for row in json.loads(text)["data"]["result"]]


def targets_scraped_twice(prometheus):
    counts = {labels["job"]: value for labels, value in query(prometheus, "min by (job) (sum_over_time(up[2m]))")}
    missing = [job for job in ("shop", "postgresql", "node", "prometheus", "alertmanager")
               if counts.get(job, 0) < 2]
    return f"Prometheus has not scraped {', '.join(missing)} twice" if missing else None


def postgresql_seen(prometheus, defects):
    wanted = 0 if "exporter-blind" in defects else 1
    values = [value for _, value in query(prometheus, "pg_up")]
    return None if values and all(value == wanted for value in values) else f"pg_up is {values}, not {wanted}"


def rules_evaluated(prometheus):
    status, text = fetch(f"{prometheus}/api/v1/rules")
    if status != 200:
        return f"Prometheus answers {status or text}"
    rules = [rule for group in json.loads(text)["data"]["groups"] for rule in group["rules"]]
    bad = [rule["name"] for rule in rules if rule["health"] != "ok"]
    return f"rules not evaluated: {', '.join(bad) or 'all'}" if bad or not rules else None


def firing_alerts(prometheus):
    status, text = fetch(f"{prometheus}/api/v1/alerts")
    alerts = json.loads(text)["data"]["alerts"] if status == 200 else []
    return sorted({one["labels"]["alertname"] for one in alerts if one["state"] == "firing"})


def active_alerts(prometheus):
    """A complaint while an alert that the start itself caused is still pending or firing."""
    status, text = fetch(f"{prometheus}/api/v1/alerts")
    if status != 200:
        return f"Prometheus answers {status or text}"
    active = sorted({one["labels"]["alertname"] for one in json.loads(text)["data"]["alerts"]})
    return f"alerts are active: {', '.join(active)}" if active else None


def alert_fires(prometheus, alert):
    return None if alert in firing_alerts(prometheus) else f"{alert} does not fire yet"


def silence(alertmanager, alert):
    """Plants the defect `silenced`; returns an error or None."""
    now = datetime.datetime.now(datetime.timezone.utc)
    status, text = fetch(f"{alertmanager}/api/v2/silences", {
        "matchers": [{"name": "alertname", "value": alert, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(), "endsAt": (now + datetime.timedelta(days=1)).isoformat(),
        "createdBy": "lab", "comment": "planted defect: somebody silenced it and forgot"})
    return None if status == 200 else f"silencing failed: {status} {text}"
