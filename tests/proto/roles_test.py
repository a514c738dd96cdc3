#!/usr/bin/python3
"""An RPC that does not say who may call it fails the build, however it is written: planted in a copy of the protos, which
the build's own check then looks at."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

PROTOS = pathlib.Path(__file__).resolve().parents[2] / "proto"
CHECK = os.environ["FIREDRILL_CHECK_ROLES"]
PROTOC = os.environ["FIREDRILL_PROTOC"]

# What each says; whether it may be built.
RPCS = {
    "rpc Planted(ListRunsRequest) returns (ListRunsResponse) { option (role) = ROLE_VIEWER; }": True,
    "rpc\n  Planted(ListRunsRequest)\n returns (ListRunsResponse)\n{\n option\n (role) = ROLE_ADMIN; }": True,
    "rpc Planted(ListRunsRequest) returns (ListRunsResponse);": False,
    "rpc\n  Planted(ListRunsRequest) returns (ListRunsResponse);": False,
    "rpc\tPlanted(ListRunsRequest) returns (ListRunsResponse) {}": False,
    "rpc Planted(ListRunsRequest) returns (ListRunsResponse) { /* option (role) = ROLE_VIEWER; */ }": False,
    "rpc Planted(ListRunsRequest) returns (ListRunsResponse) { // option (role) = ROLE_VIEWER;\n }": False,
    "rpc Planted(ListRunsRequest) returns (ListRunsResponse) { option (role) = ROLE_UNSPECIFIED; }": False,
    "rpc Planted(stream ListRunsRequest) returns (stream ListRunsResponse) { option deprecated = true; }": False,
    "rpc /* it */ Planted(ListRunsRequest) returns (ListRunsResponse) { option idempotency_level = IDEMPOTENT; }": False,
}


class Roles(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fd-roles-")
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.copytree(PROTOS / "firedrill", f"{self.folder}/firedrill")

    def check(self, rpc="", service="service ControllerService {", file="controller.proto"):
        """Exit code and words of the build's two steps over the protos, with `rpc` planted behind `service`."""
        source = (PROTOS / "firedrill/v1" / file).read_text()
        self.assertEqual(source.count(service), 1)
        with open(f"{self.folder}/firedrill/v1/{file}", "w") as out:
            out.write(source.replace(service, f"{service}\n{rpc}\n"))
        files = sorted(str(path) for path in pathlib.Path(self.folder).glob("firedrill/v1/*.proto"))
        compiled = f"{self.folder}/set"
        subprocess.run([PROTOC, f"-I{self.folder}", "--include_imports", f"--descriptor_set_out={compiled}", *files],
                       check=True, timeout=120)
        done = subprocess.run([CHECK, compiled], capture_output=True, text=True, timeout=120)
        return done.returncode, done.stderr

    def test_an_rpc_is_built_with_a_role_only(self):
        self.assertEqual(self.check(), (0, ""))
        for rpc, good in RPCS.items():
            code, said = self.check(rpc)
            if good:
                self.assertEqual((code, said), (0, ""), rpc)
                continue
            self.assertEqual(code, 1, rpc)
            self.assertEqual(said, "firedrill/v1/controller.proto: rpc firedrill.v1.ControllerService.Planted does not say "
                             "who may call it: add option (role) = ROLE_...; to its body\n")

    def test_every_service_of_every_file_is_looked_at(self):
        another = "message Nothing {} service Another { rpc Planted(Nothing) returns (Nothing); }"
        for file in sorted(path.name for path in (PROTOS / "firedrill/v1").glob("*.proto")):
            code, said = self.check(another, "package firedrill.v1;", file)
            self.assertEqual(code, 1, file)
            self.assertIn(f"firedrill/v1/{file}: rpc firedrill.v1.Another.Planted does not say", said)
            shutil.copy(PROTOS / "firedrill/v1" / file, f"{self.folder}/firedrill/v1/{file}")

    def test_what_cannot_be_read_or_holds_nothing_is_no_success(self):
        for content in (b"", b"\xff\xff"):
            with open(f"{self.folder}/none", "wb") as out:
                out.write(content)
            self.assertEqual(subprocess.run([CHECK, f"{self.folder}/none"], capture_output=True, timeout=60).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
