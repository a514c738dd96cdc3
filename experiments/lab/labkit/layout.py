"""Where a lab keeps its things, which labs exist, and whether one is alive.

A lab lives as long as its supervisor holds the lock on <dir>/lab.lock: a kernel lock cannot be left
behind by a killed process, and a reused process id cannot be mistaken for it.
"""

import fcntl
import glob
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from labkit.accounts import LabError

# A Unix socket's path is limited to 107 bytes, and the longest one under the directory needs 40.
MAX_DIR_BYTES = 66


def cache_dir():
    if os.geteuid() == 0:
        return "/var/cache/firedrill/lab"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "firedrill", "lab")


class Lab:
    def __init__(self, directory):
        self.dir = os.path.realpath(directory)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    @property
    def control_socket(self):
        return self.path("control.sock")

    def describe(self):
        """The content of lab.json, or None when there is none (yet)."""
        try:
            with open(self.path("lab.json")) as stored:
                return json.load(stored)
        except (FileNotFoundError, ValueError):
            return None

    def store(self, description):
        temporary = self.path("lab.json.new")
        with open(temporary, "w") as stored:
            json.dump(description, stored, indent=2)
            stored.write("\n")
        os.rename(temporary, self.path("lab.json"))

    def lock(self):
        """Takes the lab; the returned file must stay open as long as the lab lives."""
        lock_file = open(self.path("lab.lock"), "w")
        for _ in range(50):  # somebody who looks whether we live holds it for a moment
            try:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock_file
            except BlockingIOError:
                time.sleep(0.01)
        raise LabError(f"a lab is running in {self.dir}: stop it with `lab down --dir {self.dir}`")

    def alive(self):
        try:
            with open(self.path("lab.lock")) as lock_file:
                fcntl.flock(lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def ask(self, request, timeout):
        """Sends one request to the supervisor and returns its answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(timeout)
            try:
                channel.connect(self.control_socket)
                channel.sendall(json.dumps(request).encode() + b"\n")
                answer = channel.makefile().readline()
            except socket.timeout:
                raise LabError(f"the lab in {self.dir} did not answer '{request['do']}' within {timeout} s")
            except OSError as error:
                raise LabError(f"no lab answers in {self.dir} ({error.strerror}): `lab status` lists them")
        if not answer:
            raise LabError(f"the lab in {self.dir} ended while asked to '{request['do']}'")
        return json.loads(answer)

    def remove(self):
        """Deletes what a lab made, and nothing else: a directory without our lock file is not ours.

        The lock file goes last, so that a removal that was cut short can be taken up again.
        """
        forget(self)
        if os.path.exists(self.path("lab.lock")):
            free_shared_memory(self)
            site = (self.describe() or {}).get("site")
            if site and os.path.dirname(site) != self.dir and os.path.exists(site):
                os.unlink(site)
            for entry in os.scandir(self.dir):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif entry.name != "lab.lock":
                    os.unlink(entry.path)
            shutil.rmtree(self.dir, ignore_errors=True)


def segments():
    """The shared memory of System V on this machine, as the kernel lists it."""
    with open("/proc/sysvipc/shm") as table:
        columns = table.readline().split()
        return [dict(zip(columns, row.split())) for row in table]


def free_shared_memory(lab):
    """A PostgreSQL that was killed leaves the segment by which the next one would have known of its children."""
    for path in glob.glob(lab.path("*", "data", "postmaster.pid")):
        with open(path) as file:
            lines = file.read().splitlines()
        if len(lines) < 7 or len(lines[6].split()) != 2:
            continue
        creator, segment = lines[0].strip(), lines[6].split()[1]
        limit = time.monotonic() + 5
        # Numbers are given out anew: it is ours if that very process made it. Who was killed uses it a while longer.
        while uses := [row["nattch"] for row in segments() if (row["shmid"], row["cpid"]) == (segment, creator)]:
            if uses == ["0"] or time.monotonic() > limit:
                subprocess.run(["ipcrm", "-m", segment], check=False)
                break
            time.sleep(0.02)


def is_a_servers(pid, lab):
    """Whether one of the lab's servers is this process, and not somebody who looks at its files."""
    folder = os.readlink(f"/proc/{pid}/cwd")
    if folder != lab.dir and not folder.startswith(lab.dir + "/"):
        return False
    with open(f"/proc/{pid}/environ", "rb") as environment:
        homes = [word for word in environment.read().split(b"\0") if word.startswith(b"HOME=")]
    # PostgreSQL writes its title over the words.
    return homes in ([], [b"HOME=" + os.fsencode(lab.dir)])


def end_survivors(lab):
    """Kills what is left of a dead lab's servers: the orphan signal waits when a drill stopped one."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            handle = os.pidfd_open(int(name))
        except (OSError, ValueError):
            continue
        try:
            # Read after the handle was taken, hence it is about this very process.
            if is_a_servers(name, lab):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:
            pass
        finally:
            os.close(handle)


class Departure:
    """Waits until a supervisor has gone: by its lock, which it drops after everything else."""

    def __init__(self, lab):
        self._lock_file = open(lab.path("lab.lock"))

    def wait(self, timeout):
        limit = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > limit:
                    return False
                time.sleep(0.02)

    def close(self):
        self._lock_file.close()


def new_lab(directory):
    """An empty directory for a lab; a dead lab's remains in it are cleared first."""
    if directory is None:
        directory = tempfile.mkdtemp(prefix="firedrill-lab-")
    lab = Lab(directory)
    if len(lab.dir.encode()) > MAX_DIR_BYTES:
        raise LabError(f"{lab.dir} is longer than {MAX_DIR_BYTES} bytes, too long for Unix sockets in it: "
                       f"choose a shorter --dir")
    if os.path.exists(lab.path("lab.lock")):
        if lab.alive():
            raise LabError(f"a lab is running in {lab.dir}: stop it with `lab down --dir {lab.dir}`")
        end_survivors(lab)
        lab.remove()
    os.makedirs(lab.dir, exist_ok=True)
    if os.listdir(lab.dir):
        raise LabError(f"{lab.dir} is not empty and was not made by the lab: choose another --dir")
    os.chmod(lab.dir, 0o755)  # the servers' accounts must get through; secrets are 0600 themselves
    if os.geteuid() == 0:
        check_reachable(lab.dir)
    return lab


def check_reachable(directory):
    parent = directory
    while parent != "/":
        parent = os.path.dirname(parent)
        if not os.stat(parent).st_mode & 0o001:
            raise LabError(f"{directory}: the servers do not run as root and cannot enter {parent}; "
                           f"choose a --dir under /tmp or /var/tmp")


# Links to the labs of this user, so that `down` and `status` find them without --dir.

def pointer(lab):
    name = hashlib.sha256(lab.dir.encode()).hexdigest()[:16]
    return os.path.join(cache_dir(), "running", name)


def remember(lab):
    os.makedirs(os.path.dirname(pointer(lab)), exist_ok=True)
    forget(lab)
    os.symlink(lab.dir, pointer(lab))


def forget(lab):
    try:
        os.unlink(pointer(lab))
    except FileNotFoundError:
        pass


def known_labs():
    folder = os.path.join(cache_dir(), "running")
    labs = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        lab = Lab(os.readlink(os.path.join(folder, name)))
        if os.path.exists(lab.path("lab.lock")):
            labs.append(lab)
        else:
            forget(lab)
    return labs


def check_site_is_free(site, directory):
    """Of the lab that is about to be made in `directory`: the site file of another that runs is not overwritten."""
    for lab in known_labs():
        if lab.alive() and (lab.describe() or {}).get("site") == site and lab.dir != (directory and os.path.abspath(directory)):
            raise LabError(f"{site} is the site file of the lab in {lab.dir}, which runs: choose another --site, "
                           f"or stop that one with `lab down --dir {lab.dir}`")


def find_lab(directory):
    """The lab in `directory`, or the only one of this user."""
    if directory is not None:
        lab = Lab(directory)
        if not os.path.exists(lab.path("lab.lock")):
            raise LabError(f"there is no lab in {lab.dir}")
        return lab
    labs = known_labs()
    if not labs:
        raise LabError("no lab exists: start one with `lab up`")
    if len(labs) > 1:
        listed = "\n".join(f"  --dir {lab.dir}{'' if lab.alive() else '   (dead)'}" for lab in labs)
        raise LabError(f"there are {len(labs)} labs, choose one:\n{listed}")
    return labs[0]
