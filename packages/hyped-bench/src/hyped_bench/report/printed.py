"""The numbers printed in the paper's Tables 3 and 4, shown beside ours where the dataset is the paper's."""

from __future__ import annotations

PAPER_DATASET = "hyped"
"""Name of the dataset that is the paper's release."""

TABLE_3: tuple[tuple[str, str, str, float, float, float, float], ...] = (
    ("Geneformer", "+MYOD1", "G1", 0.9808, 0.0148, 0.0902, 0.9807),
    ("Geneformer", "+MYOD1", "S", 0.9776, 0.0172, 0.0988, 0.9775),
    ("Geneformer", "+MYOD1", "G2/M", 0.9715, 0.0221, 0.1119, 0.9714),
    ("Geneformer", "-PRRX1", "G1", 0.9913, 0.0068, 0.0605, 0.9913),
    ("Geneformer", "-PRRX1", "S", 0.9900, 0.0078, 0.0660, 0.9900),
    ("Geneformer", "-PRRX1", "G2/M", 0.9900, 0.0078, 0.0680, 0.9900),
    ("Geneformer", "-PRRX1+MYOD1", "G1", 0.9902, 0.0076, 0.0645, 0.9902),
    ("Geneformer", "-PRRX1+MYOD1", "S", 0.9887, 0.0086, 0.0697, 0.9887),
    ("Geneformer", "-PRRX1+MYOD1", "G2/M", 0.9851, 0.0115, 0.0810, 0.9851),
    ("GEARS", "-PRRX1", "all", 0.9518, 0.0502, 0.1079, 0.9358),
    ("GEARS", "+MYOD1", "all", 0.9741, 0.0129, 0.0622, 0.9625),
    ("GEARS", "-PRRX1+MYOD1", "all", 0.9772, 0.0116, 0.0598, 0.9676),
)
"""Model, perturbation, phase; cosine, MSE, MAE, Pearson."""

TABLE_4: tuple[float | None, ...] = (0.000146, None, 0.877678, 14.082471, 15.051044, 86.480553)
"""FM2S: MSE, PSNR, SSIM, SNR before and after, and the printed PSNR under the name of its convention."""
