"""Pretraining of a small Geneformer by masked tokens: the loop, what comes of it, and the folder it is written to.

A batch is cut into parts that depend on its cells alone. Each part is computed by one thread and their gradients are
added in order, so a number of threads changes the time and not a bit of the result.

Importing this module imports torch.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hyped_core.errors import HypedError, MissingHardwareError
from hyped_core.io.atomic import atomic_path, write_json, write_text
from hyped_core.provenance import versions
from hyped_seq.geneformer.architecture import TINY, Architecture
from hyped_seq.geneformer.dictionaries import Dictionaries
from hyped_seq.geneformer.masked_lm import MaskedLM, MaskedTokens, first_model, mask_tokens
from hyped_seq.geneformer.pretrain_baselines import baselines, frequencies
from hyped_seq.geneformer.pretrain_data import SHARD_TOKENS, TrainingCells, batches, prepare, shards
from hyped_seq.geneformer.pretrain_params import PretrainParams
from hyped_seq.geneformer.series import MASK, PAD
from hyped_seq.geneformer.weights import CARD, Weights, save_weights
from hyped_seq.torch_run import torch_threads

if TYPE_CHECKING:
    from anndata import AnnData

    from hyped_core.context import RunContext

LOG = logging.getLogger(__name__)

LOSSES = "loss.csv"
MOST_HIDDEN = 8000
"""Held-out cells are taken, in random order, until so many tokens are hidden."""
MOST_GRADIENT = 1.0
"""Norm that gradients are cut to."""
BETAS = (0.9, 0.98)
"""Of AdamW."""
ATTEMPTS, LOWER = 3, 4.0
"""Trainings tried where one becomes infinite, each with the rate divided by so much."""


class _DivergedError(Exception):
    """A loss or a gradient is not finite."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Losses by step: (step, mean training loss since the row before, held-out loss); None where there is none."""

    rows: tuple[tuple[int, float | None, float | None], ...]

    def csv(self) -> str:
        """The table with six decimals."""
        lines = ["step,train_loss,held_out_loss"]
        lines += [f"{step},{_fixed(train)},{_fixed(held)}" for step, train, held in self.rows]
        return "\n".join(lines) + "\n"


def _fixed(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


@dataclass(frozen=True)
class Pretrained:
    """A model that was pretrained here.

    Attributes
    ----------
    model : encoder and language head.
    curve : losses by step.
    record : what it is, what it was trained with and what it scores; JSON-able, the content of ``geneformer.json``.
    """

    model: MaskedLM
    architecture: Architecture
    dictionaries: Dictionaries
    curve: Curve
    record: dict[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write the model's folder, whole or not at all; equal models give equal bytes."""
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            save_weights(temporary, self.model.encoder, self.architecture, self.model.head.hf_state())
            self.dictionaries.save(temporary)
            write_text(temporary / LOSSES, self.curve.csv())
            write_json(temporary / CARD, self.record)

    def weights(self, source: str = TINY.name) -> Weights:
        """The encoder as `load_weights` gives it; its sha256 is of the tensors in the order of their names."""
        import hashlib

        digest = hashlib.sha256()
        for key, value in sorted(self.model.encoder.state_dict().items()):
            digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        series = self.dictionaries.series.name
        return Weights(self.model.encoder, self.architecture, digest.hexdigest(), source, Path(source), series)


def pretrain(
    cells: AnnData, params: PretrainParams, *, context: RunContext, max_seconds: float | None = None, source: str = ""
) -> Pretrained:
    """Pretrain a model on ``cells``.

    Losses are -ln(probability), in nats, of the genes hidden in cells that are not learned from, their mean. The
    record holds beside the model's what it is to be held against: the loss of its first weights, of a uniform guess,
    of how common each gene is (``frequency``), of that at a rank, and of both among the genes not shown (``_unseen``).
    What few cells and steps teach is mostly this last rule, that a gene stands once in a cell, and how genes go
    together hardly; and the rule in part only, as a width below the number of genes cannot hold them all. On the 479
    control cells of the simulated ``mini`` the loss is 5.82, of the first weights 6.47, of ``frequency`` 6.34, of
    ``frequency_unseen`` 4.99. With many genes the default steps teach next to nothing: at 3,000, of which 1,650 in a
    cell, the loss is 7.90, of ``frequency`` 7.91, of ``rank`` 7.31. The first weights, too, let a cell's genes through
    (`masked_lm.make_model`): embeddings of them are random projections of which genes it expresses, no empty control.

    Parameters
    ----------
    cells
        Raw counts (`hyped_seq.geneformer.cell_chunks`); what is learned and held out are these alone.
    context
        Seed, device, threads and progress. The result is the same for any number of threads.
    max_seconds
        The learning rate comes down and training ends by then, if the steps are not done before: the result then
        depends on the machine, and its record says so.
    source
        Which cells they are, in words, for the record.

    Raises
    ------
    InvalidDataError
        Counts that are none, genes without ids, no cell with a gene, a gene to keep that is unknown.
    MissingHardwareError
        The device is not here.
    HypedError
        The loss became infinite with every rate that was tried.
    """
    device = _device(context.device)
    data = prepare(cells, params, context, source)
    architecture = architecture_of(params, data)
    clock = _Clock(params.steps, max_seconds)
    rate = params.learning_rate
    with torch_threads(1):  # ours work side by side
        for attempt in range(1, ATTEMPTS + 1):
            run = _Run(data, params, architecture, context, device, rate)
            try:
                curve = run.train(clock)
                break
            except _DivergedError as error:
                LOG.warning("pretraining with a learning rate of %g: %s", rate, error)
                if attempt == ATTEMPTS:
                    raise HypedError(
                        f"pretraining diverged {ATTEMPTS} times, last with a learning rate of {rate:g}: {error}",
                        where="geneformer-tiny",
                        mend="set learning_rate lower, or look at the counts",
                    ) from error
                rate /= LOWER
        run.model.eval().requires_grad_(False)
        record = _record(data, params, architecture, context, run, curve, cells.n_obs, source)
    record["training"] |= {"attempts": attempt, "learning_rate": rate, "cut_by_time": clock.cut}
    if clock.cut:
        record["notes"].append(
            f"training was cut at step {curve.rows[-1][0]} of {params.steps} by a limit of time: "
            "another run or machine gives another model"
        )
    return Pretrained(run.model, architecture, data.dictionaries, curve, record)


def architecture_of(params: PretrainParams, data: TrainingCells) -> Architecture:
    """The sizes that were asked for, with the vocabulary of the data."""
    return Architecture(
        layers=params.layers,
        hidden=params.hidden,
        heads=params.heads,
        feed_forward=params.feed_forward,
        positions=params.max_tokens,
        vocabulary=data.dictionaries.vocabulary,
        pad=data.dictionaries.specials[PAD],
        name=TINY.name,
    )


class _Clock:
    """How far training is, by steps or, where there is a limit, by time: whichever is further."""

    def __init__(self, steps: int, max_seconds: float | None) -> None:
        self.steps, self.limit = steps, max_seconds
        self.started = time.monotonic()
        self.cut = False

    def done(self, step: int) -> float:
        """Share of training that lies behind before ``step`` (from 0); 1 ends it."""
        by_steps = step / self.steps
        if self.limit is None:
            return by_steps
        by_time = (time.monotonic() - self.started) / self.limit
        if by_time > by_steps:
            self.cut = True
        return min(1.0, max(by_steps, by_time))


class _Run:
    """One training from its first weights on."""

    def __init__(
        self,
        data: TrainingCells,
        params: PretrainParams,
        architecture: Architecture,
        context: RunContext,
        device: torch.device,
        rate: float,
    ) -> None:
        self.data, self.params, self.context, self.rate = data, params, context, rate
        self.lengths = data.tokens.lengths
        self.first_gene = len(data.dictionaries.series.specials)
        self.model = first_model(architecture, context).to(device)
        # evaluation mode throughout: dropout, which draws from one generator for all threads, is not used
        self.model.eval()
        self.trained = list(self.model.parameters())
        self.most_tokens = SHARD_TOKENS.get(device.type, SHARD_TOKENS["cpu"])
        self.threads = max(1, context.threads) if device.type == "cpu" else 1
        self.held_out = self._held_out()
        self.untrained: float | None = None

    def _held_out(self) -> list[MaskedTokens]:
        """Held-out sequences with the tokens hidden that every loss is taken on."""
        rng = self.context.rng("pretrain", "held-out")
        chosen, hidden = [], 0
        for cell in rng.permutation(self.data.held_out):
            if hidden < MOST_HIDDEN:
                chosen.append(cell)
                hidden += max(1, round(self.params.mask * int(self.lengths[cell])))
        return self._masked(np.array(chosen, dtype=np.int64), rng, all_masked=True)

    def _masked(
        self, chosen: np.ndarray, rng: np.random.Generator, *, all_masked: bool = False
    ) -> list[MaskedTokens]:
        dictionaries = self.data.dictionaries
        return [
            mask_tokens(
                [self.data.tokens[int(cell)] for cell in part],
                rng,
                share=self.params.mask,
                mask=dictionaries.specials[MASK],
                first_gene=self.first_gene,
                genes=dictionaries.tokens,
                all_masked=all_masked,
            )
            for part in shards(chosen, self.lengths, self.most_tokens)
        ]

    def train(self, clock: _Clock) -> Curve:
        """Train to the end; raises `_DivergedError` where a number is not finite."""
        params = self.params
        matrices = [p for p in self.trained if p.ndim > 1]
        others = [p for p in self.trained if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": params.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=self.rate,
            betas=BETAS,
        )
        rng = self.context.rng("pretrain", "batches")
        source = enumerate(batches(self.data.train, params.batch_cells, params.steps, rng))
        ends = sorted({max(1, round(params.steps * k / params.checks)) for k in range(1, params.checks + 1)})
        with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            self.untrained = self.held_out_loss(pool)
            self._start_from_frequencies()
            rows: list[tuple[int, float | None, float | None]] = [(0, None, self.untrained)]
            for first, end in zip([0, *ends], ends):
                losses = []
                last = next((loss for row in reversed(rows) for loss in (row[2], row[1]) if loss is not None), None)
                what = f"pretrain steps {first + 1} to {end} of {params.steps}"
                what += "" if last is None else f", loss {last:.3f}"
                for _ in self.context.progress.track(range(first, end), what):
                    step, chosen = next(source)
                    done = clock.done(step)
                    if done >= 1:
                        break
                    for group in optimiser.param_groups:
                        group["lr"] = self.rate * schedule(done, params.warm_up, params.steps)
                    losses.append(self._step(self._masked(chosen, rng, all_masked=not params.replace), optimiser, pool))
                if losses:
                    rows.append((first + len(losses), float(np.mean(losses)), self.held_out_loss(pool)))
                if len(losses) < end - first:
                    break
        return Curve(tuple(rows))

    def _step(self, parts: Sequence[MaskedTokens], optimiser: torch.optim.Optimizer, pool: ThreadPoolExecutor) -> float:
        """One step of the optimiser; the mean loss before it."""
        hidden = sum(len(part.places) for part in parts)

        def one(part: MaskedTokens) -> tuple[Tensor, tuple[Tensor, ...]]:
            loss = self.model.loss_sum(part) / hidden
            return loss.detach(), torch.autograd.grad(loss, self.trained)

        total = 0.0
        for number, (loss, gradients) in enumerate(pool.map(one, parts)):
            total += float(loss)
            for parameter, gradient in zip(self.trained, gradients):
                parameter.grad = gradient if number == 0 else parameter.grad.add_(gradient)
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, MOST_GRADIENT))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise _DivergedError(f"loss {total:g}, norm of the gradient {norm:g}")
        optimiser.step()
        return total

    def held_out_loss(self, pool: ThreadPoolExecutor | None = None) -> float | None:
        """Mean loss on the held-out cells, None without any; raises `_DivergedError` where it is not finite."""
        if not self.held_out:
            return None

        def one(part: MaskedTokens) -> float:
            with torch.no_grad():
                return float(self.model.loss_sum(part))

        sums = map(one, self.held_out) if pool is None else pool.map(one, self.held_out)
        loss = sum(sums) / sum(len(part.places) for part in self.held_out)
        if not math.isfinite(loss):
            raise _DivergedError(f"held-out loss {loss:g}")
        return loss

    def guessed(self) -> float | None:
        """Share of the held-out hidden tokens that the model holds for the most probable."""
        if not self.held_out:
            return None
        with torch.no_grad():
            found = [self.model(part).argmax(1).cpu() == torch.from_numpy(part.targets) for part in self.held_out]
        return sum(int(part.sum()) for part in found) / sum(len(part.places) for part in self.held_out)

    def _start_from_frequencies(self) -> None:
        """Let the decoder's bias say how common each gene is: what would be learned first."""
        shares = frequencies(self.data.tokens, self.data.train, len(self.model.head.bias), self.first_gene)
        lowest = shares[shares > 0].min() / 10
        with torch.no_grad():
            self.model.head.bias.copy_(torch.from_numpy(np.log(np.maximum(shares, lowest))).float())


def schedule(done: float, warm_up: float, steps: int) -> float:
    """Share of the highest rate when a share ``done`` of training lies behind: up in a line, then down to zero."""
    ahead = done + 1 / steps
    return min(1.0, ahead / warm_up if warm_up else 1.0, (1 - done) / (1 - warm_up))


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MissingHardwareError("there is no CUDA device here", where="--device", mend="use --device cpu")
    return device


def _record(
    data: TrainingCells,
    params: PretrainParams,
    architecture: Architecture,
    context: RunContext,
    run: _Run,
    curve: Curve,
    n_cells: int,
    source: str,
) -> dict[str, Any]:
    """What goes into ``geneformer.json``; no time and no path, so that it can be made again byte for byte."""
    dictionaries = data.dictionaries
    held_out = curve.rows[-1][2]
    scores: dict[str, Any] = {}
    notes: list[str] = []
    if run.held_out:
        scores = baselines(data.tokens, data.train, run.held_out, architecture.vocabulary, run.first_gene)
        if run.untrained is not None and held_out is not None and held_out >= run.untrained:
            notes.append("the held-out loss is not below that of the untrained model: nothing was learned")
        common = scores["frequency"]["loss"]
        if held_out is not None and held_out >= common:
            notes.append(
                f"the held-out loss ({held_out:.3f}) is not below that of how common each gene is ({common:.3f}): "
                "embeddings say no more than that of the cells; give more cells, steps or width"
            )
    else:
        notes.append("there is one cell only: none was held out, and how well the model does is not known")
    return _rounded(
        {
            "name": "geneformer-tiny",
            "what": (
                f"A small model with Geneformer's architecture, pretrained by HYPED on {len(data.train)} cells"
                f"{f' of {source}' if source else ''}. These are not the published weights of Geneformer."
            ),
            "published_weights": False,
            "series": dictionaries.series.name,
            "architecture": architecture.to_hf_config(),
            "seed": context.seed,
            "params": params.model_dump(mode="json"),
            "cells": {
                "given": n_cells,
                "without_a_gene": data.tokens.n_dropped,
                "trained_on": len(data.train),
                "held_out": len(data.held_out),
                "tokens_median": float(np.median(data.tokens.lengths)),
                "tokens_cut_off": int(np.maximum(data.tokens.n_genes - run.data.tokens.lengths, 0).sum()),
            },
            "dictionaries": {"genes": len(dictionaries), "sha256": dictionaries.sha256},
            "training": {"steps": curve.rows[-1][0], "train_loss": curve.rows[-1][1]},
            "held_out": {
                "hidden_tokens": sum(len(part.places) for part in run.held_out),
                "loss": held_out,
                "guessed": run.guessed(),
                "untrained_loss": run.untrained,
                "uniform_loss": math.log(len(dictionaries)),
                "baselines": scores,
            },
            "notes": notes,
            "written_with": versions(("hyped-seq", "numpy", "torch")),
        }
    )


def _rounded(value: Any) -> Any:
    """Floats with six decimals."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, 6) if abs(value) >= 1e-3 else value
    return value
