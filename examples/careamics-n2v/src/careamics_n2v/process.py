"""Running a library that talks, seeds everything, sets variables and catches Ctrl-C, so that nothing of it stays."""

import contextlib
import logging
import os
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hyped_core import RunContext


@contextlib.contextmanager
def apart(context: RunContext, folder: Path, threads: int) -> Iterator[int]:
    """With so many threads; gives a seed. What is said goes to a file in ``folder``; afterwards all is as before."""
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_num_threads()  # noqa: NPY002  Lightning seeds it
    variables = dict(os.environ)
    disabled = logging.root.manager.disable
    devices = [context.device] if context.device.startswith("cuda") else []
    with (
        torch.random.fork_rng(devices),
        (folder / "log.txt").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            torch.set_num_threads(threads)
            yield 1 + int(context.rng("careamics-n2v").integers(2**31 - 1))
        except SystemExit as ended:  # Lightning turns Ctrl-C into the end of the program
            raise KeyboardInterrupt from ended
        finally:
            logging.disable(disabled)
            os.environ.clear()
            os.environ.update(variables)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            torch.set_num_threads(states[2])
