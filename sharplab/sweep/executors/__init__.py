"""Where runs are trained: this process, worker processes, Dask or Slurm."""
