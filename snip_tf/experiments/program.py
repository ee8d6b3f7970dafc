"""How a script starts and ends."""

import os
import sys

import tensorflow as tf
from absl import app, flags, logging

from snip_tf.experiments import stopping

# Flags that are paths: "~" is expanded.
_PATHS = {"run_dir", "runs_dir", "results_dir", "export_dir", "data_dir"}
_PATHS |= {"model_file", "pruned_model"}
# What bad input raises, and TensorFlow where disc or memory are full.
EXPECTED = ValueError, OSError, ImportError, tf.errors.ResourceExhaustedError


def run(main):
    """Runs a script: bad input ends it with one line and exit status 1.

    With --verbosity=1 it also says where in the code the input was refused.
    Signals end it as `stopping` says.
    """

    def reporting(argv):
        if len(argv) > 1:
            raise app.UsageError(f"Not a flag: {' '.join(argv[1:])}")
        for name in _PATHS & set(flags.FLAGS):
            flag = flags.FLAGS[name]  # after a "=" no shell does it
            flag.value = flag.value and os.path.expanduser(flag.value)
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # TFDS reports each read
        try:
            main()
        except EXPECTED as error:
            logging.debug("Where it was refused:", exc_info=True)
            sys.exit(f"error: {error}")

    stopping.listen()
    app.run(reporting)


def refuse(names, why):
    """Raises a UsageError if one of the flags was given."""
    given = [name for name in sorted(names) if flags.FLAGS[name].present]
    if given:
        raise app.UsageError(
            f"{why}, which contradicts "
            + ", ".join(f"--{name}" for name in given)
        )
