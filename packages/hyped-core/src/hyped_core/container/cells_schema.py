"""What a release of cells (one ``.h5ad``) holds, as one table: validation, documentation page and file follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FORMAT = "hyped-cells"
SCHEMA_VERSION = 1
HASHTAG_COUNTS = "hashtag_counts"
ISOFORM_COUNTS = "isoform_counts"
PARTS = ("rna", "counts", "isoform", "hto")
"""What a release may lack; ``uns["hyped"]["absent"]`` then says why."""

Where = Literal["X", "layers", "obs", "var", "obsm", "obsp", "uns"]
PLACES: tuple[Where, ...] = ("X", "layers", "obs", "var", "obsm", "obsp", "uns")
Kind = Literal["text", "category", "integer", "number", "truth", "counts", "matrix", "table", "record"]

KINDS: dict[str, str] = {
    "text": "text",
    "category": "text, few values",
    "integer": "whole number",
    "number": "number",
    "truth": "true or false",
    "counts": "matrix of whole numbers of at least zero",
    "matrix": "matrix of numbers",
    "table": "table",
    "record": "record",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a release holds.

    Attributes
    ----------
    where, name : ``obs`` and ``"phase"`` for ``obs["phase"]``; ``X`` has no name.
    kind : a key of `KINDS`.
    needed : ``always``, or the part (`PARTS`) it belongs to and without which it is absent, or ``""``: may be there.
    meaning, unit : for people.
    values : what a text may be, besides empty.
    low, high : bounds of a number; a number that is not known is NaN.
    """

    where: Where
    name: str
    kind: Kind
    needed: str
    meaning: str
    unit: str = ""
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def place(self) -> str:
        """``obs/phase``; ``X``."""
        return f"{self.where}/{self.name}" if self.name else self.where

    @property
    def allowed(self) -> str:
        """Values or bounds in words, empty where there are none."""
        if self.values:
            return ", ".join(self.values)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return "" if self.low is None else f"at least {self.low:g}"


_PHASES = ("G1", "S", "G2M")
_KINDS = ("singlet", "doublet", "negative")


def _share(where: Where, name: str, needed: str, meaning: str) -> Entry:
    return Entry(where, name, "number", needed, meaning, "", (), 0.0, 1.0)


SCHEMA: tuple[Entry, ...] = (
    Entry("X", "", "matrix", "rna", "ln(1 + counts / the cell's counts * 10,000), cells x genes, CSR", "ln CP10k"),
    Entry("layers", "counts", "counts", "counts", "Raw counts of molecules (UMIs), cells x genes, CSR", "UMIs"),
    Entry("obs", "pool", "category", "always", "Capture the cell comes from; a pool of the design"),
    Entry("obs", "barcode", "text", "", "The cell's barcode; obs_names are pool and barcode joined by _"),
    Entry("obs", "n_counts", "integer", "", "Molecules of all genes", "UMIs", (), 0),
    Entry("obs", "n_genes", "integer", "", "Genes with a molecule", "genes", (), 0),
    Entry("obs", "mito_pct", "number", "", "Share of molecules of mitochondrial genes", "percent", (), 0, 100),
    Entry("obs", "n_reads", "integer", "", "Reads of the cell, as the workflow counts them", "reads", (), 0),
    Entry("obs", "n_reads_assigned", "integer", "", "Reads among them that were given a gene", "reads", (), 0),
    _share("obs", "ambient_share", "", "Share of molecules estimated to be ambient; NaN where the pool does not tell"),
    _share("obs", "doublet_score", "", "Probability by expression alone that two cells share the barcode"),
    Entry("obs", "predicted_doublet", "truth", "", "doublet_score reaches the threshold"),
    Entry("obs", "hashtag_call", "category", "always", "The cell's hashtag, or Doublet or Negative; empty: not called"),
    Entry("obs", "hashtag_kind", "category", "always", "What hashtag_call is; doublets and negatives stay", "", _KINDS),
    _share("obs", "hashtag_probability", "", "Calibrated probability of hashtag_call"),
    Entry("obs", "hashtags", "category", "", "The tags involved, joined by +"),
    Entry("obs", "forced_call", "category", "", "The best tag, never Doublet or Negative; empty without counts"),
    _share("obs", "doublet_probability", "", "Probability that the cell carries two tags"),
    Entry("obs", "margin", "number", "", "How far the best tag is above the second", "ln odds"),
    Entry("obs", "assigned_condition", "category", "always",
          "Condition by the hashtag and the design, or of a pool without hashtags; empty for doublets and negatives"),
    Entry("obs", "condition", "category", "always",
          "assigned_condition, else that of a pool with one condition; empty: not known"),
    Entry("obs", "perturbation", "category", "", "The condition's genes joined by +, or control"),
    Entry("obs", "assigned_phase", "category", "always", "Phase that cells of this hashtag were sorted into", "",
          _PHASES),
    Entry("obs", "phase", "category", "always", "Cell-cycle phase: assigned_phase, else a classifier's call", "",
          _PHASES),
    Entry("obs", "phase_source", "category", "", "Where phase comes from: sorted, hashtag, classifier, score, none"),
    Entry("obs", "phase_classifier", "category", "", "Call of the classifier trained on sorted cells", "", _PHASES),
    _share("obs", "phase_probability", "",
           "Calibrated probability of phase_classifier; of sorted cells by a classifier that had not seen them"),
    Entry("obs", "phase_score", "category", "", "Call by gene scores (Tirosh et al. 2016), beside the classifier's", "",
          _PHASES),
    Entry("obs", "score_S", "number", "", "Score of the genes of S phase"),
    Entry("obs", "score_G2M", "number", "", "Score of the genes of G2 and M phase"),
    Entry("var", "gene_id", "text", "rna", "Ensembl gene id without version; empty where none is known"),
    Entry("var", "symbol", "text", "rna", "Gene symbol; var_names are symbols, made unique"),
    Entry("var", "source_name", "text", "", "What the matrices call the gene, before aliases and retired symbols"),
    Entry("var", "mapped", "truth", "", "The gene has an Ensembl id"),
    Entry("var", "highly_variable", "truth", "", "The gene is among those that X_pca is made of"),
    Entry("obsm", "X_pca", "matrix", "", "Principal components of the highly variable genes"),
    Entry("obsm", "X_tsne", "matrix", "", "t-SNE of X_pca"),
    Entry("obsm", "X_umap", "matrix", "", "UMAP of X_pca"),
    Entry("obsm", HASHTAG_COUNTS, "counts", "hto",
          "Molecules of each hashtag: a table, one column a tag in the order of uns/hashtags", "UMIs"),
    Entry("obsm", ISOFORM_COUNTS, "counts", "isoform",
          "Molecules of each transcript, cells x transcripts, CSR; column i is row i of uns/isoform", "UMIs"),
    Entry("obsp", "distances", "matrix", "", "Distances to each cell's neighbours in X_pca, as scanpy has them"),
    Entry("obsp", "connectivities", "matrix", "", "Weights of the neighbours' graph, as scanpy has them"),
    Entry("uns", "hyped", "record", "always",
          "format, schema_version, modalities, absent (part -> why), columns (this table), warnings (what the "
          "experiment cannot show), names (JSON: columns by modality, names changed for the file), written_with"),
    Entry("uns", "design_yaml", "text", "always", "The experiment's design: conditions, pools, hashtags, flags"),
    Entry("uns", "perturbations_json", "text", "", "perturbation -> genes, direction, agent, dose, onset"),
    Entry("uns", "log1p", "record", "rna", "target_sum of X; the logarithm is natural"),
    Entry("uns", "hashtags", "table", "hto", "One row a hashtag: its name and its barcode"),
    Entry("uns", "isoform", "table", "isoform", "One row a transcript: transcript_id, gene_id, symbol"),
    Entry("uns", "neighbors", "record", "", "How the neighbours in obsp were found, as scanpy has it"),
    Entry("uns", "umap", "record", "", "How X_umap was made, as scanpy has it"),
    Entry("uns", "top_genes", "table", "",
          "First genes of each contrast; column warning says where condition and pool cannot be told apart, "
          "inference what the p-values take as units"),
    Entry("uns", "top_isoforms", "table", "",
          "First genes of each contrast whose split over transcripts changes, with the transcript that changes most"),
    Entry("uns", "phase", "record", "", "How phases were called and how well that did on held-out sorted cells"),
    Entry("uns", "annotate_json", "text", "", "Record of annotation: thresholds, cells removed, agreement of phases"),
    Entry("uns", "counts", "text", "", "Where the counts of an imported file come from, or why there are none"),
)  # fmt: skip

FIXED_OBS = tuple(entry.name for entry in SCHEMA if entry.where == "obs" and entry.needed == "always")
"""Columns that every release has."""


def entries(where: Where) -> dict[str, Entry]:
    """Name -> entry of one place, in the schema's order."""
    return {entry.name: entry for entry in SCHEMA if entry.where == where}


_NEEDED = {
    "always": "always",
    "rna": "with genes",
    "counts": "with counts",
    "isoform": "with isoforms",
    "hto": "with hashtags",
}


def schema_markdown() -> str:
    """The schema as the tables of ``docs/release.md``, one a place.

    >>> schema_markdown().splitlines()[0]
    '### X'
    """
    parts = []
    for where in PLACES:
        rows = [f"### {where}", "", "| name | what | kind | values | unit | there |", "| --- " * 6 + "|"]
        for entry in entries(where).values():
            there = _NEEDED.get(entry.needed, "where made")
            cells = (f"`{entry.name or where}`", entry.meaning, KINDS[entry.kind], entry.allowed, entry.unit, there)
            rows.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"
