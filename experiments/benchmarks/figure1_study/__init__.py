"""The modules of the benchmark `figure1.py`."""
