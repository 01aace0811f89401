"""Checks that compare runs of one model: under one seed and another, beside other instances, with threads, on a GPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hyped_core.checking.behaviour.working import again, must_agree, must_repeat, observed, trained, unrepeated, work
from hyped_core.checking.records import CheckFailed, CheckSkipped, Subject
from hyped_core.errors import MissingHardwareError


def seed_repeats(subject: Subject) -> None:
    """The same seed gives the same outputs, whatever the global generators hold."""
    if not subject.spec.deterministic:
        raise CheckSkipped("the model says that one seed may give other numbers (deterministic=False)")
    if found := unrepeated(subject):
        raise CheckFailed(
            f"two runs with one seed differ: {found}",
            where=found.partition(":")[0],
            mend="draw random numbers from context.rng('name') alone, seed libraries that draw their own with "
            "context.seed, or say deterministic=False in the ModelSpec",
        )


def seeded_as_said(subject: Subject) -> None:
    """A model that says ``seeded=False`` gives the same under another seed."""
    if subject.spec.seeded:
        raise CheckSkipped("the model says that its seed matters")
    first = observed(subject)
    must_repeat(subject)
    other = work(subject, subject.make(), 0, context=subject.context(seed=1))
    must_agree(
        subject, first.outputs, other, "another seed gives another result",
        mend="say seeded=True in the ModelSpec (the benchmark then runs it under several seeds), or draw nothing from "
        "context.rng",
    )  # fmt: skip


def calls_repeat(subject: Subject) -> None:
    """One instance, asked again, gives the same again."""
    must_repeat(subject)
    if found := again(subject)[1]:
        raise CheckFailed(
            f"the same call of the same instance gives another result the second time: {found}",
            where=found.partition(":")[0],
            mend="let only fit change the instance: no counters, caches or averages over what was asked for before, no "
            "generator kept on self (context.rng('name') gives a new one in each call)",
        )


def instances_apart(subject: Subject) -> None:
    """What one instance learns does not change another."""
    first = observed(subject)
    must_repeat(subject)
    before, changed = again(subject)
    if changed:
        raise CheckSkipped("its results change from call to call: see the check 'calls_repeat'")
    work(subject, subject.make(), 1)
    after = work(subject, trained(first.model), 0)
    must_agree(
        subject, before, after, "its results changed after another instance had worked on other data",
        mend="set in __init__ and fit what is learned, on self: no mutable attribute of the class, no variable of the "
        "module, no functools.cache that does not have the data as its key",
    )  # fmt: skip


def threads_agree(subject: Subject) -> None:
    """The number of threads does not change the result."""
    first = observed(subject)
    must_repeat(subject)
    other = work(subject, subject.make(), 0, context=subject.context(threads=2))
    must_agree(
        subject, first.outputs, other, "with two threads the result is another",
        mend="let context.threads decide the speed alone: a random stream for each item (context.rng('name', i)), not "
        "for each thread, and sums in the order of the items",
    )  # fmt: skip


def gpu_agrees(subject: Subject) -> None:
    """The GPU gives what the CPU gives, within a thousandth of the largest value."""
    if not Path("/dev/nvidiactl").exists() and not os.environ.get("CUDA_VISIBLE_DEVICES"):
        raise CheckSkipped("this machine has no NVIDIA GPU")
    first = observed(subject)
    torch = sys.modules.get("torch")
    if torch is not None and not subject.remote and not torch.cuda.is_available():
        raise CheckSkipped("torch finds no GPU here")
    before = work(subject, trained(first.model), 0)
    try:
        after = work(subject, trained(first.model), 0, context=subject.context(device="cuda"))
    except MissingHardwareError as error:
        raise CheckSkipped(f"cannot use the GPU here: {error.message}") from error
    if found := loosely(before, after):
        raise CheckFailed(
            f"on the GPU the result is another: {found}",
            where=found.partition(":")[0],
            mend="on context.device compute in float32 or more, without TF32 "
            "(torch.backends.cuda.matmul.allow_tf32 = False), and draw random numbers on the CPU, by context.rng",
        )
    work(subject, subject.make(), 0, context=subject.context(device="cuda"))


def loosely(a: Any, b: Any) -> str | None:
    """Where outputs differ by more than a thousandth of the largest value of the same array."""
    import numpy as np

    from hyped_core.checking.compare import dense, difference

    if isinstance(a, dict):
        return next((f"{key}: {found}" for key in a if (found := loosely(a[key], b[key]))), None)
    first = a.X if hasattr(a, "obs_names") else a
    if getattr(first, "dtype", None) is None or not np.issubdtype(first.dtype, np.floating):
        return difference(a, b, 1e-3, 1e-3)
    values = dense(first)
    size = float(np.nanmax(np.abs(values))) if values.size and np.isfinite(values).any() else 0.0
    return difference(a, b, 1e-3, 1e-3 * size)
