"""SIGTERM and Ctrl-C: what trains is saved first, all else ends at once.

The exit status is what shells report of a program that a signal ended: 143 of
SIGTERM, 130 of Ctrl-C. Who imports the library has signals of its own: only
programs `listen`.
"""

import contextlib
import os
import signal

_waits = False  # whether somebody looks at `_asked`
_asked = 0  # the signal that came since


def listen():
    """Has both signals end this process, its `finally` blocks included."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


@contextlib.contextmanager
def saved_first():
    """Has the first signal wait until the block asks for it, or ends."""
    global _waits, _asked
    _waits, _asked = True, 0
    try:
        yield
    finally:
        _waits = False
    if _asked:
        end()


def asked():
    """Returns whether a signal waits for the state to be saved."""
    return _waits and bool(_asked)


def end():
    """Ends the process as the signal that waits would have."""
    raise SystemExit(128 + _asked)


def _end(number, _frame):
    global _asked
    waits, _asked = _waits and not _asked, number
    text = "Stopping once the state is saved" if waits else "Stopped."
    with contextlib.suppress(OSError):  # of a terminal that was closed
        # Not `print`: a signal can come in the middle of one.
        os.write(1, f"\n{text}\n".encode())
    if not waits:
        end()
