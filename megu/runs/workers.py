r"""Many pieces of work, one after another or in several processes."""

import os
from unittest import mock

import torch
from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from megu.settings.errors import WorkError


def share(workers=None, most=8):
    r"""How the processor is shared: (workers, the settings that fit them).

    Args:
        workers: processes; None for one per core, at most ``most``, and one alone on a GPU.

    Small networks keep one core busy but hardly two: on CPU, processes of one thread each do more than one process of
    many, and sums that are added by one thread are the same whatever the number of cores.
    """
    workers = workers or (1 if torch.cuda.is_available() else min(cpu_count(), most))
    return workers, {"threads": 1} if workers > 1 else {}


def each(function, cases, workers=1, label=""):
    r"""Call ``function(*case)`` for every case and drop what it returns: what shall stay, the function keeps in a run
    directory.

    Args:
        function: of a module; with more than one worker, it and the cases are pickled.
        cases: list of tuples.
        workers: 1 works in this process; more are processes of joblib, whose backend may be another one
            (``joblib.parallel_config``).
        label: text of the progress bar.
    Raises: WorkError after all cases, with those that failed and why.
    """
    # The bars of several processes would overwrite each other.
    quiet = {"TQDM_DISABLE": "1"} if workers > 1 else {}
    with mock.patch.dict(os.environ, quiet):
        done = Parallel(workers, return_as="generator_unordered")(delayed(_tried)(function, case) for case in cases)
        failed = [failure for failure in tqdm(done, desc=label, total=len(cases), unit="piece") if failure]
    if failed:
        raise WorkError(
            f"{len(failed)} of {len(cases)} pieces failed ({label}); the others are kept.  {'; '.join(sorted(failed))}"
        )


def _tried(function, case):
    try:
        function(*case)
    except Exception as error:  # one failure must not take the other pieces with it
        return f"{' '.join(str(part) for part in case)}: {type(error).__name__}: {error}"
    return None
