"""One case of the campaign: a run, what is done to one of its processes, and what must be gone by when."""

import contextlib
import os
import random
import signal
import subprocess
import time

from look import Look, Process

CLIENT, CONTROLLER, INJECTOR, REAPER = (
    "firedrill", "firedrill-controller", "firedrill-injector", "firedrill-reaper")
ACTIONS = (
    ("kill", CLIENT), ("stop", CLIENT), ("kill", CONTROLLER), ("stop", CONTROLLER), ("kill", INJECTOR),
    ("stop", INJECTOR), ("kill", REAPER), ("kill both", INJECTOR), ("kill all", CLIENT))

LONGEST_INSTANT_S = 6.0     # a whole run takes 2 s more, in which nothing is on
STARTED_S = 0.8
# The promises. What the machine takes for others is added to each, as measured meanwhile (delay.py).
GONE_S = 1.0
HUNG_EXTRA_S = 0.1
FAULT_LEASE_S = 2           # as in short.yaml
OWNER_LEASE_S = 5           # a client that does not beat has lost its run
CONTROLLER_SILENCE_S = 6    # then the client ends a controller that does not answer
CONTROLLER_STARTS_S = 10    # the same for one that has never listened
# A run goes on to its end when an injector or a reaper was hit, and the gate alone may take 30 s.
RUN_ENDS_WITHIN_S = 45
LOOK_EVERY_S = 0.02
# Why a run whose injector was hit before anything was broken did not start.
TRUE_REASONS = ("has been silent", "went silent", "is silent", "was started again", "stopped it", "connected fit",
                "is in use")


class Left(AssertionError):
    """Something stayed that should not have, or was not said."""


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class Case:
    """A case is drawn from (seed, number) alone. `lane` is where it runs: its own accounts and site file."""

    def __init__(self, campaign, lane, number):
        drawn = random.Random(f"{campaign.seed}:{number}")
        self.campaign, self.lane, self.number, self.drawn = campaign, lane, number, drawn
        # In turn, so that few cases cover all; the instant is by chance.
        self.act, self.victim = ACTIONS[number % len(ACTIONS)]
        # A quarter while the processes are still starting, which is when they are least prepared.
        self.instant = drawn.uniform(0, STARTED_S if drawn.random() < 0.25 else LONGEST_INSTANT_S)
        # Sessions that would be gone by themselves prove nothing about a hang.
        long = self.act == "stop" and self.victim in (CLIENT, CONTROLLER) and drawn.random() < 0.7
        self.experiment = campaign.long if long else campaign.short
        folder = os.path.join(campaign.folder, str(number))
        self.state = os.path.join(folder, "state")
        temporary = os.path.join(folder, "t")
        os.makedirs(temporary)
        os.mkdir(self.state, mode=0o700)  # `leftovers` refuses a folder that is not there
        self.output = os.path.join(folder, "output")
        self.look = Look(lane.superuser, lane.roles, temporary, self.state, others=lane.others)
        self.handles = []
        self.facts = []
        self.struck_backends = set()
        # What the table is made of.
        self.took = self.bound = self.promise = None

    def name(self):
        return f"{self.act} {self.victim}"

    def run(self):
        with open(self.output, "w") as output:
            self.client = subprocess.Popen(
                [self.campaign.program, "run", self.experiment, "--site", self.lane.site,
                 "--state-dir", self.state],
                env=self.look.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True)
        self.look.started.append(self.client.pid)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.client.wait(self.instant)
            self.strike()
        finally:
            self.end_everything()

    # Who is hit. Our mark says who belongs to the run; /proc says which program each of them is.

    def processes(self, program):
        found = []
        for pid in self.look.pids():
            with contextlib.suppress(OSError):
                process = Process(pid)
                if process.program == program:
                    found.append(process)
                    self.handles.append(process)
                else:
                    process.close()
        return found

    def victims(self):
        if self.act == "kill all":
            # The client first: it starts injectors again. Reapers before injectors: they would undo.
            return [process for program in (CLIENT, CONTROLLER, REAPER, INJECTOR)
                    for process in self.processes(program)]
        found = self.processes(self.victim)
        if not found:
            return []
        first = self.drawn.choice(sorted(found, key=lambda process: process.pid))
        if self.act != "kill both":
            return [first]
        return [reaper for reaper in self.processes(REAPER) if parent_of(reaper.pid) == first.pid] + [first]

    def strike(self):
        limit = time.monotonic() + 3
        victims = self.victims()
        while not victims and self.client.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)  # it has not been started yet
            victims = self.victims()
        if not victims:
            self.facts.append("the run was over")
            return self.finish()
        self.injector = parent_of(victims[0].pid) if self.victim == REAPER else 0
        # Of whom the sessions are that must go now: of the node whose injector was hit, or of both. Those
        # that come later belong to a run that goes on.
        self.struck_backends = self.backends(self.nodes_of(victims))
        self.facts.append(f"{len(self.struck_backends)} sessions")
        self.listened = any(each.endswith("/c") for each in self.look.files())
        self.delayed = self.campaign.delay.total()
        self.struck = time.monotonic()
        for victim in victims:
            victim.send(signal.SIGSTOP if self.act == "stop" else signal.SIGKILL)
        if self.act != "stop":
            for victim in victims:
                if not victim.ended(5):
                    raise Left(f"process {victim.pid} survived SIGKILL for 5 s")
        self.open_records = self.look.journals()
        {"kill " + CLIENT: self.client_killed, "stop " + CLIENT: self.client_hangs,
         "kill " + CONTROLLER: self.controller_killed, "stop " + CONTROLLER: self.controller_hangs,
         "kill " + INJECTOR: self.injector_killed, "stop " + INJECTOR: self.injector_hangs,
         "kill " + REAPER: self.reaper_killed, "kill both " + INJECTOR: self.both_killed,
         "kill all " + CLIENT: self.all_killed}[self.name()]()

    def nodes_of(self, victims):
        if self.victim != INJECTOR:
            return list(self.lane.holders)
        with open(f"/proc/{victims[-1].pid}/cmdline", "rb") as command:
            words = command.read().decode().split("\0")
        return [node for node in self.lane.holders if f"node-{node}" in words]

    def backends(self, nodes):
        """Sessions of faults, as (pid, start)."""
        with self.lane.superuser.cursor() as cursor:
            cursor.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE usename = ANY(%s)",
                           ([self.lane.holders[node] for node in nodes],))
            return set(cursor.fetchall())

    # What must be gone by when.

    def gone(self, promise, what, parts):
        """Waits until there is nothing; seconds since the strike. More than promised + measured: an error."""
        while True:
            begun = time.monotonic()
            left = parts()
            took = time.monotonic() - self.struck
            bound = promise + self.campaign.delay.total() - self.delayed
            if not left:
                self.facts.append(f"{what} after {took:.2f} s of {bound:.2f}")
                return took, bound
            if begun - self.struck > bound:
                listed = "\n      ".join(str(each) for each in left)
                raise Left(f"{what}: not {took:.2f} s after it ({promise:.1f} s promised, "
                           f"{bound - promise:.2f} s taken by the machine):\n      {listed}")
            time.sleep(LOOK_EVERY_S)

    def counts(self, promise, what, parts):
        """As gone(), and it is what the table tells of this case."""
        self.promise = promise
        self.took, self.bound = self.gone(promise, what, parts)

    def struck_sessions(self):
        return self.backends(self.lane.holders) & self.struck_backends

    def client_killed(self):
        self.client.wait(10)  # as its shell would: a zombie still has its number
        self.counts(GONE_S, "all gone", self.look.everything)

    def client_hangs(self):
        self.counts(OWNER_LEASE_S + HUNG_EXTRA_S, "sessions gone", self.struck_sessions)
        # Its controller and injectors have ended their run in good order.
        self.gone(OWNER_LEASE_S + GONE_S, "all gone", lambda: self.look.everything([self.client.pid]))
        self.client.send_signal(signal.SIGCONT)
        self.finish()

    def controller_killed(self):
        self.counts(GONE_S, "all gone", self.look.everything)
        self.finish()

    def controller_hangs(self):
        self.counts(FAULT_LEASE_S + HUNG_EXTRA_S, "sessions gone", self.struck_sessions)
        silence = CONTROLLER_SILENCE_S if self.listened else CONTROLLER_STARTS_S
        self.gone(silence + GONE_S, "all gone", self.look.everything)
        self.finish()

    def injector_killed(self):
        self.counts(GONE_S, "sessions gone", self.struck_sessions)
        self.finish()

    def injector_hangs(self):
        self.counts(FAULT_LEASE_S + HUNG_EXTRA_S, "sessions gone", self.struck_sessions)
        self.finish()

    def reaper_killed(self):
        """Nothing happens to the fault; the injector starts another one."""
        killed = {process.pid for process in self.handles}

        def unwatched():
            pids = self.look.pids()
            others = {pid for pid in pids if pid not in killed and parent_of(pid) == self.injector}
            return [] if self.injector not in pids or others else [f"no reaper watches {self.injector}"]
        self.counts(GONE_S, "another reaper", unwatched)
        self.finish()

    def both_killed(self):
        self.counts(GONE_S, "sessions gone", self.struck_sessions)
        self.ended()
        left = self.look.journals()
        if left:
            # The client had ended, or was ending: whoever comes next undoes it.
            self.next_command(left)
        elif self.open_records:
            # The client that lived was that command.
            with open(self.output) as output:
                said = output.read()
            if "was started again, to look what is left" not in said and self.client_lived_on:
                raise Left("the client does not say that it had somebody look what is left")
        self.finish()

    def all_killed(self):
        self.client.wait(10)
        self.counts(GONE_S, "sessions and processes gone",
                    lambda: self.look.sessions() + self.look.processes())
        self.next_command(self.look.journals())
        self.struck, self.delayed = time.monotonic(), self.campaign.delay.total()
        self.gone(GONE_S, "files gone", self.look.everything)

    def next_command(self, open_before):
        """Everything was killed: the next command undoes what is journalled, and says so."""
        words = self.drawn.choice((["leftovers"], ["run", self.campaign.short, "--site", self.lane.site]))
        self.facts.append(f"then `firedrill {words[0]}`")
        done = subprocess.run([self.campaign.program, *words, "--state-dir", self.state],
                              env=self.look.environment(), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=RUN_ENDS_WITHIN_S)
        undone = [line for line in done.stdout.splitlines() if "undone now" in line]
        for record in open_before:
            # The checksum comes first; `run="…" fault="…"` name it.
            run, fault = (record.partition(f'{key}="')[2].partition('"')[0] for key in ("run", "fault"))
            if not any(f"fault {fault} " in line and run in line for line in undone):
                raise Left(f"`firedrill {words[0]}` does not say that it has undone {fault} of {run}:\n"
                           f"{done.stdout}{done.stderr}")
        if done.returncode != 0:
            raise Left(f"`firedrill {words[0]}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        if open_before:
            self.facts.append(f"which names {len(open_before)}")

    def ended(self):
        """The client ends by itself."""
        begun = time.monotonic()
        try:
            code = self.client.wait(RUN_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Left(f"the client has not ended {RUN_ENDS_WITHIN_S} s later") from None
        # Long enough for it to have seen what happened to an injector.
        self.client_lived_on = time.monotonic() - begun > 1
        return code

    def finish(self):
        """The client has ended or ends now; then there is nothing any more, and its exit code is no lie."""
        code = self.ended()
        self.facts.append(f"exit code {code}")
        self.struck, self.delayed = time.monotonic(), self.campaign.delay.total()
        self.gone(GONE_S, "all gone", self.look.everything)
        # 1 would blame the system under test, 5 would call a person although all is undone.
        allowed = (0, 3, 4, 6) if self.took is not None else (0,)
        if code not in allowed:
            raise Left(f"exit code {code}, expected one of {allowed}")
        # What was answered before the injector was hit explains nothing.
        with open(self.output) as output:
            said = output.read()
        if self.victim == INJECTOR and code == 3 and not any(word in said for word in TRUE_REASONS):
            raise Left(f"exit code 3, and none of these is said: {', '.join(TRUE_REASONS)}")

    def end_everything(self):
        """What still lives was left by this case: it is ended, after it was reported."""
        self.look.end_processes()
        for process in self.handles:
            process.close()
        self.client.wait(10)
