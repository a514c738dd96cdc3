#!/usr/bin/python3
"""What a person sees while a run goes on: on terminals wide and narrow, without colours, and through a pipe."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import unittest

from stage import PATIENCE_S, PROGRAM, SITE, Stage, closed_hours

CODE = re.compile(r"\x1b\[[0-9;]*[mKA]")


class Screen:
    """What a terminal shows of a text with the few codes that are in use."""

    def __init__(self, columns):
        self.columns, self.lines, self.row, self.column = columns, [""], 0, 0

    def take(self, text):
        for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.|\n", text, re.S):
            if part == "\n":
                self.row += 1
                if self.row == len(self.lines):
                    self.lines.append("")
            elif part == "\r":
                self.column = 0
            elif part.endswith("K") and part.startswith("\x1b"):
                self.lines[self.row] = self.lines[self.row][:self.column]
            elif part.endswith("A") and part.startswith("\x1b"):
                self.row -= 1
            elif not part.startswith("\x1b"):
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[:self.column] + part + line[self.column + 1:]
                self.column += 1


class Terminal(Stage):
    def on_a_terminal(self, columns, *words, term="xterm", extra=None):
        """All that a command writes on a terminal that is so wide, and its exit code."""
        mine, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {**self.look.environment(), "TERM": term, **(extra or {})}
        environment.pop("NO_COLOR", None)
        environment.update(extra or {})
        process = subprocess.Popen([PROGRAM, *words, "--state-dir", self.state], env=environment,
                                   stdin=subprocess.DEVNULL, stdout=its, stderr=its)
        os.close(its)
        written = b""
        while True:
            try:
                piece = os.read(mine, 65536)
            except OSError:
                break  # the other end is closed
            if not piece:
                break
            written += piece
        os.close(mine)
        return process.wait(PATIENCE_S), written.decode()

    @staticmethod
    def lines(written):
        """What stays on the screen: a status line is overwritten."""
        stay = []
        for line in written.replace("\r\n", "\n").split("\n"):
            stay.append(CODE.sub("", line.rsplit("\r\x1b[K", 1)[-1]))
        return stay

    def run_at(self, columns, **options):
        return self.on_a_terminal(columns, "run", self.experiment(duration="1s"), "--site", self.site, **options)

    def test_nothing_is_wider_than_the_terminal(self):
        for columns in (80, 40):
            code, written = self.run_at(columns)
            self.assertEqual(code, 0, written)
            for line in self.lines(written):
                self.assertLessEqual(len(line), columns, f"{columns} columns: {line!r}\n{written}")
            # The status line must not reach the last column: some terminals begin a new line there.
            for status in re.findall(r"\r\x1b\[K([^\r\n]*)(?=\r\x1b\[K)", written):
                self.assertLess(len(CODE.sub("", status)), columns, status)

    def test_wrapped_words_stand_below_each_other(self):
        _, written = self.run_at(40)
        lines = self.lines(written)
        [first] = [number for number, line in enumerate(lines) if "fault hold in force" in line]
        self.assertRegex(lines[first], r"^ {3}\+[0-9.]+s  fault hold in force")
        self.assertRegex(lines[first + 1], r"^ {10}\S")

    def test_the_status_line_tells_how_to_stop_and_is_gone_at_the_end(self):
        _, written = self.run_at(100)
        self.assertIn("injecting   (Ctrl-C stops and undoes every fault)", written)
        self.assertNotIn("(Ctrl-C", "\n".join(self.lines(written)))
        self.assertIn("injecting   (Ctrl-C stops it)", self.run_at(40)[1])

    def test_the_counters_of_one_fault_are_shown_whole(self):
        code, written = self.on_a_terminal(60, "inject", "hold-connections", "--site", self.site, "--profile",
                                           "holder", "--count", "3", "--duration", "2s")
        self.assertEqual(code, 0, written)
        plain = CODE.sub("", written.replace("\r\x1b[K", "|"))
        status = [" ".join(part.split()) for part in plain.split("|") if "(Ctrl-C ends it)" in part]
        self.assertTrue([part for part in status if "by this fault (idle) (Ctrl-C" in part], written)
        for line in plain.replace("|", "\n").splitlines():
            self.assertLessEqual(len(line.rstrip()), 60, line)
        # Nothing of it stays behind.
        shown = Screen(60)
        shown.take(written)
        self.assertFalse([line for line in shown.lines if "(Ctrl-C ends it)" in line], shown.lines)
        self.assertTrue([line for line in shown.lines if line.startswith("touched: ")], shown.lines)

    def test_colours_only_where_they_are_wanted(self):
        coloured = re.compile(r"\x1b\[[0-9;]*m")
        self.assertRegex(self.run_at(80)[1], coloured)
        self.assertNotRegex(self.run_at(80, extra={"NO_COLOR": "1"})[1], coloured)
        self.assertNotIn("\x1b", self.run_at(80, term="dumb")[1])

    def test_through_a_pipe_an_event_is_a_line_and_there_is_no_status(self):
        code, out, err = self.firedrill("run", self.experiment(duration="1s"), "--site", self.site)
        self.assertEqual((code, err), (0, ""), out)
        self.assertNotIn("\x1b", out)
        self.assertNotIn("\r", out)
        self.assertEqual(out.count("Ctrl-C stops it and undoes everything"), 1)
        self.assertRegex(out, r"(?m)^ +\+[0-9.]+s  fault hold in force: .* by this fault \(idle in transaction\)$")
        # The run is named once, and nothing stands apart by more than one empty line.
        self.assertEqual(len(re.findall("of held, seed", out)), 1)
        self.assertNotIn("\n\n\n", out)
        self.assertRegex(out, r"\(exit 0\)\n\Z")

    def test_what_keeps_a_run_from_starting_is_counted_in_words(self):
        self.site = self.write("site.yaml", SITE.format(port=self.server.port, policy=closed_hours()))
        code, out, err = self.firedrill("run", self.experiment(), "--site", self.site)
        self.assertEqual(code, 3, out + err)
        self.assertIn("preflight: 1 reason not to start now\n", out)

    def test_a_plan_tells_who_what_when_and_why_not_the_others(self):
        code, out, err = self.firedrill("plan", self.experiment(), "--site", self.site)
        self.assertEqual((code, err), (0, ""), out)
        for part in (r"(?m)^Who$", r"db-node +node-a", r"(?m)^When ", r"0s +hold on node-a: fault on: holdConnections",
                     r"30s +hold on node-a: fault off", r"(?m)^What ends each fault$"):
            self.assertRegex(out, part)
        self.assertRegex(out, r"Start it: firedrill run \S*held.yaml --site " + re.escape(self.site) + r"\s")


if __name__ == "__main__":
    unittest.main(verbosity=2)
