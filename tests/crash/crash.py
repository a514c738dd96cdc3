#!/usr/bin/python3
"""Kills and hangs Firedrill's processes at random instants of short runs, and looks whether anything stays.

A case is drawn from (seed, number): `crash.py --seed S --only N` does one again. FIREDRILL_BIN is the folder
of the binaries, FIREDRILL_CRASH_RUNS the number of cases.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../testing"))

from bare_postgres import BarePostgres  # noqa: E402
from look import Look, Process  # noqa: E402

EXPERIMENT = os.path.join(HERE, "short.yaml")
ROLES = ("holder_a", "dba_a", "holder_b", "dba_b")
NODES = {"a": "database", "b": "other"}

LONGEST_INSTANT_S = 5.5  # a whole run takes about this long
FAULT_LEASE_S = 2        # as in short.yaml
OWNER_LEASE_S = 5        # a client that does not beat has lost its run
GONE_S = 1.0
HUNG_EXTRA_S = 0.1
# What a machine whose cores are all busy adds.
SLACK_S = float(os.environ.get("FIREDRILL_CRASH_SLACK_S", "1.0"))
# The client looks what is left, writes it down and says it, before it ends.
CLIENT_ENDS_WITHIN_S = 30

CLIENT, CONTROLLER, INJECTOR, REAPER = (
    "firedrill", "firedrill-controller", "firedrill-injector", "firedrill-reaper")
ACTIONS = (
    ("kill", CLIENT), ("stop", CLIENT), ("kill", CONTROLLER), ("stop", CONTROLLER), ("kill", INJECTOR),
    ("stop", INJECTOR), ("kill", REAPER), ("kill both", INJECTOR), ("kill all", CLIENT))


class Left(AssertionError):
    """Something stayed that should not have."""


def site_text(port):
    nodes = []
    for node, role in NODES.items():
        server = f"host: 127.0.0.1, port: {port}, database: postgres"
        nodes.append(f"""
    - name: node-{node}
      labels: {{role: {role}}}
      profiles:
        - name: holder
          postgresql: {{{server}, user: holder_{node}}}
        - name: dba
          postgresql: {{{server}, user: dba_{node}}}
          statements:
            - {{name: one, sql: "SELECT 1"}}
            - name: sessions-of-run
              sql: "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'holder%' AND application_name LIKE 'firedrill:' || $1 || ':%'"
              parameters: [run]""")
    return ("apiVersion: firedrill/v1\nkind: Site\nmetadata: {name: bare}\nspec:\n  environment: lab\n  injectors:"
            + "".join(nodes) + "\n")


class Campaign:
    def __init__(self, binaries, seed, keep):
        self.program = os.path.join(binaries, CLIENT)
        self.seed = seed
        self.keep = keep
        self.folder = tempfile.mkdtemp(prefix="fd-crash-")
        self.server = BarePostgres()
        self.server.run(*(f"CREATE ROLE {role} LOGIN" for role in ROLES),
                        *(f"GRANT pg_monitor, pg_signal_backend TO dba_{node}" for node in NODES))
        self.site = os.path.join(self.folder, "site.yaml")
        with open(self.site, "w") as site:
            site.write(site_text(self.server.port))

    def close(self):
        self.server.stop()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def case(self, number):
        return Case(self, number)


class Case:
    """One run, what is done to it, and the look afterwards."""

    def __init__(self, campaign, number):
        drawn = random.Random(f"{campaign.seed}:{number}")
        self.campaign = campaign
        # In turn, so that few cases cover all; the instant is by chance.
        self.act, self.victim = ACTIONS[number % len(ACTIONS)]
        self.instant = drawn.uniform(0, LONGEST_INSTANT_S)
        self.drawn = drawn
        folder = os.path.join(campaign.folder, str(number))
        self.state = os.path.join(folder, "state")
        temporary = os.path.join(folder, "t")
        os.makedirs(temporary)
        self.output = os.path.join(folder, "output")
        self.look = Look(campaign.server.superuser, ROLES, temporary, self.state)
        self.handles = []
        self.facts = []

    def name(self):
        return f"{self.act} {self.victim} at {self.instant:.2f} s"

    def run(self):
        with open(self.output, "w") as output:
            self.client = subprocess.Popen(
                [self.campaign.program, "run", EXPERIMENT, "--site", self.campaign.site, "--state-dir", self.state],
                env=self.look.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True)
        self.look.started.append(self.client.pid)
        try:
            try:
                self.client.wait(self.instant)
            except subprocess.TimeoutExpired:
                pass
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
            return [process for program in (CLIENT, CONTROLLER, INJECTOR, REAPER)
                    for process in self.processes(program)]
        found = self.processes(self.victim)
        if not found:
            return []
        first = self.drawn.choice(sorted(found, key=lambda process: process.pid))
        if self.act != "kill both":
            return [first]
        return [first] + [reaper for reaper in self.processes(REAPER) if parent_of(reaper.pid) == first.pid]

    def strike(self):
        limit = time.monotonic() + 3
        victims = self.victims()
        while not victims and self.client.poll() is None and time.monotonic() < limit:
            time.sleep(0.01)  # it has not been started yet
            victims = self.victims()
        if not victims:
            self.facts.append("over before")
            return self.finish("the run was over")
        held = self.look.sessions()
        self.facts.append(f"{len(held)} sessions")
        # Of whom the sessions are that must go now: of the node whose injector was hit, or of both.
        self.struck_backends = self.backends(self.nodes_of(victims))
        self.struck = time.monotonic()
        # The reaper first: else it would have a moment to act.
        for victim in reversed(victims):
            victim.send(signal.SIGSTOP if self.act == "stop" else signal.SIGKILL)
        if self.act != "stop":
            for victim in victims:
                if not victim.ended(5):
                    raise Left(f"process {victim.pid} survived SIGKILL for 5 s")
        if self.victim == CLIENT:
            self.without_client()
        else:
            self.with_client()

    def nodes_of(self, victims):
        if self.victim != INJECTOR:
            return list(NODES)
        with open(f"/proc/{victims[0].pid}/cmdline", "rb") as command:
            words = command.read().decode().split("\0")
        return [node for node in NODES if f"node-{node}" in words]

    def backends(self, nodes):
        """Sessions of faults, as (pid, start): those that come later belong to a run that goes on."""
        with self.campaign.server.superuser.cursor() as cursor:
            cursor.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE usename = ANY(%s)",
                           ([f"holder_{node}" for node in nodes],))
            return set(cursor.fetchall())

    def wait_for_sessions(self, within, why):
        left = self.look.wait_for_nothing(
            within + SLACK_S, lambda: self.backends(NODES) & self.struck_backends)
        took = time.monotonic() - self.struck
        if left:
            raise Left(f"{len(left)} sessions of faults are still there {took:.1f} s after {self.name()} ({why})")
        if self.struck_backends:
            self.facts.append(f"sessions gone after {took:.2f} s")
            self.took = took

    def with_client(self):
        """The client lives: it must end by itself, and nothing may be there any more."""
        if self.act == "stop":
            self.wait_for_sessions(FAULT_LEASE_S + HUNG_EXTRA_S, "hung")
        elif self.victim == REAPER:
            pass  # nothing has happened to the fault
        else:
            self.wait_for_sessions(GONE_S, "killed")
        try:
            self.client.wait(CLIENT_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            raise Left(f"the client has not ended {CLIENT_ENDS_WITHIN_S} s after {self.name()}") from None
        self.finish("the client had ended")

    def without_client(self):
        if self.act != "stop":
            self.client.wait(10)  # as its shell would: a zombie still has its number
        if self.act == "stop":
            limit = OWNER_LEASE_S + HUNG_EXTRA_S
            self.wait_for_sessions(limit, "hung client")
            left = self.look.wait_for_nothing(limit + SLACK_S, lambda: self.look.everything([self.client.pid]))
        else:
            self.wait_for_sessions(GONE_S, "killed")
            left = self.look.wait_for_nothing(GONE_S + SLACK_S)
        took = time.monotonic() - self.struck
        if left and self.act != "kill all":
            raise Left(f"still there {took:.1f} s after {self.name()}:\n    " + "\n    ".join(left))
        self.facts.append(f"all gone after {took:.2f} s")
        if self.act == "kill all":
            if [each for each in left if each.startswith(("session", "process"))]:
                raise Left(f"still there {took:.1f} s after {self.name()}:\n    " + "\n    ".join(left))
            self.next_command(self.look.journals())

    def next_command(self, open_before):
        """Everything was killed: the next command undoes what is journalled, and says so."""
        done = subprocess.run([self.campaign.program, "leftovers", "--state-dir", self.state],
                              env=self.look.environment(), capture_output=True, text=True, timeout=30)
        for record in open_before:
            fault = next((fault for fault in ("hold-busy", "hold") if f'fault="{fault}"' in record), "?")
            if fault not in done.stdout + done.stderr:
                raise Left(f"`firedrill leftovers` does not name {fault}:\n{done.stdout}{done.stderr}")
        if open_before:
            self.facts.append(f"leftovers named {len(open_before)}")
        left = self.look.wait_for_nothing(GONE_S)
        if left:
            raise Left("still there after `firedrill leftovers`:\n    " + "\n    ".join(left)
                       + f"\n{done.stdout}{done.stderr}")

    def finish(self, when):
        code = self.client.wait(CLIENT_ENDS_WITHIN_S)
        self.facts.append(f"exit code {code}")
        left = self.look.wait_for_nothing(GONE_S + SLACK_S)
        if left and self.act == "kill both":
            self.next_command([each for each in left if each.startswith("journal")])
        elif left:
            raise Left(f"still there when {when}:\n    " + "\n    ".join(left))
        allowed = (0, 3, 4, 6) if self.victim in (INJECTOR, CONTROLLER, REAPER) else (0,)
        if code not in allowed:
            raise Left(f"exit code {code} after {self.name()}, expected one of {allowed}")

    def end_everything(self):
        """What still lives was left by this case: it is ended, after it was reported."""
        self.look.end_processes()
        for process in self.handles:
            process.close()
        self.client.wait(10)


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", type=int, help="the number of one case")
    parser.add_argument("--runs", type=int, default=int(os.environ.get("FIREDRILL_CRASH_RUNS", "30")))
    parser.add_argument("--keep", action="store_true", help="keep states and outputs")
    options = parser.parse_args()
    binaries = os.environ.get("FIREDRILL_BIN", os.path.join(HERE, "../../build/bin"))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    numbers = [options.only] if options.only is not None else range(options.runs)
    print(f"seed {seed}, {len(numbers)} cases", flush=True)
    campaign = Campaign(binaries, seed, options.keep)
    failed = 0
    worst = {}
    try:
        for number in numbers:
            case = campaign.case(number)
            begin = time.monotonic()
            try:
                case.run()
                result = "ok"
            except (Left, subprocess.TimeoutExpired) as error:
                failed += 1
                result = f"FAILED: {error}\n    again: crash.py --seed {seed} --only {number}"
                with open(case.output) as output:
                    result += "\n    the client's output:\n" + "".join(f"      {line}" for line in output)
            if hasattr(case, "took"):
                key = f"{case.act} {case.victim}"
                worst[key] = max(worst.get(key, 0), case.took)
            print(f"{number:3} {case.name():42} {time.monotonic() - begin:5.1f} s  {', '.join(case.facts)}  {result}",
                  flush=True)
    finally:
        campaign.close()
    for key, took in sorted(worst.items()):
        print(f"worst: {key:32} sessions gone after {took:.2f} s")
    print(f"{len(numbers)} cases, {failed} failed, seed {seed}")
    return 1 if failed or not numbers else 0


if __name__ == "__main__":
    sys.exit(main())
