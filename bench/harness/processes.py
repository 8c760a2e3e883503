"""Processes of ours: pinned to one CPU, ready when a port accepts, ended on every way out."""

import contextlib
import ctypes
import os
import pathlib
import resource
import signal
import socket
import subprocess
import time

PROXY_CPU, REST_CPU = 0, 1
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class NotThere(Exception):
    """A process ended, or did not accept connections in time."""


def raise_open_files():
    """The limit of open files to what the host allows; processes of ours inherit it. Returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > 1_000_000:
        hard = 1_000_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def end_on_signals():
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that nothing is left running."""

    def interrupt(number, _frame):
        raise KeyboardInterrupt(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def pinned(cpu):
    """For Popen's preexec_fn: this CPU only, and no survival if the bench itself is killed."""

    def prepare():
        os.sched_setaffinity(0, {cpu})
        # SIGTERM, not SIGKILL: it lets nginx's master end its worker.
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return prepare


@contextlib.contextmanager
def running(command, cpu, log, port, patience=60):
    """The command pinned to one CPU; yields its pid when `port` accepts; ends it on every way out."""
    with open(log, "ab") as out:
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   preexec_fn=pinned(cpu))
    try:
        wait_for(port, process, log, patience)
        yield process.pid
    finally:
        end(process)


def end(process):
    children = [pid for pid in family(process.pid) if pid != process.pid] if process.poll() is None else []
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for(port, process, log, patience):
    limit = time.monotonic() + patience
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise NotThere(f"{' '.join(map(str, process.args))} is not there:\n{pathlib.Path(log).read_text()[-2000:]}")


def family(pid):
    """The process and all its descendants: nginx answers from a child."""
    pids = [pid]
    for member in pids:
        with contextlib.suppress(OSError):  # a child that has just ended
            for task in pathlib.Path(f"/proc/{member}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return pids


def call(command, patience):
    """A client's output; pinned to the CPU that is not the proxy's."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=patience, check=False,
                          stdin=subprocess.DEVNULL, preexec_fn=pinned(REST_CPU))
    if done.returncode:
        raise NotThere(f"{' '.join(map(str, command))} failed: {(done.stdout + done.stderr)[-1000:]}")
    return done.stdout


def start_client(command):
    """A client that runs beside what the caller does; the caller reads its output and must `end` it."""
    return subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            preexec_fn=pinned(REST_CPU))
