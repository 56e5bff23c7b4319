"""Train the runs of `test_training` on as many host devices as told, and save what they leave.

Run as `python trained_elsewhere.py FILE DRIVER DEVICES...`, with the tests' folder on the path.
"""

import sys

import jax
import numpy as np

if __name__ == "__main__":
    file, loop, *numbers = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
    jax.config.update("jax_num_cpu_devices", max(numbers))
    from test_training import FIVE_RUNS, TASK, trained

    from sharplab.training import programs
    from sharplab.training.layout import DeviceLayout

    programs.choose_loop = lambda function, *args: loop
    curves = {}
    for number in numbers:
        layout = DeviceLayout(tuple(jax.local_devices()[:number]), 1)
        assert layout.size == number
        programs.choose_layout = lambda recipe, runs, layout=layout: layout
        for i, result in enumerate(trained(TASK, FIVE_RUNS)):
            curves |= {f"{number}_{name}_{i}": curve for name, curve in result.curves.items()}
    np.savez(file, **curves)
