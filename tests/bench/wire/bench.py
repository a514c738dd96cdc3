#!/usr/bin/python3
"""Compares Firedrill's relay with other proxies and with no proxy at all, in one interleaved run.

Every figure is a ratio to what ran beside it within the same seconds: the contestants take turns in short slices, and
of each one's slices the best quarter counts, since whatever else the machine does only ever makes a slice worse.
"""

import argparse
import itertools
import json
import os
import pathlib
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "testing")]

from bare_postgres import BarePostgres  # noqa: E402
from contestants import PROXIES, Contestants  # noqa: E402
from look import connect  # noqa: E402

PGBENCH = "/usr/lib/postgresql/15/bin/pgbench"
GROUPS = ("pgbench", "echo", "bulk", "idle", "delay", "paced", "revert", "cycles")
IDLE_CONNECTIONS = 5000
IDLE_SESSIONS = 500
CYCLES = 1000
DELAYS_MS = (1, 5, 20, 100)
DELAY_SLICE_MS = 4000
RULES_TITLE = "what rules cost: pgbench -S -c 1, one CPU"


def say(words):
    print(words, file=sys.stderr, flush=True)


def best_quarter(values, better=max):
    """The mean of the better quarter."""
    ordered = sorted(values, reverse=better is max)
    kept = ordered[:max(1, len(ordered) // 4)]
    return sum(kept) / len(kept)


class Traffic:
    """Both ends of the measured traffic: wire_traffic."""

    def __init__(self, program):
        self.program = str(program)
        self.server = subprocess.Popen([self.program, "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.server.stdout.readline())

    def client(self, mode, port, *words):
        done = subprocess.run([self.program, mode, "127.0.0.1", str(port)] + [str(word) for word in words],
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError(f"wire_traffic {mode} through port {port}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def stop(self):
        self.server.stdin.close()
        self.server.wait(10)
        self.server.stdout.close()


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.random = random.Random(arguments.seed)
        self.results = {}
        self.traffic = Traffic(arguments.programs / "wire_traffic")

    def turns(self, names, rounds=None):
        """Every contestant once a round, in another order each round."""
        for _ in range(rounds or self.arguments.rounds):
            order = list(names)
            self.random.shuffle(order)
            yield from order

    # ---- pgbench ------------------------------------------------------------------------------------

    def pgbench(self):
        settings = ("max_connections=200", "shared_buffers=256MB", "autovacuum=off")
        postgres = BarePostgres(*settings)
        try:
            self._run_pgbench(postgres.port, ["-i", "-q", "-s", "10"])
            with Contestants(self.arguments.programs) as start:
                ports, proxies = {"direct": postgres.port}, {}
                for name in PROXIES:
                    proxies[name] = start.start(name, postgres.port, "postgresql")
                if self.arguments.rules:
                    proxies["firedrill+rules"] = start.start("firedrill", postgres.port, "postgresql",
                                                             ["--rules", str(self.arguments.rules)])
                ports.update({name: proxy.ports[0] for name, proxy in proxies.items()})
                one, every = {0}, os.sched_getaffinity(0)
                self._compare_pgbench("pgbench -S -c 1, one CPU", postgres, ports, proxies, 1, one)
                if self.arguments.rules:
                    self._compare_rules(postgres, ports, proxies, one)
                self._compare_pgbench("pgbench -S -c 1", postgres, ports, proxies, 1, every)
                self._compare_pgbench("pgbench -S -c 16", postgres, ports, proxies, 16, every)
        finally:
            postgres.stop()

    def _run_pgbench(self, port, words, cpus=None):
        arguments = [PGBENCH, "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", *words, "postgres"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120,
                              preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None)
        if done.returncode != 0:
            raise RuntimeError(f"pgbench through port {port}: {done.stderr.strip()}")
        return done.stdout

    @staticmethod
    def _pin(postgres, proxies, cpus):
        os.sched_setaffinity(postgres.process.pid, cpus)  # Sessions inherit it.
        for proxy in proxies.values():
            proxy.pin(cpus)

    def _pgbench_slice(self, name, ports, proxies, clients, cpus):
        """The rate, and the microseconds of CPU per query that the proxy took, if it is one."""
        before = proxies[name].cpu_ns() if name in proxies else 0
        words = self._run_pgbench(ports[name], ["-n", "-S", "-c", str(clients), "-j", "1", "-T",
                                                str(self.arguments.slice)], cpus)
        done = int(re.search(r"transactions actually processed: (\d+)", words).group(1))
        rate = float(re.search(r"tps = ([0-9.]+)", words).group(1))
        return rate, (proxies[name].cpu_ns() - before) / done / 1e3 if name in proxies else None

    def _compare_pgbench(self, title, postgres, ports, proxies, clients, cpus):
        say(title)
        self._pin(postgres, proxies, cpus)
        rates, costs = {name: [] for name in ports}, {name: [] for name in proxies}
        for name in self.turns(ports):
            rate, cost = self._pgbench_slice(name, ports, proxies, clients, cpus)
            rates[name].append(rate)
            if name in proxies:
                costs[name].append(cost)
        direct = best_quarter(rates["direct"])
        table = {}
        for name in ports:
            rate = best_quarter(rates[name])
            table[name] = {"tps": round(rate), "of_direct": round(rate / direct, 3)}
            if name in costs:
                table[name]["cpu_us_per_query"] = round(best_quarter(costs[name], min), 2)
        for name in ports:
            table[name]["of_bare"] = round(table[name]["tps"] / table["bare"]["tps"], 3)
            if name in costs:
                table[name]["cpu_of_bare"] = round(
                    table[name]["cpu_us_per_query"] / table["bare"]["cpu_us_per_query"], 3)
        self.results[title] = table

    def _compare_rules(self, postgres, ports, proxies, cpus):
        """Less than slices differ by: so these two take turns by themselves, and what counts is the median of what each
        turn says."""
        title = RULES_TITLE
        say(title)
        self._pin(postgres, proxies, cpus)
        names = ("firedrill", "firedrill+rules")
        rates, costs = {name: [] for name in names}, {name: [] for name in names}
        for name in self.turns(names, 4 * self.arguments.rounds):
            rate, cost = self._pgbench_slice(name, ports, proxies, 1, cpus)
            rates[name].append(rate)
            costs[name].append(cost)
        shares = [1 - ruled / plain for plain, ruled in zip(*(rates[name] for name in names))]
        more_cpu = [ruled / plain - 1 for plain, ruled in zip(*(costs[name] for name in names))]
        self.results[title] = {"firedrill+rules": {"share_of_rate": round(statistics.median(shares), 3),
                                                   "share_of_cpu": round(statistics.median(more_cpu), 3),
                                                   "turns": len(shares)}}

    # ---- requests and answers, bulk, idle connections -------------------------------------------------

    def _tcp_contestants(self, start):
        proxies = {name: start.start(name, self.traffic.port) for name in PROXIES if name != "pgbouncer"}
        ports = {"direct": self.traffic.port}
        ports.update({name: proxy.ports[0] for name, proxy in proxies.items()})
        return ports, proxies

    def echo(self):
        say("echo of 64 bytes")
        with Contestants(self.arguments.programs) as start:
            ports, proxies = self._tcp_contestants(start)
            trips, costs = {name: [] for name in ports}, {name: [] for name in proxies}
            count = 5000
            for name in self.turns(ports):
                before = proxies[name].cpu_ns() if name in proxies else 0
                trips[name].append(self.traffic.client("echo", ports[name], count)["p50_us"])
                if name in proxies:
                    costs[name].append((proxies[name].cpu_ns() - before) / count / 1e3)
            direct = best_quarter(trips["direct"], min)
            self.results["echo of 64 bytes"] = {
                name: {"p50_us": round(best_quarter(trips[name], min), 1),
                       "added_us": round(best_quarter(trips[name], min) - direct, 1),
                       **({"cpu_us_per_echo": round(best_quarter(costs[name], min), 1)} if name in costs else {})}
                for name in ports}

    def bulk(self):
        size = self.arguments.bulk_mib << 20
        with Contestants(self.arguments.programs) as start:
            ports, proxies = self._tcp_contestants(start)
            for way in ("up", "down"):
                say(f"bulk {way}")
                speed, costs = {name: [] for name in ports}, {name: [] for name in proxies}
                for name in self.turns(ports):
                    before = proxies[name].cpu_ns() if name in proxies else 0
                    speed[name].append(self.traffic.client("bulk", ports[name], way, size)["gbit_per_second"])
                    if name in proxies:
                        costs[name].append((proxies[name].cpu_ns() - before) / 1e6 / (size / 1e9))
                table = {}
                for name in ports:
                    rate = best_quarter(speed[name])
                    table[name] = {"gbit_per_second": round(rate, 2),
                                   "of_haproxy": round(rate / best_quarter(speed["haproxy"]), 3)}
                    if name in costs:
                        cost = best_quarter(costs[name], min)
                        table[name]["cpu_ms_per_gb"] = round(cost)
                        table[name]["cpu_of_nginx"] = round(cost / best_quarter(costs["nginx"], min), 3)
                self.results[f"bulk {way}"] = table

    def idle(self):
        """User memory of a proxied connection that has been used once, and what is left after its close."""
        say(f"memory of {IDLE_CONNECTIONS} idle connections")
        table = {}
        with Contestants(self.arguments.programs) as start:
            _, proxies = self._tcp_contestants(start)
            for name, proxy in proxies.items():
                before = proxy.memory_kib()
                client = subprocess.Popen([self.traffic.program, "idle", "127.0.0.1", str(proxy.ports[0]),
                                           str(IDLE_CONNECTIONS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                line = client.stdout.readline()
                if json.loads(line or b"{}").get("open") != IDLE_CONNECTIONS:
                    client.kill()
                    client.wait()
                    raise RuntimeError(f"{name} did not carry {IDLE_CONNECTIONS} connections: {line!r}")
                time.sleep(0.5)
                during = proxy.memory_kib()
                client.stdin.close()
                client.wait(30)
                client.stdout.close()
                time.sleep(2)
                after = proxy.memory_kib()
                table[name] = {"kib_per_connection": round((during - before) / IDLE_CONNECTIONS, 2),
                               "kib_kept_after_close": round((after - before) / IDLE_CONNECTIONS, 2)}
        self.results[f"memory of {IDLE_CONNECTIONS} idle connections"] = table
        self._idle_sessions()

    def _idle_sessions(self):
        """The same where every message is read; a server of PostgreSQL has no room for thousands."""
        say(f"memory of {IDLE_SESSIONS} idle sessions of PostgreSQL")
        table = {}
        postgres = BarePostgres(f"max_connections={IDLE_SESSIONS + 20}")
        try:
            with Contestants(self.arguments.programs) as start:
                for name in ("firedrill", "haproxy", "nginx"):
                    proxy = start.start(name, postgres.port, "postgresql")
                    self._open_sessions(proxy.ports[0], 20)
                    before = proxy.memory_kib()
                    sessions = self._open_sessions(proxy.ports[0], IDLE_SESSIONS)
                    time.sleep(0.5)
                    during = proxy.memory_kib()
                    for session in sessions:
                        session.close()
                    time.sleep(2)
                    table[name] = {"kib_per_session": round((during - before) / IDLE_SESSIONS, 2),
                                   "kib_kept_after_close": round((proxy.memory_kib() - before) / IDLE_SESSIONS, 2)}
        finally:
            postgres.stop()
        self.results[f"memory of {IDLE_SESSIONS} idle sessions of PostgreSQL"] = table

    @staticmethod
    def _open_sessions(port, count):
        """Each has a statement prepared and has run it; none is kept by anyone but the caller."""
        sessions = []
        for _ in range(count):
            session = connect("127.0.0.1", port)
            with session.cursor() as cursor:
                cursor.execute("PREPARE one AS SELECT 1")
                cursor.execute("EXECUTE one")
            sessions.append(session)
        return sessions

    # ---- delays ---------------------------------------------------------------------------------------

    def delay(self):
        """What a delay adds beyond what was asked: the same schedule of sends, which waits for no answer, goes through
        a proxy that delays and through one that does not, in turns."""
        for connections in (1, 50):
            table = {}
            for asked in DELAYS_MS:
                say(f"delay of {asked} ms, {connections} connections")
                # Each answer is back before the next send. Programs that have slept longer wake more slowly, up to
                # some milliseconds: a single connection rests for longer than that, delayed or not.
                period_ms = max(40 if connections == 1 else 10, 2 * asked)
                count = max(10, DELAY_SLICE_MS // period_ms)
                delays_us = {"delayed": asked * 1000, "not_delayed": 0}
                with Contestants(self.arguments.programs) as start:
                    ports = {"delayed": start.start("firedrill", self.traffic.port, "tcp",
                                                    ["--delay-to-client", f"{asked}ms"]).ports[0],
                             "not_delayed": start.start("firedrill", self.traffic.port, "tcp").ports[0]}
                    slices = {name: [] for name in ports}
                    for name in self.turns(ports):
                        slices[name].append(self.traffic.client("delay", ports[name], connections, count, delays_us[name],
                                                                period_ms * 1000))
                row = {f"{name}_{quantile}": round(best_quarter([one[quantile] for one in slices[name]], min), 1)
                       for quantile in ("p50_us", "p99_us") for name in ("delayed", "not_delayed")}
                table[f"{asked} ms"] = {
                    "beyond_p50_us": row["delayed_p50_us"], "not_delayed_p50_us": row["not_delayed_p50_us"],
                    "error_p50_us": round(row["delayed_p50_us"] - row["not_delayed_p50_us"], 1),
                    "beyond_p99_us": row["delayed_p99_us"], "not_delayed_p99_us": row["not_delayed_p99_us"],
                    "error_p99_us": round(row["delayed_p99_us"] - row["not_delayed_p99_us"], 1),
                    "early": sum(one["early"] for one in slices["delayed"]),
                    "trips": sum(one["trips"] for one in slices["delayed"])}
            self.results[f"round trip beyond the delay asked, {connections} connection(s)"] = table

    def paced(self):
        say("50 000 messages a second under 100 ms")
        with Contestants(self.arguments.programs) as start:
            proxy = start.start("firedrill", self.traffic.port, "tcp", ["--delay-to-client", "100ms"])
            rounds = [self.traffic.client("paced", proxy.ports[0], 50000, 3) for _ in range(3)]
        best = min(rounds, key=lambda one: one["p99_us"])
        self.results["50 000 messages a second under 100 ms"] = {
            "firedrill": {"delivered": min(one["delivered"] for one in rounds), "p50_us": best["p50_us"],
                          "p99_us": best["p99_us"]}}

    # ---- applying and reverting -----------------------------------------------------------------------

    def _toggle(self, proxy):
        """Takes the disturbance off, or puts it on again; how many milliseconds that took."""
        proxy.process.send_signal(signal.SIGUSR1)
        return int(proxy.process.stdout.readline()) / 1e3

    def revert(self):
        """With nothing held, and with bytes of every connection held; every one must get them. Beside it, what the same
        sends take without a proxy."""
        title = f"revert with {IDLE_CONNECTIONS} open connections"
        say(title)
        took, broken = {name: [] for name in ("all idle", "all with bytes held", "bytes sent without a proxy")}, 0
        with Contestants(self.arguments.programs) as start:
            proxy = start.start("firedrill", self.traffic.port, "tcp", ["--delay-to-server", "10m"])
            self._toggle(proxy)
            client, direct = (self._open_idle(port) for port in (proxy.ports[0], self.traffic.port))
            for _ in range(max(3, self.arguments.rounds)):
                self._toggle(proxy)
                took["all idle"].append(self._toggle(proxy))
                self._toggle(proxy)
                self._ask(client, "send")
                time.sleep(0.5)
                took["all with bytes held"].append(self._toggle(proxy))
                broken += IDLE_CONNECTIONS - self._ask(client, "receive").get("answered", 0)
                took["bytes sent without a proxy"].append(self._ask(direct, "send")["took_ms"])
                self._ask(direct, "receive")
            for one in (client, direct):
                one.stdin.close()
                one.wait(30)
                one.stdout.close()
        self.results[title] = {name: {"median_ms": round(statistics.median(times), 1),
                                      "worst_ms": round(max(times), 1), "times": len(times)}
                               for name, times in took.items()}
        self.results[title]["all with bytes held"]["broken"] = broken

    def _open_idle(self, port):
        client = subprocess.Popen([self.traffic.program, "idle", "127.0.0.1", str(port), str(IDLE_CONNECTIONS)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        client.stdout.readline()
        return client

    def _ask(self, client, order):
        client.stdin.write(order + "\n")
        client.stdin.flush()
        return json.loads(client.stdout.readline() or "{}")

    def cycles(self):
        title = f"{CYCLES} times applied and reverted, downloads in flight, clients that leave"
        say(title)
        with Contestants(self.arguments.programs) as start:
            proxy = start.start("firedrill", self.traffic.port, "tcp", ["--delay-to-client", "3ms"])
            churn = subprocess.Popen([self.traffic.program, "churn", "127.0.0.1", str(proxy.ports[0])],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            time.sleep(0.2)
            took = []
            for _ in range(CYCLES):
                both = self._toggle(proxy)
                took.append(both + self._toggle(proxy))
                time.sleep(0.005)
            left = json.loads(churn.communicate(timeout=60)[0])["left"]
        took.sort()
        self.results[title] = {"firedrill": {"median_ms": round(took[len(took) // 2], 2),
                                             "p99_ms": round(took[len(took) * 99 // 100], 2),
                                             "worst_ms": round(took[-1], 2), "clients_that_left": left}}

    # ---- all of it ------------------------------------------------------------------------------------

    def run(self):
        try:
            for group in self.arguments.only or GROUPS:
                getattr(self, group)()
        finally:
            self.traffic.stop()


class Goals:
    """What is promised of these figures. What was not measured is not among them."""

    def __init__(self, results):
        self.results = results
        self.table = {}

    def _figure(self, title, row, column):
        return self.results.get(title, {}).get(row, {}).get(column)

    def at_least(self, what, limit, title, row, column):
        self._judge(what, f">= {limit:g}", self._figure(title, row, column), lambda figure: figure >= limit)

    def at_most(self, what, limit, title, row, column):
        self._judge(what, f"<= {limit:g}", self._figure(title, row, column), lambda figure: figure <= limit)

    def _judge(self, what, goal, figure, fits):
        if figure is not None:
            self.table[what] = {"goal": goal, "measured": figure, "met": "yes" if fits(figure) else "NO"}

    def judge(self):
        one = "pgbench -S -c 1, one CPU"
        self.at_least("pgbench -S -c 1 on one CPU, of direct", 0.60, one, "firedrill", "of_direct")
        self.at_least("... of the bare loop", 0.95, one, "firedrill", "of_bare")
        for other in ("nginx", "haproxy"):
            rate = self._figure(one, other, "tps")
            mine = self._figure(one, "firedrill", "tps")
            if rate and mine:
                self._judge(f"... of {other}", ">= 1", round(mine / rate, 3), lambda figure: figure >= 1)
        self.at_most("CPU per query, of the bare loop's", 1.15, one, "firedrill", "cpu_of_bare")
        self.at_most("share of the rate that rules cost", 0.05, RULES_TITLE, "firedrill+rules", "share_of_rate")
        for way in ("up", "down"):
            self.at_least(f"bulk {way}, of haproxy", 1.1, f"bulk {way}", "firedrill", "of_haproxy")
            self.at_most(f"bulk {way}, CPU per GB of nginx'", 0.8, f"bulk {way}", "firedrill", "cpu_of_nginx")
        idle = f"memory of {IDLE_CONNECTIONS} idle connections"
        self.at_most("KiB of an idle connection", 2, idle, "firedrill", "kib_per_connection")
        self.at_most("KiB of it that are kept after its close", 0.1, idle, "firedrill", "kib_kept_after_close")
        sessions = f"memory of {IDLE_SESSIONS} idle sessions of PostgreSQL"
        self.at_most("KiB of an idle session, with PostgreSQL's codec", 2, sessions, "firedrill", "kib_per_session")
        for connections, asked in itertools.product((1, 50), DELAYS_MS):
            title = f"round trip beyond the delay asked, {connections} connection(s)"
            of = f"a delay of {asked} ms on {connections}"
            self.at_most(f"us beyond {of}, median", 100, title, f"{asked} ms", "error_p50_us")
            self.at_most(f"trips before {of} was over", 0, title, f"{asked} ms", "early")
        paced = "50 000 messages a second under 100 ms"
        self.at_least("share of paced messages that arrived", 1, paced, "firedrill", "delivered")
        self.at_most("us of a paced message, p99", 115000, paced, "firedrill", "p99_us")
        revert = f"revert with {IDLE_CONNECTIONS} open connections"
        self.at_most(f"ms of a {revert}, worst", 50, revert, "all idle", "worst_ms")
        self.at_most("... all with bytes held, worst", 50, revert, "all with bytes held", "worst_ms")
        self.at_most("connections that it broke", 0, revert, "all with bytes held", "broken")
        cycles = f"{CYCLES} times applied and reverted, downloads in flight, clients that leave"
        self.at_most("ms of applying and reverting under churn, worst", 100, cycles, "firedrill", "worst_ms")
        return self.table


def cpu_model():
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def show(results):
    """As Markdown tables, which read well in a terminal too."""
    for title, table in results.items():
        columns = list(dict.fromkeys(column for row in table.values() for column in row))
        width = max([len(name) for name in table] + [1])
        print(f"\n{title}\n")
        print("| " + " | ".join([" " * width] + columns) + " |")
        print("|" + "|".join(["-" * (width + 2)] + ["-" * (len(column) + 1) + ":" for column in columns]) + "|")
        for name, row in table.items():
            cells = ["–" if column not in row else
                     row[column] if isinstance(row[column], str) else f"{row[column]:g}" for column in columns]
            print("| " + " | ".join([name.ljust(width)] +
                                    [cell.rjust(len(column)) for cell, column in zip(cells, columns)]) + " |")


def main():
    # What was started is stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="where wire_proxy and its partners are")
    parser.add_argument("--rounds", type=int, default=8, help="slices of each contestant (default 8)")
    parser.add_argument("--slice", type=int, default=2, help="seconds of a pgbench slice (default 2)")
    parser.add_argument("--bulk-mib", type=int, default=512, help="size of a bulk transfer (default 512)")
    parser.add_argument("--rules", type=int, default=20, help="query rules of the second Firedrill (0: none)")
    parser.add_argument("--only", action="append", choices=GROUPS, help="only this group; may be repeated")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of the order of turns")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    arguments = parser.parse_args()
    arguments.programs = arguments.programs.resolve()  # What is started there stands elsewhere.
    load_before = os.getloadavg()
    bench = Bench(arguments)
    bench.run()
    machine = {"cpus": len(os.sched_getaffinity(0)), "model": cpu_model(), "kernel": platform.release(),
               "load_before": load_before[0], "seed": arguments.seed, "rounds": arguments.rounds,
               "date": time.strftime("%Y-%m-%d")}
    goals = Goals(bench.results).judge()
    show({**bench.results, "goals": goals})
    print(f"\n{machine['cpus']} CPUs, {machine['model']}, Linux {machine['kernel']}; load before: "
          f"{load_before[0]:.2f}; seed {arguments.seed}; the best quarter of {arguments.rounds} slices each")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "results": bench.results, "goals": goals}, indent=2) + "\n")


if __name__ == "__main__":
    main()
