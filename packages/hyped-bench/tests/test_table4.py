"""Table 4 on tiny movies, against the protocol worked out with numpy and scikit-image."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from hyped_bench import table4 as made
from hyped_bench.cli_table4 import table4 as command
from hyped_core.container.movies import Labels, LabelsWriter, MovieWriter
from hyped_core.errors import DesignError, InvalidDataError, UnknownNameError, UsageError

CHANNELS = ("Cy5", "mKate")
FRAMES = 4
LOST = 2


def nuclei(index: int) -> np.ndarray:
    yy, xx = np.mgrid[:40, :48]
    mask = np.zeros((40, 48), np.int32)
    for label, (y, x) in enumerate([(12, 14), (27, 33)], start=1):
        mask[np.hypot(yy - y - index, xx - x) <= 6] = label
    return mask


def planes(index: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, index])
    clean = np.stack([200 + 900.0 * (nuclei(index) > 0), 180 + 300.0 * (nuclei(index) == 1)])
    return rng.poisson(clean).astype(np.uint16)


@pytest.fixture(scope="module")
def movies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes S0, S2 and S4 with labels; one frame of each is lost."""
    folder = tmp_path_factory.mktemp("movies")
    for seed, scene in enumerate(("S0", "S2", "S4")):
        facts = {"pixel_size_um": 0.65, "time_h": np.arange(FRAMES) / 3}
        with (
            MovieWriter(
                folder / f"{scene}.zarr", shape=(FRAMES, 2, 40, 48), dtype="uint16", channels=CHANNELS, **facts
            ) as movie,
            LabelsWriter(folder / f"{scene}-labels.zarr", shape=(FRAMES, 40, 48), **facts) as labels,
        ):
            for index in range(FRAMES):
                labels.write_frame(index, nuclei(index))
                if index == LOST:
                    movie.write_missing(index, "cut short")
                else:
                    movie.write_frame(index, planes(index, seed))
    return folder


def paths(movies: Path, *names: str) -> list[Path]:
    return [movies / f"{name}.zarr" for name in names]


def by_hand(seed: int, channel: int, frames: list[int], rule: str, formula: str) -> dict[str, float]:
    """The protocol, plane by plane, for a Gaussian of one pixel."""
    rows = []
    for index in frames:
        plane = planes(index, seed)[channel].astype(float)
        low = plane.min()
        high = np.percentile(plane, 98) if rule == "percentile" else 0.98 * plane.max()
        before = np.clip((plane - low) / (high - low), 0, 1).astype(np.float32)
        after = np.clip(gaussian_filter(before, 1.0, mode="reflect"), 0, 1)
        error = float(np.mean((after.astype(float) - before) ** 2))
        mask = nuclei(index) > 0
        if formula == "power":
            snr = [np.mean(p[mask].astype(float) ** 2) / np.mean(p[~mask].astype(float) ** 2) for p in (before, after)]
        else:
            snr = [p[mask].astype(float).mean() / p[~mask].astype(float).std() for p in (before, after)]
        factor = 10 if formula == "power" else 20
        rows.append(
            [
                error, 10 * math.log10(1 / error),
                structural_similarity(after.astype(float), before.astype(float), data_range=1.0), *snr,
                *(factor * np.log10(snr)), 10 * math.log10(255**2 / error),
            ]
        )  # fmt: skip
    return dict(zip(made.COLUMNS, np.mean(rows, axis=0), strict=True))


@pytest.mark.parametrize(("rule", "formula"), [("percentile", "mean_over_std"), ("share", "power")])
def test_the_protocol_by_hand(movies: Path, rule: str, formula: str) -> None:
    protocol = made.Protocol(98.0, rule, formula)  # type: ignore[arg-type]
    names = ("S0", "S2", "S4")
    sources = made.sources_of(paths(movies, *names), paths(movies, *(f"{n}-labels" for n in names)), protocol)
    table = made.table4(sources, ["gaussian"], protocol=protocol, configs={"gaussian": {"sigma_px": 1.0}})
    row = next(r for r in table.overall() if r.model == "gaussian")
    parts = [[by_hand(seed, k, [0, 1, 3], rule, formula) for k in (0, 1)] for seed in range(3)]
    for key in made.COLUMNS:
        units = [np.mean([part[key] for part in scene]) for scene in parts]
        value, low, high = row.values[key]
        assert value == pytest.approx(np.mean(units), rel=2e-5), key
        assert min(units) - 1e-5 <= low <= value <= high <= max(units) + 1e-5
    assert row.fields == 3
    cy5 = next(r for r in table.rows if (r.model, r.group, r.level) == ("gaussian", "channel", "Cy5"))
    assert cy5.values["self_psnr"][0] == pytest.approx(np.mean([s[0]["self_psnr"] for s in parts]), rel=2e-5)


def test_controls_and_the_printed_row_stand_beside_every_model(movies: Path) -> None:
    from hyped_core.plugins.registry import models

    sources = made.sources_of(paths(movies, "S0"), paths(movies, "S0-labels"), made.Protocol(), frames=[0, 1])
    table = made.table4(sources, ["median"])
    controls = {i.spec.name for i in models().items() if i.spec.task == "denoise" and i.spec.role == "control"}
    rows = {row.model: row for row in table.overall()}
    assert controls <= {*rows, *table.failed} and list(rows)[-1] == "FM2S (printed)"
    assert rows["FM2S (printed)"].values["psnr_paper_convention"][0] == 86.480553
    for name in controls - {"identity", *table.failed}:
        values = rows[name].values
        assert values["psnr_paper_convention"][0] - values["self_psnr"][0] == pytest.approx(48.1308, abs=1e-4)
        assert values["self_psnr"][1] is None  # one field of view has no interval
    identity = rows["identity"]
    assert identity.values["self_mse"][0] == 0 and identity.values["self_psnr"][0] is None
    assert made.cell(identity, "self_psnr") == "no bound"
    text = made.as_markdown(table)
    for words in ("48.13 dB", "fidelity, not quality", "identity is perfect", "38.36 dB", "no intervals"):
        assert words in text
    assert "without a value" not in text


def test_without_labels_the_ratio_is_undefined_and_says_why(movies: Path) -> None:
    table = made.table4(made.sources_of(paths(movies, "S0"), [], made.Protocol(), frames=[0]), ["gaussian"])
    row = table.overall()[0]
    assert row.values["snr_before"] == (None, None, None) and row.values["self_mse"][0] > 0
    assert made.NO_LABELS in table.sentences
    assert made.cell(row, "snr_before") == "-"


def run(*arguments: object) -> tuple[str, BaseException | None]:
    done = CliRunner().invoke(command, [str(a) for a in arguments])
    return done.stdout, done.exception


def test_command_writes_markdown_csv_and_json_alike(movies: Path, tmp_path: Path) -> None:
    common = [*paths(movies, "S0"), "--labels", movies / "S0-labels.zarr", "--models", "gaussian", "--frames", "0:2"]
    texts = {}
    for kind in ("md", "csv", "json"):
        out = tmp_path / f"table4.{kind}"
        assert run(*common, "-o", out)[1] is None
        texts[kind] = out.read_text()
    rows = {r["model"]: r for r in csv.DictReader(io.StringIO(texts["csv"])) if r["group"] == "all"}
    same = {r["model"]: r for r in json.loads(texts["json"])["rows"] if r["group"] == "all"}
    assert float(rows["gaussian"]["self_mse"]) == same["gaussian"]["self_mse"] > 0
    assert rows["identity"]["self_psnr"] == "" and same["identity"]["self_psnr"] is None
    assert f"{same['gaussian']['self_psnr']:.4g}" in texts["md"]
    assert made.PSNR_SENTENCE in texts["md"] and made.PSNR_SENTENCE in json.loads(texts["json"])["sentences"]
    again = run(*common, "--csv")[0]
    assert [r["self_mse"] for r in csv.DictReader(io.StringIO(again))] == [
        r["self_mse"] for r in csv.DictReader(io.StringIO(texts["csv"]))
    ]


def test_labels_by_a_segmenter(movies: Path, tmp_path: Path) -> None:
    written = made.segmented(paths(movies, "S0"), "otsu", tmp_path, frames=[0, 1, LOST])
    found = Labels.open(written[0])
    assert not found.frame(LOST).any() and not found.frame(3).any()
    both = (found.frame(1) > 0) & (nuclei(1) > 0)
    assert both.sum() > 0.9 * (nuclei(1) > 0).sum() and both.sum() > 0.9 * (found.frame(1) > 0).sum()
    common = [*paths(movies, "S0"), "--models", "gaussian", "--frames", "0:2", "--channels", "Cy5", "--json"]
    ratios = []
    for labels in (["--segment", "otsu"], ["--labels", movies / "S0-labels.zarr"]):
        text, error = run(*common, *labels)
        assert error is None
        ratios.append(json.loads(text)["rows"][0]["snr_before"])
    assert ratios[0] == pytest.approx(ratios[1], rel=0.1)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (["--labels", "a", "--labels", "b"], UsageError, "1 movies and 2 labels"),
        (["--labels", "a", "--segment", "fast"], UsageError, "give one of them"),
        (["--frames", "9:12"], UsageError, "there are 4 frames"),
        (["--frames", "x"], UsageError, "first:last:step"),
        (["--frames", str(LOST)], InvalidDataError, "none of these frames"),
        (["--channels", "Cy7"], DesignError, "Cy5, mKate"),
        (["--models", "gausian"], UnknownNameError, "gaussian"),
        (["--json", "--csv"], UsageError, "--json and --csv"),
    ],
)
def test_bad_input_is_named(movies: Path, options: list[str], kind: type[Exception], said: str) -> None:
    _, error = run(*paths(movies, "S0"), *options)
    assert isinstance(error, kind) and said in str(error)


def test_a_movie_that_does_not_fit_is_refused_with_frames_that_do(
    movies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "MEMORY_GB", 1e-4)
    with pytest.raises(UsageError, match="--frames ::"):
        made.sources_of(paths(movies, "S0"), [], made.Protocol())
