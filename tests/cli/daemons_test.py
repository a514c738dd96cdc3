#!/usr/bin/python3
"""A controller and an injector as daemons, with certificates at both ends: a run over the network, who is refused
what, and the emergency lever."""

import os
import re
import resource
import socket
import subprocess
import threading
import time
import unittest

from daemon_stage import DaemonStage
from flood import Flood, more_descriptors
from stage import PROGRAM


class CrowdedDoor:
    """In front of a controller: ends the first connections without a word, and leads the others to it."""

    def __init__(self, to_port):
        self.came = self.turns_away = 0
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.close()

    def _serve(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.came += 1
            if self.came <= self.turns_away:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._to_port))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._lead, args=(one, other), daemon=True).start()

    @staticmethod
    def _lead(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class Daemons(DaemonStage):
    def test_a_run_over_the_network_passes_and_names_its_owner(self):
        daemon, _ = self.up()
        code, out, err = self.ask("get", "injectors", as_who="viewer")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"(?m)^node-a +connected .* role=database +-$")
        run = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 0, self.said(run))
        self.assertIn("passed: 2 passed; completed; every fault undone", self.said(run))
        # Whoever the client says it is: the certificate counts.
        self.assertIn("started by operator", " ".join(self.firedrill("report", "last")[1].split()))
        self.assertEqual(self.look.wait_for_nothing(5, self.look.sessions), [])

    def test_a_role_that_is_too_low_is_refused_before_anything_starts(self):
        daemon, _ = self.up()
        run = self.begin_remote(self.experiment(duration="1s"), as_who="viewer")
        self.assertEqual(run.wait(60), 3, self.said(run))
        said = " ".join(self.said(run).split())
        self.assertIn("/viewer/viewer may not call /firedrill.v1.ControllerService/OwnRun, which takes the role operator", said)
        self.assertIn("refused a call", self.said(daemon))
        self.assertEqual(self.look.wait_for_nothing(5, self.look.sessions), [])

    def test_the_lever_ends_a_run_and_holds_across_a_restart_until_it_is_released(self):
        daemon, injector = self.up()
        run = self.begin_remote(self.experiment())
        self.until_held(run)
        code, out, err = self.ask("stop", "--all", "--reason", "a drill of the lever", as_who="operator")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("1 run stopped", out)
        self.assertEqual(run.wait(60), 4, self.said(run))
        self.assertEqual(self.look.wait_for_nothing(5, self.look.sessions), [])
        daemon.terminate()
        self.assertEqual(daemon.wait(30), 0)
        self.controller(self.port)
        # Both share a state folder here, so that the lever's file stops the node as well.
        self.until(lambda: " stopped " in self.ask("get", "injectors", as_who="viewer")[1], "the injector again")
        again = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(again.wait(60), 3, self.said(again))
        self.assertIn("the emergency lever is pulled (operator: a drill of the lever)", " ".join(self.said(again).split()))
        code, _, err = self.ask("unlock", "--reason", "it is over", as_who="operator")
        self.assertEqual(code, 3)
        self.assertIn("takes the role admin", err)
        self.assertEqual(self.ask("unlock", "--reason", "it is over", as_who="admin")[0], 0)
        self.until(lambda: " connected " in self.ask("get", "injectors", as_who="viewer")[1], "the node to be told")
        last = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(last.wait(60), 0, self.said(last))

    def test_who_is_revoked_is_refused_within_seconds(self):
        self.up()
        self.assertEqual(self.ask("get", "injectors", as_who="viewer")[0], 0)
        self.pki("revoke", "ca", "viewer", "--reason", "left the team")
        self.until(lambda: self.ask("get", "injectors", as_who="viewer")[0] != 0, "the refusal")
        code, _, err = self.ask("get", "injectors", as_who="viewer")
        self.assertEqual(code, 3)
        self.assertRegex(err, "viewer/viewer, serial [0-9A-F]+, was revoked: ask for a new one")
        self.assertEqual(self.ask("get", "injectors", as_who="operator")[0], 0)

    def test_a_run_ends_with_the_certificate_of_its_client(self):
        self.up()
        run = self.begin_remote(self.experiment())
        self.until_held(run)
        self.pki("revoke", "ca", "operator", "--reason", "left the team")
        self.assertNotEqual(run.wait(30), 0, self.said(run))
        self.assertEqual(self.look.wait_for_nothing(5, self.look.sessions), [])
        self.assertRegex(self.said(run), r"/operator/operator, serial [0-9A-F]+,\s+was revoked")
        self.until(lambda: "aborted" in self.firedrill("runs")[1], "the end of the run")
        self.assertIn("was revoked", " ".join(self.firedrill("report", "last")[1].split()))

    def test_a_node_whose_certificate_has_ended_heals_itself_and_the_run_is_told_why(self):
        daemon, injector = self.up()
        run = self.begin_remote(self.experiment())
        self.until_held(run)
        self.pki("revoke", "ca", "node-a", "--reason", "it was sold")
        self.assertEqual(self.look.wait_for_nothing(10, self.look.sessions), [])
        # It is off, as was just seen; that node will not tell.
        self.assertEqual(run.wait(60), 5, self.said(run))
        self.assertRegex(" ".join(self.said(run).split()),
                         r"node node-a has been silent for 2s: the certificate of spiffe://[a-z]+/injector/node-a, "
                         r"serial [0-9A-F]+, was revoked")
        self.assertRegex(self.ask("get", "injectors", as_who="viewer")[1], r"(?m)^node-a +away ")
        # A new certificate in the place of the old one: it is let in without being started again.
        self.issue("injector", "node-a")
        self.until(lambda: " connected " in self.ask("get", "injectors", as_who="viewer")[1], "the injector again")
        self.assertIsNone(injector.poll())
        self.assertIsNone(daemon.poll())

    def test_what_the_controllers_site_has_not_is_refused_in_lints_words(self):
        self.up()
        with open(self.experiment()) as file:
            text = file.read().replace("  faults:", "    - {name: shop, http: {endpoint: shop, path: /}, is: \"status == 200\"}\n"
                                       "  faults:")
        for command in ("plan", "run"):
            code, out, err = self.ask(command, self.write("shop.yaml", text), as_who="operator")
            self.assertEqual(code, 2, out + err)
            self.assertRegex(out + err, r"the controller refuses this experiment:\n.*shop\.yaml:[0-9]+:[0-9]+: error: .*shop")
        self.assertEqual(self.outcomes(), [])

    def test_a_controllers_own_limits_hold_whatever_is_asked_for(self):
        self.limits = "{runs: 1, length: 2m}"
        self.up()
        code, out, _ = self.ask("plan", self.experiment(duration="59s"), as_who="operator")
        self.assertEqual(code, 3, out)
        self.assertRegex(" ".join(out.split()), r"this run may take [0-9ms.]+; the controller's limits.length is 2m")
        first = self.begin_remote(self.experiment(duration="5s"))
        self.until_held(first)
        second = self.begin_remote(self.experiment(duration="5s"))
        self.assertEqual(second.wait(60), 3, self.said(second))
        self.assertIn("1 are going on, and the controller's limits.runs is 1", " ".join(self.said(second).split()))
        self.assertEqual(first.wait(60), 0, self.said(first))

    def test_an_injector_serves_under_the_name_of_its_certificate_only(self):
        self.controller()
        other = self.injector(name="node-b")
        self.assertEqual(other.wait(30), 2)
        self.assertIn("the node is node-b, and", self.said(other))
        self.assertIn("issue a certificate for it", self.said(other))
        # As a person nobody is an injector.
        person = self.injector(identity="operator-operator")
        self.assertEqual(person.wait(30), 2)
        self.assertIn("it must be one of role injector", self.said(person))

    def test_what_cannot_work_is_said_before_anything_is_tried(self):
        first = self.controller()
        second = self.controller(self.port)
        self.assertEqual(second.wait(30), 2)
        self.assertIn(f"listen: 127.0.0.1:{self.port} is taken: somebody listens there already", self.said(second))
        self.assertIn(f"`ss -ltnp 'sport = :{self.port}'` says who; end it, or choose another port", self.said(second))
        self.assertIsNone(first.poll())
        # It has taken no epoch, with which it would have shut out the one that serves.
        first.terminate()
        self.assertEqual(first.wait(30), 0)
        third = self.controller(self.port)
        self.assertEqual(self.epoch(third), self.epoch(first) + 1)
        done = subprocess.run([PROGRAM, "get", "injectors", "--controller", f"127.0.0.1:{self.port}"],
                              capture_output=True, text=True, timeout=60, env={})
        self.assertEqual(done.returncode, 2)
        self.assertIn("name your certificate with --identity", done.stderr)
        os.chmod(f"{self.folder}/admin-admin.key", 0o644)
        code, _, err = self.ask("get", "injectors", as_who="admin")
        self.assertEqual(code, 3)
        self.assertIn("chmod 600", err)

    def test_a_store_has_one_living_controller_whatever_port_the_second_one_has(self):
        first = self.controller()
        port = self.port
        second = self.controller(0)
        self.assertEqual(second.wait(30), 2, self.said(second))
        self.assertRegex(self.said(second), rf"another controller does that already \(process {first.pid}, "
                         rf"listening on 127.0.0.1:0 \(port {port}\)\)")
        self.assertIn(f"end it first (kill {first.pid}, or kill -9 where it hangs), or give this one a stateDir of its own",
                      self.said(second))
        self.assertIsNone(first.poll())
        self.assertEqual(self.ask("get", "injectors", as_who="viewer")[0], 0, "the first one serves")
        # Death lets go of it, and nothing else was taken meanwhile.
        first.kill()
        third = self.controller(0)
        self.assertIsNone(third.poll(), self.said(third))
        self.assertEqual(self.epoch(third), self.epoch(first) + 1)
        self.assertEqual(self.ask("get", "injectors", as_who="viewer")[0], 0)

    def epoch(self, daemon):
        return int(re.search(r", epoch ([0-9]+)", self.said(daemon))[1])

    def test_a_flood_of_silent_connections_keeps_nobody_out_and_loses_no_lease(self):
        self.flooded("silent connections of one address")

    def test_a_flood_from_many_addresses_keeps_nobody_out_and_loses_no_lease(self):
        # As many a second as a small machine sends; half of them begin to say hello.
        self.flooded("connections of 7 000 addresses", addresses=7000, begins=True, pause=0.002)

    def flooded(self, words, **flood):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        try:
            daemon = self.controller()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        # This end of the flood needs as many.
        more_descriptors(self, 4096)
        injector = self.injector()
        self.registered(injector)
        run = self.begin_remote(self.experiment(duration="8s"))
        self.until_held(run)
        during = []

        def served():
            """Seconds until a new client of its own process has its answer."""
            begin = time.monotonic()
            code, out, err = self.ask("get", "injectors", as_who="viewer")
            self.assertEqual((code, err), (0, ""))
            self.assertRegex(out, "(?m)^node-a +connected")
            return time.monotonic() - begin

        with Flood(self.port, **flood) as flood:
            over = time.monotonic() + 6
            while time.monotonic() < over:
                during.append(served())
            descriptors = len(os.listdir(f"/proc/{daemon.pid}/fd"))
        after = served()
        self.assertEqual(run.wait(60), 0, self.said(run))
        self.assertNotIn("lease", self.said(run))
        lost = self.said(daemon).count("lease") + self.said(injector).count("lease")
        print(f"\nflood of {flood.opened} {words}, RLIMIT_NOFILE 1024, {descriptors} descriptors in use: "
              f"{len(during)} clients served within {max(during):.2f} s during it (goal 5), within {after:.2f} s after it "
              f"(goal 1), leases lost: {lost}", flush=True)
        # A whole process each time, on a machine that may do other things: the goals hold on one of its own.
        self.assertLess(max(during), 5)
        self.assertLess(after, 4)
        self.assertEqual(lost, 0)
        self.assertGreater(len(during), 3)
        self.assertLess(descriptors, 1024)
        self.assertIsNone(daemon.poll())

    def test_a_certificate_that_is_replaced_badly_is_said_once_and_the_one_before_is_used_on(self):
        daemon, injector = self.up()
        key = os.path.join(self.folder, "controller-c1.key")
        with open(key) as file:
            good = file.read()
        self.write("controller-c1.key", "half")
        self.until(lambda: "is used on, until" in self.said(daemon), "that it is said")
        # gRPC reads them anew every second.
        time.sleep(2)
        code, out, err = self.ask("get", "injectors", as_who="viewer")
        self.assertEqual(code, 0, err)
        self.assertEqual(self.said(daemon).count("is used on, until"), 1, self.said(daemon))
        self.write("controller-c1.key", good)
        self.until(lambda: "are good again" in self.said(daemon), "that it is good again")
        self.write("injector-node-a.crt", "half")
        self.until(lambda: "is used on, until" in self.said(injector), "that the node says it")
        daemon.kill()
        self.controller(self.port)
        self.until(lambda: self.said(injector).count("registered with") == 2, "the node with what it had")

    def test_an_injector_says_what_keeps_it_from_its_controller(self):
        self.port = 1
        injector = self.injector()
        self.until(lambda: "is not reached" in self.said(injector), "that it says why")
        self.assertRegex(self.said(injector), r"the controller 127\.0\.0\.1:1 is not reached: .*refused.*; it is tried again and again\. "
                                              r"Is that its address, .*does it run there")
        # Tries of up to two seconds.
        time.sleep(5)
        self.assertEqual(self.said(injector).count("is not reached"), 1, self.said(injector))
        injector.kill()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        late = self.injector()
        self.until(lambda: "is not reached" in self.said(late), "that it says why")
        self.controller(self.port)
        self.registered(late)
        self.assertRegex(self.said(late), r"registered with the controller .*; [0-9]+ tr(y|ies) had failed, the first [0-9.]+m?s ago")

    def test_who_is_turned_away_at_a_crowded_door_comes_again_and_not_for_ever(self):
        daemon, _ = self.up()
        door = CrowdedDoor(self.port)
        self.addCleanup(door.close)
        self.port = door.port
        for turned_away, code in ((0, 0), (3, 0), (100, 3)):
            with self.subTest(turned_away=turned_away):
                door.came, door.turns_away = 0, turned_away
                got, out, err = self.ask("get", "injectors", as_who="viewer")
                self.assertEqual(got, code, err)
                self.assertEqual(door.came, min(turned_away + 1, 5))
                if code == 0:
                    self.assertRegex(out, "(?m)^node-a +connected")
                else:
                    self.assertIn("does not answer", err)

    def test_two_runs_never_hit_one_server_whatever_node_and_profile_lead_to_it(self):
        self.up()
        self.issue("injector", "node-b")
        # The same server by another node, another name of its host, and its own client's view of it.
        self.registered(self.injector("node-b", "injector-node-b", role="replica", host="localhost"))
        with open(self.experiment(duration="20s")) as file:
            second = self.write("second.yaml", file.read().replace("role: database", "role: replica"))
        first = self.begin_remote(self.experiment(duration="20s"))
        self.until_held(first)
        for command in (self.begin(PROGRAM, "plan", second, *self.at("operator")), self.begin_remote(second)):
            self.assertEqual(command.wait(60), 3, self.said(command))
            said = " ".join(self.said(command).split())
            self.assertRegex(said, r"hold: the postgresql server of profile holder on node-b \(postgresql/[0-9]+/[0-9]+\) is "
                             r"taken: run [a-z0-9]{8} of held, started by operator, has had it since")
            self.assertRegex(said, "wait until that run has ended, or end it: firedrill stop [a-z0-9]{8}")
        self.assertEqual(sum("idle in transaction" in str(each) for each in self.look.sessions()), 3)
        code, _, err = self.ask("stop", re.search("firedrill stop ([a-z0-9]{8})", said)[1], "--reason", "my turn",
                                as_who="operator")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(first.wait(60), 4, self.said(first))
        with open(second) as file:
            again = self.begin_remote(self.write("again.yaml", file.read().replace("20s", "1s")))
        self.assertEqual(again.wait(60), 0, self.said(again))

    def test_the_controller_dies_and_the_node_heals_by_itself(self):
        daemon, injector = self.up()
        run = self.begin_remote(self.experiment())
        self.until_held(run)
        daemon.kill()
        begin = time.monotonic()
        self.assertEqual(self.look.wait_for_nothing(5, self.look.sessions), [])
        took = time.monotonic() - begin
        print(f"\ncontroller killed: faults off {took:.2f} s later (grace 0.5 s, goal 1 s)", flush=True)
        # The goal holds on a machine of its own, where tests/drills/namespaces.py asserts it; this one shares its two processors.
        self.assertLess(took, 2)
        self.assertIsNone(injector.poll())
        self.assertNotEqual(run.wait(60), 0)
        self.controller(self.port)
        self.until(lambda: " connected " in self.ask("get", "injectors", as_who="viewer")[1], "the injector again")
        second = self.begin_remote(self.experiment(duration="1s"))
        self.assertEqual(second.wait(60), 0, self.said(second))


if __name__ == "__main__":
    unittest.main(verbosity=2)
