#!/usr/bin/python3
"""The matrix itself can fail: what is not expected, a clock that is off and a change that stays are told."""

import copy
import glob
import json
import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import yaml  # noqa: E402

import matrix  # noqa: E402
import table  # noqa: E402
import written  # noqa: E402

JUDGEMENT = {"alerts": [{"alert": "Slots", "firing": "2026-01-02T03:04:05.100Z", "notified": "2026-01-02T03:04:05.200Z",
                         "resolveNotified": "2026-01-02T03:05:00Z"}]}
FIRST = matrix.instant("2026-01-02T03:04:05.100Z")


def page(at, status, starts="2026-01-02T03:04:05.100Z", alert="Slots"):
    return {"at": at, "payload": {"alerts": [{"status": status, "labels": {"alertname": alert}, "startsAt": starts}]}}


PAGES = [page(FIRST - 9, "firing", alert="Other"), page(FIRST + 0.15, "firing"), page(FIRST + 54.9, "resolved")]


def actual(exit_code, verdict, outcome="completed", failed=(), doubted=(), circumstances=()):
    return {"exit": exit_code, "verdict": verdict, "outcome": outcome, "failed": [list(each) for each in failed],
            "doubted": [list(each) for each in doubted], "circumstances": [list(each) for each in circumstances]}


class TableTest(unittest.TestCase):
    def setUp(self):
        self.cells = list(table.cells(20))

    def test_each_experiment_of_the_repository_has_eight_defects_and_all_have_twenty_healthy_runs(self):
        names = {os.path.basename(path).removesuffix(".yaml")
                 for path in glob.glob(os.path.join(matrix.ROOT, "experiments/*.yaml"))}
        self.assertEqual(names, set(table.EXPERIMENTS))
        for name in names:
            self.assertGreaterEqual(sum(cell.experiment.name == name and not cell.healthy for cell in self.cells), 8)
        self.assertEqual(20, sum(cell.healthy for cell in self.cells))
        self.assertEqual(len(self.cells), len({cell.key for cell in self.cells}))

    def test_every_reason_is_an_expectation_of_its_experiment(self):
        for cell in self.cells:
            with open(os.path.join(matrix.ROOT, "experiments", cell.experiment.name + ".yaml")) as opened:
                spec = yaml.safe_load(opened)["spec"]
            expect = spec["expect"]
            names = {each["name"] for each in spec["faults"] + expect["impact"] + expect["recovery"]}
            names |= set(expect["mustNotFire"])
            for alert in expect["alerts"]:
                self.assertEqual((cell.experiment.page, cell.experiment.alert), (alert["name"], alert["alert"]))
                names |= {alert["name"]} | {f"{alert['name']}/{part}" for part in ("delivered", "resolved")}
                names |= {f"{alert['name']}/before/{symptom}" for symptom in alert.get("before", [])}
                self.assertEqual(set(cell.experiment.symptoms), set(alert.get("before", [])))
            self.assertEqual(set(), {name for name, _ in cell.because | cell.may} - names - {table.ANY}, cell.key)
            self.assertEqual(cell.healthy, not cell.because, cell.key)

    def test_the_subset_has_every_kind_of_reason_that_is_found_early_and_is_of_all_experiments(self):
        cells = {cell.key: cell for cell in self.cells}
        self.assertEqual(set(), set(table.SUBSET) - set(cells))
        early = {cell.defect for cell in self.cells if cell.outcome == table.NOT_STARTED}
        self.assertEqual(set(), early - {cells[key].defect for key in table.SUBSET})
        self.assertEqual(set(table.EXPERIMENTS), {cells[key].experiment.name for key in table.SUBSET})


class MismatchTest(unittest.TestCase):
    def setUp(self):
        self.experiment = table.EXPERIMENTS["lost-index"]

    def cell(self, verdict, because=(), may=(), outcome="completed"):
        return table.Cell(self.experiment, "some", verdict, outcome, frozenset(because), frozenset(may))

    def test_what_is_expected_is_right(self):
        for cell, came in (
                (self.cell("passed"), actual(0, "passed")),
                (self.cell("failed", [("a", "late")], [("b", "*")]), actual(1, "failed", failed=[("a", "late"), ("b", "x")])),
                (self.cell("inconclusive", [("a", "no-impact")], [("*", "no-impact")]),
                 actual(6, "inconclusive", doubted=[("a", "no-impact"), ("b", "no-impact")])),
                (self.cell("inconclusive", [("a", "already-firing")], outcome="not started"),
                 actual(3, "inconclusive", "not started", doubted=[("b", "not-run")],
                        circumstances=[("a", "already-firing")]))):
            self.assertEqual([], table.mismatches(cell, came))

    def test_a_defect_that_is_not_found_a_false_alarm_and_another_reason_are_told(self):
        late = self.cell("failed", [("a", "late")])
        for cell, came, words in (
                (late, actual(0, "passed"), "not found: a late"),
                (late, actual(1, "failed", failed=[("a", "never-fired")]), "for another reason: a never-fired"),
                (late, actual(1, "failed", failed=[("a", "late"), ("b", "late")]), "for another reason: b late"),
                (late, actual(1, "failed", "not started", failed=[("a", "late")]), "outcome not started, not completed"),
                (late, actual(5, "failed", failed=[("a", "late")]), "exit 5, not 1"),
                (late, actual(4, "failed", "aborted", failed=[("a", "late")]), "exit 4, not 1"),
                (self.cell("passed"), actual(1, "failed", failed=[("a", "late")]), "verdict failed, not passed"),
                (self.cell("inconclusive", [("a", "no-impact")]),
                 actual(6, "inconclusive", doubted=[("a", "blind")]), "for another reason: a blind")):
            self.assertIn(words, "\n".join(table.mismatches(cell, came)))
        either = self.cell("failed", [("a", table.NOT_HELD)])
        self.assertEqual([], table.mismatches(either, actual(1, "failed", failed=[("a", "did-not-stay")])))
        self.assertTrue(table.mismatches(either, actual(1, "failed", failed=[("a", "late-notice")])))

    def test_a_complaint_of_the_look_or_the_clock_is_wrong_also_where_the_verdict_is_right(self):
        line = {"actual": actual(0, "passed"), "changed": ["- index"], "complaints": ["late"], "clocks": {}, "took_s": 1}
        self.assertEqual(["changed: - index", "late"], table.wrong(self.cell("passed"), line))
        line = {"actual": None, "changed": [], "complaints": ["could not be observed"], "clocks": {}, "took_s": 1}
        healthy = table.Cell(self.experiment, "healthy-1")
        self.assertEqual(["could not be observed"], table.wrong(healthy, line))
        self.assertIn("**1 in 1** healthy", written.figures([healthy], {healthy.key: line}))


class FiguresTest(unittest.TestCase):
    def test_what_a_lab_left_behind_counts_and_who_was_not_looked_at_does_not(self):
        cell = table.Cell(table.EXPERIMENTS["lost-index"], "healthy-1")
        line = {"actual": actual(0, "passed"), "changed": [], "complaints": [], "clocks": {}, "took_s": 1}
        for more, words in (({}, "left: 0 of 1"), ({"changed": ["+ nft: table inet x"]}, "left: 1 of 1"),
                            ({"complaints": [table.LEFT]}, "left: 1 of 1"), ({"actual": None}, "left: 0 of 0")):
            self.assertIn(words, written.figures([cell], {cell.key: {**line, **more}}))

    def test_a_page_is_timed_from_the_anchor_that_its_expectation_names(self):
        times = matrix.times_of({"alerts": [{"anchor": "2026-01-01T00:00:00Z", "firing": "2026-01-01T00:00:04.5Z",
                                             "notified": "2026-01-01T00:00:04.526Z"}],
                                 "timeToDetect": "2.5s", "timeToResolve": "5s"})
        self.assertEqual({"detect": 4.5, "deliver": 4.526, "timeToResolve": "5s", "timeToRecover": None}, times)
        never = matrix.times_of({"alerts": [{"anchor": "2026-01-01T00:00:00Z"}]})
        self.assertEqual((None, None), (never["detect"], never["deliver"]))


class ClockTest(unittest.TestCase):
    def test_what_agrees_is_no_complaint(self):
        differences = matrix.clock_differences(JUDGEMENT, PAGES)
        self.assertEqual({"detected": 0, "delivered": -0.05, "resolve delivered": 0}, differences)
        self.assertEqual([], matrix.clock_complaints(differences))

    def test_a_run_whose_clock_is_off_by_two_looks_is_told(self):
        for key, what in (("firing", "detected"), ("notified", "delivered"), ("resolveNotified", "resolve delivered")):
            for late in (-2 * matrix.POLL_S, 2 * matrix.POLL_S):
                moved = copy.deepcopy(JUDGEMENT)
                stamp = matrix.datetime.datetime.fromtimestamp(
                    matrix.instant(moved["alerts"][0][key]) + late, matrix.datetime.timezone.utc)
                moved["alerts"][0][key] = stamp.isoformat()
                complaints = matrix.clock_complaints(matrix.clock_differences(moved, PAGES))
                self.assertEqual(1, len(complaints), (key, late))
                self.assertTrue(complaints[0].startswith(what + ":"), complaints)

    def test_a_page_that_the_pager_never_got_is_told(self):
        complaints = matrix.clock_complaints(matrix.clock_differences(JUDGEMENT, PAGES[:1]))
        self.assertEqual(["delivered: the webhook's clock was never told"], complaints)


class ResumeTest(unittest.TestCase):
    def test_what_was_run_as_it_would_be_run_now_is_known(self):
        wanted = list(table.cells(0))[:5]
        lines = [{"cell": cell.key, "fingerprint": matrix.fingerprint_of(cell), "actual": actual(0, "passed"), "took_s": number}
                 for number, cell in enumerate(wanted)]
        lines[1]["fingerprint"] = "of other programs"
        lines[2]["actual"] = None
        again = dict(lines[0], took_s=99)
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as results:
            results.writelines(json.dumps(line) + "\n" for line in lines[:4] + [again])
            results.flush()
            known = matrix.known_of(wanted, results.name)
            self.assertEqual(3, len(matrix.known_of(wanted, results.name, older=True)))
        self.assertEqual({wanted[0].key: 99, wanted[3].key: 3}, {key: line["took_s"] for key, line in known.items()})
        self.assertEqual({}, matrix.known_of(wanted, results.name))

    def test_a_cell_is_another_one_with_another_defect_setting_or_experiment(self):
        cells = list(table.cells(1))
        prints = {matrix.fingerprint_of(cell) for cell in cells}
        self.assertEqual(len(cells), len(prints))


class LeavesTest(unittest.TestCase):
    def test_only_a_failover_may_leave_something(self):
        for name, experiment in table.EXPERIMENTS.items():
            self.assertEqual(name == "frequent-report", bool(experiment.leaves))
        cell = table.Cell(table.EXPERIMENTS["frequent-report"], "healthy-1")
        failover = ["- postgresql: in recovery false", "+ postgresql: does not answer", "- replica: in recovery true",
                    "+ replica: in recovery false"]
        self.assertEqual([], table.unexplained(cell, actual(0, "passed"), failover))
        self.assertEqual(failover, table.unexplained(cell, actual(3, "inconclusive", "not started"), failover))
        other = ["+ replica: setting work_mem = 4MB", "+ shop: pool-size = 50", "+ nft: table inet x", "+ cgroup: /x",
                 "+ replica: index users_email_idx of users valid false"]
        self.assertEqual(other, table.unexplained(cell, actual(0, "passed"), other))


if __name__ == "__main__":
    unittest.main()
