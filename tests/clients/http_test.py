#!/usr/bin/python3
"""curl and nginx, through the codec of HTTP/1.1."""

import os
import pathlib
import re
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from stage import BIG, ClientsTest, digest, run  # noqa: E402

from bare_servers import BareNginx  # noqa: E402

CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log stderr warn;
events {{ }}
http {{
  access_log {folder}/access;
  log_format asked "$request $status"; access_log {folder}/asked asked;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_max_body_size 0; gzip on; gzip_types text/plain; default_type text/plain; keepalive_requests 100000;
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
    root {folder}/files; autoindex on; absolute_redirect off;
    location /said {{ return 200 "$request_method $request_length $http_x_word\\n"; }}
    location /moved {{ return 302 /small; }}
    location /put {{ dav_methods PUT DELETE; create_full_put_path on; }}
    location /chunks {{ gzip on; gzip_min_length 1; }}
  }}
}}
"""


class Nginx(BareNginx):
    configuration = CONFIGURATION

    def _start(self):
        files = pathlib.Path(self.folder, "files")
        (files / "put").mkdir(parents=True)
        self.owner.own(files / "put")
        (files / "small").write_text("small\n")
        (files / "empty").write_bytes(b"")
        (files / "chunks").write_text("".join(f"line {i}\n" for i in range(100_000)))
        block = os.urandom(1_000_000)
        with open(files / "big", "wb") as file:
            for i in range(BIG // len(block)):
                file.write(i.to_bytes(8, "big") + block[8:])
        super()._start()


def curl(port, *words, scheme="http", paths=("/small",)):
    return ["/usr/bin/curl", "-sS", "-k", "-w", " <%{http_code} %{num_connects} %{size_download}>\\n", *words,
            *(f"{scheme}://127.0.0.1:{port}{path}" for path in paths)]


class HttpClients(ClientsTest):
    protocol = "http"

    @classmethod
    def setUpClass(cls):
        cls.server = Nginx()
        cls.addClassCleanup(cls.server.stop)
        cls.upload = os.path.join(cls.server.folder, "files", "big")

    def work(self, port, scheme="http"):
        def ask(*words, paths=("/small",)):
            return run(curl(port, *words, scheme=scheme, paths=paths))

        many = [f"/small?{i}" for i in range(200)]
        return [ask(paths=many + ["/absent", "/chunks", "/empty", "/moved", "/"]), ask("--compressed", paths=["/chunks"]),
                ask("-L", paths=["/moved"]), ask("-I", paths=["/big", "/small"]), ask("-r", "5-14,20-29", paths=["/big"]),
                ask("-d", "a=b", paths=["/said", "/said"]), ask("-X", "OPTIONS", paths=["/small"]),
                ask("-H", "Connection: close", "-H", "X-Word: " + "w" * 2000, paths=["/said", "/small"]),
                ask("--http1.0", paths=["/small", "/chunks"]),
                ask("-H", "Transfer-Encoding: chunked", "--data-binary", "@" + self.server.folder + "/files/chunks",
                    paths=["/said"]),
                ask("-H", "Expect: 100-continue", "--data-binary", "@" + self.server.folder + "/files/chunks",
                    paths=["/said"]),
                ask("-T", self.server.folder + "/files/chunks", paths=["/put/chunks"]),
                ask("-X", "DELETE", paths=["/put/chunks"])]

    def asked(self):
        with open(os.path.join(self.server.folder, "asked")) as log:
            return log.read().splitlines()

    def without_dates(self, said):
        """Nor the number that parts of a body are told apart by."""
        return [re.sub(rb"\nDate: [^\n]*|(?<=\n--)\d{20}", b"", part) for part in said]

    def test_curl_sees_no_difference(self):
        before = len(self.asked())
        said, wire = self.through(lambda port: self.without_dates(self.work(port)))
        self.has(said[0], b"small\n <200 1 6>", b"small\n <200 0 6>", b"<404 0", b"<302 0")
        self.has(said[-2], b"<201 ")
        self.has(said[-1], b"<204 ")
        # The server's own log has each request twice: directly and through.
        self.assertEqual(2 * wire.counters.requests, len(self.asked()) - before)

    def test_an_encrypted_curl_sees_no_difference_and_is_told_as_such(self):
        said, wire = self.through(lambda port: self.without_dates(self.work(port, "https")),
                                  port=self.server.tls_port, encrypted=True)
        self.has(said[0], b"small\n <200 1 6>")
        self.assertEqual(wire.counters.requests, 0)

    def test_a_hundred_megabytes_pass_both_ways(self):
        def work(port):
            return [digest(curl(port, paths=["/big"])), run(curl(port, "-T", self.upload, paths=["/put/big"])),
                    digest(curl(port, paths=["/put/big"])), run(curl(port, "-X", "DELETE", paths=["/put/big"]))]

        said, wire = self.through(work)
        self.assertEqual(said[0], said[2])
        self.assertGreater(sum(up.length for up, _ in wire.said), BIG)
        self.assertGreater(sum(down.length for _, down in wire.said), 2 * BIG)
        self.assertEqual(wire.counters.requests, 4)

    def test_what_is_no_http_passes_and_is_told(self):
        self.garbage(b"\x00\x01\x02 nonsense\r\n\r\n", b"400 Bad Request")


if __name__ == "__main__":
    unittest.main(verbosity=2)
