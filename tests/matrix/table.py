"""The matrix of truth as data: for each experiment a healthy stack, defective ones, and what must come out of each.

A cell says the verdict and the reason, by the names of the failed expectations (or, where nothing is judged, of the
findings) and their codes: a run that fails for another reason is a mismatch. What may fail besides, because it hangs on
how busy the machine is or on which of two symptoms is first, stands in `may`, with its reason beside it.
"""

import dataclasses
import re

SLOTS, SCANS = "PostgresConnectionsNearLimit", "PgSeqScanSurge"
PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"
NOT_STARTED, COMPLETED, ABORTED = "not started", "completed", "aborted"
EXIT = {PASSED: 0, FAILED: 1, INCONCLUSIVE: 6}
NOT_STARTED_EXIT, ABORTED_EXIT = 3, 4
ANY = "*"
# Of the name of a cell that was run while another program kept one processor busy.
BUSY = "+busy"
# How a complaint begins about what a run has left: sessions, processes, files, open journals, or the lab itself.
LEFT = "left"
# Of a page that never came neither delivery nor end nor order can be judged.
NO_PAGE = (("*", "never-fired"),)
# What had to hold and did not: which of the words it is says only whether it held again before the run ended.
NOT_HELD = "late|never-came-back|did-not-stay"

# Without a time-out that is short a scan is counted when it ends, long after: the page's rate comes in bursts, and the page goes.
BURSTS = ("scan-page", "flapped")


@dataclasses.dataclass(frozen=True)
class Experiment:
    name: str
    alert: str          # the one whose page is under test
    page: str           # the expectation about it
    extras: tuple = ()  # of `lab up --with`
    symptoms: tuple = ("ApiErrorRateHigh", "ApiLatencyHigh")  # that must not page before it
    # Alerts that must exist, or must not fire, and that read what the exporter says of PostgreSQL.
    also_blind: tuple = ()
    # Facts that a remedy declares as changed: patterns of lines that may differ after a run that was not cut short.
    leaves: tuple = ()


@dataclasses.dataclass(frozen=True)
class Cell:
    experiment: Experiment
    defect: str
    verdict: str = PASSED
    outcome: str = COMPLETED
    because: frozenset = frozenset()
    may: frozenset = frozenset()
    defects: tuple = ()
    settings: tuple = ()
    says: tuple = ()  # patterns of what the terminal must say besides the names
    busy: bool = False  # another program keeps one processor busy

    @property
    def key(self):
        return f"{self.experiment.name}/{self.defect}" + (BUSY if self.busy else "")

    @property
    def healthy(self):
        return self.defect.startswith("healthy")

    @property
    def exit_code(self):
        if self.outcome == NOT_STARTED and self.verdict == INCONCLUSIVE:
            return NOT_STARTED_EXIT
        if self.outcome == ABORTED:
            return ABORTED_EXIT
        return EXIT[self.verdict]


EXPERIMENTS = {each.name: each for each in (
    Experiment("unclosed-connections", SLOTS, "slots-page", symptoms=("ApiErrorRateHigh",)),
    Experiment("lost-index", SCANS, "scan-page", also_blind=(SLOTS,)),
    Experiment("login-storm", SCANS, "scan-page", extras=("gateway",)),
    # A failover cannot be taken back: `leaves: changed`. The old primary is stopped, its standby takes writes.
    Experiment("frequent-report", SCANS, "scan-page", extras=("replica", "gateway"), also_blind=(SLOTS,),
               leaves=(r"postgresql: .*", r"replica: in recovery (true|false)",
                       r"replica: setting (in_hot_standby|transaction_read_only) = (on|off)")),
    Experiment("sudden-crowd", SCANS, "scan-page", symptoms=("AppPoolSaturated", "ApiErrorRateHigh", "ApiLatencyHigh"),
               also_blind=(SLOTS,)),
    Experiment("slow-release", SCANS, "scan-page", also_blind=(SLOTS,)),
)}


def failing(*reasons):
    return frozenset(reasons)


def order(experiment):
    """A page that never comes is after every symptom that does. Which symptoms fire hangs on the machine."""
    return {(f"{experiment.page}/before/{symptom}", "wrong-order") for symptom in experiment.symptoms}


def common(experiment):
    """What can be wrong with any alert, and is found before or without looking at what is special in the experiment."""
    page = experiment.page
    delivered = f"{page}/delivered"

    def preflight(defect, *reasons, says=()):
        return Cell(experiment, defect, FAILED, NOT_STARTED, failing(*reasons), defects=(defect,), says=says)

    def silent(defect, code):
        return Cell(experiment, defect, FAILED, COMPLETED, failing((page, code)), frozenset(order(experiment)), (defect,))

    yield preflight("rule-deleted", (page, "rule-missing"), says=(experiment.alert, experiment.name + r"\.yaml:\d+"))
    yield preflight("label-wrong", (page, "matchers-contradict"))
    yield preflight("route-wrong", (delivered, "route-elsewhere"), says=("tickets",))
    yield preflight("receiver-not-wired", (delivered, "receiver-not-wired"))
    yield preflight("silenced", (delivered, "silenced"), says=("amtool silence expire",))
    yield preflight("exporter-blind", (page, "selector-empty"),
                    *((alert, "selector-empty") for alert in experiment.also_blind))
    yield preflight("metric-absent", (page, "selector-empty"))
    yield Cell(experiment, "already-firing", INCONCLUSIVE, NOT_STARTED, failing((page, "already-firing")),
               # Alertmanager knows it, too.
               frozenset({(page, "live-group")}), ("already-firing",))
    if experiment.name == "frequent-report":
        # Its page is due from the end of a remedy. The cause may be much older, so that no plan can exclude it.
        yield silent("for-10m", "only-pending")
    else:
        yield preflight("for-10m", (page, "cannot-fire-in-time"), says=(r"9m5\ds|10m",))
    yield silent("threshold-too-high", "never-fired")
    # The rule is the same one in five experiments: where its text alone decides, two of them are enough.
    if experiment.name in ("unclosed-connections", "lost-index", "frequent-report"):
        yield silent("rule-flaps", "only-pending")
    # It needs a fault that lasts for two silences in which the experiment itself does nothing.
    if experiment.name == "unclosed-connections":
        yield silent("page-flaps", "flapped")
    if experiment.name in ("lost-index", "sudden-crowd"):
        yield silent("table-unnamed", "other-labels")


def special(name):
    """What is wrong with the shop of this experiment, or with what the fault can do to it."""
    experiment = EXPERIMENTS[name]
    page = experiment.page

    def cell(defect, verdict, because, may=(), settings=(), outcome=COMPLETED):
        planted = () if settings else (defect,)
        return Cell(experiment, defect, verdict, outcome, failing(*because), frozenset(may), planted, tuple(settings))

    # Left out: whatever is about plans or time-outs, for no statement is slow here: fix-too-weak, plans-stay-slow; and no-orders,
    # which nobody asks for.
    if name == "unclosed-connections":
        yield cell("shop-never-reconnects", FAILED, [("back-after-leak", "never-came-back")])
        # The alert resolves, and those who were refused still are.
        yield cell("errors-cached", FAILED, [("back-after-leak", "never-came-back")])
        # The restart of the shop is all that hurts, if it takes long enough to, and that comes back by itself.
        yield cell("cached-logins", INCONCLUSIVE, [("restart-is-no-cure", "held-already|no-impact")], [("*", "no-impact")])
        yield cell("leaker-capped", INCONCLUSIVE, [("leak", "not-in-force")], [("logins-hurt", "no-impact")])
        # The shop itself never gives some of its connections back: it is well for a while after each start.
        yield cell("fix-missing", FAILED, [("back-after-leak", "did-not-stay|never-came-back|late")], settings=("leak-share=0.05",))
    if name in ("lost-index", "login-storm", "slow-release"):
        retries = ("retries=3",) if name == "login-storm" else ()
        others = [("images-unharmed", NOT_HELD), ("uploads-unharmed", NOT_HELD)]
        # A page that is asked for three times a second: whether a time-out that is too weak spares it is chance.
        admin = ("admin-unharmed", NOT_HELD)
        # Whoever tries again looks like an attack, and those who give up and come again like the network.
        crowd = [("PossibleDDoS", "forbidden-fired")] if retries else []
        # A pool that is full grows into the server's last connections.
        others += [(SLOTS, "forbidden-fired")] if name == "slow-release" else []
        yield cell("fix-missing", FAILED, [*others, admin, ("AppPoolSaturated", "forbidden-fired"), *crowd],
                   [BURSTS, *([("NetworkErrors", "forbidden-fired")] if retries else [])],
                   settings=("statement-timeout=none", *retries))
        yield cell("fix-too-weak", FAILED, [*others, ("AppPoolSaturated", "forbidden-fired")], [BURSTS, admin],
                   settings=("statement-timeout=500ms",))
        # Logins keep the run waiting for steady state to its last second: how the other routes are just then is chance.
        last = [("steady-state/images-answer", "did-not-stay")]
        last += {"lost-index": [("steady-state/uploads-answer", "did-not-stay")],
                 "login-storm": [("steady-state/one-crowd", "did-not-stay")]}.get(name, [])
        # One error of `/admin`, and everybody is given it again.
        yield cell("errors-cached", FAILED, [("logins-back", "never-came-back")], [admin, *last])
        # The index is there again, and the scans go on; only lost-index judges the end of its page.
        stay = [("scan-page/resolved", "not-resolved")] if name == "lost-index" else []
        yield cell("plans-stay-slow", FAILED, [("logins-back", "never-came-back"), *stay], last)
    if name == "lost-index":
        # The same fault hurts through the same logins in the other two: no news of them there.
        # The first login that is cancelled makes the shop give up on all routes. Then nothing scans the table, no page is
        # due, or one comes late or goes away again, and the guardrail `nearly-dead` ends the run.
        yield cell("shop-never-reconnects", FAILED, [*others, admin],
                   [("scan-page", "never-fired|only-pending|flapped|late"), ("scan-page/delivered", "late"), *order(experiment)],
                   outcome=ABORTED)
        yield cell("cached-logins", INCONCLUSIVE, [("logins-hurt", "no-impact")], NO_PAGE)
        # Unharmed until the shop was restarted, which no recovery looks beyond: steady state asks for them at the end.
        yield cell("uploads-unmounted", FAILED, [("steady-state/uploads-answer", "never-came-back")], [BURSTS])
    if name == "slow-release":
        yield cell("leaker-capped", INCONCLUSIVE, [("others", "not-in-force")])
    if name == "frequent-report":
        # The reports of all who wait take the processors from the exporter, too: whether the page is in time is luck.
        # Reports that nobody waits for any more are still computed when the feature is off: it is not always back in time.
        starved = [("scan-page", "late"), ("scan-page/delivered", "late"), BURSTS, ("admin-back", NOT_HELD), ("logins-after", NOT_HELD),
                   *order(experiment)]
        routes = [(f"{route}-unharmed", NOT_HELD) for route in ("logins", "uploads", "images")]
        # Whoever tries again looks like an attack, and those who give up and come again like the network.
        yield cell("fix-missing", FAILED, [*routes, ("writes-go-on", NOT_HELD), ("AppPoolSaturated", "forbidden-fired"),
                                           ("PossibleDDoS", "forbidden-fired")],
                   [*starved, ("NetworkErrors", "forbidden-fired")],
                   settings=("statement-timeout=none", "retries=3"))
        # With 500 ms it passes, and rightly: a dozen reports at a time take longer than that, and are cancelled. Of the twenty
        # that the pool lets through each takes about a second: 2 s never cancel one.
        yield cell("fix-too-weak", FAILED, [*routes, ("AppPoolSaturated", "forbidden-fired")],
                   [*starved, ("writes-go-on", NOT_HELD)], settings=("statement-timeout=2s",))
        # In both the administrators' page soon asks the database nothing: what is left of the scans need not page.
        quiet = [(page, "late|never-fired|only-pending"), (f"{page}/delivered", "late"), *order(experiment)]
        yield cell("shop-never-reconnects", FAILED, [(route, "never-came-back") for route in (
            "logins-unharmed", "uploads-unharmed", "images-unharmed", "writes-go-on", "admin-back", "logins-after")], quiet)
        # Logins fail during the failover, and are remembered: of 5000 customers 2 %, more or less.
        yield cell("errors-cached", FAILED, [("admin-back", "never-came-back")], [*quiet, ("logins-after", NOT_HELD)])
        # Where nothing was broken, the failover may find it well, and must not be blamed for healing it.
        yield cell("no-orders", INCONCLUSIVE, [("admin-hurt", "no-impact")],
                   [*NO_PAGE, ("failover-is-no-cure", "held-already")])
    if name == "sudden-crowd":
        # The bigger pool takes the server's connections, too; and a shop that works on for visitors who have left is not
        # always back in time.
        harmed = [(f"{route}-unharmed", NOT_HELD) for route in ("logins", "uploads", "images")]
        more = [(SLOTS, "forbidden-fired"), ("sales-back", NOT_HELD), ("logins-after", NOT_HELD),
                ("steady-state/uploads-answer", NOT_HELD), BURSTS, *order(experiment),
                # Nor does it always answer a scrape.
                ("ShopDown", "forbidden-fired")]
        yield cell("fix-missing", FAILED, harmed, more, settings=("statement-timeout=none", "report-limit=none"))
        # 18 pass, and rightly: two of the pool's connections are enough for everybody else. 60 are more than the pool has.
        yield cell("fix-too-weak", FAILED, harmed, more, settings=("report-limit=60",))
        yield cell("no-orders", INCONCLUSIVE, [("sales-hurt", "no-impact")],
                   [*NO_PAGE, ("bigger-pool-is-no-cure", "held-already")])


def cells(healthy):
    """With so many healthy ones over all experiments."""
    for position, (name, experiment) in enumerate(EXPERIMENTS.items()):
        for number in range(1, 1 + len(range(position, healthy, len(EXPERIMENTS)))):
            yield Cell(experiment, f"healthy-{number}")
        yield from common(experiment)
        yield from special(name)


# ---- what came out, against what is expected

def reasons_of(cell, actual):
    """What the verdict rests on: failures, else the circumstances that kept it from starting, else doubts."""
    if cell.verdict in (PASSED, FAILED):
        return {tuple(each) for each in actual["failed"]}
    return {tuple(each) for each in actual["circumstances" if cell.outcome == NOT_STARTED else "doubted"]}


def fits(wanted, reason):
    """Of a wanted (name, code), either may be `*`; codes may be alternatives: late|never-came-back."""
    return wanted[0] in (ANY, reason[0]) and (wanted[1] == ANY or reason[1] in wanted[1].split("|"))


def allowed(cell, reason):
    # What hangs on a fault without effect is in doubt for the same reason.
    if cell.verdict == INCONCLUSIVE and cell.outcome == COMPLETED and any(reason[1] in code.split("|") for _, code in cell.because):
        return True
    return any(fits(wanted, reason) for wanted in cell.because | cell.may)


def mismatches(cell, actual):
    said = [f"{what} {actual[what]}, not {wanted}" for what, wanted in
            (("exit", cell.exit_code), ("verdict", cell.verdict), ("outcome", cell.outcome)) if wanted != actual[what]]
    reasons = reasons_of(cell, actual)
    said += [f"not found: {name} {code}" for name, code in sorted(cell.because)
             if not any(fits((name, code), reason) for reason in reasons)]
    said += [f"for another reason: {name} {code}" for name, code in sorted(reasons) if not allowed(cell, (name, code))]
    return said


def unexplained(cell, actual, changed):
    """Of the lines that a look found different, those that no remedy of the run declares as changed."""
    leaves = cell.experiment.leaves if actual["outcome"] != NOT_STARTED else ()
    return [line for line in changed if not any(re.fullmatch(leave, line[2:]) for leave in leaves)]


def wrong(cell, line):
    """All that is not as it must be, of a line of the results."""
    if not line["actual"]:
        return line["complaints"]
    changed = unexplained(cell, line["actual"], line.get("changed", []))
    return mismatches(cell, line["actual"]) + [f"changed: {each}" for each in changed] + line["complaints"]


# ---- the part that `./dev test` runs, in four minutes two at a time: each way to be found early once, and some late ones

SUBSET = (
    "unclosed-connections/rule-deleted", "lost-index/label-wrong", "login-storm/route-wrong",
    "frequent-report/receiver-not-wired", "sudden-crowd/silenced", "slow-release/exporter-blind",
    "unclosed-connections/metric-absent", "lost-index/already-firing", "sudden-crowd/for-10m",
    "unclosed-connections/threshold-too-high", "unclosed-connections/shop-never-reconnects",
    "lost-index/fix-missing", "lost-index/cached-logins",
)
