"""`mini`, all scenes with default parameters: hard for plain baselines, not for want of information."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from hyped_core.context import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.design import coarse_phase, default_design
from hyped_core.simulate.biology import BiologyParams, phase_at, simulate_lineages
from hyped_imaging.segment.fast import FastSegmenter
from hyped_imaging.simulate.camera import expected, expose
from hyped_imaging.simulate.optics import clean_frame
from hyped_imaging.simulate.params import SimulateParams
from hyped_imaging.simulate.plan import plan
from hyped_imaging.simulate.run import cut
from hyped_imaging.simulate.scene import PAD_PX, crop, draw, live
from hyped_imaging.simulate.truth import TruthTable

SEED = 0
LOOK_EVERY = 9
"""Every ninth frame is photographed; tracks are taken from all."""


def mini_design():
    """The design of `mini`: HYPED's own with two scenes a condition, imaged from 20 h to 52 h."""
    design = default_design()
    kept = [scene for scene in design.scenes if scene.replicate <= 2]
    keep = [scene.model_copy(update={"name": f"S{i}"}) for i, scene in enumerate(kept)]
    timeline = design.timeline.model_copy(update={"imaging_start_h": 20.0, "imaging_end_h": 52.0})
    return design.model_copy(update={"timeline": timeline, "scenes": tuple(keep)})


def stitched(tiles, layout, light, shape, offset, flatten):
    """Tiles (m, y, x) at their true places, the last on top; evenly lit again where ``flatten``."""
    frame = np.full((shape[0] + 2 * PAD_PX, shape[1] + 2 * PAD_PX), np.nan, np.float32)
    for tile, (*_, x, y) in zip(tiles.astype(np.float32), layout, strict=True):
        even = (tile - offset) / light + offset if flatten else tile
        frame[y + PAD_PX : y + PAD_PX + tile.shape[0], x + PAD_PX : x + PAD_PX + tile.shape[1]] = even
    frame = crop(frame)
    near = ndimage.distance_transform_edt(np.isnan(frame), return_distances=False, return_indices=True)
    return frame[tuple(near)]


def photographed(params, seed, scenes, every):
    """(tracks, [(labels, clean, stitched as it comes, stitched evenly lit)] of every such frame)."""
    design = mini_design()
    made = plan(design, params, seed)
    light, optics = made.light(), made.params.optics
    tables, photographs = [], []
    for number, scene in enumerate(made.scenes[:scenes]):
        times, layout = made.times_h(scene), made.layout(scene)
        life = live(design, scene, times, made.params, seed)
        table = TruthTable(life, made.params)
        for frame, time_h in enumerate(times):
            planes, drawn = draw(life, frame, made.params)
            labels = table.add(frame, time_h, drawn)
            if frame % every:
                continue
            clean = clean_frame(planes, design, optics)
            rng = np.random.default_rng([number, frame])
            tiles = expose(expected(cut(clean[:1], layout, made)[0], light[0], optics), optics, rng)
            shown = [
                stitched(tiles, layout, light[0], labels.shape, optics.offset, even) for even in (False, True)
            ]
            photographs.append((labels, crop(clean)[0], *shown))
        tables.append(table.table())
    return pd.concat(tables, ignore_index=True), photographs


@pytest.fixture(scope="module")
def mini():
    """`photographed` with all scenes."""
    return photographed(SimulateParams(), SEED, None, LOOK_EVERY)


def overlap(truth, found):
    """IoU of every true label (rows) with every found one, and the labels' numbers."""
    true_ids, true_index = np.unique(truth, return_inverse=True)
    found_ids, found_index = np.unique(found, return_inverse=True)
    shape = (true_ids.size, found_ids.size)
    both = np.bincount(true_index.ravel() * shape[1] + found_index.ravel(), minlength=shape[0] * shape[1])
    both = both.reshape(shape)
    union = both.sum(1, keepdims=True) + both.sum(0, keepdims=True) - both
    return (both / union)[1:, 1:]


def scores(photographs, which, segment):
    """(F1 at IoU 0.5, mean over true nuclei of the IoU of the match above 0.5) over all photographs."""
    hits = true = found = 0
    values = []
    for photograph in photographs:
        iou = overlap(photograph[0], segment(photograph[which]))
        best = iou.max(axis=1, initial=0)
        hits, true, found = hits + (best > 0.5).sum(), true + iou.shape[0], found + iou.shape[1]
        values.extend(np.where(best > 0.5, best, 0))
    return 2 * hits / (true + found), float(np.mean(values))


def otsu(image):
    """Gaussian, Otsu's threshold, connected components."""
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    scaled = cv2.normalize(smooth, None, 0, 65535, cv2.NORM_MINMAX).astype(np.uint16)
    _, mask = cv2.threshold(scaled, 0, 1, cv2.THRESH_OTSU)
    labels, _ = ndimage.label(mask)
    return np.where(np.bincount(labels.ravel())[labels] < 15, 0, labels)


def local(image):
    """Half of the brightness nearby as threshold, then a watershed on the distance to the edge."""
    blurred = cv2.GaussianBlur(image, (0, 0), 3)
    background = cv2.GaussianBlur(ndimage.minimum_filter(blurred, 41), (0, 0), 20)
    above = cv2.GaussianBlur(image, (0, 0), 1.2) - background
    nearby = cv2.GaussianBlur(image - background, (0, 0), 2.0)
    peak = cv2.GaussianBlur(cv2.dilate(nearby, np.ones((13, 13))), (0, 0), 3)
    mask = ndimage.binary_opening(above > np.maximum(0.5 * peak, 70))
    mask = ndimage.binary_fill_holes(mask)
    depth = cv2.GaussianBlur(ndimage.distance_transform_edt(mask).astype(np.float32), (0, 0), 1.2)
    seeds = np.zeros(mask.shape, int)
    peaks = peak_local_max(depth, min_distance=4, labels=mask.astype(int), exclude_border=False)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-depth, seeds, mask=mask)


def true_divisions(tracks):
    """(scene, mother's track) -> the two daughters, for divisions seen whole."""
    born = tracks[tracks.parent_id > 0].drop_duplicates(["scene", "track_id"])
    families = born.groupby(["scene", "parent_id"])["track_id"].agg(set)
    return {key: daughters for key, daughters in families.items() if len(daughters) == 2}


def nearest_divisions(tracks, many):
    """Divisions that nearest-neighbour linking of true positions finds: (found, claimed).

    ``many``: every nucleus is linked to the nearest of the frame before, and two with the same one are called
    daughters. Otherwise links are mutual, one to one, as without any logic for divisions.
    """
    truth = true_divisions(tracks)
    found = claimed = 0
    for scene, of_scene in tracks.groupby("scene"):
        frames = [frame for _, frame in of_scene.groupby("frame")]
        for before, after in zip(frames, frames[1:], strict=False):
            old, new = before[["y_um", "x_um"]].to_numpy(), after[["y_um", "x_um"]].to_numpy()
            _, back = cKDTree(old).query(new)
            if not many:
                _, ahead = cKDTree(new).query(old)
                back = np.where(ahead[back] == np.arange(len(new)), back, -1)
            linked = pd.DataFrame({"mother": back, "daughter": after["track_id"].to_numpy()})
            families = linked[linked.mother >= 0].groupby("mother")["daughter"].agg(set)
            for mother, daughters in families.items():
                if len(daughters) > 1:
                    claimed += 1
                    found += truth.get((scene, before["track_id"].iloc[mother])) == daughters
    return found, claimed


def test_otsu_and_connected_components_are_not_enough(mini):
    _, photographs = mini
    assert scores(photographs, 2, otsu)[0] <= 0.85, "stitched as it comes"
    assert scores(photographs, 3, otsu)[0] <= 0.85, "evenly lit"
    assert scores(photographs, 1, otsu)[0] <= 0.85, "without noise"


def test_a_local_threshold_and_a_watershed_are(mini):
    f1, seg = scores(mini[1], 3, local)
    assert f1 >= 0.93
    assert seg >= 0.80


def ours(image):
    """The default segmenter with its default configuration."""
    meta = ImageMeta(pixel_size_um=1.0, data_range=(0, 16383), channels=("Cy5",))
    return FastSegmenter().segment(image[None], meta, context=RunContext())


@pytest.mark.parametrize("seed", [0, 1])
def test_hard_is_harder_than_standard(seed):
    """Two scenes of 13 frames, a photograph every 4, the same seed."""
    f1, seg, plain = {}, {}, {}
    for difficulty in ("standard", "hard"):
        params = SimulateParams.model_validate({"difficulty": difficulty, "timing": {"n_frames": 13}})
        _, photographs = photographed(params, seed, scenes=2, every=4)
        f1[difficulty], seg[difficulty] = scores(photographs, 3, ours)
        plain[difficulty] = scores(photographs, 3, otsu)[0]
    assert f1["hard"] < f1["standard"]
    assert seg["hard"] < seg["standard"] - 0.005
    assert plain["hard"] < plain["standard"] - 0.04
    assert f1["hard"] > 0.9, "harder, not hopeless"


def test_nearest_neighbours_miss_the_divisions(mini):
    tracks, _ = mini
    total = len(true_divisions(tracks))
    found, _ = nearest_divisions(tracks, many=False)
    assert found <= total / 2
    found, claimed = nearest_divisions(tracks, many=True)
    assert 2 * found / (claimed + total) <= 0.5, "F1 where every shared nearest neighbour is called a mother"


def test_divisions_are_many_and_mothers_condense(mini):
    tracks, _ = mini
    divisions = true_divisions(tracks)
    assert len(divisions) >= 150
    last = tracks.sort_values("frame").drop_duplicates(["scene", "track_id"], keep="last")
    last = last.set_index(["scene", "track_id"])
    mothers = last.loc[list(divisions)]
    assert (mothers["phase"] == "M").mean() > 0.9
    assert mothers["area_um2"].median() < 0.8 * tracks.loc[tracks.phase == "S_G2M", "area_um2"].median()


def test_nuclei_touch_and_some_are_dim(mini):
    tracks, _ = mini
    harvest = tracks[(tracks.time_h - 48).abs() < 0.2]
    assert harvest["touching"].mean() >= 0.25
    assert 0.05 <= tracks["dim"].mean() <= 0.10
    assert set(tracks["phase"]) == {"G1", "G1S", "S_G2M", "dark", "M"}
    assert (tracks.groupby(["scene", "track_id"])["frame"].max() < 90).any(), "nuclei leave or die"


def test_reporter_levels_tell_the_phase(mini):
    """What a phase caller can reach: the levels against the reporters' threshold, M from elsewhere."""
    tracks, _ = mini
    cutoff = SimulateParams().biology.reporters.threshold
    g1, sg2m = tracks["g1_level"] >= cutoff, tracks["sg2m_level"] >= cutoff
    called = np.select([g1 & sg2m, sg2m, g1], ["G1S", "S_G2M", "G1"], "dark")
    others = tracks["phase"] != "M"
    assert (called == tracks["phase"])[others].mean() >= 0.95


def test_phase_fractions_at_harvest_are_those_of_the_shared_biology(mini):
    """The field's nuclei are a sample of the population that the simulated counts are drawn from, too."""
    tracks, _ = mini
    harvest = tracks[(tracks.time_h - 48).abs() < 0.2]
    differences = []
    for condition, nuclei in harvest.groupby("condition"):
        rng = np.random.default_rng(1)
        cells = simulate_lineages(mini_design(), condition, 3000, 0.0, 50.0, BiologyParams(), rng)
        population = np.mean(coarse_phase(phase_at(cells, 48.0, "fucci"), "fucci") == "G1")
        differences.append(np.mean(coarse_phase(nuclei["phase"], "fucci") == "G1") - population)
    assert np.abs(differences).max() < 0.18
    assert abs(np.mean(differences)) < 0.08
    counts = harvest["condition"].value_counts()
    assert counts["control"] > counts["mmMYOD1"], "MYOD1 slows the cycle"


def test_the_design_file_of_mini_is_the_one_tested_here():
    from hyped_core.design import read_design

    path = Path(__file__).parents[3] / "data" / "mini" / "design.yaml"
    if not path.is_file():
        pytest.skip("not in a checkout")
    mine, stored = mini_design(), read_design(path)
    assert mine.timeline == stored.timeline
    assert mine.scenes == stored.scenes
