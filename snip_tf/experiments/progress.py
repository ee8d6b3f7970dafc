"""What is said of runs while they go on: a bar, and a line when one ends."""

import tqdm


class Bar:
    """A bar of the time that runs take, where somebody looks on.

    Args:
        seconds: About how long each run takes. How fast they go in fact sets
            the time left that is shown.
    """

    def __init__(self, seconds):
        self._left = list(seconds)
        self._count, self._done = len(seconds), 0
        self.shown = tqdm.tqdm(
            total=sum(seconds),
            disable=None,
            smoothing=0,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left",
        )

    def advance(self, index, seconds):
        """Moves on by a part of a run."""
        seconds = min(seconds, self._left[index])
        self._left[index] -= seconds
        self.shown.update(seconds)

    def end(self, index, text):
        """Moves to the end of a run and says what came of it."""
        self.advance(index, self._left[index])
        self._done += 1
        self.shown.write(f"[{self._done}/{self._count}] {text}")


def in_words(message, run):
    """Returns how a run ended.

    Args:
        message: The last that `pool.replies` had to say of it.
        run: The `records.Run`.
    """
    if "error" in message:
        return f"failed: {message['error']}"
    if "lost" in message:
        return f"failed: {message['lost']}\n{message['log']}"
    if run.row.sparsities:
        return "scored"
    error = message["result"]["test_error"]
    return f"test error {error:.2f}% ({run.schedule})"
