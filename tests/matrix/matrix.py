#!/usr/bin/python3
"""The matrix of truth: defects are planted in the victim, and each must be found for its own reason; a healthy one passes.

Each cell of table.py is a run of an experiment of the repository on a lab of its own, in a process of its own. Its
result is a line of build/matrix/results.jsonl as soon as it ends. With --resume what is there, and was made by the same
programs, experiment and lab, is not run again. FIREDRILL_BIN is the folder of the binaries.
"""

import argparse
import collections
import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "drills"))

import table  # noqa: E402
import written  # noqa: E402
import yaml  # noqa: E402
from on_a_lab import FIREDRILL, GONE_S, LAB, ROOT, Lab, OnALab, dying_with_us  # noqa: E402

sys.path.insert(0, os.path.dirname(LAB))
from labkit.supervisor import come_first  # noqa: E402

RESULTS = os.path.join(ROOT, "build/matrix/results.jsonl")
PROGRAMS = ("firedrill", "firedrill-controller", "firedrill-injector", "firedrill-reaper", "firedrill-wire")
# The controller asks Prometheus and Alertmanager twice a second; its webhook is told, as the pager is.
POLL_S = 0.5
SAME_WITHIN_S = 10
TRIES = 3
# How the reason begins of a run that did not start because of it.
NOT_STEADY = "steady state did not hold"
CELL_TIMEOUT_S = 1200
# A lab that does not go down within this goes when its cell is killed.
STOP_TIMEOUT_S = 90
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


# ---- one cell

@contextlib.contextmanager
def room_for(cell):
    """Scans take all processors of a small machine: who waits for them runs alone, whoever else runs cells here."""
    if cell.outcome == table.NOT_STARTED:
        yield
        return
    with open(os.path.join(tempfile.gettempdir(), "firedrill-matrix.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if cell.experiment.alert == table.SCANS else fcntl.LOCK_SH)
        yield


class CellRun(OnALab):
    """One run, with the looks before and after it."""

    def __init__(self):
        super().__init__()
        self.left = []  # what looks have found of any try, as complaints
        self.looked = False

    def runTest(self):
        """Not a test of unittest's: `observe` is called."""

    def assert_nothing_left(self, when="after the run"):
        """Counted: the run is judged all the same."""
        self.left += [f"{table.LEFT} {when}: {each}" for each in self.look.wait_for_nothing(GONE_S)]
        self.looked = when != "before"

    def observe(self, cell):
        self.cell = cell
        tries = 1
        before, result = self.run_on_a_lab()
        # A machine on which others are busy may keep steady state from holding: nothing is judged then. The lab of such a
        # try goes with it, and with what it may have left.
        while tries < TRIES and self.machine_was_busy(result):
            if not self.doCleanups():
                self.left.append(f"{table.LEFT} after try {tries}: cleaning up failed")
            tries += 1
            before, result = self.run_on_a_lab()
        lab = self.lab
        self.assert_told_alike(result)
        held = self.watcher.most_held
        actual = actual_of(result)
        # A person is told, too: of what keeps a run from starting, by the alert; of what is in doubt, of the first only.
        told = " ".join(result.out.split())
        names = {cell.experiment.alert} if actual["circumstances"] else {name for name, _ in actual["failed"]}
        said = [f"{name} is not named on the terminal" for name in sorted(names) if name not in told]
        said += [f"the terminal does not say {words}" for words in cell.says if not re.search(words, told)]
        if cell.outcome == table.NOT_STARTED and held > 0:
            said.append(f"{held} sessions of a fault were seen, though nothing was to be injected")
        changed = self.changed(before, actual)
        with open(lab.path("pages.jsonl")) as opened:
            pages = [json.loads(line) for line in opened]
        clocks = clock_differences(result.judged, pages, expected_pages(cell.experiment))
        said += clock_complaints(clocks)
        if cell.verdict == table.PASSED and not {"detect", "delivered"} <= set(clocks):
            said.append("no page was compared with the webhook's clock")
        return {"actual": actual, "changed": changed, "complaints": said, "tries": tries, "clocks": clocks, "run_s": round(result.took, 1),
                "times": times_of(result.judged["judgement"]),
                "said": result.said if said or table.mismatches(cell, actual) else ""}

    def run_on_a_lab(self):
        cell = self.cell
        lab = Lab(*cell.defects, alert=cell.experiment.alert, settings=cell.settings, extras=cell.experiment.extras)
        self.addCleanup(lab.down)
        self.use(lab)
        with room_for(cell):
            before = lab.facts()
            result = self.run_file(os.path.join(ROOT, "experiments", cell.experiment.name + ".yaml"))
        if result.judged is None:
            raise AssertionError(f"no JSON was written: {result.said}")
        return before, result

    def machine_was_busy(self, result):
        """Whether steady state, and nothing else, kept it from starting: a run that was kept by a false alarm is a mismatch."""
        return (self.cell.outcome != table.NOT_STARTED and (result.verdict(), result.outcome()) == ("inconclusive", "not started")
                and result.judged["judgement"].get("reason", "").startswith(NOT_STEADY) and not actual_of(result)["circumstances"])

    def changed(self, before, actual):
        """Lines that differ from those before; waits a moment for those that no remedy declares as changed."""
        limit = time.monotonic() + SAME_WITHIN_S
        while True:
            after = self.lab.facts()
            different = [f"- {line}" for line in sorted(before - after)] + [f"+ {line}" for line in sorted(after - before)]
            if not table.unexplained(self.cell, actual, different) or time.monotonic() > limit:
                return different
            time.sleep(0.2)


def actual_of(result):
    results = result.expectations()
    return {
        "exit": result.code, "verdict": result.verdict(), "outcome": result.outcome(),
        "failed": sorted([name, code] for name, (verdict, code) in results.items() if verdict == "failed"),
        "doubted": sorted([name, code] for name, (verdict, code) in results.items() if verdict == "inconclusive"),
        "circumstances": sorted({(each.get("subject", ""), each["code"])
                                 for each in result.judged["judgement"].get("findings", [])
                                 if each["kind"] == "KIND_CIRCUMSTANCE"})}


def times_of(judgement):
    """What the track record tells: to the first page, in seconds from the anchor that its expectation names; the others as judged."""
    times = {name: judgement.get(name) for name in ("timeToResolve", "timeToRecover")}
    first = next(iter(judgement.get("alerts", [])), {})
    for name, told_at in (("detect", first.get("firing")), ("deliver", first.get("notified"))):
        times[name] = round(instant(told_at) - instant(first["anchor"]), 3) if told_at and first.get("anchor") else None
    return times


# ---- the webhook's own clock

def instant(text):
    """Seconds since 1970, of a time in RFC 3339."""
    match = re.fullmatch(r"(.*?)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    whole = datetime.datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return whole.timestamp() + float(match[2] or 0)


def expected_pages(experiment):
    """The name of each expectation about an alert → the labels that its pages carry."""
    with open(os.path.join(ROOT, "experiments", experiment.name + ".yaml")) as opened:
        alerts = yaml.safe_load(opened)["spec"]["expect"]["alerts"]
    return {alert["name"]: {"alertname": alert["alert"], **dict(re.fullmatch(r'(\w+)="(.*)"', each).groups()
                                                                for each in alert.get("matchers", []))} for alert in alerts}


def told(pages, labels, status, since, until):
    """When the pager was first told of each page that carries the labels, in the order in which it was."""
    first = {}
    for page in pages:
        for each in page["payload"]["alerts"]:
            carries = labels.items() <= each["labels"].items()
            if carries and each["status"] == status and since <= page["at"] <= until:
                first.setdefault((tuple(sorted(each["labels"].items())), each["startsAt"]), page["at"])
    return sorted(first.values())


def clock_differences(run, pages, expected):
    """What the run says of each expected page, minus when the pager was told by its own clock, in seconds; None where only one
    of them knows of it.

    An alert that fires is told at once: the lab groups pages for 0 s. So the moment when it fired differs from when the pager
    was told by no more than sending takes; it is compared with that, for its `startsAt` is what the run has it from.
    """
    differences = {}
    since, until = instant(run["begin"]), instant(run["end"])
    times = {each["expectation"]: each for each in run["judgement"].get("alerts", [])}
    for name, labels in expected.items():
        said = times.get(name, {})
        begun = told(pages, labels, "firing", since, until)
        if begun or said.get("notified"):
            for what, key in (("detect", "firing"), ("delivered", "notified")):
                differences[what] = round(instant(said[key]) - begun[0], 3) if begun and said.get(key) else None
        if said.get("resolveNotified"):
            # Of a page that came and went it is the last end.
            ends = told(pages, labels, "resolved", since, until)
            differences["end delivered"] = round(instant(said["resolveNotified"]) - ends[-1], 3) if ends else None
    return differences


def clock_complaints(differences):
    return [f"{what}: only one of the run and the pager knows of it" if seconds is None else
            f"{what}: {seconds:+.3f} s from the pager's clock, which is more than a look every {POLL_S} s explains"
            for what, seconds in differences.items() if seconds is None or abs(seconds) > POLL_S]


# ---- all of them

def fingerprint_of(cell, known={}):
    """Of what is run: programs, experiment, lab, and what the cell asks for."""
    if "common" not in known:
        digest = hashlib.sha256()
        paths = [os.path.join(os.path.dirname(FIREDRILL), name) for name in PROGRAMS]
        for folder, folders, names in os.walk(os.path.join(ROOT, "experiments/lab")):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            paths += [os.path.join(folder, name) for name in sorted(names) if not name.endswith((".md", ".pyc"))]
        for path in paths:
            with open(path, "rb") as opened:
                digest.update(os.path.basename(path).encode() + hashlib.sha256(opened.read()).digest())
        known["common"] = digest.hexdigest()
    digest = hashlib.sha256(known["common"].encode())
    with open(os.path.join(ROOT, "experiments", cell.experiment.name + ".yaml"), "rb") as opened:
        digest.update(opened.read())
    digest.update(repr(asked_of(cell)).encode())
    return digest.hexdigest()[:16]


def asked_of(cell):
    return cell.experiment.alert, cell.experiment.extras, cell.defects, cell.settings


def commit():
    """Of what is run; `+` where it differs from that."""
    def git(*words):
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno", "--", ".", ":!tests", ":!docs") else "")


def observe(cell):
    """A line of the results; what went wrong with the cell itself is a mismatch, too."""
    line = {"cell": cell.key, "fingerprint": fingerprint_of(cell), "asked": repr(asked_of(cell)), "commit": commit(),
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "load": [os.getloadavg()[0]], "nice": os.nice(0)}
    begun = time.monotonic()
    run = CellRun()
    try:
        line.update(run.observe(cell))
    except (Exception, SystemExit) as error:  # noqa: B902 (a cell that could not be observed says so, and the others go on)
        line.update({"actual": None, "changed": [], "clocks": {},
                     "complaints": [f"could not be observed: {type(error).__name__}: {error}"]})
    finally:
        if not run.doCleanups():
            run.left.append(f"{table.LEFT} by the lab: cleaning up failed")
        line["complaints"] += run.left
        line["looked"] = run.looked
    line["took_s"] = round(time.monotonic() - begun, 1)
    line["load"].append(os.getloadavg()[0])
    return line


def be_deaf():
    """From now on: what is being cleaned up is cleaned up, however often we are told to end."""
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)


def one_cell(cell):
    def end(number, frame):
        be_deaf()
        raise SystemExit(f"ended by signal {number}")
    for number in ENDS:
        signal.signal(number, end)
    come_first(os.getpid())  # the load's clients have a machine of their own, too
    line = observe(cell)
    print("\n" + json.dumps(line))
    return 1 if table.wrong(cell, line) else 0


class Busy:
    """One program that keeps one processor busy, as any program would: of normal priority, in a session of its own."""

    def __init__(self):
        self.cpu = max(os.sched_getaffinity(0))
        tied = dying_with_us(signal.SIGKILL)

        def before_exec():
            tied()
            os.sched_setaffinity(0, {self.cpu})
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, 0, 0)
        self.process = subprocess.Popen([sys.executable, "-c", "while True: pass"], stdin=subprocess.DEVNULL,
                                        start_new_session=True, preexec_fn=before_exec)

    def spent(self):
        """Seconds of its processor so far, and now; None when it has ended."""
        if self.process.poll() is not None:
            return None
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic()

    def since(self, before):
        """What it was for a cell, as its line tells it."""
        after = self.spent()
        if before is None or after is None:
            return None
        return {"cpu": self.cpu, "nice": os.getpriority(os.PRIO_PROCESS, self.process.pid),
                "share": round((after[0] - before[0]) / max(after[1] - before[1], 0.001), 2)}

    def stop(self):
        self.process.kill()
        self.process.wait()


class Children:
    """Cells that run now, each in a process of its own."""

    COMMAND = (sys.executable, "-B", os.path.realpath(__file__))

    def __init__(self, store, busy=None):
        self.running = {}
        self.store = store
        self.busy = busy

    def start(self, cell):
        process = subprocess.Popen([*self.COMMAND, "--cell", cell.key], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                   start_new_session=True, preexec_fn=dying_with_us(signal.SIGTERM))
        self.running[process] = (cell, time.monotonic(), self.busy and self.busy.spent())

    def wait_for_one(self):
        while True:
            for process, (_, since, _) in list(self.running.items()):
                if process.poll() is not None:
                    return self.take(process)
                if time.monotonic() - since > CELL_TIMEOUT_S + STOP_TIMEOUT_S:
                    process.kill()
                elif time.monotonic() - since > CELL_TIMEOUT_S:
                    process.terminate()
            time.sleep(0.1)

    def take(self, process):
        cell, _, spent = self.running.pop(process)
        last = process.stdout.read().strip().splitlines()[-1:]
        process.stdout.close()
        try:
            line = json.loads(last[0])
        except (IndexError, ValueError):
            line = {"cell": cell.key, "fingerprint": fingerprint_of(cell), "actual": None, "changed": [], "clocks": {}, "took_s": 0,
                    "complaints": [f"its process ended with {process.returncode} and told nothing"]}
        if self.busy:
            line["busy"] = self.busy.since(spent)
            if line["busy"] is None:
                line["complaints"].append("the program that was to keep a processor busy had ended")
        self.store(line)
        return cell, line

    def stop(self):
        for process in self.running:
            process.terminate()
        limit = time.monotonic() + STOP_TIMEOUT_S
        for process in list(self.running):
            try:
                process.communicate(timeout=max(0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def announce(cell, line, done, all_of_them):
    wrong = table.wrong(cell, line)
    state = "MISMATCH" if wrong else "ok"
    print(f"{done:3}/{all_of_them} {state:9} {cell.key:45} {written.verdict_text(line)}  ({line['took_s']:.0f} s)", flush=True)
    for each in wrong:
        print(f"              {each}", flush=True)


def run(wanted, options):
    os.makedirs(os.path.dirname(options.results), exist_ok=True)
    lines = known_of(wanted, options.results, options.older) if options.resume or options.older else {}
    waiting = collections.deque(in_turn([cell for cell in wanted if cell.key not in lines]))
    if lines:
        print(f"{len(lines)} of {len(wanted)} cells are known from {options.results}", flush=True)

    def store(line):
        with open(options.results, "a") as opened:
            opened.write(json.dumps(line) + "\n")

    for number in ENDS:
        signal.signal(number, signal.default_int_handler)
    busy = Busy() if options.busy else None
    children = Children(store, busy)
    try:
        while waiting or children.running:
            while waiting and len(children.running) < options.jobs:
                children.start(waiting.popleft())
            cell, line = children.wait_for_one()
            lines[cell.key] = line
            announce(cell, line, len(lines), len(wanted))
    except KeyboardInterrupt:
        be_deaf()
        print("\nstopping; the labs go down first", flush=True)
        children.stop()
        print(f"stopped; `./dev matrix --resume` goes on with the other {len(wanted) - len(lines)}")
        return 130
    finally:
        if busy:
            busy.stop()
    return conclude(wanted, lines, options)


def in_turn(cells):
    """Those that end early stand evenly between those that wait for all processors; of these the healthy come last."""
    early = [cell for cell in cells if cell.outcome == table.NOT_STARTED]
    late = sorted((cell for cell in cells if cell.outcome != table.NOT_STARTED), key=lambda cell: cell.healthy)
    places = [(place / len(each), cell) for each in (late, early) for place, cell in enumerate(each)]
    return [cell for _, cell in sorted(places, key=lambda placed: placed[0])]


def conclude(wanted, lines, options):
    print(f"\n{written.tables(wanted, lines)}\n{written.figures(wanted, lines)}")
    if options.markdown:
        with open(options.markdown, "w") as opened:
            opened.write(written.page(wanted, lines))
    return 1 if any(table.wrong(cell, lines[cell.key]) for cell in wanted) else 0


def known_of(wanted, path, older=False):
    """The last line of each cell that was observed, of the same programs, experiment and lab as would be run now.

    With `older` of others, too: what a page is made of says of which commits it is.
    """
    if not os.path.exists(path):
        return {}
    with open(path) as opened:
        lines = {line["cell"]: line for line in map(json.loads, opened) if line["actual"]}
    return {cell.key: lines[cell.key] for cell in wanted
            if cell.key in lines and (lines[cell.key]["fingerprint"] == fingerprint_of(cell)
                                      or older and lines[cell.key].get("asked", "") in ("", repr(asked_of(cell))))}


def chosen(options):
    wanted = list(table.cells(options.healthy))
    if options.subset:
        wanted = [cell for cell in table.cells(6) if cell.key in table.SUBSET]
    if options.only:
        picked = [cell for cell in wanted for only in options.only
                  if cell.key == only or cell.key.startswith(only.rstrip("/") + "/")]
        for only in options.only:
            if not any(cell.key == only or cell.key.startswith(only.rstrip("/") + "/") for cell in picked):
                raise SystemExit(f"matrix: there is no cell {only}: `--list` lists them")
        wanted = picked
    return [dataclasses.replace(cell, busy=options.busy) for cell in wanted]


def main():
    parser = argparse.ArgumentParser(prog="./dev matrix", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", metavar="EXPERIMENT[/DEFECT]", help="may be repeated")
    parser.add_argument("--healthy", type=int, default=20, metavar="N",
                        help="healthy runs, over all experiments; default 20")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="labs side by side; what takes all processors runs alone anyhow; default 1")
    parser.add_argument("--resume", action="store_true", help="do not run again what is known")
    parser.add_argument("--older", action="store_true", help="nor what is known of other versions")
    parser.add_argument("--list", action="store_true", help="list the cells and what is expected of each")
    parser.add_argument("--busy", action="store_true",
                        help="while another program keeps one processor busy; these results are kept apart")
    parser.add_argument("--subset", action="store_true", help="those that `./dev test` runs")
    parser.add_argument("--markdown", metavar="FILE", help="write the table and the figures")
    parser.add_argument("--results", default=RESULTS, metavar="FILE", help="where results are appended")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        quiet = options.cell.removesuffix(table.BUSY)
        cell = next(cell for cell in table.cells(1000) if cell.key == quiet)
        return one_cell(dataclasses.replace(cell, busy=options.cell != quiet))
    wanted = chosen(options)
    if options.list:
        for cell in wanted:
            print(f"{cell.key:45} {written.expected_text(cell)}")
        return 0
    return run(wanted, options)


if __name__ == "__main__":
    sys.exit(main())
