"""The store of runs: its files, the identity of runs, its tables and their export."""
