"""The task itself: reads the sources, lets a model denoise them, and scores each kind of reference on its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hyped_bench.tasks.base import Judged, ModelFactory, Scores, Task, TaskParams, check_sources
from hyped_bench.tasks.denoise.downstream import DIVISION_KEY, DOWNSTREAM_KEYS, Chain, division_f1, light_name
from hyped_bench.tasks.denoise.fields import Stack, read_source
from hyped_bench.tasks.denoise.params import KINDS, DenoiseParams, DenoiseSource, Reference
from hyped_bench.tasks.denoise.planes import (
    CLEAN_KEYS,
    FIELD_KEYS,
    LABEL_KEYS,
    SELF_HEADLINE,
    SELF_KEYS,
    clean_rows,
    peak,
    self_rows,
)
from hyped_bench.tasks.denoise.summary import Group, Place, few_units, field_means, group_keys, groups, summarise_fields
from hyped_core.errors import InvalidDataError, PluginError

if TYPE_CHECKING:
    import pandas as pd

HEADLINE = {"clean": FIELD_KEYS, "self": SELF_HEADLINE, "downstream": DOWNSTREAM_KEYS}
FIDELITY = (
    "self_mse, self_psnr, self_ssim and psnr_paper_convention: fidelity, not quality: the reference is the noisy image "
    "itself, so they say how little was changed, and an identity scores best; psnr_paper_convention is self_psnr plus "
    "20 log10(255) = 48.13 dB, because the paper takes the peak as 255 on images in [0, 1]; snr_before and snr_after "
    "(_db) have no reference but the labels: any blur raises snr_after"
)


class DenoiseTask(Task):
    """Model: `hyped_core.contracts.Denoiser`. Unit: a field of view (a scene, or a field of image files)."""

    name: ClassVar[str] = "denoise"
    Params: ClassVar[type[TaskParams]] = DenoiseParams
    judged: ClassVar[tuple[Judged, ...]] = tuple(
        Judged(metric, "higher", "identity", unit=("unit",), unit_word="field of view")
        for metric in ("psnr", "ssim", "downstream_seg", "downstream_f1_iou50", "downstream_tra")
    )

    def __init__(self, params: DenoiseParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: DenoiseParams = params
        check_sources([s.name for s in params.sources])
        self.stacks: list[Stack] = []
        self.chains: dict[str, Any] = {}
        self.timing: dict[str, float] = {}
        """Seconds of the model's own calls, by megapixel and by plane; of the last run, and no part of the scores."""
        self.chosen: list[dict[str, Any]] = []
        """What the model chose for each plane of the last run, where it tells (its attribute ``chosen``)."""

    def inputs(self) -> list[str]:
        """Noisy, clean and label files, tables of tracks, designs."""
        return [p for s in self.params.sources for p in (s.noisy, s.clean, s.labels, s.tracks, s.design) if p]

    def facts(self) -> dict[str, Any]:
        """The peak used for each field; segmenter and tracker of each downstream source."""
        ranges = {s.field: peak(s) for s in self._of("clean")}
        found: dict[str, Any] = {"unit": "field of view", "data_range": ranges}
        if self.chains:
            found["downstream"] = {name: chain.facts for name, chain in self.chains.items()}
        return found

    def load(self) -> None:
        """Read all planes, and make the segmenters and trackers that will be needed."""
        self.stacks = []
        for source in self.params.sources:
            self.stacks += read_source(source, self.context.rng("denoise", "light", source.name))
            if source.reference == "downstream":
                self.chains[source.name] = Chain(source)
        names = [(stack.field, stack.source.reference) for stack in self.stacks]
        twice = sorted({name for name, kind in names if names.count((name, kind)) > 1})
        if twice:
            raise InvalidDataError(
                f"fields with the same name: {', '.join(twice)}", mend="give the sources other names"
            )

    def run(self, make_model: ModelFactory) -> list[npt.NDArray[np.float32]]:
        """Denoise every stack. Realisations of one field are given one by one: they are no time series."""
        model = make_model()
        results, chosen, clock = [], [], _Clock()
        for stack in self.context.progress.track(self.stacks, "denoise"):
            _, meta = stack.given()
            done, names = [], iter(stack.names)
            for part in stack.calls():
                own = part.copy()  # a model that writes into its input must not reach the scores
                started = time.perf_counter()
                result = np.asarray(model.denoise(own, meta, context=self.context))
                clock.add(stack.source, part, time.perf_counter() - started)
                if result.shape != part.shape:
                    raise PluginError(f"returned shape {result.shape} for {part.shape}", where=stack.field)
                if not np.isfinite(result).all():
                    raise PluginError("returned NaN or infinite pixels", where=stack.field)
                done.append(result.astype(np.float32))
                chosen += _told(model, stack, [next(names) for _ in part])
            results.append(np.concatenate(done))
        self.timing, self.chosen = clock.summary(), chosen
        return results

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        keys: list[str] = []
        for kind in KINDS:
            found = self._groups(kind)
            keys += group_keys(self._keys(kind), HEADLINE[kind], found) if self._of(kind) else self._keys(kind)
            keys += [f"{DIVISION_KEY}{group.suffix}" for group in found] if kind == "downstream" else []
            keys += [f"n_{name}" for name in self._counts(kind)]
        return keys + [f"{key}_{stack.field}" for stack in self._of("clean") for key in FIELD_KEYS]

    def score(self, predictions: list[npt.NDArray[np.float32]]) -> Scores:
        """Score every plane or movie, then fields, fields of view and groups of them, each kind on its own."""
        import pandas as pd

        metrics: dict[str, float | int | None] = dict.fromkeys(self.metric_keys())
        lines: dict[str, list[dict[str, Any]]] = {"units": [], "planes": [], "summary": [], "chosen": self.chosen}
        warnings = list(self.warnings)
        primary = [s.name for s in self.params.sources if s.primary]
        for kind in KINDS:
            metrics.update({f"n_{name}": count for name, count in self._counts(kind).items()})
            if not self._of(kind):
                continue
            rows, keys, found = self._rows(kind, predictions), self._keys(kind), self._groups(kind)
            fields = rows if kind == "downstream" else field_means(rows, keys)
            means, means_of, said = summarise_fields(
                fields.astype(dict.fromkeys(keys, float)),
                keys,
                found,
                primary,
                lambda *stream: self.context.rng("denoise", *stream),
                self.params.bootstrap,
            )
            if kind == "clean":
                means.update({f"{k}_{row['field']}": row[k] for row in fields.to_dict("records") for k in FIELD_KEYS})
            if kind == "downstream":
                means.update(division_f1(rows, found, primary))
            metrics.update({key: value for key, value in means.items() if key in metrics})
            for name, table in (("units", fields), ("planes", rows)):
                if name == "units" or kind != "downstream":
                    lines[name] += [{"reference": kind, **line} for line in table.to_dict("records")]
            lines["summary"] += [{"reference": kind, **line} for line in means_of]
            warnings += said + few_units(kind, found) + ([FIDELITY] if kind == "self" else [])
        tables = {name: pd.DataFrame(made) for name, made in lines.items() if made}
        return Scores(metrics, tables, {}, warnings)

    def _of(self, kind: Reference) -> list[Stack]:
        return [stack for stack in self.stacks if stack.source.reference == kind]

    def _keys(self, kind: Reference) -> tuple[str, ...]:
        if kind == "clean":
            labelled = any(s.labels for s in self.params.sources if s.reference == "clean")
            return (*CLEAN_KEYS, *LABEL_KEYS) if labelled else CLEAN_KEYS
        if kind == "self":
            return SELF_KEYS
        return DOWNSTREAM_KEYS

    def _groups(self, kind: Reference) -> list[Group]:
        movies = kind == "downstream"
        return groups(
            [
                Place(
                    stack.source.name, stack.unit, "" if movies else stack.channel, stack.condition,
                    light_name(stack.source) if movies else None, stack.source.primary,
                )
                for stack in self._of(kind)
            ]
        )  # fmt: skip

    def _counts(self, kind: Reference) -> dict[str, int]:
        """Fields of view and planes of the primary sources."""
        prefix = "" if kind == "clean" else f"{kind}_"
        stacks = [s for s in self._of(kind) if s.source.primary]
        return {
            f"{prefix}fields": len({s.unit for s in stacks}),
            f"{prefix}planes": sum(len(s.noisy) for s in stacks),
        }

    def _rows(self, kind: Reference, predictions: list[npt.NDArray]) -> pd.DataFrame:
        import pandas as pd

        pairs = [(s, p) for s, p in zip(self.stacks, predictions, strict=True) if s.source.reference == kind]
        if kind == "clean":
            return pd.DataFrame([row for stack, result in pairs for row in clean_rows(stack, result, peak(stack))])
        if kind == "self":
            return pd.DataFrame([row for stack, result in pairs for row in self_rows(stack, result)])
        rows = []
        for name, chain in self.context.progress.track(list(self.chains.items()), "segment and track"):
            mine = [(stack, result) for stack, result in pairs if stack.source.name == name]
            stacks, results = [s for s, _ in mine], [r for _, r in mine]
            rows.append(chain.score(stacks, results, self.params.division_tolerance, self.context))
        return pd.DataFrame(rows)


def _told(model: Any, stack: Stack, names: list[str]) -> list[dict[str, Any]]:
    """What a model says it chose for each plane of its last call: ``chosen``, name -> one value a plane."""
    said = getattr(model, "chosen", None)
    if not isinstance(said, dict):
        return []
    columns = {key: list(values) for key, values in said.items() if len(values) == len(names)}
    place = {"source": stack.source.name, "field": stack.field}
    return [{**place, "plane": name, **{k: v[i] for k, v in columns.items()}} for i, name in enumerate(names)]


class _Clock:
    """Adds up the seconds of a model's calls."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}

    def add(self, source: DenoiseSource, stack: npt.NDArray, seconds: float) -> None:
        for name in ("", f"_{source.name}"):
            total = self._seen.setdefault(name, [0.0, 0.0, 0.0])
            for i, value in enumerate((seconds, stack.size / 1e6, len(stack))):
                total[i] += value

    def summary(self) -> dict[str, float]:
        """``seconds_per_megapixel`` and ``seconds_per_plane``, over all and by source; and all seconds."""
        found = {"denoise_s": self._seen.get("", [0.0])[0]}
        for name, (seconds, megapixels, planes) in self._seen.items():
            found[f"seconds_per_megapixel{name}"] = seconds / megapixels
            found[f"seconds_per_plane{name}"] = seconds / planes
        return found
