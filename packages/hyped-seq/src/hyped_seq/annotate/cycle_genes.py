"""Genes whose expression follows the cell cycle, and reading a user's own list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hyped_core.errors import InvalidDataError
from hyped_seq.readers.matrix import read_lines

S_GENES = tuple(
    """
    MCM5 PCNA TYMS FEN1 MCM2 MCM4 RRM1 UNG GINS2 MCM6 CDCA7 DTL PRIM1 UHRF1 CENPU HELLS RFC2 RPA2 NASP
    RAD51AP1 GMNN WDR76 SLBP CCNE2 UBR7 POLD3 MSH2 ATAD2 RAD51 RRM2 CDC45 CDC6 EXO1 TIPIN DSCC1 BLM
    CASP8AP2 USP1 CLSPN POLA1 CHAF1B BRIP1 E2F8
    """.split()
)
"""Genes high in S (Tirosh et al. 2016, doi:10.1126/science.aad0501), under current symbols."""

G2M_GENES = tuple(
    """
    HMGB2 CDK1 NUSAP1 UBE2C BIRC5 TPX2 TOP2A NDC80 CKS2 NUF2 CKS1B MKI67 TMPO CENPF TACC3 PIMREG SMC4
    CCNB2 CKAP2L CKAP2 AURKB BUB1 KIF11 ANP32E TUBB4B GTSE1 KIF20B HJURP CDCA3 JPT1 CDC20 TTK CDC25C
    KIF2C RANGAP1 NCAPD2 DLGAP5 CDCA2 CDCA8 ECT2 KIF23 HMMR AURKA PSRC1 ANLN LBR CKAP5 CENPE CTCF NEK2
    G2E3 GAS2L3 CBX5 CENPA
    """.split()
)
"""Genes high in G2 and M, same source."""

RENAMED = {"MLF1IP": "CENPU", "FAM64A": "PIMREG", "HN1": "JPT1"}
"""Retired symbol -> current symbol, for lists and matrices that use the old ones."""


@dataclass(frozen=True, slots=True)
class CycleGenes:
    """Genes high in S and genes high in G2/M."""

    s: tuple[str, ...] = S_GENES
    g2m: tuple[str, ...] = G2M_GENES

    def present(self, symbols: Sequence[str]) -> CycleGenes:
        """The genes that ``symbols`` hold, under the name they have there."""
        return CycleGenes(named(self.s, symbols), named(self.g2m, symbols))


def named(genes: Sequence[str], symbols: Sequence[str]) -> tuple[str, ...]:
    """Those of ``genes`` that ``symbols`` hold under their current or their retired name, as named there."""
    found = (name for name in names_in(genes, symbols) if name is not None)
    return tuple(dict.fromkeys(found))


def names_in(genes: Sequence[str], symbols: Sequence[str]) -> list[str | None]:
    """What ``symbols`` call each of ``genes``, None where they lack it.

    A gene goes by its current or its retired name; where there is neither, by either in other letters: a mouse's
    ``Mcm5`` is the orthologue of ``MCM5``.
    """
    known = set(symbols)
    alike = {symbol.upper(): symbol for symbol in reversed(symbols)}
    old = {new: retired for retired, new in RENAMED.items()}
    names = []
    for gene in genes:
        other = RENAMED.get(gene) or old.get(gene)
        own = [name for name in (gene, other) if name is not None]
        exact = next((name for name in own if name in known), None)
        names.append(exact or next((alike[name.upper()] for name in own if name.upper() in alike), None))
    return names


def read_cycle_genes(path: str | Path | None, n_s: int = 43) -> CycleGenes:
    """Read a list of cycle genes (the built-in one where ``path`` is None).

    Two layouts: two columns, gene and ``S`` or ``G2M`` (tab or comma); or one gene a line with the first
    ``n_s`` of S and the rest of G2/M, as the list of Tirosh et al. goes round.

    Raises
    ------
    MissingFileError, InvalidDataError
        No such file, a phase that is neither, or one of the two sets is empty.
    """
    if path is None:
        return CycleGenes()
    path = Path(path)
    rows = [line.replace(",", "\t").split("\t") for line in read_lines(path) if line.strip()]
    genes: dict[str, list[str]] = {"S": [], "G2M": []}
    for number, row in enumerate(rows, 1):
        phase = (
            ("S" if number <= n_s else "G2M") if len(row) == 1 else row[1].strip().upper().replace("/", "")
        )
        if phase not in genes:
            if number == 1:
                continue
            raise InvalidDataError(
                f"line {number}: {row[1]!r} is neither S nor G2M", where=path, mend="correct it"
            )
        genes[phase].append(row[0].strip())
    if not genes["S"] or not genes["G2M"]:
        raise InvalidDataError("needs genes of S and of G2M", where=path, mend="give both sets")
    return CycleGenes(tuple(genes["S"]), tuple(genes["G2M"]))
