"""What jax takes as devices in this process."""

import os
import sys


def use_all_cores() -> None:
    """Make each CPU core a device, for runs to stand on; to be called before jax has done anything."""
    cores = os.cpu_count() or 1
    os.environ["JAX_NUM_CPU_DEVICES"] = str(cores)
    if "jax" in sys.modules:  # which has read the environment already
        import jax

        jax.config.update("jax_num_cpu_devices", cores)
