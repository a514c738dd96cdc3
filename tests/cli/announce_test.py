#!/usr/bin/python3
"""Whoever is named under `announce` is told what a run does; who does not answer stops nothing, and is told."""

import http.server
import json
import os
import socket
import threading
import unittest

from stage import SITE, Stage


class Listener(http.server.ThreadingHTTPServer):
    """Keeps what is posted to it."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.posted = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/hook"


class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Announce(Stage):
    def setUp(self):
        super().setUp()
        self.listener = Listener()
        self.addCleanup(self.listener.server_close)
        self.addCleanup(self.listener.shutdown)
        # A port that is taken, and at which nobody answers.
        dead = socket.socket()
        self.addCleanup(dead.close)
        dead.bind(("127.0.0.1", 0))
        self.dead = f"http://127.0.0.1:{dead.getsockname()[1]}/hook"

    def test_all_steps_are_told_in_order_and_one_who_does_not_answer_stops_nothing(self):
        text = SITE.format(port=self.server.port, policy="")
        self.site = self.write("site.yaml", text.replace(
            "environment: lab\n", f'environment: lab\n  announce: ["{self.dead}", "{self.listener.url}"]\n'))
        run = self.begin_run(self.experiment(duration="1s"))
        self.assertEqual(run.wait(60), 0, self.said(run))
        self.assert_told()
        said = self.said(run)
        for what in ("start", "fault on", "fault off"):
            self.assertIn(f"could not announce '{what}' to {self.dead}: ", said)
        self.assertNotIn(f"to {self.listener.url}", said)
        self.assertIn("every fault undone (exit 0)", said)

    def assert_told(self):
        posted = self.listener.posted
        self.assertEqual([body["what"] for _, _, body in posted], ["start", "fault on", "fault off", "end"])
        run = self.outcomes()[0][0]
        for path, kind, body in posted:
            self.assertEqual((path, kind), ("/hook", "application/json"))
            self.assertEqual({"source": "firedrill", "run": run, "experiment": "held", "environment": "lab"},
                             {key: body[key] for key in ("source", "run", "experiment", "environment")})
            self.assertTrue(body["owner"].endswith("@" + os.uname().nodename), body)
        details = [body["detail"] for _, _, body in posted]
        self.assertEqual(details[0], f"run {run} begins")
        for detail in details[1:3]:
            self.assertIn("hold", detail)
            self.assertIn("node-a", detail)
        self.assertEqual(details[3], "completed")


if __name__ == "__main__":
    unittest.main(verbosity=2)
