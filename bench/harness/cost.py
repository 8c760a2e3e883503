"""What a process cost, from the kernel's accounting: CPU time, proportional memory, connections."""

import contextlib
import os
import pathlib
import re

from .processes import family

TICKS = os.sysconf("SC_CLK_TCK")
ESTABLISHED = "01"


def cpu_seconds(pids):
    """(user, system) seconds of all threads of these processes and of their descendants, living or waited for."""
    user = system = 0
    for member in everyone(pids):
        with contextlib.suppress(OSError):
            # The command name stands in brackets and may hold spaces: count fields behind it.
            fields = pathlib.Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return user / TICKS, system / TICKS


def memory_kib(pids):
    """The proportional set size of these processes and of their descendants: shared pages count once, in shares."""
    total = 0
    for member in everyone(pids):
        with contextlib.suppress(OSError):
            text = pathlib.Path(f"/proc/{member}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1])
    return total


def everyone(pids):
    return {member for pid in pids for member in family(pid)}


def connections_to(ports):
    """Established connections to these local ports, counted at the end that opened them."""
    wanted = {f"{port:04X}" for port in ports}
    count = 0
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        count += fields[3] == ESTABLISHED and fields[2].rpartition(":")[2] in wanted
    return count
