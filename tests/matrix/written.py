"""What the matrix writes: its tables and figures, as Markdown."""

import os
import statistics

import table


# What a line has under `clocks`, as the page says it.
CLOCKS = {"detect": "when the alert fired (Firedrill), and when on-call was told of it",
          "delivered": "when on-call was told (Firedrill), and when",
          "end delivered": "when on-call was told that it is over (Firedrill), and when"}


def reasons_text(reasons):
    return ", ".join(f"`{name}` {code.replace('|', ' or ')}" for name, code in sorted(map(tuple, reasons)))


def expected_text(cell):
    text = cell.verdict if cell.outcome == "completed" else f"{cell.verdict}, {cell.outcome}"
    return text + (f": {reasons_text(cell.because)}" if cell.because else "")


def reasons_in(line):
    actual = line["actual"]
    return actual["failed"] or actual["circumstances"] or actual["doubted"]


def verdict_text(line):
    actual = line["actual"]
    if actual is None:
        return "not observed"
    text = actual["verdict"] if actual["outcome"] == "completed" else f"{actual['verdict']}, {actual['outcome']}"
    reasons = reasons_in(line)
    return text + (f": {reasons_text(reasons)}" if reasons else "")


def figures(cells, lines):
    seen = [(cell, lines[cell.key]) for cell in cells if cell.key in lines]
    planted = [(cell, line) for cell, line in seen if not cell.healthy]
    healthy = [line for cell, line in seen if cell.healthy]
    found = [cell for cell, line in planted if line["actual"] and not table.mismatches(cell, line["actual"])]
    alarms = [line for line in healthy if line["actual"] is None or line["actual"]["verdict"] != "passed"]
    clocks = [(name, abs(seconds)) for _, line in seen for name, seconds in line["clocks"].items() if seconds is not None]
    text = [f"- {len(seen)} of {len(cells)} cells"] if len(seen) < len(cells) else []
    text += [f"- defects found for their reason: **{len(found)} of {len(planted)}** planted",
            f"- false alarms: **{len(alarms)} in {len(healthy)}** healthy runs"]
    for name, what in CLOCKS.items():
        values = [seconds for each, seconds in clocks if each == name]
        if values:
            text.append(f"- {what} by the pager's own clock, {len(values)} runs, whatever their verdict: at most {max(values):.3f} s "
                        f"apart, median {statistics.median(values):.3f} s")
    apart = sum(any(seconds is None for seconds in line["clocks"].values()) for _, line in seen)
    text.append(f"- runs in which only one of Firedrill and the pager knows of an expected page, or of its end: {apart}")
    spoilt = [line for cell, line in seen if any(each.startswith(("changed:", table.LEFT)) for each in table.wrong(cell, line))]
    unseen = [line for _, line in seen if line not in spoilt and not line.get("looked", line["actual"])]
    text.append(f"- runs after which the independent look found something changed or left: {len(spoilt)} of {len(seen) - len(unseen)}"
                + (f"; after {len(unseen)} more nobody could look" if unseen else ""))
    again = sum(line.get("tries", 1) - 1 for _, line in seen)
    text.append(f"- runs whose steady state did not hold, and that were started again for that alone: {again}")
    busy = [line["busy"] for _, line in seen if line.get("busy")]
    if busy:
        shares = sorted(each["share"] for each in busy)
        text.append(f"- during {len(busy)} of {len(seen)} runs another program of normal priority kept one processor busy; it got "
                    f"{100 * shares[0]:.0f} to {100 * shares[-1]:.0f} % of it")
    commits = sorted({line.get("commit", "?") for _, line in seen})
    loads = [load for _, line in seen for load in line.get("load", [])]
    if loads:
        nice = sorted({line["nice"] for _, line in seen if line.get("nice")})
        text.append(f"- commit {', '.join(f'`{each}`' for each in commits)}; {os.cpu_count()} processors, load {min(loads):.1f} "
                    f"to {max(loads):.1f}, median {statistics.median(loads):.1f}"
                    + (f"; the lab with niceness {', '.join(map(str, nice))}" if nice else ""))
    return "\n".join(text)


def row(planted, cell, line):
    wrong = table.wrong(cell, line)
    right = "**no**: " + "; ".join(wrong).replace("\n", " ").replace("|", "/") if wrong else "yes"
    return f"| {planted} | {expected_text(cell)} | {verdict_text(line)} | {right} |"


def tables(cells, lines):
    text = []
    for experiment in dict.fromkeys(cell.experiment.name for cell in cells):
        seen = [(cell, lines[cell.key]) for cell in cells if cell.experiment.name == experiment and cell.key in lines]
        text += [f"### {experiment}", "", "| planted | expected | came out | right |", "|---|---|---|---|"]
        healthy = [(cell, line) for cell, line in seen if cell.healthy]
        good = [cell for cell, line in healthy if not table.wrong(cell, line)]
        if good:
            text.append(f"| nothing, {len(good)} runs | passed | passed | yes |")
        text += [row(cell.defect, cell, line) for cell, line in healthy if table.wrong(cell, line)]
        text += [row(cell.defect, cell, line) for cell, line in seen if not cell.healthy]
        text.append("")
    return "\n".join(text)


def page(cells, lines):
    last = max((line.get("at", "") for line in lines.values()), default="")[:10]
    return f"""# The matrix of truth

Does Firedrill tell the truth? A defect is planted in the victim, an experiment of the repository is run, and the verdict
must be the one that belongs to the defect, for its own reason; a healthy victim must pass. After each run an independent
look at servers, machine, processes and files must find what it found before, except what a remedy declares as changed.
`./dev matrix` does all of it again, `./dev matrix --markdown docs/truth.md` writes this page; what is expected, and why, is in
`tests/matrix/table.py`, and `experiments/lab/lab defects` says what each defect is.

The last whole run, {last}{', with one processor kept busy by another program' if any(cell.busy for cell in cells) else ''}:

{figures(cells, lines)}

Where more reasons came out than are expected, they hang on those, as a page that never comes is after every symptom that does, or the
table allows them with a reason of its own.

{tables(cells, lines).rstrip()}
"""
