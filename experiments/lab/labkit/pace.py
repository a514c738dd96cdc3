"""The experiments at the lab's pace. They are written for an interval of 1 s; alerting that looks every 15 s needs more time.

Three clocks: what alerting does takes `interval` times as long; faults last and remedies come `stretch(interval)` times as
late, so that alerting has the time for it; what customers see is on its own clock and stays as it is written.
"""

import json
import math
import os
import re

from labkit.accounts import LabError

EXPERIMENTS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..")


def stretch(interval_s):
    """An alert is told within a third of the fault's time when both are at their worst."""
    return max(1, math.ceil(interval_s / 3))


def fading(interval_s):
    """What is over is seen sooner than what has come, measured: what a rule looks back on grows with the interval, what follows
    hardly does. A run waits out the whole limit, since a page might come again."""
    return max(1, math.ceil(interval_s * 2 / 3))


def times(duration, factor):
    match = re.fullmatch(r"(\d+)(ms|s|m|h)", duration)
    if not match:
        raise LabError(f"'{duration}' is no duration that the lab can make longer")
    return f"{int(match[1]) * factor}{match[2]}"


def windows(query, interval_s):
    return re.sub(r"\[(\d+)s\]", lambda match: f"[{int(match[1]) * interval_s}s]", query)


def paced(experiment, interval_s):
    """The definition at another interval, as a new one."""
    experiment = json.loads(json.dumps(experiment))
    if interval_s == 1:
        return experiment
    spec, longer = experiment["spec"], stretch(interval_s)

    def slow(part, key, factor):
        if key in part:
            part[key] = times(part[key], factor)

    slow(spec["limits"], "maxDuration", longer)
    for step in spec.get("faults", []) + spec.get("remedies", []):
        slow(step, "at", longer)
        slow(step, "duration", longer)
    expect = spec["expect"]
    for alert in expect.get("alerts", []):
        slow(alert, "firingWithin", interval_s)
        slow(alert.get("notification", {}), "within", interval_s)
        slow(alert.get("resolved", {}), "within", fading(interval_s))
    scraped = {probe["name"] for probe in spec.get("steadyState", []) if "prometheus" in probe}
    for check in expect.get("recovery", []):
        if "prometheus" in check or check.get("probe") in scraped:
            slow(check, "within", fading(interval_s))
        elif check.get("since", "").endswith(".start"):
            # Harm is looked for during all of the fault; what came back holds as long as ever.
            slow(check, "for", longer)
    for probe in spec.get("steadyState", []) + expect.get("recovery", []):
        if "prometheus" in probe:
            probe["prometheus"]["query"] = windows(probe["prometheus"]["query"], interval_s)
    return experiment


def write_all(folder, interval_s):
    """Each experiment as a file of its own in the folder, which is made."""
    try:
        import yaml
    except ImportError as error:
        raise LabError("experiments at another interval need the Debian package python3-yaml") from error
    os.mkdir(folder)
    for name in sorted(os.listdir(EXPERIMENTS)):
        if not name.endswith(".yaml"):
            continue
        with open(os.path.join(EXPERIMENTS, name)) as file:
            definition = yaml.safe_load(file)
        with open(os.path.join(folder, name), "w") as file:
            file.write(f"# Written by `lab up --interval {interval_s}s` from experiments/{name}, which says why.\n")
            yaml.safe_dump(paced(definition, interval_s), file, sort_keys=False, width=120)
