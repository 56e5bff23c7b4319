"""Train the runs of `test_training` on as many host devices as told, and save what they leave.

Run as `python trained_elsewhere.py FILE LOOP LAYOUT...`, with the tests' folder on the path; a layout is "8" for a run
on each of eight devices, "8x2" for two.
"""

import sys

import jax
import numpy as np

if __name__ == "__main__":
    file, loop, *layouts = sys.argv[1:]
    sizes = {text: tuple(map(int, text.split("x"))) if "x" in text else (int(text), 1) for text in layouts}
    jax.config.update("jax_num_cpu_devices", max(devices for devices, _ in sizes.values()))
    from test_training import FIVE_RUNS, TASK, trained

    from sharplab.training import programs
    from sharplab.training.layout import DeviceLayout

    programs.choose_loop = lambda function, *args: loop
    curves = {}
    for text, (devices, per_device) in sizes.items():
        layout = DeviceLayout(tuple(jax.local_devices()[:devices]), per_device)
        assert layout.size == devices * per_device
        programs.choose_layout = lambda recipe, runs, layout=layout: layout
        for i, result in enumerate(trained(TASK, FIVE_RUNS)):
            curves |= {f"{text}_{name}_{i}": curve for name, curve in result.curves.items()}
    np.savez(file, **curves)
