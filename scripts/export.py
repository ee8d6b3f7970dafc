"""Exports a pruned network, checks what it wrote and measures it.

    python scripts/export.py --run_dir=runs/lenet_300_100-mnist-0.95-seed0 \
        --format=sparse_saved_model,litert --export_dir=out

Each format goes into a directory of its own below --export_dir, is loaded back
by its own engine and has to give the masked network's logits, within 1e-4, and
test error; only what is quantised may differ. A table follows, with the same
network dense (a fresh draw, no weight removed) in each engine:

difference     the largest of a test image's logit from the masked network
batch 1, 100   median milliseconds, and the ratio to those of the dense network;
               of LiteRT on one thread, without copying the images to it
"""

import pathlib

import environment  # noqa: F401
from absl import flags

from snip_tf import exporting
from snip_tf.experiments import exports, program, run_flags
from snip_tf.exporting import litert

run_flags.define_saved()
flags.DEFINE_bool("overwrite", False, "Replace exports in --export_dir.")
run_flags.define_list(
    "format", ["sparse_saved_model"], exporting.FORMATS, "What to write."
)
flags.DEFINE_string("export_dir", None, "Where to write.", required=True)
flags.DEFINE_bool("compact", None, "Remove dead units; by default for litert.")
flags.DEFINE_enum("quantization", None, litert.QUANTIZATIONS, "Of litert.")
flags.DEFINE_integer("rounds", 51, "Rounds of timing.", lower_bound=1)
flags.DEFINE_multi_integer("batch_size", [1, 100], "To time.", lower_bound=1)
flags.DEFINE_integer(
    "test_images", None, "Images to check on; by default all.", lower_bound=1
)
_OPTIONS = "format compact quantization rounds batch_size test_images overwrite"
flags.register_multi_flags_validator(
    ["format", "quantization"],
    lambda given: not given["quantization"] or "litert" in given["format"],
    "--quantization needs --format=litert",
)


def main():
    """Runs the script."""
    directory = pathlib.Path(flags.FLAGS.export_dir)
    options = {name: flags.FLAGS[name].value for name in _OPTIONS.split()}
    rows = exports.export_and_compare(*run_flags.saved(), directory, **options)
    print(exports.table(rows, options["batch_size"]))
    if "litert" in options["format"]:
        file = directory / "litert" / "model.tflite"
        print(f"\n{litert.stored_weights(file.read_bytes())}")
    print(f"\nWrote {directory}")


if __name__ == "__main__":
    program.run(main)
