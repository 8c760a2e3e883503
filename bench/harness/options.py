"""The command line of bench/run."""

import argparse
import pathlib
import platform

from .catalogue import LOADS

PEERS = ["nginx", "haproxy", "envoy", "pingora"]
DOC = """towpath beside nginx, HAProxy, Envoy and pingora: CPU per request, latency, memory, density.

What is measured, what is held equal and what the numbers do not say: bench/README.md."""


def names(valid):
    def parse(text):
        chosen = [name for name in text.split(",") if name]
        if unknown := [name for name in chosen if name not in valid]:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(valid)}")
        return chosen

    return parse


def parser():
    result = argparse.ArgumentParser(prog="bench/run", description=DOC,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, help="rounds of each load (default: 5; 1 with --quick)")
    result.add_argument("--seconds", type=int, help="length of a measurement (default: 5; 1 with --quick)")
    result.add_argument("--quick", action="store_true", help="a look whether everything works: its numbers are noise")
    result.add_argument("--only", type=names(LOADS), metavar="LOAD[,LOAD]", help="these loads, by name: see --list")
    result.add_argument("--peers", type=names(PEERS), metavar="PEER[,PEER]", default=PEERS,
                        help=f"besides towpath (default: {','.join(PEERS)})")
    result.add_argument("--no-pingora", action="store_true", help="do not build pingora, which takes minutes")
    result.add_argument("--host", default=platform.node().split(".")[0], help="names the directory of the run")
    result.add_argument("--towpath", type=pathlib.Path, metavar="PATH", help="this binary instead of building one")
    result.add_argument("--runs", type=pathlib.Path, metavar="DIR", help="where the run is written (default: bench/runs)")
    result.add_argument("--list", action="store_true", help="the loads, and no more")
    return result


def parse(arguments=None):
    options = parser().parse_args(arguments)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 5)
    options.connections = 1000 if options.quick else 10_000
    options.services = 10_000
    options.loads = options.only or list(LOADS)
    if options.no_pingora:
        options.peers = [peer for peer in options.peers if peer != "pingora"]
    if options.towpath:
        options.towpath = options.towpath.resolve()
        if not options.towpath.exists():
            parser().error(f"no {options.towpath}")
    return options
