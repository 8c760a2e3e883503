"""raw.csv: one line for each number, written as soon as it is measured."""

import collections
import csv
import datetime
import math

from .install import BENCH

Row = collections.namedtuple("Row", "load round proxy metric value")


class Results:
    """The rows so far, on disk and here."""

    def __init__(self, directory):
        self.directory, self.rows, self.problems = directory, [], []
        self.file = directory / "raw.csv"
        self.append([Row._fields])

    def append(self, rows):
        with open(self.file, "a", newline="") as out:
            csv.writer(out, lineterminator="\n").writerows(rows)

    def add(self, load, number, proxy, metrics):
        rows = [Row(load, number, proxy, metric, float(f"{value:.6g}")) for metric, value in metrics.items()]
        self.rows += rows
        self.append(rows)

    def add_problem(self, text):
        self.problems.append(text)

    def by_round(self, load, proxy, metric):
        """round -> value"""
        return {row.round: row.value for row in self.rows
                if (row.load, row.proxy, row.metric) == (load, proxy, metric) and not math.isnan(row.value)}

    def values(self, load, proxy, metric):
        return list(self.by_round(load, proxy, metric).values())

    def proxies(self, load):
        """In the order of their first row."""
        return list(dict.fromkeys(row.proxy for row in self.rows if row.load == load))

    def failed(self, load, proxy):
        return int(sum(self.values(load, proxy, "failed")))


def new_directory(options):
    """DATE-HOST, or with a number behind it: a run never writes into that of another."""
    parent = options.runs or BENCH / "runs"
    parent.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.date.today().isoformat()}-{options.host}"
    for number in range(1, 1000):
        directory = parent / (name if number == 1 else f"{name}-{number}")
        try:
            directory.mkdir()
            return directory
        except FileExistsError:
            continue
    raise FileExistsError(parent / name)
