"""Which Unix accounts the servers run as, and where their programs are."""

import glob
import os
import pwd
import shutil


class LabError(Exception):
    """Something the person at the terminal can do something about; the text says what."""


# Both accounts come with the Debian packages that the lab needs anyway.
DATABASE_ACCOUNT = "postgres"
SERVER_ACCOUNT = "prometheus"


class Account:
    """uid and gid to switch to; both None when the lab is not root and runs everything as itself."""

    def __init__(self, name):
        self.uid = self.gid = None
        if os.geteuid() == 0:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                raise LabError(f"run as root, the lab needs the account '{name}': "
                               f"install the packages of the lab, or run it as an ordinary user")
            self.uid, self.gid = entry.pw_uid, entry.pw_gid

    def own(self, path):
        if self.uid is not None:
            os.chown(path, self.uid, self.gid)

    def popen_arguments(self):
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def program(name, package):
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin")
    if not path:
        raise LabError(f"'{name}' is not installed: apt install {package}")
    return path


def postgresql_program(name):
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    if not found:
        raise LabError(f"PostgreSQL's '{name}' is not installed: apt install postgresql")
    return max(found, key=lambda path: int(path.split("/")[4]))
