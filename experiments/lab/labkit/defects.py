"""Defects that can be planted in a lab, to see whether a drill notices them and says why.

Most change a text that the lab generates; the others are facts that configuration.py, servers.py and
supervisor.py ask for with `"name" in defects`.
"""

import re

from labkit.accounts import LabError

SLOTS_ALERT = "PostgresConnectionsNearLimit"

DEFECTS = {
    "rule-deleted": f"the rule {SLOTS_ALERT} does not exist",
    "threshold-too-high": f"{SLOTS_ALERT} asks for more than 1.5 of the slots and can never fire",
    "for-10m": f"{SLOTS_ALERT} must hold for 10 minutes before it fires",
    "receiver-not-wired": "the receiver oncall reaches the pager but not Firedrill's webhook",
    "route-wrong": 'severity="page" is routed to the receiver tickets, so that nobody is paged',
    "silenced": f"an active silence covers {SLOTS_ALERT}",
    "already-firing": f"{SLOTS_ALERT} fires from the beginning (its threshold is 0.01)",
    "exporter-blind": "the exporter cannot log in to PostgreSQL: pg_up is 0, its metrics are absent",
    "shop-never-reconnects": "after its first database error the shop keeps failing until it is restarted",
    "cached-logins": "logins are answered without the database: the fault does not hurt them",
    "leaker-capped": "the role reports may have 5 connections only: the fault cannot reach its magnitude",
}


def check(names):
    for name in names:
        if name not in DEFECTS:
            raise LabError(f"there is no defect '{name}': `lab defects` lists them")


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


def edit_rules(texts, defects):
    if "rule-deleted" in defects:
        texts = edit_rule(texts, SLOTS_ALERT, lambda rule: "")
    if "threshold-too-high" in defects:
        texts = edit_rule(texts, SLOTS_ALERT, lambda rule: rule.replace("> 0.8", "> 1.5"))
    if "already-firing" in defects:
        texts = edit_rule(texts, SLOTS_ALERT, lambda rule: rule.replace("> 0.8", "> 0.01"))
    if "for-10m" in defects:
        texts = edit_rule(texts, SLOTS_ALERT,
                          lambda rule: re.sub(r"for: \d+s", "for: 10m", rule))
    return texts
