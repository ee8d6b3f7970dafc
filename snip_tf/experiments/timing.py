"""Times of several functions, taken in turns."""

import math
import time

import numpy as np

# What a turn takes at least, many times the clock's and the caller's own noise.
_TURN_SECONDS = 2e-3


def in_turns(runs, *, rounds, before=None):
    """Returns the seconds that one call of each function takes.

    In each round every function has its turn, so that what slows the machine
    down for a while slows all of them: read the ratios. Every other round goes
    backwards, so that no function always follows the same one.

    Args:
        runs: A dict of names and functions without arguments.
        rounds: The number of rounds; two to warm up come on top.
        before: What to call before each turn, not timed. A turn is then one
            call. Without it a turn is as many calls, the same for all, as take
            the fastest at least 2 ms.

    Returns:
        A dict of the same names: the 10th percentile over the rounds, the
        median and the 90th percentile, as one array.
    """

    def seconds(run, calls=1):
        if before:
            before()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls

    for run in runs.values():
        run()  # may trace
    fastest = min(map(seconds, runs.values()))
    calls = 1 if before else math.ceil(_TURN_SECONDS / fastest)
    times = {name: [] for name in runs}
    for number in range(rounds):
        for name in reversed(runs) if number % 2 else runs:
            times[name].append(seconds(runs[name], calls))
    return {name: np.percentile(x, (10, 50, 90)) for name, x in times.items()}
