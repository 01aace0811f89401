"""Every step, one after the other, each of them done once: ingest, demultiplex, annotate, release; then the summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyped_core.context import RunContext
from hyped_core.errors import UsageError
from hyped_core.process.journal import FILE, Journal, Step, check_edits, open_journal
from hyped_seq.process.check import check_design, unhashed
from hyped_seq.process.layout import Layout
from hyped_seq.process.params import ProcessParams
from hyped_seq.process.source import Source

if TYPE_CHECKING:
    from hyped_core.design import Design

COMMAND = "hyped seq process"
MODALITIES = ("rna", "isoform", "hto")


def _quiet(_: str) -> None:
    """Say nothing."""


@dataclass
class Job:
    """One run of ``process``: what there is to do, and with what.

    Attributes
    ----------
    gene_map, aliases, cycle_genes : tables the user gives, as the steps' own commands take them.
    say : told what is being done.
    """

    source: Source
    layout: Layout
    design: Design
    params: ProcessParams
    context: RunContext
    gene_map: Path | None = None
    aliases: Path | None = None
    cycle_genes: Path | None = None
    design_file: Path | None = None
    say: Callable[[str], None] = _quiet

    def run(self) -> dict[str, Any]:
        """Do what is not done yet; returns the summary that is also written as ``summary.json``.

        Raises
        ------
        ValidationError
            The design does not fit pools and tags; nothing was done.
        UsageError
            Something else stands where the result goes, or a file that was changed by hand would be made again;
            nothing was done.
        HypedError
            What a step finds wrong with its input; what the steps before made stays.
        """
        from hyped_seq.process.summary import write_summary

        look = check_design(self.source, self.design, self.params.ingest, self.design_file)
        if self.layout.out.exists() and not (self.layout.steps / FILE).is_file():
            raise UsageError(f"is there and was not made by `{COMMAND}`", where=self.layout.out, mend="name a new file")
        journal = open_journal(self.layout.steps, sorted(self.source.pools), COMMAND)
        chain = self.steps(journal)
        check_edits(journal, chain)
        for number, step in enumerate(chain, start=1):
            facts = step.facts()
            if journal.stale(step.name, facts, step.outputs):
                self.say(f"{number}/{len(chain)} {step.name}")
                journal.run(step.name, facts, step.outputs, step.action, step.optional)
            else:
                self.say(f"{number}/{len(chain)} {step.name}: stands")
        return write_summary(self, journal, look)

    def steps(self, journal: Journal) -> list[Step]:
        """The steps in order."""
        from hyped_seq.annotate.run import OUTPUTS as CELLS
        from hyped_seq.ingest.run import OUTPUTS as INGESTED

        lay = self.layout
        matrices = [lay.ingest / f"{name}.h5ad" for name in MODALITIES]
        cells = [lay.cells / f"{name}.h5ad" for name in MODALITIES]
        hash_of = journal.hash

        def made_from(*paths: Path) -> dict[str, str]:
            return {path.name: hash_of(path) for path in paths}

        return [
            Step("ingest", self._ingest_facts, [lay.ingest / "ingest.json"], self._ingest,
                 [lay.ingest / name for name in INGESTED]),
            Step("demultiplex", lambda: self._demultiplex_facts(made_from(matrices[2])), [lay.calls],
                 self._demultiplex),
            Step("annotate", lambda: self._annotate_facts(made_from(*matrices, lay.calls)),
                 [lay.cells / "annotate.json"], self._annotate, [lay.cells / name for name in CELLS]),
            Step("release", lambda: self._facts(made_from(*cells), design=self._whole_design), [lay.out],
                 self._release),
        ]  # fmt: skip

    def _facts(self, before: Any, **more: Any) -> dict[str, Any]:
        """What decides a step's result: its input, the versions, and ``more``."""
        return {"before": before, "versions": [version("hyped-core"), version("hyped-seq")], **more}

    @cached_property
    def _alone(self) -> dict[str, str]:
        """Pools without hashtags -> their one condition."""
        return unhashed(self.design, self.source.pools)

    @cached_property
    def _whole_design(self) -> dict[str, Any]:
        return self.design.model_dump(mode="json")

    def _tags(self, *left_out: str) -> list[dict[str, Any]]:
        return [tag.model_dump(mode="json", exclude=set(left_out)) for tag in self.design.hashtags]

    def _ingest_facts(self) -> dict[str, Any]:
        from hyped_core.io.hashing import sha256_file

        tables = [None if path is None else sha256_file(path) for path in (self.gene_map, self.aliases)]
        params = self.params.ingest.model_dump(mode="json")
        tags = self._tags("condition", "phase")  # what a tag stands for does not change its counts
        return self._facts(
            self.source.identity(), tables=tables, params=params, tags=tags, unhashed=sorted(self._alone)
        )

    def _demultiplex_facts(self, before: dict[str, str]) -> dict[str, Any]:
        from hyped_core.plugins.sources import model_modules, source_hash
        from hyped_core.remote.placing import place

        chosen = self.params.demultiplex
        placed = place("demultiplex", chosen.model, chosen.config, self.design)
        spec = placed.spec
        model = [spec.key, spec.target, placed.config, source_hash(model_modules(spec))]
        return self._facts(before, model=model, seed=self.context.seed, tags=self._tags(), unhashed=self._alone)

    def _annotate_facts(self, before: dict[str, str]) -> dict[str, Any]:
        from hyped_core.io.hashing import sha256_file

        genes = None if self.cycle_genes is None else sha256_file(self.cycle_genes)
        params = self.params.annotate.model_dump(mode="json")
        return self._facts(before, params=params, genes=genes, seed=self.context.seed, design=self._whole_design)

    def _ingest(self) -> None:
        from hyped_seq.ingest.genes import read_gene_map
        from hyped_seq.ingest.run import ingest_pools, write_ingested

        pools = [f"{name}={path}" for name, path in self.source.pools.items()]
        elsewhere = {name: path for name, path in self.source.hashtags.items()
                     if path != self.source.pools[name] and name not in self._alone}  # fmt: skip
        params = self.params.ingest
        if all(
            tag.pool in self.source.hashtags for tag in self.design.hashtags if tag.pool in self.source.pools
        ):  # each library is named, so none is to be looked for in pools that have no hashtags
            params = params.model_copy(update={"hashtags": "none"})
        genes = read_gene_map(self.gene_map, aliases=self.aliases)
        ingested = ingest_pools(pools, self.design, params, genes, hashtags=elsewhere, context=self.context)
        write_ingested(ingested, self.layout.ingest)

    def _demultiplex(self) -> None:
        from hyped_seq.demultiplex.run import write_calls

        write_calls(self.calls(), self.layout.calls)

    def calls(self) -> Any:
        """The table of calls; cells of a pool without hashtags have none, and `annotate` gives them its condition."""
        import pandas as pd

        from hyped_core.remote.placing import place
        from hyped_seq.demultiplex.run import COLUMNS, demultiplex
        from hyped_seq.readers.h5ad import read_h5ad

        nothing = pd.DataFrame(columns=list(COLUMNS)).set_index("cell")
        if not (self.layout.ingest / "hto.h5ad").is_file():
            return nothing
        hto = read_h5ad(self.layout.ingest / "hto.h5ad")
        hashed = hto[~hto.obs["pool"].astype(str).isin(list(self._alone)).to_numpy()].copy()
        if not hashed.n_obs:
            return nothing
        chosen = self.params.demultiplex
        model = place("demultiplex", chosen.model, chosen.config, self.design).create()
        return demultiplex(hashed, model, self.design, context=self.context)

    def _annotate(self) -> None:
        from hyped_seq.annotate.cycle_genes import read_cycle_genes
        from hyped_seq.annotate.run import annotate, read_ingested, write_annotated
        from hyped_seq.demultiplex.run import read_calls

        result = annotate(
            read_ingested(self.layout.ingest), read_calls(self.layout.calls), self.design, self.params.annotate,
            read_cycle_genes(self.cycle_genes), context=self.context, calls_from=self.layout.calls,
        )  # fmt: skip
        write_annotated(result, self.layout.cells)

    def _release(self) -> None:
        from hyped_seq.release import build_release, read_cells, write_release

        write_release(build_release(read_cells(self.layout.cells), self.design), self.layout.out)
