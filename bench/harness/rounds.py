"""Runs the loads: the contenders take turns, in reversed order every other round, so that a drift of the host hits all."""

import subprocess
import time

from .catalogue import FEW_ROUNDS, LOADS, contenders
from .idle import Refused
from .processes import NotThere


def run_loads(stage, took):
    """All loads that were asked for; what cannot be measured is noted and the run goes on. `took`: seconds of each load."""
    for name in stage.options.loads:
        begun = time.monotonic()
        print(f"{name}: {LOADS[name].title}", flush=True)
        for number in range(1, min(stage.options.rounds, FEW_ROUNDS.get(name, stage.options.rounds)) + 1):
            one_round(stage, name, number)
        took[name] = time.monotonic() - begun


def one_round(stage, name, number):
    order = contenders(name, stage.options.peers)
    for contender in order if number % 2 else reversed(order):
        try:
            metrics = LOADS[name].run(stage, contender)
        except (NotThere, Refused, OSError, subprocess.SubprocessError) as problem:
            stage.results.add_problem(f"{name}, round {number}, {contender}: {problem!r}"[:600])
            print(f"  round {number} {contender:15} NOT MEASURED: {problem}", flush=True)
            continue
        stage.results.add(name, number, contender, metrics)
        load, flag = LOADS[name], f", {metrics['failed']} FAILED" if metrics["failed"] else ""
        print(f"  round {number} {contender:15} {metrics[load.key]:9.2f} {load.unit}{flag}", flush=True)
