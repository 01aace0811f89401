"""The design as a typed, validated model, and HYPED's own design as the default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field
from pydantic import ValidationError as PydanticError

from hyped_core.errors import Problem, ValidationError
from hyped_core.params import Params, problems_of, read_yaml

CONTROL = "control"
"""Name of the unperturbed condition and perturbation, everywhere."""

NO_CONDITIONS = ("rest",)
"""What no condition can be called: contrasts name all other perturbed conditions together so."""
NO_TAGS = ("negative", "doublet")
"""What no hashtag can be called, whatever the case: calls name cells without a tag and with two so."""


class GeneChange(Params):
    """One gene pushed up or down by one agent."""

    gene: str
    """Symbol."""
    direction: Literal["activation", "suppression"]
    agent: str = ""
    """What was given: ``siRNA``, ``mmRNA``, ``CRISPRa``."""
    dose: float | None = None
    dose_unit: str = ""
    onset_h: float = 0.0
    """Hours since release at which the agent was given."""


class Perturbation(Params):
    """One or more gene changes given to the same cells; none is the control."""

    name: str
    changes: tuple[GeneChange, ...] = ()

    @property
    def genes(self) -> tuple[str, ...]:
        """Symbols in the order given."""
        return tuple(change.gene for change in self.changes)

    @property
    def is_control(self) -> bool:
        """True where nothing is changed."""
        return not self.changes

    @classmethod
    def from_name(
        cls, name: str, direction: Literal["activation", "suppression"] = "activation", agent: str = ""
    ) -> Perturbation:
        """Read ``"A+B"``, ``"A"`` or ``"control"``; ``ctrl`` parts are dropped, as GEARS writes them.

        >>> Perturbation.from_name("KLF1+ctrl").genes
        ('KLF1',)
        """
        genes = [part for part in name.split("+") if part not in ("ctrl", CONTROL, "")]
        return cls(
            name="+".join(genes) or CONTROL,
            changes=tuple(GeneChange(gene=g, direction=direction, agent=agent) for g in genes),
        )


class Condition(Params):
    """A condition of the experiment."""

    name: str
    perturbation: tuple[GeneChange, ...] = ()
    phase_composition: Literal["natural", "sorted"] = "natural"
    """``sorted``: the sequenced cells' phase fractions were set by FACS, not by biology."""


class Event(Params):
    """Something done to the cells at a time."""

    name: str
    time_h: float


class Timeline(Params):
    """When what happened, in hours since release from serum starvation."""

    imaging_start_h: float = 0.0
    imaging_end_h: float = 72.0
    interval_min: float = Field(20.0, gt=0)
    events: tuple[Event, ...] = ()

    def time_of(self, name: str) -> float | None:
        """Hours of the event called ``name``."""
        return next((event.time_h for event in self.events if event.name == name), None)


class Channel(Params):
    """A channel of the movie and what it shows."""

    name: str
    role: Literal["nuclei", "reporter", "brightfield", "other"] = "other"
    reports: Literal["G1", "S_G2M"] | None = None
    """Which phase a reporter is bright in."""
    aliases: tuple[str, ...] = ()
    """Other names the channel goes by in files."""


class Scene(Params):
    """A place on the plate that was imaged over time."""

    name: str
    condition: str
    replicate: int = Field(1, ge=1)


class Pool(Params):
    """Cells captured together."""

    name: str
    conditions: tuple[str, ...] = ()


class Hashtag(Params):
    """A hashtag in one pool and what it stands for. The same tag may mean different things in two pools."""

    pool: str
    tag: str
    barcode: str = Field("", pattern="^[ACGT]*$")
    """Sequence of the tag; empty where only counts are at hand (counting from reads needs it)."""
    chemistry: Literal["TotalSeq-A", "TotalSeq-B", "TotalSeq-C", "other"] = "TotalSeq-B"
    condition: str
    phase: Literal["G1", "S", "G2M"] | None = None
    """Phase the cells were sorted into, where they were."""
    catalogue: str = ""


class DesignFlags(Params):
    """What the experiment cannot show."""

    confounded: tuple[tuple[str, str], ...] = ()
    """Pairs of factors that cannot be told apart, e.g. ``(condition, pool)``."""
    pooled_wells: bool = False
    """Replicate wells were pooled before barcoding: no inference at the level of replicates for cells."""


class Design(Params):
    """An experiment's design. `read_design` reads one from YAML, `default_design` is HYPED's own."""

    name: str
    description: str = ""
    conditions: tuple[Condition, ...] = ()
    timeline: Timeline = Timeline()
    channels: tuple[Channel, ...] = ()
    scenes: tuple[Scene, ...] = ()
    pools: tuple[Pool, ...] = ()
    hashtags: tuple[Hashtag, ...] = ()
    flags: DesignFlags = DesignFlags()

    def condition(self, name: str) -> Condition:
        """The condition called ``name``."""
        return _named(self.conditions, name, "condition", self.name)

    def perturbation(self, condition: str) -> Perturbation:
        """What was done to the cells of ``condition``."""
        found = self.condition(condition)
        return Perturbation(name=found.name, changes=found.perturbation)

    def scene(self, name: str) -> Scene:
        """The scene called ``name``."""
        return _named(self.scenes, name, "scene", self.name)

    def channel(self, name: str) -> Channel:
        """The channel with this name or alias."""
        for channel in self.channels:
            if name == channel.name or name in channel.aliases:
                return channel
        return _named(self.channels, name, "channel", self.name)

    def nuclear_channel(self) -> str | None:
        """Name of the channel that shows every nucleus."""
        return next((c.name for c in self.channels if c.role == "nuclei"), None)

    def reporter(self, phase: Literal["G1", "S_G2M"]) -> str | None:
        """Name of the channel that reports ``phase``."""
        return next((c.name for c in self.channels if c.reports == phase), None)

    def pool_hashtags(self, pool: str) -> tuple[Hashtag, ...]:
        """The hashtags of one pool."""
        _named(self.pools, pool, "pool", self.name)
        return tuple(tag for tag in self.hashtags if tag.pool == pool)

    def sorted_conditions(self) -> tuple[str, ...]:
        """Conditions whose sequenced phase fractions were set by sorting."""
        return tuple(c.name for c in self.conditions if c.phase_composition == "sorted")

    def problems(self) -> list[Problem]:
        """Everything that contradicts itself, with its place."""
        return list(_design_problems(self))

    def to_yaml(self) -> str:
        """The design as YAML that `read_design` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _named(items: Iterable[Any], name: str, kind: str, design: str) -> Any:
    from hyped_core.errors import DesignError

    for item in items:
        if item.name == name:
            return item
    known = ", ".join(item.name for item in items) or "none"
    raise DesignError(
        f"there is no {kind} {name!r}", where=f"design {design!r}", mend=f"{kind}s there: {known}"
    )


def _design_problems(design: Design) -> Iterator[Problem]:
    for field in ("conditions", "channels", "scenes", "pools"):
        counts = Counter(item.name for item in getattr(design, field))
        for name, count in counts.items():
            if count > 1:
                yield Problem(f"{field}/{name}", f"named {count} times", "give each its own name")
    conditions = {condition.name for condition in design.conditions}
    pools = {pool.name for pool in design.pools}
    known = f"conditions: {', '.join(sorted(conditions)) or 'none'}"
    for scene in design.scenes:
        if scene.condition not in conditions:
            yield Problem(f"scenes/{scene.name}/condition", f"unknown condition {scene.condition!r}", known)
    for pool in design.pools:
        for name in pool.conditions:
            if name not in conditions:
                yield Problem(f"pools/{pool.name}/conditions", f"unknown condition {name!r}", known)
    for name in sorted(conditions & set(NO_CONDITIONS)):
        yield Problem(f"conditions/{name}", "is what contrasts call all other conditions together", "call it otherwise")
    pairs = Counter((tag.pool, tag.tag) for tag in design.hashtags)
    barcodes = Counter((tag.pool, tag.barcode) for tag in design.hashtags if tag.barcode)
    for tag in design.hashtags:
        where = f"hashtags/{tag.pool}/{tag.tag}"
        if tag.pool not in pools:
            yield Problem(f"{where}/pool", f"unknown pool {tag.pool!r}", f"pools: {', '.join(sorted(pools))}")
        if tag.condition not in conditions:
            yield Problem(f"{where}/condition", f"unknown condition {tag.condition!r}", known)
        if tag.tag.casefold() in NO_TAGS:
            yield Problem(where, "is what calls name a cell without a tag, or with two", "call the tag otherwise")
        if pairs[tag.pool, tag.tag] > 1:
            yield Problem(where, "listed more than once in its pool", "keep one entry")
        if barcodes[tag.pool, tag.barcode] > 1:
            yield Problem(f"{where}/barcode", "two tags of this pool share it", "correct one of them")
    timeline = design.timeline
    if timeline.imaging_end_h <= timeline.imaging_start_h:
        yield Problem("timeline/imaging_end_h", "not after imaging_start_h", "correct one of the two")
    for phase in ("G1", "S_G2M"):
        channels = [c.name for c in design.channels if c.reports == phase]
        if len(channels) > 1:
            yield Problem("channels", f"{' and '.join(channels)} both report {phase}", "keep one")


def parse_design(values: Any, where: object) -> Design:
    """A design from plain data, checked; every problem is raised at once."""
    try:
        design = Design.model_validate(values)
    except PydanticError as error:
        raise ValidationError("the design is not valid", problems_of(error, Design), where=where) from error
    problems = design.problems()
    if problems:
        raise ValidationError("the design contradicts itself", problems, where=where)
    return design


def read_design(path: str | Path | None) -> Design:
    """Read a design from a YAML file (HYPED's own where ``path`` is None).

    Raises
    ------
    MissingFileError, ParamsError
        No such file, or not YAML.
    ValidationError
        With every problem and its place.
    """
    if path is None:
        return default_design()
    return parse_design(read_yaml(path), where=path)


def default_design() -> Design:
    """HYPED's own design, from the paper; contradictions in it are resolved as the YAML file's comments say."""
    text = files("hyped_core.design").joinpath("hyped.yaml").read_text(encoding="utf-8")
    return parse_design(yaml.safe_load(text), where="hyped_core/design/hyped.yaml")
