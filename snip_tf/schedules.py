"""Sparsity as a function of the training step, for pruning by degrees.

Each returns a function of the step, an integer of at least 0, whose values are
fractions of weights removed.
"""

from snip_tf._checks import check_number, whole


def one_shot(sparsity, step=0):
    """Returns the schedule that removes all at one step.

    >>> [snip_tf.schedules.one_shot(0.9, step=2)(i) for i in range(4)]
    [0.0, 0.0, 0.9, 0.9]
    """
    check_number("sparsity", sparsity, 1)
    step = whole("step", step)
    return lambda now: sparsity if now >= step else 0.0


def exponential(sparsity, begin, end):
    """Returns the schedule by which a constant share of what is left goes.

    1 - s_t = (1 - sparsity)^((t - begin) / (end - begin)) (de Jorge et al.
    2021, FORCE, eq. 9).

        >>> round(snip_tf.schedules.exponential(0.99, 0, 2)(1), 6)
        0.9
    """
    check_number("sparsity", sparsity, 1)
    begin = whole("begin", begin)
    end = whole("end", end, begin + 1)

    def schedule(now):
        if now >= end:
            return sparsity  # without rounding
        return 1 - (1 - sparsity) ** _part(now, begin, end)

    return schedule


def rounds(sparsity, begin, every, number):
    """Returns the schedule of rounds that remove equal shares of what is left.

    Round i of `number` is at step begin + (i - 1) every.

        >>> schedule = snip_tf.schedules.rounds(0.99, 10, every=5, number=2)
        >>> [round(schedule(step), 6) for step in (9, 10, 14, 15)]
        [0.0, 0.9, 0.9, 0.99]
    """
    begin, every = whole("begin", begin), whole("every", every, 1)
    reached = exponential(sparsity, 0, whole("number", number, 1))
    return lambda now: reached(max((now - begin) // every + 1, 0))


def cubic(initial, sparsity, begin, end):
    """Returns the schedule that removes fast at first, then ever less.

    s_t = s_f + (s_i - s_f) (1 - (t - begin) / (end - begin))^3 (Zhu and Gupta
    2017, eq. 1); 0 before `begin`.

        >>> round(snip_tf.schedules.cubic(0.0, 0.8, 0, 2)(1), 6)
        0.7
    """
    check_number("initial", initial, 1)
    check_number("sparsity", sparsity, 1)
    begin = whole("begin", begin)
    end = whole("end", end, begin + 1)

    def schedule(now):
        if now < begin:
            return 0.0
        rest = 1 - _part(now, begin, end)
        return sparsity + (initial - sparsity) * rest**3

    return schedule


def _part(now, begin, end):
    return min(max((now - begin) / (end - begin), 0.0), 1.0)
