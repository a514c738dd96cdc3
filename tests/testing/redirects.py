"""BPF links that redirect connections, as the kernel itself tells it; needs root, and no bpftool."""

import ctypes
import errno
import os
import platform
import struct

BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 0)
PROG_NEXT, PROG_BY_ID, INFO_BY_FD, LINK_BY_ID, LINK_NEXT = 11, 13, 15, 30, 31
# Offsets in struct bpf_prog_info and bpf_link_info.
PROG_NAME, LINK_PROG = 64, 8

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    done = _libc.syscall(BPF, command, buffer, 128)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done, buffer.raw


def _info(fd):
    room = ctypes.create_string_buffer(256)
    _bpf(INFO_BY_FD, struct.pack("=IIQ", fd, 256, ctypes.addressof(room)))
    return room.raw


def _each(next_command, open_command):
    """(id, info) of everything of a kind."""
    at = 0
    while True:
        try:
            _, after = _bpf(next_command, struct.pack("=II", at, 0))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        at = struct.unpack_from("=I", after, 4)[0]
        try:
            fd, _ = _bpf(open_command, struct.pack("=I", at))
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue  # it went away meanwhile
            raise
        try:
            yield at, _info(fd)
        finally:
            os.close(fd)


def redirects():
    """{link: name of its program} of Firedrill's redirects, whoever made them."""
    programs = {}
    for number, info in _each(PROG_NEXT, PROG_BY_ID):
        name = info[PROG_NAME:PROG_NAME + 16].split(b"\0")[0].decode(errors="replace")
        if name.startswith("fdw_"):
            programs[number] = name
    found = {}
    for number, info in _each(LINK_NEXT, LINK_BY_ID):
        program = struct.unpack_from("=I", info, LINK_PROG)[0]
        if program in programs:
            found[number] = programs[program]
    return found


def links_of(pid):
    """The links that a process holds: others on this machine may redirect, too."""
    found = set()
    folder = f"/proc/{pid}/fdinfo"
    for name in os.listdir(folder):
        try:
            with open(os.path.join(folder, name)) as info:
                found |= {int(line.split()[1]) for line in info if line.startswith("link_id:")}
        except OSError:
            continue
    return found
