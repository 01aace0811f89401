"""Makes the golden container of schema version 1 from fixed arrays: ``python make_v1.py OUT.zip``.

The committed ``v1/tiny.hyped.zip`` was made by this script once and is never made again: it stands for the
containers that the release with schema version 1 wrote.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from hyped_core.container import assemble
from hyped_core.container.movies import LabelsWriter, write_movie
from hyped_core.design import Design

DESIGN = {
    "name": "tiny",
    "conditions": [
        {"name": "control", "phase_composition": "sorted"},
        {"name": "MYOD1", "perturbation": [{"gene": "MYOD1", "direction": "activation", "onset_h": 0.5}]},
    ],
    "timeline": {"imaging_end_h": 3, "events": [{"name": "harvest", "time_h": 2}]},
    "channels": [{"name": "Cy5", "role": "nuclei"}, {"name": "mKate", "role": "reporter", "reports": "G1"}],
    "scenes": [{"name": "A", "condition": "control"}, {"name": "B", "condition": "MYOD1", "replicate": 2}],
    "pools": [{"name": "p1", "conditions": ["control", "MYOD1"]}],
    "flags": {"confounded": [["condition", "pool"]], "pooled_wells": True},
}
TIME_H = [0.0, 0.5, 2.0]


def frame(index: int) -> np.ndarray:
    """Two channels of a 12 x 16 frame: a ramp, and the ramp upside down, shifted by the index."""
    ramp = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) + 100 * index
    return np.stack([ramp, ramp[::-1]])


def labels(index: int) -> np.ndarray:
    """Nucleus 1 in every frame; in the last one its daughters 2 and 3 in its place."""
    found = np.zeros((12, 16), np.int32)
    if index < 2:
        found[4:8, 5 + index : 9 + index] = 1
    else:
        found[4:8, 3:6], found[4:8, 9:12] = 2, 3
    return found


def nuclei(scene: str) -> pd.DataFrame:
    """The phases table of a scene, half a micrometre a pixel."""
    rows = []
    for index, time_h in enumerate(TIME_H):
        mask = labels(index)
        for label in np.unique(mask[mask > 0]):
            y, x = np.nonzero(mask == label)
            rows.append(
                {
                    "scene": scene, "frame": index, "time_h": time_h, "label": label, "track_id": label,
                    "parent_id": 0 if label == 1 else 1, "y_um": y.mean() / 2, "x_um": x.mean() / 2,
                    "phase": "S_G2M" if label == 1 else "G1", "area_um2": len(y) / 4,
                    "mean_Cy5": float(frame(index)[0][mask == label].mean()),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def rna() -> anndata.AnnData:
    """Six cells, four genes."""
    counts = (np.arange(24).reshape(6, 4) * 7 % 5).astype(np.int32) + np.eye(6, 4, dtype=np.int32)
    obs = pd.DataFrame(
        {
            "pool": "p1", "hashtag_call": ["t1", "t1", "t2", "t2", "Doublet", "Negative"],
            "hashtag_kind": ["singlet"] * 4 + ["doublet", "negative"],
            "assigned_condition": ["control", "control", "MYOD1", "MYOD1", "", ""],
            "condition": ["control", "control", "MYOD1", "MYOD1", "", ""],
            "assigned_phase": ["G1", "S", "", "", "", ""], "phase": ["G1", "S", "G2M", "G1", "", ""],
        },
        index=[f"p1_CELL{i}" for i in range(6)],
    )  # fmt: skip
    x = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4).astype(np.float32)
    var = pd.DataFrame(index=["MYOD1", "PRRX1", "CCNB1", "ACTB"])
    return anndata.AnnData(sp.csr_matrix(x), obs=obs, var=var, layers={"counts": sp.csr_matrix(counts)})


def build(root: Path) -> Path:
    """Write ``tiny.hyped`` below ``root``."""
    out = root / "tiny.hyped"
    for scene in "AB":
        write_movie(
            out / f"movies/{scene}.zarr", [frame(i) for i in range(3)], channels=["Cy5", "mKate"],
            pixel_size_um=0.5, time_h=TIME_H, data_range=(0, 16383),
        )  # fmt: skip
        source = f"../../movies/{scene}.zarr"
        target = out / f"labels/{scene}.zarr"
        writer = LabelsWriter(target, shape=(3, 12, 16), pixel_size_um=0.5, time_h=TIME_H, source=source)
        with writer:
            for i in range(3):
                writer.write_frame(i, labels(i))
        nuclei(scene).to_parquet(root / f"{scene}.parquet")
    tables = sorted(root.glob("*.parquet"))
    assemble(out, design=Design.model_validate(DESIGN), nuclei=tables, tables={"rna": rna()})
    return out


def main(target: Path) -> None:
    """Build the container and zip it with fixed times."""
    with tempfile.TemporaryDirectory() as folder:
        out = build(Path(folder))
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted(p for p in out.rglob("*") if p.is_file()):
                name = path.relative_to(out.parent).as_posix()
                archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
