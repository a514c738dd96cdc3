#!/usr/bin/env python3
"""Scans the tree for what no compiler refuses: directions of includes, long lines, dead links.

Each check is a function of the tree's root that returns its findings as lines "file:line: what".
Each one must find nothing in this tree, and must find a violation that is planted in a copy of it.
"""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = {".git", "build", "node_modules", "__pycache__", ".cache"}
ROOMS = ("base", "identity", "experiment", "probes", "controller", "injector", "cli", "tests")

# What a room may include. `proto` is there for everyone.
MAY_INCLUDE = {
    "base": {"base"},
    "identity": {"base", "identity"},
    "experiment": {"base", "experiment"},
    "probes": {"base", "experiment", "probes"},
    "controller": {"base", "identity", "experiment", "probes", "controller"},
    "injector": {"base", "identity", "experiment", "probes", "injector"},
    "cli": {"base", "identity", "experiment", "probes", "controller", "injector", "cli"},
    "tests": set(ROOMS),
}
# `firedrill` undoes what a dead injector left, and judges an old run again. It acts on nothing else.
CLI_MAY_NOT = re.compile(r"injector/(faults|loads|remedies|os|rpc)/|controller/rpc/")

# Everything else is built without gRPC, and so under ThreadSanitizer. 
GRPC = re.compile(r"grpc(pp)?/|\.grpc\.pb\.h$")
MAY_USE_GRPC = re.compile(r"(cli|controller|identity|injector)/rpc/|\w+/main\.cc$|tests/rpc/")

# The deciding core: a function of the history, so nothing that asks the machine for something.
DECIDING = re.compile(r"controller/(plan|run|judge|truth|report|schedule)(_\w+)?\.(cc|h)$"
                      r"|controller/(alert_episodes|live_lines|words)\.(cc|h)$")
ASKS_THE_MACHINE = re.compile(
    r"grpc|sqlite|SQLite|curl|libpq|spdlog|boost"
    r"|^base/(clock|event_loop|executor|http|link|mutex|prometheus|secret|state_dir|unique_fd)\.h"
    r"|^absl/(time/clock|synchronization|random)"
    r"|^(thread|mutex|shared_mutex|condition_variable|atomic|future|semaphore|stop_token|chrono"
    r"|ctime|time\.h|random|fstream|iostream|filesystem|cstdio|stdio\.h|unistd\.h|fcntl\.h|poll\.h"
    r"|signal\.h|csignal|netdb\.h|sys/.*|arpa/.*|netinet/.*)$")
ASKS_THE_CLOCK = re.compile(r"\babsl::Now\(|\b(system|steady|high_resolution)_clock\b|\bgetenv\("
                            r"|\btime\((nullptr|NULL|0)\)|\bclock_gettime\(")

# Seconds of compile time each: a header that includes one passes it on to everybody.
HEAVY = re.compile(r"^(boost/|CLI/|nlohmann/json\.hpp|pugixml|grpcpp/|yaml-cpp/|spdlog/)|\.grpc\.pb")
MAY_BE_HEAVY = re.compile(r"(cli|controller|identity|injector)/rpc/|tests/|(experiment/yaml_tree|controller/alerts/json)\.h$")

SHELL = re.compile(r"(^|[=(!;,]|return)\s*(::|std::)?(system|popen|wordexp)\(|\"(/bin/)?(ba)?sh\"")
# Spelled so that this file does not find itself.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" "DO", "FIX" "ME", "X" "XX", "HA" "CK"]) + r")\b")
EMPTY_NAMES = re.compile(r"(^|_)(utils?|managers?|helpers?|handlers?|common|misc)(_|\.|$)")

COLUMNS = 100
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')
OWN_INCLUDE = re.compile(r"^(" + "|".join(ROOMS) + r")/")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def files(root, *suffixes):
    """Every file of ours with one of these suffixes, as paths relative to the root."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED)
        for name in sorted(names):
            if name.endswith(suffixes):
                found.append(pathlib.Path(folder, name).relative_to(root).as_posix())
    return found


def lines(root, file):
    return (root / file).read_text(encoding="utf-8", errors="replace").splitlines()


def includes(root, file):
    """(line number, what) of every #include."""
    for number, line in enumerate(lines(root, file), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1)


def sources(root):
    return [f for f in files(root, ".cc", ".h") if f.split("/")[0] in ROOMS]


def shipped(root):
    return [f for f in sources(root) if not f.startswith("tests/")]


def code_lines(root, file):
    """Numbered lines without // comments."""
    for number, line in enumerate(lines(root, file), 1):
        yield number, re.sub(r"(^|\s)//.*", "", line)


def check_directions(root):
    for file in sources(root):
        room = file.split("/")[0]
        for number, what in includes(root, file):
            match = OWN_INCLUDE.match(what)
            if match and match.group(1) not in MAY_INCLUDE[room]:
                yield f"{file}:{number}: {room}/ may not include {what}"
            elif room == "cli" and CLI_MAY_NOT.match(what):
                yield f"{file}:{number}: cli/ may not include {what}"
            elif "../" in what:
                yield f"{file}:{number}: includes are spelled from the root: {what}"


def check_grpc(root):
    for file in sources(root):
        for number, what in includes(root, file):
            if GRPC.search(what) and not MAY_USE_GRPC.match(file):
                yield f"{file}:{number}: only rpc/ folders and mains include gRPC: {what}"


def check_deciding_core(root):
    """Follows our own headers: what one of them asks for, the core asks for."""
    def asks(file, path, seen):
        for number, what in includes(root, file):
            if ASKS_THE_MACHINE.search(what):
                via = "" if len(path) == 1 else f" (from {' > '.join(path)})"
                yield f"{file}:{number}: the deciding core may not include {what}{via}"
            elif OWN_INCLUDE.match(what) and what not in seen and (root / what).exists():
                seen.add(what)
                yield from asks(what, path + [what], seen)

    for file in shipped(root):
        if not DECIDING.match(file):
            continue
        yield from asks(file, [file], {file})
        for number, line in code_lines(root, file):
            if ASKS_THE_CLOCK.search(line):
                yield f"{file}:{number}: the deciding core is told the time: {line.strip()}"


def check_heavy_headers(root):
    for file in sources(root):
        if not file.endswith(".h") or MAY_BE_HEAVY.match(file):
            continue
        for number, what in includes(root, file):
            if HEAVY.search(what):
                yield f"{file}:{number}: belongs in a .cc, it costs seconds: {what}"


def check_locks(root):
    """absl's locks are in a library without instruments: ThreadSanitizer would report false races."""
    for file in sources(root):
        for number, what in includes(root, file):
            if what.startswith("absl/synchronization/"):
                yield f"{file}:{number}: base/mutex.h is what ThreadSanitizer understands: {what}"


def check_own_header_first(root):
    """A header that some file includes before everything else is proven to stand alone."""
    for file in sources(root):
        own = file[:-3] + ".h"
        if not file.endswith(".cc") or not (root / own).exists():
            continue
        first = next(includes(root, file), (1, "nothing"))
        if first[1] != own:
            yield f"{file}:{first[0]}: includes {first[1]} before its own header {own}"


def check_no_shell(root):
    for file in shipped(root):
        for number, line in code_lines(root, file):
            if SHELL.search(line):
                yield f"{file}:{number}: starts a shell: {line.strip()}"


def check_finished(root):
    names = ("CMakeLists.txt", ".cmake", ".cc", ".h", ".py", ".proto", ".md", ".yaml", ".yml", ".sh",
             ".mjs", "dev", "lab/lab", "packages/install", ".list", ".json", ".clang-tidy")
    for file in files(root, *names):
        for number, line in enumerate(lines(root, file), 1):
            if UNFINISHED.search(line):
                yield f"{file}:{number}: is not finished: {line.strip()}"


def check_names(root):
    for file in sources(root):
        if EMPTY_NAMES.search(file.split("/")[-1]):
            yield f"{file}:1: a name that says nothing"


def check_columns(root):
    for file in sources(root):
        for number, line in enumerate(lines(root, file), 1):
            # What cannot be broken: a word longer than that, alone on its line.
            if len(line) > COLUMNS and " " in line.strip().removeprefix("// "):
                yield f"{file}:{number}: {len(line)} columns, the limit is {COLUMNS}: ./dev fmt"


def check_purpose(root):
    """The first lines of a file are a sentence that says what it is for."""
    markers = {".cc": "//", ".h": "//", ".proto": "//", ".mjs": "//", ".py": "#", ".sh": "#",
               ".cmake": "#", ".yaml": "#", ".yml": "#", ".list": "#", "CMakeLists.txt": "#",
               "/dev": "#", "lab/lab": "#", "packages/install": "#", ".ci/run": "#"}
    for file in files(root, *markers, "dev"):
        marker = next((m for end, m in markers.items() if ("/" + file).endswith(end)), None)
        # Inputs of tests are what a user might write; their lines are counted elsewhere.
        if marker is None or re.match(r"tests/\w+/(valid|invalid|captures|golden)/", file):
            continue
        text = "\n".join(line for line in lines(root, file)[:12] if not line.startswith("#!"))
        words = ""
        if text.lstrip().startswith(('"""', "'''")):
            words = re.split("\"\"\"|'''", text.lstrip())[1]
        else:
            for line in text.splitlines():
                if not line.startswith(marker):
                    break
                words += line.removeprefix(marker) + "\n"
        words = re.sub(r"\A\s*yaml-language-server:.*\n", "", words)
        if len(words.split()) < 3 or "." not in words:
            yield f"{file}:1: does not begin with a sentence that says what it is for"


def anchors(root, file):
    """The names that GitHub gives to the headings of a page."""
    for line in lines(root, file):
        if line.startswith("#"):
            text = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            yield text.replace(" ", "-")


def check_links(root):
    for file in files(root, ".md"):
        fenced = False
        for number, line in enumerate(lines(root, file), 1):
            fenced ^= line.startswith("```")
            for link in [] if fenced else LINK.findall(line):
                if re.match(r"[a-z]+:", link):
                    continue
                path, _, anchor = link.partition("#")
                target = (root / file).parent / path if path else root / file
                if not target.exists():
                    yield f"{file}:{number}: nothing is at {link}"
                elif anchor and anchor not in anchors(root, target.relative_to(root)
                                                      if target.is_relative_to(root) else target):
                    yield f"{file}:{number}: no heading is called #{anchor} in {path or file}"


def check_units(root):
    for file in files(root, ".service"):
        for number, line in enumerate(lines(root, file), 1):
            if line.startswith("ProcSubset="):
                yield f"{file}:{number}: hides the boot's id, without which no run is gone on with"


# Every check with the file and the line that break it, and a word of what is to be found.
PLANTED = [
    (check_directions, "base/text.cc", '#include "controller/plan.h"', "base/ may not include"),
    (check_directions, "experiment/reader.cc", '#include "probes/probe.h"', "may not include"),
    (check_directions, "controller/fleet.cc", '#include "injector/warden.h"', "may not include"),
    (check_directions, "injector/warden.h", '#include "controller/fleet.h"', "may not include"),
    (check_directions, "cli/run.cc", '#include "injector/os/postgres.h"', "cli/ may not include"),
    (check_directions, "controller/fleet.cc", '#include "tests/testing/child.h"', "may not include"),
    (check_grpc, "controller/fleet.cc", "#include <grpcpp/grpcpp.h>", "gRPC"),
    (check_grpc, "injector/session.h", '#include "firedrill/v1/injector.grpc.pb.h"', "gRPC"),
    (check_deciding_core, "controller/judge_times.cc", '#include "base/clock.h"', "base/clock.h"),
    (check_deciding_core, "controller/run.cc", "#include <thread>", "thread"),
    (check_deciding_core, "experiment/anchor.h", "#include <fstream>", "from controller/"),
    (check_deciding_core, "controller/plan.cc", "auto now = absl::Now();", "told the time"),
    (check_heavy_headers, "base/http.h", "#include <boost/beast/http.hpp>", "costs seconds"),
    (check_locks, "tests/base/http_test.cc", '#include "absl/synchronization/mutex.h"', "mutex.h"),
    (check_no_shell, "injector/remedies/run_program.cc", "int i = std::system(text);", "a shell"),
    (check_no_shell, "cli/child.cc", 'const char* kShell = "/bin/sh";', "a shell"),
    (check_finished, "docs/design.md", "TO" "DO: say more", "not finished"),
    (check_columns, "base/text.cc", "// " + "word " * 20, "columns"),
    (check_units, "packages/systemd/firedrill-controller.service", "ProcSubset=pid", "the boot's id"),
    (check_links, "docs/design.md", "[gone](gone.md)", "nothing is at gone.md"),
    (check_links, "docs/design.md", "[gone](design.md#no-such-part)", "no heading"),
]


class Structure(unittest.TestCase):
    def find_nothing(self, check):
        found = list(check(ROOT))
        if found:
            self.fail("\n  ".join([f"{len(found)} findings:"] + found[:30]))

    def test_experiments_lint(self):
        binary = pathlib.Path(os.environ.get("FIREDRILL_BIN", ROOT / "build/bin")) / "firedrill"
        if not binary.exists():
            self.skipTest(f"{binary} is not built")
        experiments = sorted((ROOT / "experiments").glob("*.yaml"))
        self.assertTrue(experiments)
        for file in experiments:
            with self.subTest(file.name):
                done = subprocess.run([binary, "lint", file], capture_output=True, text=True, timeout=60)
                self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            broken = pathlib.Path(folder, "broken.yaml")
            broken.write_text(experiments[0].read_text() + "\nnoSuchKey: 1\n")
            done = subprocess.run([binary, "lint", broken], capture_output=True, text=True, timeout=60)
            self.assertNotEqual(0, done.returncode)
            self.assertIn("noSuchKey", done.stdout + done.stderr)


for name, function in sorted(globals().items()):
    if name.startswith("check_"):
        setattr(Structure, "test_" + name.removeprefix("check_"),
                functools.partialmethod(Structure.find_nothing, function))


class Planted(unittest.TestCase):
    """A check that cannot fail checks nothing."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.copy = pathlib.Path(cls.folder.name) / "tree"
        shutil.copytree(ROOT, cls.copy, ignore=shutil.ignore_patterns(*SKIPPED))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def new_findings(self, check, file, change):
        path = self.copy / file
        before = set(check(self.copy))
        old = path.read_text() if path.exists() else None
        path.parent.mkdir(exist_ok=True)
        path.write_text(change(old))
        found = [finding for finding in check(self.copy) if finding not in before]
        if old is None:
            path.unlink()
        else:
            path.write_text(old)
        return found

    def test_each_violation_is_found(self):
        for check, file, line, what in PLANTED:
            with self.subTest(check=check.__name__, file=file, line=line):
                # At the end, so that no line moves and the findings before it stay the same.
                found = self.new_findings(check, file, lambda old, line=line: old + line + "\n")
                self.assertTrue(found)
                self.assertTrue(any(what in f for f in found), found)

    def test_a_missing_purpose_is_found(self):
        for file in ("base/orphan.h", "tests/structure/orphan.py", "experiments/orphan.yaml"):
            with self.subTest(file):
                found = self.new_findings(check_purpose, file, lambda old: "int x;\n")
                self.assertEqual([f"{file}:1: does not begin with a sentence that says what it is for"],
                                 found)

    def test_an_empty_name_is_found(self):
        found = self.new_findings(check_names, "base/string_utils.cc", lambda old: "// Says it. All.\n")
        self.assertEqual(["base/string_utils.cc:1: a name that says nothing"], found)

    def test_a_header_that_comes_second_is_found(self):
        found = self.new_findings(
            check_own_header_first, "base/text.cc",
            lambda old: old.replace('#include "base/text.h"', '#include <map>\n#include "base/text.h"'))
        self.assertEqual(1, len(found))
        self.assertIn("includes map before its own header", found[0])


if __name__ == "__main__":
    unittest.main()
