"""Config and files everywhere; training and HYPED's own checks of denoisers where CAREamics is installed."""

from pathlib import Path

import numpy as np
import pytest
from careamics_n2v.model import CareamicsN2V, CareamicsN2VConfig
from careamics_n2v.plugin import ENVIRONMENT, hyped_models

from hyped_core import RunContext
from hyped_core.contracts import ImageMeta
from hyped_core.errors import InvalidDataError, MissingFileError, UsageError
from hyped_core.testing import DenoiserSuite


def test_the_model_runs_in_an_environment_of_its_own():
    (spec,) = hyped_models()
    assert spec.environment == ENVIRONMENT and "torch==2.13.0" in ENVIRONMENT
    assert spec.load_config().epochs == 2


@pytest.mark.parametrize("values", [{"patch": 48}, {"channels": 12}, {"roi": 10}, {"epochs": 0}])
def test_what_the_network_cannot_be_is_refused(values):
    with pytest.raises(ValueError):
        CareamicsN2VConfig(**values)


def test_a_plane_without_contrast_needs_no_network(tmp_path: Path):
    context = RunContext(scratch=tmp_path)
    flat = np.full((2, 20, 30), 500, np.uint16)
    found = CareamicsN2V(CareamicsN2VConfig()).denoise(flat, ImageMeta(), context=context)
    assert found.dtype == np.float32 and (found == 500).all() and not list(tmp_path.iterdir())
    flat = flat.astype(np.float32)
    flat[0, 3, 3] = np.nan
    with pytest.raises(InvalidDataError, match="frame 0"):
        CareamicsN2V(CareamicsN2VConfig()).denoise(flat, ImageMeta(), context=context)


def test_there_is_nothing_to_save_or_load(tmp_path: Path):
    with pytest.raises(UsageError):
        CareamicsN2V(CareamicsN2VConfig()).save(tmp_path)
    pytest.importorskip("safetensors")
    with pytest.raises(MissingFileError):
        CareamicsN2V(CareamicsN2VConfig()).load(tmp_path)


def test_it_takes_noise_off(tiny_movie, tmp_path: Path):
    pytest.importorskip("careamics")
    noisy, clean = tiny_movie.stack(), tiny_movie.clean[:, 0]
    model, context = CareamicsN2V(CareamicsN2VConfig()), RunContext(scratch=tmp_path)
    model.fit(noisy, tiny_movie.channel_meta(), context=context)
    found = model.denoise(noisy, tiny_movie.channel_meta(), context=context)
    before, after = (float(np.sqrt(np.mean((image - clean) ** 2))) for image in (noisy, found))
    assert after < 0.8 * before
    assert not list(tmp_path.iterdir())


def test_tiles_leave_no_seam(tiny_movie, tmp_path: Path, monkeypatch):
    pytest.importorskip("careamics")
    model, context = CareamicsN2V(CareamicsN2VConfig(epochs=1, steps_per_epoch=5)), RunContext(scratch=tmp_path)
    stack = tiny_movie.stack()[:1]
    model.fit(stack, tiny_movie.channel_meta(), context=context)
    whole = model.denoise(stack, tiny_movie.channel_meta(), context=context)
    monkeypatch.setattr("careamics_n2v.network.TILE", 32)
    np.testing.assert_allclose(model.denoise(stack, tiny_movie.channel_meta(), context=context), whole, atol=0.01)


class TestContract(DenoiserSuite):
    model = "careamics_n2v.model:CareamicsN2V"

    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("careamics")
