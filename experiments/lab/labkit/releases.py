"""What the lab deploys: the shop's settings, at first, now, and back again."""

import os
import sys
import urllib.parse
import urllib.request

from labkit.accounts import LabError
from labkit.configuration import SOURCE_DIR

sys.path.insert(0, os.path.join(SOURCE_DIR, "shop"))

import settings  # noqa: E402  (the shop's own)

SETTINGS = settings.SETTINGS
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def parse(words):
    """`NAME=VALUE` words as a dict of values that the shop takes."""
    parsed = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise LabError(f"'{word}' is no setting: write NAME=VALUE (`lab settings` lists them)")
        try:
            settings.check(name, value)
        except settings.SettingError as error:
            raise LabError(str(error))
        parsed[name] = value
    return parsed


class Releases:
    def __init__(self, lab, first, gateway):
        self._lab = lab
        self._gateway = gateway
        self._first = {name: setting.default for name, setting in SETTINGS.items()} | first
        self._refuse_retries(first)
        self._now = dict(self._first)

    def _refuse_retries(self, chosen):
        if int(chosen.get("retries", 0)) and not self._gateway:
            raise LabError("nobody would try again: `retries` needs `lab up --with gateway`")

    def now(self):
        return self._now

    def write(self):
        settings.store(self._lab.path("shop", "release.json"), self._now)

    def deploy(self, chosen):
        """The servers that must be restarted for it. What was changed live gives way to the release."""
        self._refuse_retries(chosen)
        self._now.update(chosen)
        self.write()
        self._drop_live(chosen)
        return {"gateway" if name == "retries" else "shop" for name in chosen}

    def roll_back(self):
        self._now = dict(self._first)
        self.write()
        self._drop_live(SETTINGS)

    def _drop_live(self, names):
        path = self._lab.path("shop", "live", "settings.json")
        kept = {name: value for name, value in settings.load(path).items() if name not in names}
        # In place: the file belongs to the shop's account, which must be able to write it again.
        if os.path.exists(path):
            with open(path, "w") as opened:
                opened.write(settings.json.dumps(kept))


def ask(address, path, method="GET"):
    try:
        with _direct.open(urllib.request.Request(address + path, method=method), timeout=5) as answer:
            return settings.json.load(answer)
    except urllib.error.HTTPError as error:
        raise LabError(settings.json.load(error).get("error", str(error)))
    except OSError as error:
        raise LabError(f"the shop does not answer at {address}: {getattr(error, 'reason', error)}")


def change_live(address, name, value):
    ask(address, f"/settings/{name}?value={urllib.parse.quote(value)}", "PUT")


def differences(address):
    """A line for each setting that is not what it is by default."""
    try:
        now = ask(address, "/settings")
    except LabError as error:
        return [f"unknown: {error}"]
    return [f"{name}={value}" for name, value in now.items() if value != SETTINGS[name].default]
