#!/usr/bin/python3
"""The matrix itself can fail: what is not expected, a clock that is off and a change that stays are told."""

import copy
import glob
import json
import os
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

import yaml  # noqa: E402

import matrix  # noqa: E402
import table  # noqa: E402
import written  # noqa: E402

RUN = {"begin": "2026-01-02T03:04:00+00:00", "end": "2026-01-02T03:05:10.5+00:00", "judgement": {"alerts": [
    {"expectation": "page", "alert": "Slots", "firing": "2026-01-02T03:04:05.100Z", "notified": "2026-01-02T03:04:05.200Z",
     "resolveNotified": "2026-01-02T03:05:00Z"}]}}
EXPECTED = {"page": {"alertname": "Slots", "severity": "page"}}
FIRST = matrix.instant("2026-01-02T03:04:05.100Z")


def page(at, status, starts="2026-01-02T03:04:05.100Z", alert="Slots", severity="page"):
    labels = {"alertname": alert, "severity": severity, "instance": "db"}
    return {"at": at, "payload": {"alerts": [{"status": status, "labels": labels, "startsAt": starts}]}}


AGAIN = "2026-01-02T03:04:30Z"
PAGES = [page(FIRST - 9, "firing"),  # of the lab's start
         page(FIRST + 0.01, "firing", alert="Other"), page(FIRST + 0.02, "firing", severity="pager"),
         page(FIRST + 0.15, "firing"), page(FIRST + 20, "resolved"),
         page(FIRST + 25, "firing", AGAIN), page(FIRST + 54.9, "resolved", AGAIN), page(FIRST + 57, "resolved", AGAIN),
         page(FIRST + 70, "resolved", "2026-01-02T03:05:12Z")]  # after the run


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
            names |= set(expect["mustNotFire"]) | {f"steady-state/{each['name']}" for each in spec["steadyState"]}
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
    def test_whatever_is_left_counts_also_of_a_run_that_could_not_be_observed(self):
        cell = table.Cell(table.EXPERIMENTS["lost-index"], "healthy-1")
        line = {"actual": actual(0, "passed"), "changed": [], "complaints": [], "clocks": {}, "took_s": 1, "looked": True}
        left, failed = {"complaints": [f"{table.LEFT} after the run: session 7 of reports 'firedrill' idle"]}, {"actual": None}
        for more, words in (({}, "left: 0 of 1\n"), ({"changed": ["+ nft: table inet x"]}, "left: 1 of 1\n"),
                            (left, "left: 1 of 1\n"), ({**left, **failed}, "left: 1 of 1\n"), (failed, "left: 0 of 1\n"),
                            ({**left, **failed, "looked": False}, "left: 1 of 1\n"),
                            ({**failed, "looked": False}, "left: 0 of 0; after 1 more nobody could look\n")):
            self.assertIn(words, written.figures([cell], {cell.key: {**line, **more}}))

    def test_what_a_look_finds_is_a_complaint_and_the_run_is_judged_all_the_same(self):
        for found in ([], ["session 7 of reports 'firedrill' idle", "file x"]):
            run = matrix.CellRun()
            run.look = types.SimpleNamespace(wait_for_nothing=lambda seconds, found=found: found)
            run.assert_nothing_left()
            self.assertEqual([f"{table.LEFT} after the run: {each}" for each in found], run.left)
            self.assertTrue(run.looked)
            line = {"actual": actual(0, "passed"), "changed": [], "complaints": run.left, "clocks": {}}
            self.assertEqual(run.left, table.wrong(table.Cell(table.EXPERIMENTS["lost-index"], "healthy-1"), line))

    def test_a_page_is_timed_from_the_anchor_that_its_expectation_names(self):
        times = matrix.times_of({"alerts": [{"anchor": "2026-01-01T00:00:00Z", "firing": "2026-01-01T00:00:04.5Z",
                                             "notified": "2026-01-01T00:00:04.526Z"}],
                                 "timeToDetect": "2.5s", "timeToResolve": "5s"})
        self.assertEqual({"detect": 4.5, "deliver": 4.526, "timeToResolve": "5s", "timeToRecover": None}, times)
        never = matrix.times_of({"alerts": [{"anchor": "2026-01-01T00:00:00Z"}]})
        self.assertEqual((None, None), (never["detect"], never["deliver"]))


class ClockTest(unittest.TestCase):
    def differences(self, run, pages=PAGES):
        return matrix.clock_differences(run, pages, EXPECTED)

    def test_what_agrees_is_no_complaint(self):
        self.assertEqual({"detect": -0.15, "delivered": -0.05, "end delivered": 0}, self.differences(RUN))
        self.assertEqual([], matrix.clock_complaints(self.differences(RUN)))

    def test_the_pages_of_an_experiment_are_those_that_its_matchers_ask_for(self):
        self.assertEqual({"scan-page": {"alertname": "PgSeqScanSurge", "severity": "page", "table": "users"}},
                         matrix.expected_pages(table.EXPERIMENTS["lost-index"]))

    def test_a_run_whose_clock_is_off_by_two_looks_is_told(self):
        for key, what in (("firing", "detect"), ("notified", "delivered"), ("resolveNotified", "end delivered")):
            for late in (-2 * matrix.POLL_S, 2 * matrix.POLL_S):
                moved = copy.deepcopy(RUN)
                times, = moved["judgement"]["alerts"]
                stamp = matrix.datetime.datetime.fromtimestamp(matrix.instant(times[key]) + late, matrix.datetime.timezone.utc)
                times[key] = stamp.isoformat()
                complaints = matrix.clock_complaints(self.differences(moved))
                self.assertEqual(1, len(complaints), (key, late))
                self.assertTrue(complaints[0].startswith(what + ":"), complaints)

    def test_an_end_that_is_not_the_last_is_told(self):
        early = copy.deepcopy(RUN)
        early["judgement"]["alerts"][0]["resolveNotified"] = "2026-01-02T03:04:25.1Z"
        self.assertEqual(-34.9, self.differences(early)["end delivered"])

    def test_a_page_that_only_one_of_them_knows_of_is_told(self):
        unknown = {**RUN, "judgement": {"alerts": [{"expectation": "page", "alert": "Slots"}]}}
        for run, pages in ((RUN, PAGES[:3]), (unknown, PAGES)):
            found = self.differences(run, pages)
            self.assertEqual((None, None), (found["detect"], found["delivered"]))
            self.assertIn("delivered: only one of the run and the pager knows of it", matrix.clock_complaints(found))
        self.assertEqual({}, self.differences(unknown, PAGES[:3]))


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
