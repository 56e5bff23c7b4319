"""Spectra over several devices of one process; the devices must be set up before jax does anything."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_spectra_over_eight_devices_are_those_of_one_and_bases_are_split():
    script = Path(__file__).with_name("on_eight_devices.py")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout.strip() == "as alone"
