#!/usr/bin/python3
"""Plants known bugs in a copy of the sources, one at a time, and looks whether the simulation finds them.

Each must be found within the number of runs, by the invariant that is meant for it; without a bug all must pass.
A text that is to be replaced and is not there exactly once is an error: then the bug is to be planted anew.
The copy is kept in --work, so that a second time builds only what has changed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

SOURCE = os.path.realpath(os.path.join(os.path.dirname(os.path.realpath(__file__)), "../.."))
SHARDS = 8
# What went wrong begins with its word: "[left-behind] seed 7, ...".
FOUND = re.compile(r"^\[([a-z-]+)\] seed (\d+)", re.MULTILINE)

# Name, file, text, what becomes of it, the invariants of which one must say so.
BUGS = [
    ("no revert on abort", "controller/run_course.cc",
     "for (const auto& [key, fault] : state.faults) RequestRevert(turn, key, state.stop->reason());\n", "\n",
     {"outlives-stop"}),
    ("a second apply after a reconnect", "injector/warden.cc",
     "if (AnswerAgain(id)) return absl::OkStatus();\n", "\n", {"applied-twice"}),
    ("a lower epoch is accepted", "injector/epochs.cc",
     "if (epoch < highest) {", "if (false) {", {"lower-epoch"}),
    ("the lease is ignored", "injector/warden_ends.cc",
     "const absl::Duration due = std::min(entry.lease_until, entry.ends_at);",
     "const absl::Duration due = entry.ends_at;", {"outlives-lease"}),
    ("whoever is started again is asked nothing", "controller/run_nodes.cc",
     "StartAgain(turn, node);\n", "\n", {"unasked"}),
    ("an event is acknowledged, and lost", "controller/fleet.cc",
     "auto listener = listeners_.find(event.run());",
     "auto listener = node.fresh ? listeners_.end() : listeners_.find(event.run());", {"reports"}),
    ("an event is forgotten when it is sent", "injector/outbox.cc",
     "for (; sent_ < numbered_.size(); ++sent_) send(numbered_[sent_]);",
     "for (const auto& report : numbered_) send(report);\n  numbered_.clear();", {"reports"}),
]


def say(*words):
    print(*words, flush=True)


def run(command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)
    if done.returncode != 0:
        say(done.stdout[-4000:])
        sys.exit(f"planted_bugs: {' '.join(command[:4])} ... failed")
    return done.stdout


def write_where_different(path, content):
    """Untouched files keep their times, so that nothing is built for them."""
    try:
        with open(path, "rb") as file:
            if file.read() == content:
                return
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


class Copy:
    def __init__(self, work, jobs, settings):
        self.source = os.path.join(work, "source")
        self.build = os.path.join(work, "build")
        self.jobs = jobs
        self.settings = settings
        # The same with every folder: ccache then finds what an earlier copy has built.
        self.environment = dict(os.environ, CCACHE_BASEDIR=work, CCACHE_NOHASHDIR="1")

    def take(self):
        listed = run(["git", "-C", SOURCE, "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        names = {name for name in listed.split("\0") if name}
        for name in names:
            origin = os.path.join(SOURCE, name)
            if os.path.isfile(origin):
                with open(origin, "rb") as file:
                    write_where_different(os.path.join(self.source, name), file.read())
        for folder, _, files in os.walk(self.source):
            for name in files:
                path = os.path.join(folder, name)
                if os.path.relpath(path, self.source) not in names:
                    os.unlink(path)

    def configure(self):
        run(["cmake", "-S", self.source, "-B", self.build, "-G", "Ninja"] + self.settings, env=self.environment)

    def make(self):
        run(["cmake", "--build", self.build, "--target", "simulation_test", f"-j{self.jobs}"], env=self.environment)

    def plant(self, name, text, instead):
        """The file as it was."""
        path = os.path.join(self.source, name)
        with open(path, encoding="utf-8") as file:
            before = file.read()
        if before.count(text) != 1:
            sys.exit(f"planted_bugs: {name} has this {before.count(text)} times instead of once: {text!r}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(before.replace(text, instead))
        return before

    def restore(self, name, before):
        with open(os.path.join(self.source, name), "w", encoding="utf-8") as file:
            file.write(before)

    def simulate(self, runs):
        """Invariant → the first seed that broke it, over the first shard that fails; and how it ended."""
        environment = dict(os.environ, FIREDRILL_SIM_RUNS=str(runs))
        environment.pop("FIREDRILL_SIM_SEED", None)
        for shard in range(SHARDS):
            command = [os.path.join(self.build, "tests/simulation_test"),
                       f"--gtest_filter=Shards/Simulation.NothingStaysBehind/{shard}"]
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      errors="replace", timeout=300, env=environment, check=False)
            except subprocess.TimeoutExpired:
                return {}, "it did not end"
            if "1 test from 1 test suite ran" not in done.stdout:
                return {}, f"it ended with {done.returncode}: {done.stdout[-500:]}"
            if done.returncode != 0:
                broken = {}
                for invariant, seed in FOUND.findall(done.stdout):
                    broken.setdefault(invariant, int(seed))
                return broken, "it failed"
        return {}, "it passed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", help="a folder for the copy and its build (a new one, removed at the end)")
    parser.add_argument("--runs", type=int, default=2000, help="within how many runs each bug is to be found")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--cmake", action="append", metavar="-DNAME=VALUE",
                        help="how to configure the copy (-DFIREDRILL_GRPC=OFF -DCMAKE_CXX_FLAGS=-O1)")
    parser.add_argument("--only", help="the bugs whose names have this in them")
    options = parser.parse_args()
    if options.work is None:
        with tempfile.TemporaryDirectory(prefix="firedrill-planted-") as work:
            return go(work, options)
    os.makedirs(options.work, exist_ok=True)
    return go(os.path.realpath(options.work), options)


def go(work, options):
    copy = Copy(work, options.jobs, options.cmake or ["-DFIREDRILL_GRPC=OFF", "-DCMAKE_CXX_FLAGS=-O1"])
    begun = time.monotonic()
    copy.take()
    copy.configure()
    copy.make()
    broken, how = copy.simulate(options.runs)
    say(f"no bug: {how} ({time.monotonic() - begun:.0f} s)")
    missed = 0
    if how != "it passed":
        say(f"  MISSED: without a planted bug it is to pass; {broken}")
        missed += 1
    for name, file, text, instead, expected in BUGS:
        if options.only and options.only not in name:
            continue
        begun = time.monotonic()
        before = copy.plant(file, text, instead)
        try:
            copy.make()
            broken, how = copy.simulate(options.runs)
        finally:
            copy.restore(file, before)
        found = expected & set(broken)
        words = ", ".join(f"{invariant} (seed {seed})" for invariant, seed in broken.items())
        say(f"{name}: {how}: {words} ({time.monotonic() - begun:.0f} s)")
        if not found:
            say(f"  MISSED: {' or '.join(sorted(expected))} was to be broken within {options.runs} runs")
            missed += 1
    # What is kept is the sources without a bug.
    copy.make()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
