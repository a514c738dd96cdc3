#!/usr/bin/python3
"""Wrong words, wrong places: every command says what is wrong, to what, and what to do, with exit code 2."""

import os
import re
import subprocess
import unittest

from stage import PROGRAM, SITE, Stage, closed_hours

READERS = (("runs",), ("report", "last"), ("judge", "last"))
OF_A_RUN = ("report", "judge")


class Commands(Stage):
    def wrong(self, *words, state=None):
        """Standard error of a command that must be refused; nothing is on standard output."""
        code, out, err = self.firedrill(*words, state=state)
        self.assertEqual(code, 2, out + err)
        self.assertEqual(out, "")
        return err

    def refused(self, *words):
        """The same of a command that knows no folder of this machine."""
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, cwd=self.folder, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        return done.stderr

    def test_without_a_command_or_with_an_unknown_one(self):
        for words in ([], ["runn"], ["report"], ["judge"], ["runs", "surplus"], ["leftovers", "surplus"],
                      ["report", "a", "b"], ["runs", "--unknown"], ["run"], ["plan"]):
            done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, env=self.look.environment())
            self.assertEqual(done.returncode, 2, words)
            self.assertRegex(done.stderr, "--help", words)

    def test_a_misspelt_word_gets_the_right_one(self):
        self.assertIn("there is no command lnt; did you mean lint? There are: run, ", self.wrong("lnt"))
        self.assertIn("there is no command get foos. There are: injectors, runs, experiments", self.refused("get", "foos"))
        err = self.wrong("report", "last", "--fromat", "json")
        self.assertIn("--fromat: did you mean --format?", err)

    def test_a_controller_is_named_with_its_port_and_an_identity_by_what_is_there(self):
        for address in ("127.0.0.1", "c1.example", "127.0.0.1:0", ":7443", "127.0.0.1:port"):
            err = self.refused("get", "runs", "--controller", address, "--identity", "nosuch")
            self.assertIn(f"--controller {address}: ", err)
            self.assertIn("; write it as host:port, the port being that of `listen` in the controller's file", err)
        err = self.refused("get", "runs", "--controller", "127.0.0.1:7443", "--identity", "nosuch.crt")
        self.assertRegex(err, r"reading ca\.crt: No such file or directory; an identity is named without \.crt, and has its "
                         r"\.key and ca\.crt beside it: `firedrill pki issue` makes all three")

    def test_a_seed_that_could_not_be_replayed(self):
        for seed in ("0", "-1", "x", "1.5", "18446744073709551616"):
            self.assertIn("a seed is a whole number from 1", self.wrong("run", "none.yaml", "--seed", seed))

    def test_a_report_that_cannot_be_written_is_known_before_anything_starts(self):
        for flag in ("--junit", "--json", "--report"):
            err = self.wrong("run", self.experiment(duration="1s"), "--site", self.site, flag, "/nonexistent/report")
            self.assertIn("writing /nonexistent/report: No such file or directory; nothing was started", err)

    def test_a_full_disk_under_standard_output_is_no_success(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "schema"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("writing to standard output: No space left on device", done.stderr)

    def test_a_fingerprint_is_printed_and_read_as_a_match(self):
        def tell(*words, text=""):
            return subprocess.run([PROGRAM, "fingerprint", *words], input=text, capture_output=True, text=True)
        given, read = tell("SELECT * FROM users WHERE id = 1"), tell(text="select * from users\nwhere id = $1;\n")
        self.assertEqual((given.returncode, given.stderr), (0, ""))
        self.assertRegex(given.stdout, r"^[0-9a-f]{16}\n$")
        self.assertEqual(given.stdout, read.stdout)
        self.assertNotEqual(given.stdout, tell("SELECT * FROM images WHERE id = 1").stdout)
        for wrong, said in (("SELEC 1", 'syntax error at or near "SELEC"'), ("", "there is no statement in it")):
            refused = tell(wrong)
            self.assertEqual((refused.returncode, refused.stdout), (2, ""))
            self.assertIn("firedrill: fingerprint: ", refused.stderr)
            self.assertIn(said, refused.stderr)

    def test_an_unknown_format(self):
        err = self.wrong("report", "last", "--format", "pdf")
        self.assertIn("--format", err)
        self.assertIn("junit", err)

    def test_lint_tells_github_of_what_cannot_be_read_at_all(self):
        empty = self.write("empty.yaml", "")
        large = self.write("large.yaml", "# " + "x" * 2_000_000)
        files = (self.folder, os.path.join(self.folder, "none.yaml"), empty, large)
        def lint(*words):
            done = subprocess.run([PROGRAM, "lint", *files, *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            return done
        done = lint("--format", "github")
        self.assertEqual(done.stderr, "")
        folder, none, nothing, much = done.stdout.splitlines()
        self.assertEqual(folder, f"::error file={files[0]}::cannot read {files[0]}: Is a directory")
        self.assertTrue(none.startswith(f"::error file={files[1]}::cannot read"), none)
        self.assertEqual(nothing, f"::error file={empty},line=1,col=1::the file is empty")
        self.assertTrue(much.startswith(f"::error file={large},line=1,col=1::the file is larger than 256 KiB"), much)
        done = lint()
        self.assertIn(f"firedrill: cannot read {files[0]}: Is a directory\n", done.stderr)
        self.assertIn(f"{empty}:1:1: error: the file is empty\n", done.stderr)
        self.assertIn(f"{large}:1:1: error: the file is larger than 256 KiB\n", done.stderr)

    def test_help_and_version_are_no_errors(self):
        for words in (["--help"], ["--version"], ["report", "--help"]):
            done = subprocess.run([PROGRAM, *words], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)

    def test_an_unknown_run(self):
        run = self.begin_run(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 0, self.said(run))
        for command in OF_A_RUN:
            err = self.wrong(command, "nosuchrun")
            self.assertEqual(err, "firedrill: reading run nosuchrun: there is no such run in "
                                  f"{self.state}/history.db; `firedrill runs` lists what there is\n")

    def test_a_run_that_goes_on_is_not_judged_yet(self):
        run = self.begin_run(self.experiment(duration="20s"))
        self.until_held(run)
        err = self.wrong("judge", "last")
        self.assertIn("is still going on, and is judged when it has ended", err)
        code, out, err = self.firedrill("report", "last")
        self.assertEqual(code, 0)
        self.assertIn("so far: ", out)
        self.assertIn("the run has no end yet", out)
        self.assertNotIn("undo NOT confirmed", out)
        self.assertIn("is still going on", err)

    def test_an_empty_state_folder(self):
        os.mkdir(self.state)
        for command in OF_A_RUN:
            for run in ("last", "abcdefgh"):
                err = self.wrong(command, run)
                self.assertIn(f"there is no run in the history in {self.state} yet; start one with", err)
        code, out, err = self.firedrill("runs")
        self.assertEqual((code, out, err), (0, f"no runs yet in {self.state}\n", ""))
        code, out, err = self.firedrill("leftovers")
        self.assertEqual((code, err), (0, ""))
        self.assertIn(f"no node of this machine carries anything (looked in {self.state})", out)
        # Who only reads leaves nothing behind.
        self.assertEqual(os.listdir(self.state), [])

    def test_a_state_folder_that_is_not_there_is_not_made(self):
        for words in READERS + (("leftovers",),):
            err = self.wrong(*words)
            self.assertIn(f"reading the state folder {self.state}: there is none; correct --state-dir", err)
        self.assertFalse(os.path.exists(self.state))

    def test_a_state_folder_that_is_a_file(self):
        path = self.write("file", "")
        for words in READERS + (("leftovers",),):
            err = self.wrong(*words, state=path)
            self.assertIn(path, err)
            self.assertIn("--state-dir", err)

    def test_a_history_that_cannot_be_read(self):
        os.mkdir(self.state)
        history = os.path.join(self.state, "history.db")
        with open(history, "w") as file:
            file.write("this is no database" * 500)
        for words in READERS:
            err = self.wrong(*words)
            self.assertRegex(err, f"^firedrill: opening the history in {history}: .*move the file away")
        os.remove(history)
        os.mkdir(history)
        for words in READERS:
            self.assertIn(f"opening the history in {history}", self.wrong(*words))

    def test_a_damaged_history_does_not_keep_leftovers_from_looking(self):
        os.mkdir(self.state)
        with open(os.path.join(self.state, "history.db"), "w") as file:
            file.write("this is no database" * 500)
        code, out, err = self.firedrill("leftovers")
        self.assertEqual(code, 2, out)
        self.assertIn("opening the history in", err)
        self.assertIn("no node of this machine carries anything", out)

    def test_an_outcome_list_is_a_table(self):
        run = self.begin_run(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 0, self.said(run))
        code, out, err = self.firedrill("runs")
        self.assertEqual((code, err), (0, ""))
        head, row = out.splitlines()
        self.assertEqual(head.split(), ["RUN", "BEGUN", "OUTCOME", "EXPERIMENT"])
        self.assertEqual(row.index("held"), head.index("EXPERIMENT"))
        self.assertRegex(row, r"completed")

    def test_a_run_out_of_its_nodes_hours_is_refused_before_anything_is_touched(self):
        self.site = self.write("site.yaml", SITE.format(port=self.server.port, policy=closed_hours()))
        code, out, err = self.firedrill("plan", self.experiment(), "--site", self.site)
        self.assertEqual((code, err), (3, ""), out)
        words = re.sub(r"\s+", " ", out)
        self.assertIn("hold: on node node-a faults may start only within 00:00-00:01 Pacific/Kiritimati", words)
        self.assertIn("wait for those hours", words)
        code, out, err = self.firedrill("run", self.experiment(), "--site", self.site)
        self.assertEqual(code, 3, out + err)
        self.assertIn("faults may start only within", out)
        self.assertIn("nothing was touched", out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
