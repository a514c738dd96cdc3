#!/usr/bin/python3
"""Slots of schedules as croniter reads them, in UTC, where no day is out of the ordinary.

In: lines "begin|count|cron", with `begin` in seconds since 1970. Out: a line of so many instants for each.
"""

import sys

from croniter import croniter

for line in sys.stdin:
    begin, count, cron = line.rstrip("\n").split("|")
    slots = croniter(cron, float(begin))
    print(*(int(slots.get_next(float)) for _ in range(int(count))))
