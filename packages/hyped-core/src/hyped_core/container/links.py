"""What relates nuclei and cells. They are different cells: only groups are ever compared."""

from __future__ import annotations

from dataclasses import dataclass

from hyped_core.design import Design


@dataclass(frozen=True, slots=True)
class Link:
    """A factor both modalities know, and what stands against reading too much into it.

    Attributes
    ----------
    by : ``"condition"``, ``"condition x time"`` or ``"condition x phase"``.
    how : what is compared with what.
    beware : reasons for care, from the design's flags.
    """

    by: str
    how: str
    beware: tuple[str, ...] = ()


def links(design: Design, *, nuclei: bool, cells: bool) -> tuple[Link, ...]:
    """Links between the modalities that are there; none where one of them is absent."""
    if not (nuclei and cells):
        return ()
    care = [f"{a} and {b} cannot be told apart" for a, b in design.flags.confounded]
    if design.flags.pooled_wells:
        care.append("wells were pooled: no inference at the level of replicates for cells")
    chosen = design.sorted_conditions()
    by_phase = [*care, *([f"phases of {', '.join(chosen)} were set by sorting"] if chosen else [])]
    found = [Link("condition", "groups of nuclei and groups of cells of one condition", tuple(care))]
    harvest = design.timeline.time_of("harvest")
    if harvest is not None:
        how = f"nuclei near {harvest:g} h and the cells harvested then, of one condition"
        found.append(Link("condition x time", how, tuple(care)))
    how = "fractions of the coarse phases G1 and S_G2M, of one condition"
    found.append(Link("condition x phase", how, tuple(by_phase)))
    return tuple(found)
