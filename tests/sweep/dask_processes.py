"""A Dask scheduler and its worker as processes that somebody started elsewhere."""

import os
import subprocess
import sys
from contextlib import contextmanager


@contextmanager
def scheduler_and_worker(folder, environment=os.environ):
    """The scheduler's address and process; both processes end with the block."""
    from distributed import Client

    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    told = {"PYTHONPATH": os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), *sys.path]))}
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    scheduler = [*common, "--host", "127.0.0.1", "--port", "0"]
    worker = [*common, "--nthreads", "1", "--memory-limit", "0", "--local-directory", str(folder), "--no-nanny"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments],
            env=environment | told,
            stderr=subprocess.DEVNULL,
        )
        for kind, arguments in (("scheduler", scheduler), ("worker", worker))
    ]
    try:
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=30)
            address = client.scheduler.address
        yield address, processes[0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
