"""The shop's settings: which there are, what they may be, and where they come from.

A release has a value for each (release.json, written by `lab deploy`). Those of a real system that can be changed
while it runs are changed while the shop runs (live.json, written by the shop); the others are read when it starts.
Both the shop and the lab's commands use this file.
"""

import json
import os
import re


class SettingError(Exception):
    """The text says which setting, and what it may be."""


class Setting:
    def __init__(self, default, live, pattern, may_be, meaning):
        self.default = default
        self.live = live
        self.pattern = pattern
        self.may_be = may_be
        self.meaning = meaning


DURATION = r"[1-9]\d{0,4}(s|ms)|none"
A_DURATION = "a duration such as 250ms or 2s, or none"
A_SHARE = r"0(\.\d+)?|1"


SETTINGS = {
    "pool-size": Setting("20", True, r"[1-9]\d{0,2}", "1 to 999",
                         "connections that the shop may have to its database"),
    "acquire-timeout": Setting("2s", True, DURATION, A_DURATION,
                               "how long a request waits for one of them; none: for ever"),
    "login-query": Setting("indexed", True, "indexed|lower-email", "indexed or lower-email",
                           "how /login searches: by `email`, or by `lower(email)`, which no index serves"),
    "admin-reports": Setting("0", True, r"\d{1,3}", "0 to 999",
                             "sales reports that /admin computes besides, one after the other"),
    "leak-share": Setting("0", True, A_SHARE, "0 to 1, such as 0.05",
                          "share of the logins whose connection is never given back"),
    "statement-timeout": Setting("150ms", False, DURATION, A_DURATION,
                                 "the server cancels a statement of the shop that takes longer"),
    "report-limit": Setting("6", True, r"[1-9]\d{0,2}|none", "1 to 999, or none",
                            "how many of /sales are computed at a time, for 1 s at most; the others are turned away"),
    "retries": Setting("0", False, r"\d", "0 to 9", "how often the gateway tries again for its clients"),
}


def check(name, value):
    if name not in SETTINGS:
        raise SettingError(f"there is no setting '{name}': {', '.join(SETTINGS)}")
    if not re.fullmatch(SETTINGS[name].pattern, value):
        raise SettingError(f"{name} cannot be '{value}', but {SETTINGS[name].may_be}")


def seconds(value):
    """Of a duration; None for `none`."""
    if value == "none":
        return None
    return float(value[:-2]) / 1000 if value.endswith("ms") else float(value[:-1])


def store(path, values):
    """In one step, so that a reader finds the old file or the new one."""
    with open(path + ".new", "w") as written:
        json.dump(values, written, indent=2)
        written.write("\n")
    os.rename(path + ".new", path)


def load(path):
    try:
        with open(path) as stored:
            return json.load(stored)
    except FileNotFoundError:
        return {}


class Values:
    """What holds now: the release, and over it what was changed while it ran."""

    def __init__(self, release_file, live_file):
        self._live_file = live_file
        self.release = {name: setting.default for name, setting in SETTINGS.items()} | load(release_file)
        self.live = load(live_file)

    def __getitem__(self, name):
        return self.live.get(name, self.release[name])

    def all(self):
        return {name: self[name] for name in SETTINGS}

    def change(self, name, value):
        """`None`: what the release says. The file outlives a restart, as a store of feature flags does."""
        if value is not None:
            check(name, value)
        if name not in SETTINGS:
            raise SettingError(f"there is no setting '{name}': {', '.join(SETTINGS)}")
        if not SETTINGS[name].live:
            raise SettingError(f"{name} is read when the shop starts: it takes a deployment")
        changed = {key: kept for key, kept in self.live.items() if key != name}
        if value is not None and value != self.release[name]:
            changed[name] = value
        store(self._live_file, changed)
        self.live = changed
