"""Where the lab's pages and tickets go: an HTTP server that appends each notification to a file.

pages.jsonl and tickets.jsonl hold one JSON object per line: at (seconds since 1970) and payload.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FILES = {"/pager": "pages.jsonl", "/tickets": "tickets.jsonl"}
MAX_BODY_BYTES = 4 << 20


def start_sinks(lab, host, port):
    for name in FILES.values():
        open(lab.path(name), "a").close()
    lock = threading.Lock()

    class Sink(BaseHTTPRequestHandler):
        def do_POST(self):
            at = time.time()
            size = int(self.headers.get("Content-Length", 0))
            if self.path not in FILES or size > MAX_BODY_BYTES:
                self.send_error(404)
                return
            body = self.rfile.read(size)
            line = json.dumps({"at": at, "payload": json.loads(body)})
            with lock, open(lab.path(FILES[self.path]), "a") as opened:
                opened.write(line + "\n")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer((host, port), Sink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
