"""Medians with their spread, and ratios by round."""

import collections
import statistics

# Of several rounds: the middle one, the lowest, the highest, how many.
Spread = collections.namedtuple("Spread", "median lowest highest rounds")


def spread(values):
    """None when there are no values."""
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None


def ratio(results, load, metric, ours, theirs):
    """Of two proxies, round by round: neighbours in time are compared."""
    mine, other = results.by_round(load, ours, metric), results.by_round(load, theirs, metric)
    return spread(mine[n] / other[n] for n in mine if other.get(n))


def median(results, load, proxy, metric):
    values = results.values(load, proxy, metric)
    return statistics.median(values) if values else None
