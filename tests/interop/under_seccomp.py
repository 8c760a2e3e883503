"""Runs a command under a seccomp profile of Docker's form: under_seccomp.py PROFILE COMMAND...

What the profile denies by default ends the process here (SIGSYS), where a container would only be told "no": so that a call which
towpath needs and the profile forgets cannot go unnoticed. Needs the distribution's python3-seccomp.
"""

import json
import os
import sys

import seccomp

COMPARISONS = {"SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}


def arguments(entry):
    for arg in entry.get("args", []):
        values = [arg["value"]] + ([arg["valueTwo"]] if "valueTwo" in arg else [])
        yield seccomp.Arg(arg["index"], COMPARISONS[arg["op"]], *values)


def action(entry):
    if entry["action"] == "SCMP_ACT_ALLOW":
        return seccomp.ALLOW
    return seccomp.ERRNO(entry["errnoRet"])


def main():
    with open(sys.argv[1]) as file:
        profile = json.load(file)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    rules = seccomp.SyscallFilter(defaction=seccomp.KILL_PROCESS)
    for entry in profile["syscalls"]:
        for name in entry["names"]:
            # A call that this processor's kernel does not have needs no rule.
            if seccomp.resolve_syscall(seccomp.Arch(), name) >= 0:
                rules.add_rule(action(entry), name, *arguments(entry))
    rules.load()
    os.execv(sys.argv[2], sys.argv[2:])


main()
