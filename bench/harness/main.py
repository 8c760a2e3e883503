"""One run from the command line to its directory."""

import os
import sys

from . import plots, summary
from .catalogue import listing
from .install import programs
from .options import parse
from .processes import end_on_signals, raise_open_files
from .results import Results, new_directory
from .rounds import run_loads
from .stage import stage


def main():
    options = parse()
    if options.list:
        print(listing())
        return 0
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if not sys.platform.startswith("linux") or os.cpu_count() < 2:
        sys.exit("needs Linux and two CPUs: one for the proxy, one for the client and the backend")
    end_on_signals()
    found = programs(options)
    open_files = raise_open_files()
    about = summary.host(options, found)
    results, took, ended = Results(new_directory(options)), {}, "interrupted: rows up to there"
    try:
        with stage(options, found, results, open_files) as made:
            run_loads(made, took)
        ended = f"complete, in {sum(took.values()) / 60:.0f} minutes"
    except KeyboardInterrupt as signal:
        print(f"\ninterrupted {signal}", file=sys.stderr)
    finally:
        write(options, results, about, took, ended)
    return 0 if ended.startswith("complete") and not results.problems else 1


def write(options, results, about, took, ended):
    """Whatever has been measured is told."""
    directory = results.directory
    plots.write(results)
    (directory / "summary.md").write_text(summary.summary(results))
    (directory / "README.md").write_text(summary.readme(options, directory, about, took, ended))
    print(f"\n{(directory / 'summary.md').read_text()}\nwritten to {directory}")
