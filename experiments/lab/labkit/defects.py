"""Defects that can be planted in a lab, to see whether a drill notices them and says why.

Most change a text that the lab generates; the others are facts that configuration.py, servers.py and
supervisor.py ask for with `"name" in defects`. What is wrong with an alert is wrong with the one that
`lab up --alert` names.
"""

import collections
import re

from labkit.accounts import LabError

SLOTS_ALERT = "PostgresConnectionsNearLimit"

# Of an alert that can have a defect: its threshold, one that is never reached, one that always is; what it reads.
Alert = collections.namedtuple("Alert", "threshold never always metric")
ALERTS = {
    SLOTS_ALERT: Alert("> 0.8", "> 1.5", "> 0.01", "pg_client_sessions"),
    "PgSeqScanSurge": Alert("> 5e5", "> 1e9", "> -1", "pg_table_seq_rows"),
}

DEFECTS = {
    "rule-deleted": "the rule of the alert does not exist",
    "threshold-too-high": "the alert's threshold is one that is never reached",
    "for-10m": "the alert must hold for 10 minutes before it fires",
    "rule-flaps": "the alert's condition is true in one evaluation out of three only, so that its `for` never ends",
    "page-flaps": "the alert fires at once and resolves again, three seconds of every five, for as long as the failure lasts",
    "label-wrong": 'the rule says severity="pager", which no route is for',
    "table-unnamed": "the rule adds all tables up, so that its alert does not name the one (PgSeqScanSurge)",
    "receiver-not-wired": "the receiver oncall reaches the pager but not Firedrill's webhook",
    "route-wrong": 'severity="page" is routed to the receiver tickets, so that nobody is paged',
    "silenced": "an active silence covers the alert",
    "already-firing": "the alert fires from the beginning (its threshold is always reached)",
    "exporter-blind": "the exporter cannot log in to PostgreSQL: pg_up is 0, its metrics are absent",
    "metric-absent": "the metric that the alert reads is dropped when it is scraped; the rule is healthy",
    "shop-never-reconnects": "after its first database error the shop keeps failing until it is restarted",
    "errors-cached": "an error of /login or /admin is remembered, and given again for 10 minutes",
    "plans-stay-slow": "a session of the shop whose login was cancelled once plans logins without indexes from then on",
    "uploads-unmounted": "the volume for uploads was mounted by hand: once the shop is restarted, it has none, and they fail",
    "cached-logins": "logins are answered without the database: the fault does not hurt them",
    "leaker-capped": "the role reports may have 5 connections only: a fault cannot reach its magnitude",
    "no-orders": "there are no orders, so that reports about them cost nothing",
}
# While these are planted, alerts are active from the beginning.
ALERT_AT_ONCE = {"already-firing", "exporter-blind", "metric-absent"}


def fits(name, alert):
    return name != "table-unnamed" or "table" in ALERTS[alert].metric


def check(names, alert):
    if alert not in ALERTS:
        raise LabError(f"there are no defects of the alert '{alert}', but of {', '.join(ALERTS)}")
    for name in names:
        if name not in DEFECTS:
            raise LabError(f"there is no defect '{name}': `lab defects` lists them")
        if not fits(name, alert):
            raise LabError(f"the alert {alert} has no table to leave out: name another with --alert")


def rule_pattern(alert):
    """One rule with its blank lines and comments after it, in the layout of rules/*.yml."""
    return re.compile(rf"^      - alert: {alert}\n(?:(?!      - alert:).*\n?)*", re.MULTILINE)


def edit_rule(texts, alert, edit):
    """`texts` (file name → text) with the text of one rule replaced; exactly one must exist."""
    changed = {name: rule_pattern(alert).sub(lambda match: edit(match.group(0)), text)
               for name, text in texts.items()}
    if sum(changed[name] != texts[name] for name in texts) != 1:
        raise LabError(f"the defect cannot be planted: no single rule {alert} in rules/*.yml fits it")
    return changed


def rule_edits(alert):
    """Defect → what it makes of the rule's text."""
    about = ALERTS[alert]
    return {
        "rule-deleted": lambda rule: "",
        "threshold-too-high": lambda rule: rule.replace(about.threshold, about.never),
        "already-firing": lambda rule: rule.replace(about.threshold, about.always),
        "for-10m": lambda rule: re.sub(r"for: \d+s", "for: 10m", rule),
        "rule-flaps": lambda rule: rule.replace(
            about.threshold, f"{about.threshold} and on () (vector(time()) % 3 < 1)"),
        "page-flaps": lambda rule: re.sub(r"for: \d+s", "for: 0s", rule.replace(
            about.threshold, f"{about.threshold} and on () (vector(time()) % 5 < 3)")),
        "label-wrong": lambda rule: rule.replace("severity: page", "severity: pager"),
        "table-unnamed": lambda rule: rule.replace("by (instance, table)", "by (instance)"),
    }


def edit_rules(texts, defects, alert=SLOTS_ALERT):
    for name, edit in rule_edits(alert).items():
        if name in defects:
            texts = edit_rule(texts, alert, edit)
    return texts
