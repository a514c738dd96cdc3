#!/usr/bin/python3
"""Copies a run out of a history into a file that the tests of the report read.

    record.py HISTORY.db RUN FILE

The file has the run's events, each behind its length as protobuf writes delimited messages. Left out is what no
report reads: timers, clock measurements, and commands that are about probes and loads.
"""
import sqlite3
import sys

# Of firedrill.v1.Event and, within `command`, of firedrill.v1.Command.
COMMAND, TIMER, CLOCK = 14, 15, 24
APPLY, REVERT = 2, 3


def varint(data, at):
    value, shift = 0, 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """(number, the field's bytes) of each field that has a length; the others are passed over."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            _, at = varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 5:
            at += 4
        else:
            size, at = varint(data, at)
            yield key >> 3, data[at:at + size]
            at += size


def is_read(event):
    for number, body in fields(event):
        if number in (TIMER, CLOCK):
            return False
        if number == COMMAND:
            command = next(part for of, part in fields(body) if of == 1)
            return any(of in (APPLY, REVERT) for of, _ in fields(command))
    return True


def delimited(event):
    size, head = len(event), bytearray()
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + event


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
    events = [body for body, in database.execute("SELECT body FROM event WHERE run = ? ORDER BY seq", (sys.argv[2],))]
    if not events:
        sys.exit(f"record.py: there is no run {sys.argv[2]} in {sys.argv[1]}; see `firedrill runs`")
    kept = [event for event in events if is_read(event)]
    with open(sys.argv[3], "wb") as file:
        for event in kept:
            file.write(delimited(event))
    print(f"{len(kept)} of {len(events)} events")


if __name__ == "__main__":
    main()
