import time

from snip_tf.experiments import timing


def test_functions_take_turns():
    called = []

    def runs_of(name):
        def run():
            called.append(name)
            time.sleep(0.003)  # more than a turn takes at least

        return run

    timing.in_turns({name: runs_of(name) for name in "abc"}, rounds=3)
    assert called == list("abc" + "abc" + "abc" + "cba" + "abc")


def test_times_are_those_of_one_call():
    times = timing.in_turns(
        {"slow": lambda: time.sleep(4e-4), "fast": lambda: time.sleep(2e-4)},
        rounds=5,
    )
    for name, asleep in (("slow", 4e-4), ("fast", 2e-4)):
        low, median, high = times[name]
        assert asleep < low <= median <= high
        assert low < 20 * asleep  # a turn is some ten calls


def test_a_turn_has_many_calls_of_what_is_fast():
    called = []
    timing.in_turns({"fast": lambda: called.append(None)}, rounds=1)
    assert len(called) > 100


def test_before_each_turn_of_one_call_comes_what_is_not_timed():
    called = []

    def before():
        called.append("before")
        time.sleep(0.02)

    times = timing.in_turns(
        {"a": lambda: called.append("a")}, rounds=2, before=before
    )
    assert called == ["a", *["before", "a"] * 3]
    assert times["a"][2] < 0.01
