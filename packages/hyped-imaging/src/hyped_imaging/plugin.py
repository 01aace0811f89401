"""hyped-imaging's contributions to the registry: records with import strings, nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable

from hyped_core.plugins.hookspecs import hookimpl
from hyped_core.spec import CommandSpec, HealthCheckSpec, ModelSpec, Needs, ReaderSpec

_EACH_IMAGE = "it learns on every image anew: what is saved is the network of the last one"


@hookimpl
def hyped_models() -> Iterable[ModelSpec]:
    """Segmenters, trackers and denoisers."""
    yield ModelSpec(
        "paper", "segment", "hyped_imaging.segment.paper:PaperSegmenter", "hyped_imaging.segment.paper:PaperConfig",
        "The paper's six steps: clip, scale, stack reporters, Gaussian and Otsu, watershed, masks",
        seeded=False, licence="BSD-3-Clause", sources=("hyped_imaging.segment.planes",),
    )  # fmt: skip
    yield ModelSpec(
        "fast", "segment", "hyped_imaging.segment.fast:FastSegmenter", "hyped_imaging.segment.fast:FastConfig",
        "Nuclear channel: background off, blobs split, outlines at their own level; or the paper's steps (default)",
        seeded=False, licence="BSD-3-Clause",
        sources=(
            "hyped_imaging.segment.background", "hyped_imaging.segment.blobs", "hyped_imaging.segment.kernels",
            "hyped_imaging.segment.kernels_blobs", "hyped_imaging.segment.paper", "hyped_imaging.segment.partition",
            "hyped_imaging.segment.planes", "hyped_imaging.segment.regions",
        ),
    )  # fmt: skip
    yield ModelSpec(
        "lap", "track", "hyped_imaging.track.lap:LapTracker", "hyped_imaging.track.config:LapConfig",
        "Linear assignment in micrometres and hours, gap closing, divisions (default)",
        seeded=False, licence="BSD-3-Clause",
        sources=(
            "hyped_imaging.track.assignment", "hyped_imaging.track.divisions", "hyped_imaging.track.kernels",
            "hyped_imaging.track.links", "hyped_imaging.track.objects",
        ),
    )  # fmt: skip
    yield ModelSpec(
        "laptrack", "track", "hyped_imaging.track.laptrack:LaptrackTracker",
        "hyped_imaging.track.laptrack:LaptrackConfig",
        "laptrack: linear assignment after Jaqaman et al., with gap closing and splits",
        needs=Needs(modules=("laptrack",), install="pip install 'hyped-imaging[laptrack]'"),
        seeded=False, licence="BSD-3-Clause", citation="Fukai and Kawaguchi 2023, doi:10.1093/bioinformatics/btac799",
        sources=("hyped_imaging.track.objects",),
    )  # fmt: skip
    yield ModelSpec(
        "btrack", "track", "hyped_imaging.track.btrack:BtrackTracker", "hyped_imaging.track.btrack:BtrackConfig",
        "Bayesian tracking with a global integer program (the paper's)",
        needs=Needs(modules=("btrack", "cvxopt"), install="pip install 'hyped-imaging[btrack]'"),
        seeded=False, licence="MIT (btrack), GPL-3.0 (cvxopt's GLPK)",
        citation="Ulicna et al. 2021, doi:10.3389/fcomp.2021.734559",
        sources=("hyped_imaging.track.objects", "hyped_imaging.track.build_btrack"),
    )  # fmt: skip
    yield ModelSpec(
        "photon", "denoise", "hyped_imaging.denoise.photon.model:Photon",
        "hyped_imaging.denoise.photon.model:PhotonConfig",
        "Zero-shot: alike patches filtered together, by the camera's noise as the images show it (default)",
        seeded=False, licence="BSD-3-Clause", citation="after Dabov et al. 2007, doi:10.1109/TIP.2007.901238",
        sources=("hyped_imaging.denoise.photon", "hyped_imaging.denoise.physics"),
    )  # fmt: skip
    fm2s = tuple(
        f"hyped_imaging.denoise.{name}"
        for name in (
            "physics", "fm2s.config", "fm2s.constants", "fm2s.estimate", "fm2s.inference", "fm2s.network",
            "fm2s.noise", "fm2s.target", "fm2s.training", "fm2s.weights",
        )
    )  # fmt: skip
    torch = Needs(modules=("torch", "safetensors"), install="pip install 'hyped-imaging[torch]'")
    for name, config, summary in (
        ("fm2s", "Fm2sConfig", "FM2S (the paper's): a small network learnt on each image from noise made for it"),
        ("fm2s-series", "Fm2sSeriesConfig", "FM2S learnt once for all frames of a channel"),
    ):
        yield ModelSpec(
            name, "denoise", "hyped_imaging.denoise.fm2s.model:Fm2s", f"hyped_imaging.denoise.fm2s.config:{config}",
            summary, needs=torch, licence="BSD-3-Clause", citation="Liu et al. 2025, arXiv:2412.10031", sources=fm2s,
            expected_failures={} if name == "fm2s-series" else {"saves_and_loads": _EACH_IMAGE}, quick={"draws": 2},
        )  # fmt: skip


@hookimpl
def hyped_commands() -> Iterable[CommandSpec]:
    """Steps on a user's own files."""
    yield CommandSpec(
        ("imaging", "simulate"), "hyped_imaging.cli_simulate:simulate_command", "Simulate movies with known truth."
    )
    yield CommandSpec(
        ("imaging", "stitch"), "hyped_imaging.cli_stitch:stitch", "Tiles of a CZI's scene into one movie."
    )
    yield CommandSpec(
        ("imaging", "import-movie"), "hyped_imaging.cli_movies:import_movie_command",
        "TIFF, HDF5 frames or OME-NGFF into a movie.",
    )  # fmt: skip
    yield CommandSpec(
        ("imaging", "export"), "hyped_imaging.cli_movies:export", "A movie as one HDF5 file per frame."
    )
    yield CommandSpec(
        ("imaging", "segment"), "hyped_imaging.cli_segment:segment", "Find and measure nuclei in a movie."
    )
    yield CommandSpec(("imaging", "track"), "hyped_imaging.cli_track:track", "Link nuclei over time.")
    yield CommandSpec(
        ("imaging", "phases"), "hyped_imaging.cli_phases:phases", "Call cell-cycle phases along tracks."
    )
    yield CommandSpec(
        ("imaging", "denoise"), "hyped_imaging.cli_denoise:denoise", "Camera noise off a movie or an image."
    )
    yield CommandSpec(
        ("imaging", "process"), "hyped_imaging.cli_process:process", "All of it: from your own file to phases."
    )
    yield CommandSpec(
        ("imaging", "design"), "hyped_imaging.cli_process:design_command", "The start of a design for your file."
    )
    yield CommandSpec(
        ("imaging", "export-tracks"), "hyped_imaging.cli_exchange:export_tracks",
        "Tracks as GEFF or as a Cell Tracking Challenge folder.",
    )  # fmt: skip
    yield CommandSpec(
        ("imaging", "import-tracks"), "hyped_imaging.cli_exchange:import_tracks",
        "Tracks of other tools, or corrected by hand, as a table.",
    )  # fmt: skip
    yield CommandSpec(
        ("imaging", "snr"), "hyped_imaging.cli_snr:snr_command", "Signal-to-noise ratio of nuclei, by channel."
    )


@hookimpl
def hyped_readers() -> Iterable[ReaderSpec]:
    """Files that `import-movie` reads."""
    movies = "hyped_imaging.movies"
    frames = f"{movies}.hdf5:read_frames"
    yield ReaderSpec("tiff", "movie", (".tif", ".tiff"), f"{movies}.tiff:read_tiff", "TIFF, OME-TIFF, ImageJ")
    yield ReaderSpec("hdf5-frames", "movie", (".h5", ".hdf5"), frames, "HDF5, one a frame")
    yield ReaderSpec("ngff", "movie", (".zarr",), f"{movies}.ngff:read_ngff", "OME-NGFF 0.4 and 0.5")


@hookimpl
def hyped_health_checks() -> Iterable[HealthCheckSpec]:
    """The CZI readers and btrack's library."""
    health = "hyped_imaging.health"
    yield HealthCheckSpec("pylibczirw", f"{health}:pylibczirw", "CZI reader and writer", required=True)
    yield HealthCheckSpec("aicspylibczi", f"{health}:aicspylibczi", "Faster CZI reader")
    yield HealthCheckSpec("btrack", f"{health}:btrack", "btrack and its compiled library")
