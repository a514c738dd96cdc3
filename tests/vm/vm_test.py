#!/usr/bin/python3
"""throttleCpu on a kernel that has processor time in control groups of version 2, whatever this machine has.

Debian's own kernel runs in an emulated machine, with the files of this one read-only beneath it; nothing is installed.
Its clock counts instructions: how busy this machine is does not matter to what is measured there, only to how long it
takes. All that it says is in build/vm/said.txt.
"""

import contextlib
import functools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

REPO = pathlib.Path(__file__).resolve().parents[2]
BUILD = REPO / "build"
# Not in the image that boots: those by which it reaches the files of this machine, each after what it needs.
MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "netfs", "fscache",
           "9pnet", "9pnet_virtio", "9p", "overlay")
PROGRAMS = ("qemu-system-x86_64", "busybox", "apt-get", "dpkg-deb")
TIMEOUT_S = 5400


def output(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout


def kernel():
    """The folder of Debian's newest kernel, unpacked; fetched once."""
    package = re.search(r"Depends: (linux-image-[0-9]\S+)", output("apt-cache", "depends", "linux-image-amd64"))[1]
    folder = BUILD / "vm" / package
    if not folder.exists():
        shutil.rmtree(BUILD / "vm", ignore_errors=True)
        (BUILD / "vm").mkdir(parents=True)
        with tempfile.TemporaryDirectory() as fetched:
            output("apt-get", "download", package, cwd=fetched, timeout=600)
            [file] = os.listdir(fetched)
            output("dpkg-deb", "-x", os.path.join(fetched, file), f"{folder}.new", timeout=600)
        os.rename(f"{folder}.new", folder)
    return folder


def first_files(kernel_folder, folder):
    """What the machine boots with: its first process, a shell for it, and modules."""
    image = folder / "image"
    for name in ("bin", "modules"):
        (image / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), image / "bin" / "busybox")
    shutil.copy(REPO / "tests/vm/init.sh", image / "init")
    for number, name in enumerate(MODULES):
        # Newer ones have some of them in others.
        for found in kernel_folder.rglob(f"{name}.ko*"):
            (image / "modules" / f"{number:02}-{name}.ko").write_bytes(
                subprocess.run(["xz", "-dc", found], check=True, capture_output=True).stdout
                if found.suffix == ".xz" else found.read_bytes())
    packed = subprocess.run(["busybox", "cpio", "-o", "-H", "newc"], check=True, capture_output=True, cwd=image,
                            input="\n".join(path.relative_to(image).as_posix() for path in sorted(image.rglob("*"))).encode())
    (folder / "initrd").write_bytes(packed.stdout)
    return folder / "initrd"


@functools.cache
def run():
    """What the machine says: {program: (its exit code, its words)}."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise unittest.SkipTest(f"needs {', '.join(missing)}: ./dev packages vm")
    try:
        folder = kernel()
    except (subprocess.SubprocessError, TypeError) as error:
        raise unittest.SkipTest(f"Debian's kernel cannot be fetched: {error}, {getattr(error, 'stderr', '')}") from error
    [image] = folder.glob("boot/vmlinuz-*")
    log = BUILD / "vm" / "said.txt"
    with tempfile.TemporaryDirectory(prefix="firedrill-vm") as temporary, open(log, "wb") as said, \
            contextlib.suppress(subprocess.TimeoutExpired):  # What it has said by then is looked at all the same.
        subprocess.run([
            "qemu-system-x86_64", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio", "-cpu", "max", "-m", "1G",
            "-accel", "tcg", "-icount", "shift=1", "-rtc", "clock=vm", "-kernel", str(image),
            "-initrd", str(first_files(folder, pathlib.Path(temporary))),
            "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
            "-append", "console=ttyS0 quiet loglevel=3 panic=-1 GTEST_COLOR=no "
            f"REPO={REPO} TESTS={os.environ.get('FIREDRILL_TESTS', BUILD / 'dev/tests')} "
            f"FIREDRILL_BIN={os.environ.get('FIREDRILL_BIN', BUILD / 'bin')}"],
            check=False, stdin=subprocess.DEVNULL, stdout=said, timeout=TIMEOUT_S)
    words = log.read_text(errors="replace").replace("\r", "")
    return {name: (int(code), its) for name, its, code in re.findall(r"(?ms)^begin (.*?)\n(.*?)^exit (\d+)$", words)}, words


class ThrottleCpuOnVersion2(unittest.TestCase):
    def ended_well(self, *names):
        said, words = run()
        for name in names:
            self.assertIn(name, said, words[-4000:])
            code, its = said[name]
            self.assertEqual(code, 0, its[-20000:])
            self.assertRegex(its, r"(?m)^\[  PASSED  \] [1-9]|^OK")

    def test_by_hand(self):
        self.ended_well("hand")

    def test_in_the_root(self):
        self.ended_well("groups root", "fault root", "contract root", "crashes root")

    def test_in_a_group_beneath_others(self):
        self.ended_well("groups leaf", "fault leaf", "contract leaf", "crashes leaf")

    def test_nothing_is_left(self):
        self.assertRegex(run()[1], r"(?m)^left 0$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
