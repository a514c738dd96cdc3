"""The door for operators: metrics, and settings that are read and changed while the shop runs.

A port and threads of its own, for in an outage the requests of customers wait for all threads of the shop.
GET /metrics · GET /settings · PUT /settings/NAME?value=V · DELETE /settings/NAME (back to what the release says)
"""

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prometheus_client

from settings import SettingError


def open_door(address, values, changed):
    """`changed(name)` is called after each change, on the thread of its request."""
    lock = threading.Lock()

    class Door(BaseHTTPRequestHandler):
        def reply(self, status, content):
            body = json.dumps(content).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def change(self, value_of):
            place = urllib.parse.urlsplit(self.path)
            folder, _, name = place.path.rpartition("/")
            if folder != "/settings":
                self.reply(404, {"error": f"there is no {place.path}"})
                return
            try:
                with lock:
                    values.change(name, value_of(urllib.parse.parse_qs(place.query)))
                    changed(name)
                self.reply(200, {name: values[name]})
            except SettingError as error:
                self.reply(409, {"error": str(error)})

        def do_GET(self):
            if self.path == "/metrics":
                body = prometheus_client.generate_latest()
                self.send_response(200)
                self.send_header("Content-Type", prometheus_client.CONTENT_TYPE_LATEST)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            elif self.path == "/settings":
                self.reply(200, values.all())
            else:
                self.reply(404, {"error": f"there is no {self.path}"})

        def do_PUT(self):
            # An empty value is one that no setting may have, not the release's.
            self.change(lambda query: query.get("value", [""])[0])

        def do_DELETE(self):
            self.change(lambda query: None)

        def log_message(self, *arguments):
            pass

    host, port = address.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Door)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
