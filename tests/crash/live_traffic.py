#!/usr/bin/python3
"""Kills and hangs Firedrill's processes while live traffic is redirected and disturbed, and looks at the traffic itself.

A case is drawn from (seed, number): `live_traffic.py --seed S --only N` does one again. FIREDRILL_BIN is the folder
of the binaries, a quarter of FIREDRILL_CRASH_RUNS the number of cases, but at least one kill and one hang of each kind
of fault. Each lane has a Redis of its own and a client that never stops asking it. When a promise says so, new
connections must reach the server itself, at once, and nothing may hamper what is open; when all are closed, there must
be nothing any more. Needs root: only root may redirect connections.
"""

import argparse
import contextlib
import json
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "../testing"))

from bare_servers import BareRedis  # noqa: E402
from case import CLIENT, CONTROLLER, INJECTOR, REAPER, Left  # noqa: E402
from delay import Delay  # noqa: E402
from look import Look, Process  # noqa: E402
from redirects import links_of, redirects  # noqa: E402

WIRE = "firedrill-wire"
# What is struck, and by when the traffic must be direct and unhampered; None: it goes on being slowed.
WIRE_LEASE_S, FAULT_LEASE_S, OWNER_LEASE_S = 3.0, 2.0, 5.0
GONE_S, HUNG_EXTRA_S = 1.0, 0.1
KILLS = (
    ((WIRE,), GONE_S), ((INJECTOR,), GONE_S), ((INJECTOR, WIRE), GONE_S), ((REAPER, INJECTOR), GONE_S), ((REAPER,), None),
    ((CONTROLLER,), GONE_S), ((CLIENT,), GONE_S))
HANGS = (
    ((WIRE,), WIRE_LEASE_S + HUNG_EXTRA_S), ((INJECTOR,), WIRE_LEASE_S + HUNG_EXTRA_S),
    ((INJECTOR, WIRE), WIRE_LEASE_S + HUNG_EXTRA_S), ((CONTROLLER,), FAULT_LEASE_S + HUNG_EXTRA_S),
    ((CLIENT,), OWNER_LEASE_S + HUNG_EXTRA_S))
LANES = 3
DELAY_S = 0.15
# An answer takes longer than DELAY_S at this rate.
ANSWER, RATE = 3000, 8000
# More connections than this at the server nobody has but who leaks them.
FEW = 8
KINDS = {
    "delayQueries": {"delay": "150ms"}, "failQueries": {"error": "LOADING"}, "leakConnections": {}, "stallConnections": {},
    "resetConnections": None, "throttleBytes": {"rate": RATE}, "delayBytes": {"delay": "150ms"}}
ON_WITHIN_S = 30
ENDS_WITHIN_S = 45
UNHAMPERED_FOR_S = 0.4
LATEST_INSTANT_S = 1.5
# Some are struck while the processes are still starting.
EARLY = 0.2

EXPERIMENT = """apiVersion: firedrill/v1
kind: Experiment
metadata: {name: slowed}
spec:
  hypothesis: Whatever dies, live traffic flows on.
  targets: [{name: node, selector: {matchLabels: {role: server}}, count: 1}]
  limits: {environments: [lab], maxDuration: 1m}
  steadyState: [{name: answers, tcp: {endpoint: server}, is: "connected == 1", for: 200ms, every: 100ms}]
  faults: FAULTS
  expect: {recovery: [{name: still-answers, probe: answers, since: slow.end, within: 1s}]}
"""

SITE = """apiVersion: firedrill/v1
kind: Site
metadata: {{name: bare}}
spec:
  environment: lab
  endpoints: [{{name: server, url: "tcp://127.0.0.1:{port}"}}]
  injectors:
    - name: node-a
      labels: {{role: server}}
      profiles: [{{name: server, redis: {{host: 127.0.0.1, port: {port}}}}}]
"""


def faults_of(kind):
    """The steps of an experiment. What is hit once needs something beside it that goes on."""
    lasting = "delayBytes" if KINDS[kind] is None else kind
    steps = [{"name": "slow", "target": "node", "at": "0s", "duration": "20s", "lease": "2s",
              lasting: {"profile": "server", "reconnect": True, **KINDS[lasting]}}]
    if lasting != kind:
        steps.append({"name": "once", "target": "node", "at": "500ms", kind: {"profile": "server"}})
    return json.dumps(steps)


class Asked:
    """What an application got for one question, and by when."""

    def __init__(self, begun):
        self.begun, self.ended, self.wrong, self.refused, self.crowd = begun, None, None, False, 0

    def hampered(self):
        took = (self.ended or time.monotonic()) - self.begun
        return bool(self.wrong or self.refused or self.crowd > FEW or took >= DELAY_S)

    def __repr__(self):
        took = f"{self.ended - self.begun:.2f} s" if self.ended else "no answer"
        return f"<{took}, {self.wrong or ('refused' if self.refused else 'answered')}, {self.crowd} connections>"


class Shopper(threading.Thread):
    """An application that never stops asking, over one pooled connection; or, where `comes_anew`, over a new one each
    time, which asks how many connections the server has."""

    def __init__(self, port, comes_anew):
        super().__init__(daemon=True)
        self.port, self.comes_anew, self.asked, self.stopped = port, comes_anew, [], threading.Event()
        self.start()

    def run(self):
        pooled = None
        while not self.stopped.wait(0.01):
            asked = Asked(time.monotonic())
            self.asked.append(asked)
            try:
                pooled = pooled or socket.create_connection(("127.0.0.1", self.port), 30)
                self.ask(pooled, asked)
            except OSError as error:
                asked.wrong = str(error)
            asked.ended = time.monotonic()
            if pooled and (asked.wrong or self.comes_anew):
                pooled.close()
                pooled = None
        if pooled:
            pooled.close()

    def ask(self, connection, asked):
        connection.sendall(b"INFO clients\r\n" if self.comes_anew else b"GET answer\r\n")
        heard, whole = b"", None
        while whole is None or len(heard) < whole:
            more = connection.recv(65536)
            if not more:
                asked.wrong = "its connection was closed"
                return
            heard += more
            if heard.startswith(b"-"):
                asked.refused = True
                return
            head, line, _ = heard.partition(b"\r\n")
            if line:
                whole = len(head) + 2 + int(head[1:]) + 2
        if self.comes_anew:
            asked.crowd = int(heard.split(b"connected_clients:")[1].split(b"\r")[0])
        elif heard[-2 - ANSWER:] != b"x" * ANSWER + b"\r\n":
            asked.wrong = f"a wrong answer: {heard[:40]}"

    def closed(self):
        return sum(1 for each in self.asked if each.wrong)

    def hampered(self):
        """Now, or by the answer before."""
        return any(each.hampered() for each in self.asked[-2:])

    def stop(self):
        self.stopped.set()
        self.join()


def is_direct(port):
    """Whether a new connection reaches the server itself, which says whom it sees."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.3) as made:
            made.sendall(b"CLIENT INFO\r\n")
            said = made.recv(4000)
            return f" addr=127.0.0.1:{made.getsockname()[1]} ".encode() in said
    except OSError:
        return False


class Case:
    def __init__(self, campaign, server, number):
        drawn = random.Random(f"{campaign.seed}:{number}")
        self.campaign, self.server, self.number = campaign, server, number
        # Of 2 * len(KINDS) cases in a row each kind is struck once by a kill and once by a hang.
        self.signal = (signal.SIGKILL, signal.SIGSTOP)[number % 2]
        turn, at = divmod(number // 2, len(KINDS))
        self.kind = list(KINDS)[at]
        actions = KILLS if self.signal == signal.SIGKILL else HANGS
        self.victims, self.promise = actions[(at + turn + campaign.seed) % len(actions)]
        self.early = drawn.random() < EARLY
        self.instant = drawn.uniform(0, LATEST_INSTANT_S)
        folder = os.path.join(campaign.folder, str(number))
        temporary = os.path.join(folder, "t")
        os.makedirs(temporary)
        self.look = Look(None, (), temporary, os.path.join(folder, "state"))
        self.output = os.path.join(folder, "output")
        self.experiment = os.path.join(folder, "disturbed.yaml")
        with open(self.experiment, "w") as experiment:
            experiment.write(EXPERIMENT.replace("FAULTS", faults_of(self.kind)))
        self.site = os.path.join(folder, "site.yaml")
        with open(self.site, "w") as site:
            site.write(SITE.format(port=server.port))
        self.handles, self.facts = [], []

    def name(self):
        return f"{self.kind}: {'kill' if self.signal == signal.SIGKILL else 'stop'} {', '.join(self.victims)}"

    def disturbed(self):
        """Whether the traffic shows the fault; of what is hit once, that it has been."""
        if KINDS[self.kind] is None:
            with open(self.output) as output:
                if not self.shopper.closed() or "fault once has hit" not in output.read():
                    return False
        return self.shopper.hampered()

    def processes(self, program):
        found = []
        for pid in self.look.pids():
            with contextlib.suppress(OSError):
                process = Process(pid)
                self.handles.append(process)
                if process.program == program:
                    found.append(process)
        return found

    def until(self, condition, seconds, what):
        limit = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > limit:
                raise Left(f"not within {seconds:.1f} s: {what}")
            time.sleep(0.01)

    def run(self):
        with open(self.output, "w") as output:
            self.client = subprocess.Popen(
                [self.campaign.program, "run", self.experiment, "--site", self.site, "--state-dir", self.look.state],
                env=self.look.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
        self.look.started.append(self.client.pid)
        self.shopper = Shopper(self.server.port, self.kind == "leakConnections")
        try:
            if not self.early:
                self.until(self.disturbed, ON_WITHIN_S, "the traffic disturbed")
                if is_direct(self.server.port):
                    raise Left("disturbed, and the look sees no redirect: it would see nothing later")
            time.sleep(self.instant)
            self.strike()
            self.wind_up()
        finally:
            self.shopper.stop()
            self.look.end_processes()
            for process in self.handles:
                process.close()
            self.client.wait(10)

    def strike(self):
        victims = [process for program in self.victims for process in self.processes(program)]
        self.met = self.disturbed()
        for worker in self.processes(WIRE):
            with contextlib.suppress(OSError):
                self.campaign.links |= links_of(worker.pid)
        taken, struck = self.campaign.delay.total(), time.monotonic()
        for victim in victims:
            victim.send(self.signal)
        if self.promise is None or not self.met:
            self.facts.append("met no fault" if not self.met else "goes on")
            return
        while not is_direct(self.server.port):
            bound = self.promise + self.campaign.delay.total() - taken
            if time.monotonic() - struck > bound:
                raise Left(f"connections are still redirected {time.monotonic() - struck:.2f} s after it; "
                           f"{self.promise:.1f} s are promised, {bound - self.promise:.2f} s were taken by the machine")
            time.sleep(0.01)  # each of these looks may be leaked
        healed = time.monotonic()
        self.facts.append(f"direct after {healed - struck:.2f} s of {self.promise:.1f}")
        time.sleep(2 * DELAY_S + UNHAMPERED_FOR_S)
        late = [each for each in self.shopper.asked if each.begun > healed + DELAY_S]
        hampered = [each for each in late if each.hampered()]
        if not late or hampered:
            raise Left(f"the traffic is hampered after it was healed: {hampered or 'nothing was asked'}")

    def wind_up(self):
        """The run ends, in whatever way; the traffic has met one reconnect at most and what was to reset it, unless its
        carrier was struck."""
        for process in self.processes(CLIENT):
            process.send(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.client.wait(0.1)
        if self.client.poll() is None:
            self.client.send_signal(signal.SIGINT)
        try:
            self.facts.append(f"exit code {self.client.wait(ENDS_WITHIN_S)}")
        except subprocess.TimeoutExpired:
            raise Left(f"the run has not ended {ENDS_WITHIN_S} s later") from None
        broken = [each for each in self.shopper.asked if each.wrong]
        if len(broken) > (2 if KINDS[self.kind] is None else 1) and WIRE not in self.victims:
            raise Left(f"connections were broken: {broken}")
        self.until(lambda: is_direct(self.server.port), WIRE_LEASE_S, "direct when the run is over")
        self.shopper.stop()
        left = self.look.wait_for_nothing(WIRE_LEASE_S, lambda: self.look.processes() + self.look.files())
        if left:
            raise Left("left when all connections were closed:\n      " + "\n      ".join(left))


class Campaign:
    def __init__(self, binaries, seed):
        self.program, self.seed = os.path.join(binaries, CLIENT), seed
        self.folder = tempfile.mkdtemp(prefix="fd-crash-live-")
        self.delay = Delay()
        self.done, self.lock = [], threading.Lock()
        self.links = set()

    def play(self, numbers):
        server = BareRedis()
        try:
            server.run("SET", "answer", "x" * ANSWER)
            while True:
                try:
                    number = numbers.get_nowait()
                except queue.Empty:
                    return
                self.play_one(Case(self, server, number))
        finally:
            server.stop()

    def play_one(self, case):
        case.failed, case.met = None, False
        begin = time.monotonic()
        try:
            case.run()
        except Exception as error:  # whatever it is, the others go on, and this one has failed
            case.failed = error
        with self.lock:
            self.done.append(case)
            print(f"{case.number:3} {case.name():58} {time.monotonic() - begin:5.1f} s  {', '.join(case.facts)}  "
                  f"{'FAILED' if case.failed else 'ok'}", flush=True)
            if case.failed:
                print(f"    {case.failed!r}\n    again: live_traffic.py --seed {self.seed} --only {case.number}", flush=True)
                with open(case.output) as output:
                    sys.stdout.writelines(f"      {line}" for line in output)

    def close(self):
        self.delay.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--only", type=int, help="the number of one case")
    parser.add_argument("--runs", type=int, default=max(2 * len(KINDS), int(os.environ.get("FIREDRILL_CRASH_RUNS", "0")) // 4))
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("skipped: only root may redirect connections")
        return 0
    numbers = [options.only] if options.only is not None else list(range(options.runs))
    print(f"seed {options.seed}, {len(numbers)} cases", flush=True)
    campaign = Campaign(os.environ.get("FIREDRILL_BIN", os.path.join(HERE, "../../build/bin")), options.seed)
    try:
        waiting = queue.SimpleQueue()
        for number in numbers:
            waiting.put(number)
        lanes = [threading.Thread(target=campaign.play, args=(waiting,)) for _ in range(min(LANES, len(numbers)))]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    finally:
        campaign.close()
    failed = sum(1 for case in campaign.done if case.failed)
    left = campaign.links & set(redirects())
    if left:
        print(f"left in the kernel: the links {left}")
    # A campaign that struck nothing that was on has proved nothing.
    met = sum(1 for case in campaign.done if case.met)
    print(f"{len(campaign.done)} cases, {failed} failed, {met} met a fault that was on, {len(campaign.links)} redirects "
          f"seen and gone, seed {options.seed}")
    blind = len(numbers) >= 10 and (met < len(numbers) / 2 or not campaign.links)
    return 1 if failed or left or blind or len(campaign.done) != len(numbers) else 0


if __name__ == "__main__":
    sys.exit(main())
