"""`lab check`: what the lab would generate, with and without each defect, judged by promtool and amtool."""

import os
import subprocess
import tempfile

from labkit import configuration
from labkit.accounts import program
from labkit.defects import ALERTS, DEFECTS, SLOTS_ALERT, fits
from labkit.extras import EXTRAS
from labkit.ports import Ports


def judge(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def check_one(folder, interval_s, defects, alert):
    ports = Ports({name: 20000 + index for index, name in enumerate(configuration.port_names(EXTRAS))})
    os.makedirs(os.path.join(folder, "rules"))
    token = os.path.join(folder, "webhook.token")
    files = {"webhook.token": "x", "prometheus.yml": configuration.prometheus_text(ports, interval_s, defects, alert),
             "alertmanager.yml": configuration.alertmanager_text(ports, interval_s, defects, token)}
    for name, text in configuration.rule_texts(interval_s, defects, EXTRAS, alert).items():
        files[os.path.join("rules", name)] = text
    for name, text in files.items():
        with open(os.path.join(folder, name), "w") as written:
            written.write(text)
    # `check config` follows rule_files, so it judges the rules too.
    return all([judge([program("promtool", "prometheus"), "check", "config",
                       os.path.join(folder, "prometheus.yml")]),
                judge([program("amtool", "prometheus-alertmanager"), "check-config",
                       os.path.join(folder, "alertmanager.yml")])])


def run():
    cases = [("no defect", 1, [], SLOTS_ALERT), ("interval 15s", 15, [], SLOTS_ALERT)]
    cases += [(f"{name} of {alert}", 1, [name], alert) for alert in ALERTS for name in DEFECTS if fits(name, alert)]
    good = True
    with tempfile.TemporaryDirectory(prefix="firedrill-lab-check-") as folder:
        for index, (title, interval_s, defects, alert) in enumerate(cases):
            fine = check_one(os.path.join(folder, str(index)), interval_s, defects, alert)
            print(f"{'ok ' if fine else 'BAD'} {title}")
            good = good and fine
    return 0 if good else 1
