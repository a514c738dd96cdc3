#!/usr/bin/python3
"""The shipped rules: promtool finds them sound, each fires for its reason, and what they ask for is what is told."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "packages/rules/firedrill.yaml"
TESTS = ROOT / "tests/rules/firedrill_test.yaml"


def promtool(*words):
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def names_told(text):
    """Every metric that the controller's source names."""
    quoted = re.findall(r'(?:Begin|Gauge)\(\s*"([a-z_]+)"', text)
    return {"firedrill_" + name for name in quoted} | set(re.findall(r'"(firedrill_[a-z_]+)"', text))


def names_asked(text):
    return set(re.findall(r"\bfiredrill_[a-z_]+", "\n".join(re.findall(r"expr: (.*)", text))))


class Rules(unittest.TestCase):
    def test_promtool_finds_nothing_wrong_and_each_fires_for_its_reason(self):
        for words in (("check", "rules", str(RULES)), ("test", "rules", str(TESTS))):
            code, said = promtool(*words)
            self.assertEqual(code, 0, said)

    def test_every_alert_is_seen_firing(self):
        alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
        fired = set(re.findall(r"alertname: (\w+)\n +eval_time: \S+\n +exp_alerts:", TESTS.read_text()))
        self.assertGreater(len(alerts), 8)
        self.assertEqual(alerts, fired)

    def test_they_ask_for_what_the_controller_tells(self):
        told = names_told((ROOT / "controller/figures.cc").read_text())
        self.assertGreater(len(told), 10)
        self.assertEqual(names_asked(RULES.read_text()) - told, set())
        # A metric that is renamed is noticed.
        self.assertEqual(names_asked("expr: firedrill_fault{} > 0") - told, {"firedrill_fault"})

    def test_a_rule_that_is_wrong_is_found(self):
        with tempfile.TemporaryDirectory(prefix="fd-rules-") as folder:
            for was, now in (('state="stuck"} > 0', 'state="stuck"} > 1'), ("for: 2m", "for: 4m"),
                             ("< 3 * 24 * 3600", "< 3 * 24 * 36"), ("severity: page", "severity: none"),
                             ("for: 5m", "for: 1m"),
                             (" or firedrill_slots_missed_total > last_over_time(firedrill_slots_missed_total[15d] offset 15m)", ""),
                             ("[15d] offset 15m", "[15d] offset 25m")):
                text = RULES.read_text()
                self.assertIn(was, text)
                rules = os.path.join(folder, "firedrill.yaml")
                with open(rules, "w") as file:
                    file.write(text.replace(was, now))
                tests = os.path.join(folder, "test.yaml")
                shutil.copy(TESTS, tests)
                with open(tests, "w") as file:
                    file.write(TESTS.read_text().replace("../../packages/rules/firedrill.yaml", rules))
                self.assertNotEqual(promtool("test", "rules", tests)[0], 0, f"{now} was not found")


if __name__ == "__main__":
    unittest.main(verbosity=2)
