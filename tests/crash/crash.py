#!/usr/bin/python3
"""Kills and hangs Firedrill's processes at random instants of short runs, and looks whether anything stays.

A case is drawn from (seed, number): `crash.py --seed S --only N` does one again. FIREDRILL_BIN is the folder
of the binaries, FIREDRILL_CRASH_RUNS the number of cases. Several run at the same time, each lane with its
own accounts at one PostgreSQL. A promise is kept when what was struck is gone within the promised time plus
the time that the machine took for others meanwhile, which is measured (delay.py) and printed.
"""

import argparse
import contextlib
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../testing"))

import psycopg2  # noqa: E402
from bare_postgres import BarePostgres  # noqa: E402
from case import CLIENT, Case, Left  # noqa: E402
from delay import Delay  # noqa: E402
from look import Look, connect  # noqa: E402

EXPERIMENT = os.path.join(HERE, "short.yaml")
NODES = {"a": "database", "b": "other"}
LANES = 3


class Lane:
    """Accounts of its own, which tell its sessions from those of other lanes, and a site file with them."""

    def __init__(self, campaign, number):
        self.holders = {node: f"holder_{node}_{number}" for node in NODES}
        self.dbas = {node: f"dba_{node}_{number}" for node in NODES}
        self.roles = [*self.holders.values(), *self.dbas.values()]
        self.others = []
        self.superuser = connect("127.0.0.1", campaign.server.port)
        campaign.server.run(*(f"CREATE ROLE {role} LOGIN" for role in self.roles),
                            *(f"GRANT pg_monitor, pg_signal_backend TO {role}" for role in self.dbas.values()))
        self.site = os.path.join(campaign.folder, f"site-{number}.yaml")
        with open(self.site, "w") as site:
            site.write(self.site_text(campaign.server.port))

    def site_text(self, port):
        nodes = []
        for node, role in NODES.items():
            server = f"host: 127.0.0.1, port: {port}, database: postgres"
            nodes.append(f"""
    - name: node-{node}
      labels: {{role: {role}}}
      profiles:
        - name: holder
          postgresql: {{{server}, user: {self.holders[node]}}}
        - name: dba
          postgresql: {{{server}, user: {self.dbas[node]}}}
          statements:
            - {{name: one, sql: "SELECT 1"}}
            - name: sessions-of-run
              sql: "SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'holder%' AND application_name LIKE 'firedrill:' || $1 || ':%'"
              parameters: [run]""")
        return ("apiVersion: firedrill/v1\nkind: Site\nmetadata: {name: bare}\nspec:\n  environment: lab\n"
                "  injectors:" + "".join(nodes) + "\n")


class Campaign:
    def __init__(self, binaries, seed, lanes):
        self.program = os.path.join(binaries, CLIENT)
        self.seed = seed
        self.delay = Delay()
        self.server = None
        self.folder = tempfile.mkdtemp(prefix="fd-crash-")
        try:
            self.server = BarePostgres(f"max_connections={100 * lanes}")
            self.lanes = [Lane(self, number) for number in range(lanes)]
            for lane in self.lanes:
                lane.others = [role for other in self.lanes if other is not lane for role in other.roles]
            self.short = EXPERIMENT
            self.long = os.path.join(self.folder, "long.yaml")
            with open(self.short) as short, open(self.long, "w") as long:
                text, changed = re.subn(r"duration: [23]s", "duration: 15s", short.read())
                if changed < 2:
                    raise RuntimeError(f"{EXPERIMENT} has no two durations to make longer")
                long.write(text)
        except BaseException:
            self.close(keep=False)
            raise

    def close(self, keep):
        if self.server:
            self.server.stop()
        self.delay.stop()
        if keep:
            print(f"states and outputs are in {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def control(self):
        """The look's negative control: what looks as if it were a run's must be found, in every lane."""
        for number, lane in enumerate(self.lanes):
            folder = os.path.join(self.folder, f"control-{number}")
            temporary, state = os.path.join(folder, "t"), os.path.join(folder, "state")
            for each in (temporary, os.path.join(state, "nodes", "node-a")):
                os.makedirs(each)
            look = Look(lane.superuser, lane.roles, temporary, state, others=lane.others)
            if look.everything():
                raise Left(f"there is something before anything was done: {look.everything()}")
            planted = {
                "session with a name of ours": self.session("postgres", "firedrill:planted:hold"),
                "session of an account of ours": self.session(lane.holders["b"], "psql"),
                "process": subprocess.Popen(["/bin/sleep", "60"], env=look.environment()),
                "file": open(os.path.join(temporary, "c"), "w"),
                "journal": open(os.path.join(state, "nodes", "node-a", "journal"), "w")}
            planted["journal"].write('01234567 begin 1 run="r" fault="hold" planned="{}"\n')
            planted["journal"].flush()
            found = " ".join(look.wait_for_nothing(0.2))
            for word in ("firedrill:planted:hold", "'psql'", "/bin/sleep 60", temporary + "/c", "journal of"):
                if word not in found:
                    raise Left(f"the look does not see what was planted ({word}): {found}")
            planted["process"].kill()
            planted["process"].wait()
            for name, each in planted.items():
                if name != "process":
                    each.close()
            shutil.rmtree(folder)
            left = look.wait_for_nothing(5)
            if left:
                raise Left(f"the look sees what is not there any more: {left}")
        print(f"negative control: in {len(self.lanes)} lanes {len(planted)} planted things were seen each ("
              + ", ".join(planted) + "), and not any more when they were gone", flush=True)

    def session(self, user, name):
        return contextlib.closing(psycopg2.connect(
            host="127.0.0.1", port=self.server.port, user=user, dbname="postgres",
            application_name=name)).__enter__()


def play(campaign, lane, numbers, done, lock):
    """Takes numbers until there are none."""
    while True:
        try:
            number = numbers.get_nowait()
        except queue.Empty:
            return
        case = Case(campaign, lane, number)
        case.failed = None
        begin = time.monotonic()
        try:
            case.run()
        except Exception as error:  # whatever it is, the others go on, and this one has failed
            case.failed = error
        with lock:
            done.append(case)
            print(f"{number:3} {case.name():26} at {case.instant:4.2f} s {time.monotonic() - begin:5.1f} s  "
                  f"{', '.join(case.facts)}  {'FAILED' if case.failed else 'ok'}", flush=True)
            if case.failed:
                words = str(case.failed) if isinstance(case.failed, Left) else repr(case.failed)
                print(f"    {words}\n    again: crash.py --seed {campaign.seed} --only {number}\n"
                      "    the client's output:", flush=True)
                with open(case.output) as output:
                    sys.stdout.writelines(f"      {line}" for line in output)


def table(done):
    print(f"\n{'what was done':26} {'cases':>5} {'with sessions':>14} {'worst':>8} {'promise':>8} {'bound then':>11} "
          f"{'failed':>7}")
    for name in sorted({case.name() for case in done}):
        cases = [case for case in done if case.name() == name]
        timed = [case for case in cases if case.took is not None]
        worst = max(timed, key=lambda case: case.took, default=None)
        times = (f"{worst.took:6.2f} s {worst.promise:6.1f} s {worst.bound:9.2f} s" if worst
                 else f"{'-':>8} {'-':>8} {'-':>11}")
        print(f"{name:26} {len(cases):5} {sum(1 for case in timed if case.struck_backends):14} {times} "
              f"{sum(1 for case in cases if case.failed):7}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", type=int, help="the number of one case")
    parser.add_argument("--runs", type=int, default=int(os.environ.get("FIREDRILL_CRASH_RUNS", "30")))
    parser.add_argument("--lanes", type=int, default=LANES, help="how many run at the same time")
    parser.add_argument("--keep", action="store_true", help="keep states and outputs")
    options = parser.parse_args()
    binaries = os.environ.get("FIREDRILL_BIN", os.path.join(HERE, "../../build/bin"))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    numbers = [options.only] if options.only is not None else list(range(options.runs))
    lanes = max(1, min(options.lanes, len(numbers)))
    print(f"seed {seed}, {len(numbers)} cases, {lanes} at a time", flush=True)
    begin = time.monotonic()
    campaign = Campaign(binaries, seed, lanes)
    done = []
    try:
        campaign.control()
        waiting = queue.SimpleQueue()
        for number in numbers:
            waiting.put(number)
        lock = threading.Lock()
        threads = [threading.Thread(target=play, args=(campaign, lane, waiting, done, lock))
                   for lane in campaign.lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = campaign.delay.total()
    finally:
        campaign.close(options.keep)
    lasted = time.monotonic() - begin
    failed = sum(1 for case in done if case.failed)
    table(done)
    print(f"{len(done)} cases in {lasted:.0f} s, {failed} failed, seed {seed}; whoever wanted to run waited "
          f"{100 * taken / lasted:.0f} % of the time")
    # A campaign that struck nothing that was on has proved nothing.
    met = sum(1 for case in done if case.struck_backends)
    if len(done) >= 10 and met < len(done) / 3:
        print(f"only {met} of {len(done)} cases met a fault that was on")
        failed += 1
    return 1 if failed or len(done) != len(numbers) or not numbers else 0


if __name__ == "__main__":
    sys.exit(main())
