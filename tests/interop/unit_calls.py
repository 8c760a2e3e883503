"""Whether the systemd unit lets pass what the seccomp profile does: unit_calls.py UNIT PROFILE.

Both are lists of what towpath needs, written in two languages; a call that only one of them has would fail in one deployment only.
"""

import json
import subprocess
import sys

# Those that container runtimes make before they start towpath; systemd makes its own before it sets the filter.
RUNTIME = "What the container runtime does"


def groups():
    """Each group of `systemd-analyze syscall-filter` with what stands in it."""
    known, name = {}, None
    text = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    for line in text.splitlines():
        if line.startswith("@"):
            name = line.strip()
            known[name] = []
        elif name and line.startswith("    ") and not line.strip().startswith("#"):
            known[name].append(line.strip())
    return known


def calls(word, known):
    if not word.startswith("@"):
        return {word}
    return set().union(*(calls(each, known) for each in known[word]))


def allowed(unit, known):
    now = set()
    for line in open(unit):
        if line.startswith("SystemCallFilter="):
            value = line.split("=", 1)[1].strip()
            these = set().union(*(calls(word, known) for word in value.removeprefix("~").split()))
            now = now - these if value.startswith("~") else now | these
    return now | calls("@default", known)


def main():
    unit, profile = sys.argv[1:]
    passes = allowed(unit, groups())
    needed = set()
    for entry in json.load(open(profile))["syscalls"]:
        if entry["action"] == "SCMP_ACT_ALLOW" and not entry["comment"].startswith(RUNTIME):
            needed |= set(entry["names"])
    missing = sorted(needed - passes)
    print("ok unit-passes-what-the-profile-does" if not missing else f"FAIL unit-passes-what-the-profile-does: {missing}")
    for call in ("mount", "ptrace", "bpf", "init_module", "reboot", "setuid", "chroot", "io_uring_setup", "keyctl", "kexec_load"):
        if call in passes:
            print(f"FAIL unit-denies-{call}: it passes")
            return
    print("ok unit-denies-what-towpath-never-needs")


main()
