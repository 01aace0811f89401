"""Denoising: against clean images where there are any, and by the paper's protocol where there are none."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hyped_bench.frames import LabelFrames, centre_crop, chosen_frames, open_frames
from hyped_bench.metrics import image as measure
from hyped_bench.readers import image_files
from hyped_bench.tasks.base import (
    ModelFactory,
    Scores,
    Task,
    TaskParams,
    check_sources,
    summarise,
    summary_keys,
)
from hyped_core.contracts import ImageMeta
from hyped_core.errors import InvalidDataError, PluginError
from hyped_core.params import Params

CLEAN_KEYS = ("mse", "psnr", "ssim")
SELF_KEYS = (
    "self_mse",
    "self_psnr",
    "self_ssim",
    "psnr_paper_convention",
    "snr_before",
    "snr_after",
    "snr_before_db",
    "snr_after_db",
)


class DenoiseSource(Params):
    """Noisy images and what to hold them against."""

    name: str
    noisy: str
    """Movie folder (zarr), TIFF stack or folder of images."""
    clean: str | None = None
    """The same without noise. Without it, or with ``labels`` beside it, the paper's protocol is scored too
    (denoised against noisy)."""
    labels: str | None = None
    """Segmented labels, for the signal-to-noise ratio of the paper's protocol."""
    channels: tuple[str, ...] | None = None
    frames: tuple[int, ...] | None = None
    """Frames used, in order; neighbours in this list are neighbours for the model."""
    crop: int | None = Field(None, ge=16)
    """Edge of the central square used, in pixels."""
    field_pattern: str = r"^(?P<field>.+)_\d+$"
    """Images of a folder whose names give the same ``field`` are realisations of one field: one unit."""
    data_range: Literal["camera", "clean"] | float | None = None
    """Peak of PSNR and SSIM: the camera's range, the clean images' range, or a number. Default: camera for
    image files (8 bits: 255), clean for movies (a 14-bit range would flatter every method)."""
    clip: float = Field(98.0, gt=0, le=100)
    clip_rule: Literal["percentile", "share"] = "percentile"
    """Paper: "intensities above 98 %", which may mean either."""
    snr: measure.SnrFormula = "mean_over_std"
    primary: bool = True


class DenoiseParams(TaskParams):
    """Parameters of the task."""

    sources: tuple[DenoiseSource, ...]


class Stack:
    """Planes of one field and channel: what the model gets and what it is scored against."""

    def __init__(
        self,
        source: DenoiseSource,
        field: str,
        noisy: npt.NDArray,
        clean: npt.NDArray | None,
        meta: ImageMeta,
    ) -> None:
        self.source, self.field, self.noisy, self.meta = source, field, noisy, meta
        self._clean = clean
        self.foreground: npt.NDArray | None = None
        self.names: list[str] = []

    def truth(self) -> npt.NDArray | None:
        """The clean planes."""
        return self._clean


class DenoiseTask(Task):
    """Model: `hyped_core.contracts.Denoiser`. Unit: a field (images) or a scene's channel (movie)."""

    name: ClassVar[str] = "denoise"
    Params: ClassVar[type[TaskParams]] = DenoiseParams

    def __init__(self, params: DenoiseParams, context: Any) -> None:
        super().__init__(params, context)
        self.params: DenoiseParams = params
        check_sources([s.name for s in params.sources])
        self.stacks: list[Stack] = []
        self.ranges: dict[str, float] = {}

    def inputs(self) -> list[str]:
        """Noisy, clean and label files."""
        return [p for s in self.params.sources for p in (s.noisy, s.clean, s.labels) if p]

    def facts(self) -> dict[str, Any]:
        """The peak used for each field."""
        return {"unit": "field", "data_range": self.ranges}

    def load(self) -> None:
        """Read all planes."""
        for source in self.params.sources:
            frames = open_frames(source.noisy)
            if hasattr(frames, "movie"):
                self._load_movie(source, frames)
            else:
                self._load_images(source, frames)
        names = [(stack.field, stack.truth() is None) for stack in self.stacks]
        if len(set(names)) != len(names):
            raise InvalidDataError(
                f"fields with the same name: {sorted({n for n, _ in names})}",
                mend="give the sources other names",
            )

    def _load_movie(self, source: DenoiseSource, frames: Any) -> None:
        picked = chosen_frames(source.frames, len(frames.names), source.noisy)
        clean = open_frames(source.clean) if source.clean else None
        labels = LabelFrames(source.labels) if source.labels else None
        for channel in source.channels or frames.channels():
            planes = [frames.planes(i, (channel,))[0] for i in picked]
            rows, columns = centre_crop(source.crop, *planes[0].shape)
            reference = (
                np.stack([clean.planes(i, (channel,))[0][rows, columns] for i in picked])
                if clean is not None
                else None
            )
            times = frames.meta((channel,)).time_h
            meta = _meta(frames.meta((channel,)), time_h=tuple(times[i] for i in picked) if times else None)
            stack = Stack(
                source,
                f"{source.name}_{channel}",
                np.stack([p[rows, columns] for p in planes]),
                reference,
                meta,
            )
            stack.names = [frames.names[i] for i in picked]
            self.stacks.append(stack)
            if labels is not None:
                own = stack if reference is None else Stack(source, stack.field, stack.noisy, None, meta)
                own.names = stack.names
                own.foreground = np.stack([labels.frame(i)[rows, columns] for i in picked])
                self.stacks += [] if own is stack else [own]

    def _load_images(self, source: DenoiseSource, frames: Any) -> None:
        clean = image_files(source.clean) if source.clean else {}
        meta = frames.meta(frames.channels())
        references = open_frames(source.clean) if source.clean else None
        picked = chosen_frames(source.frames, len(frames.names), source.noisy)
        groups: dict[str, list[int]] = {}
        for i in picked:
            found = re.match(source.field_pattern, frames.names[i])
            groups.setdefault(found["field"] if found else frames.names[i], []).append(i)
        for field, members in groups.items():
            missing = [frames.names[i] for i in members if references and frames.names[i] not in clean]
            if missing:
                raise InvalidDataError(f"has no clean image for {', '.join(missing)}", where=source.clean)
            noisy = [frames.planes(i, ())[0] for i in members]
            if len({p.shape for p in noisy}) > 1:
                raise InvalidDataError(f"images of field {field} differ in shape", where=source.noisy)
            rows, columns = centre_crop(source.crop, *noisy[0].shape)
            reference = (
                np.stack(
                    [
                        references.planes(references.names.index(frames.names[i]), ())[0][rows, columns]
                        for i in members
                    ]
                )
                if references is not None
                else None
            )
            stack = Stack(source, field, np.stack([p[rows, columns] for p in noisy]), reference, meta)
            stack.names = [frames.names[i] for i in members]
            self.stacks.append(stack)

    def run(self, make_model: ModelFactory) -> list[npt.NDArray]:
        """Denoise every stack. Realisations of one field are given one by one: they are no time series."""
        model = make_model()
        results = []
        for stack in self.context.progress.track(self.stacks, "denoise"):
            given, meta = self._given(stack)
            parts = [given] if meta.time_h is not None or stack.truth() is None else list(given[:, None])
            done = [np.asarray(model.denoise(part.copy(), meta, context=self.context)) for part in parts]
            result = np.concatenate(done)
            if result.shape != given.shape:
                raise PluginError(f"returned shape {result.shape} for {given.shape}", where=stack.field)
            if not np.isfinite(result).all():
                raise PluginError("returned NaN or infinite pixels", where=stack.field)
            results.append(result.astype(np.float32))
        return results

    def _given(self, stack: Stack) -> tuple[npt.NDArray, ImageMeta]:
        """What the model sees: camera units, or (paper's protocol) planes clipped and scaled to [0, 1]."""
        if stack.truth() is not None:
            return stack.noisy, stack.meta
        scaled = np.stack(
            [
                measure.unit_range(p, clip=stack.source.clip, rule=stack.source.clip_rule)[0]
                for p in stack.noisy
            ]
        ).astype(np.float32)
        return scaled, _meta(stack.meta, data_range=(0.0, 1.0), offset=0.0, gain=None)

    def _sources(self) -> tuple[list[DenoiseSource], list[DenoiseSource]]:
        sources = list(self.params.sources)
        return [s for s in sources if s.clean], [s for s in sources if s.labels or not s.clean]

    def metric_keys(self) -> list[str]:
        """Keys of the metrics file."""
        clean, own = self._sources()
        fields = [s.field for s in self.stacks if s.truth() is not None]
        keys = summary_keys(CLEAN_KEYS, [s.name for s in clean], CLEAN_KEYS)
        keys += [f"{key}_{field}" for key in CLEAN_KEYS for field in fields]
        keys += summary_keys(SELF_KEYS, [s.name for s in own])
        return [*keys, "n_fields", "n_self_fields"]

    def score(self, predictions: list[npt.NDArray]) -> Scores:
        """Score every plane, then fields, then sources."""
        import pandas as pd

        planes = []
        for stack, result in zip(self.stacks, predictions, strict=True):
            planes += (
                self._clean_rows(stack, result)
                if stack.truth() is not None
                else self._self_rows(stack, result)
            )
        table = pd.DataFrame(planes)
        values = [c for c in table.columns if c in (*CLEAN_KEYS, *SELF_KEYS)]
        table[values] = table[values].astype(float)
        fields = (
            table.groupby(["source", "field", "protocol"], sort=False)[values]
            .agg(lambda v: v.mean(skipna=False))
            .reset_index()
        )
        clean, own = self._sources()
        metrics: dict[str, float | int | None] = {}
        warnings = list(self.warnings)
        rng = self.context.rng("denoise", "bootstrap")
        parts = (("clean", CLEAN_KEYS, clean, CLEAN_KEYS), ("self", SELF_KEYS, own, ()))
        for protocol, keys, sources, intervals in parts:
            names = [s.name for s in sources]
            units = fields[fields["protocol"] == protocol].reindex(columns=["source", "field", *keys])
            found, said = summarise(
                units,
                keys,
                names,
                [s.name for s in sources if s.primary],
                intervals=intervals,
                rng=rng,
                draws=self.params.bootstrap,
            )
            metrics.update(found)
            warnings += said
        has_clean = fields[fields["protocol"] == "clean"]
        for row in has_clean.to_dict("records"):
            metrics.update({f"{key}_{row['field']}": row[key] for key in CLEAN_KEYS})
        metrics["n_fields"] = len(has_clean)
        metrics["n_self_fields"] = len(fields) - len(has_clean)
        if own:
            warnings.append(
                "self_* compare the denoised with the noisy image: they say how little was changed, "
                "not how good it is; an identity scores best"
            )
        return Scores(metrics, {"units": fields, "planes": table}, {}, warnings)

    def _clean_rows(self, stack: Stack, result: npt.NDArray) -> list[dict[str, Any]]:
        clean = stack.truth()
        assert clean is not None
        rule = stack.source.data_range or ("clean" if stack.meta.time_h is not None else "camera")
        if rule == "camera":
            peak = stack.meta.data_range[1] - stack.meta.data_range[0]
        else:
            peak = float(clean.max()) - float(clean.min()) if rule == "clean" else float(rule)
        self.ranges[stack.field] = float(peak)
        return [
            {
                "source": stack.source.name,
                "field": stack.field,
                "protocol": "clean",
                "plane": name,
                "mse": measure.mse(image, reference),
                "psnr": measure.psnr(image, reference, peak),
                "ssim": measure.ssim(image, reference, peak),
            }
            for name, image, reference in zip(stack.names, result, clean, strict=True)
        ]

    def _self_rows(self, stack: Stack, result: npt.NDArray) -> list[dict[str, Any]]:
        given, _ = self._given(stack)
        rows = []
        for i, (before, after) in enumerate(zip(given, np.clip(result, 0.0, 1.0), strict=True)):
            formula = stack.source.snr
            mask = stack.foreground[i] if stack.foreground is not None else None
            ratios = [
                measure.signal_to_noise(p, mask, formula) if mask is not None else None
                for p in (before, after)
            ]
            own = measure.psnr(after, before, 1.0)
            rows.append(
                {
                    "source": stack.source.name,
                    "field": stack.field,
                    "protocol": "self",
                    "plane": stack.names[i],
                    "self_mse": measure.mse(after, before),
                    "self_psnr": own,
                    "self_ssim": measure.ssim(after, before, 1.0),
                    "psnr_paper_convention": None if own is None else own + measure.PAPER_OFFSET_DB,
                    "snr_before": ratios[0],
                    "snr_after": ratios[1],
                    "snr_before_db": measure.decibel(ratios[0], formula),
                    "snr_after_db": measure.decibel(ratios[1], formula),
                }
            )
        return rows


def _meta(meta: ImageMeta, **changes: Any) -> ImageMeta:
    import dataclasses

    return dataclasses.replace(meta, **changes)
