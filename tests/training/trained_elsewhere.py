"""Train the runs of `test_training` on as many host devices as told, and save what they leave.

Run as `python trained_elsewhere.py FILE LOOP:LAYOUT...`, with the tests' folder on the path; a layout is "8" for a run
on each of eight devices, "8x2" for two; the loop is "compiled" or "python". "solves of LOOP:LAYOUT" counts the
programs of an eigenvalue problem that were compiled beside those of the layouts before.
"""

import logging
import sys

import jax
import numpy as np


class CompiledSolves(logging.Handler):
    """Counts the programs of an eigenvalue problem that are compiled."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += record.getMessage().startswith("Finished XLA compilation of jit(_run)")


if __name__ == "__main__":
    file, *wanted = sys.argv[1:]
    layouts = {text: text.split(":") for text in wanted}
    sizes = {text: tuple(map(int, f"{size}x1".split("x")[:2])) for text, (_, size) in layouts.items()}
    jax.config.update("jax_num_cpu_devices", max(devices for devices, _ in sizes.values()))
    from test_training import FIVE_RUNS, TASK, trained

    from sharplab.training import programs
    from sharplab.training.layout import DeviceLayout

    curves, solves = {}, CompiledSolves()
    jax.config.update("jax_log_compiles", True)
    logging.getLogger("jax").addHandler(solves)
    for text, (devices, per_device) in sizes.items():
        layout = DeviceLayout(tuple(jax.local_devices()[:devices]), per_device)
        assert layout.size == devices * per_device
        programs.choose_layout = lambda recipe, runs, layout=layout: layout
        programs.choose_loop = lambda function, *args, loop=layouts[text][0]: loop
        before = solves.count
        for i, result in enumerate(trained(TASK, FIVE_RUNS)):
            curves |= {f"{text}_{name}_{i}": curve for name, curve in result.curves.items()}
        curves[f"solves of {text}"] = np.array(solves.count - before)
    np.savez(file, **curves)
