"""``import scorescope as ss``: what the commands do, as functions on names or opened objects, whose results show themselves."""

import base64
import html
import io
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import scorescope as ss
from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser
from scorescope.foundation import UserError


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORESCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def split():
    return ss.images("digits")


@pytest.fixture(scope="module")
def gaussian(split):
    return ss.denoiser("gaussian", split)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of a network trained on 100 digits."""
    folder = tmp_path_factory.mktemp("runs") / "net"
    run = ss.train(folder, data="digits", size=100, preset="tiny", settings=["samples=1", "sample_times=1"])
    assert "60 steps" in run.headline
    return folder


def picture_in(shown):
    """The picture that a notebook would show."""
    source = re.search(r'src="data:image/png;base64,([^"]+)"', shown).group(1)
    return Image.open(io.BytesIO(base64.b64decode(source)))


def test_everything_that_is_offered_is_there():
    assert set(ss.__all__) <= set(dir(ss))
    assert all(getattr(ss, name) is not None for name in ss.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ss.nothing


def test_images_are_opened_by_name_or_taken_as_they_are(split):
    assert (split.train.stored, split.test.stored) == (1500, 297)
    assert ss.images(split) is split
    assert ss.images(split.test) == (split.test, None)
    assert ss.images("disks", n=3, test_n=2, size=8).train.image_shape == (1, 8, 8)


def test_samples_are_tensors_and_a_picture(split, gaussian, tmp_path):
    assert isinstance(gaussian, GaussianDenoiser)
    one = ss.sample(gaussian, 3, steps=4, seed=1)
    same = ss.sample("gaussian", 3, images=split.train, steps=4, seed=1)
    assert one.images.shape == (3, 1, 8, 8)
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, ss.sample(gaussian, 3, steps=4, seed=2).images)
    assert isinstance(one.table, pd.DataFrame)
    assert one.table["samples"].tolist() == [3]
    assert picture_in(one._repr_html_()).size[0] > 3 * 8
    assert one.save(tmp_path / "s.png").is_file()
    with pytest.raises(UserError, match="already exists"):
        one.save(tmp_path / "s.png")


def test_the_error_of_denoised_images_is_what_their_pixels_say(split, gaussian):
    found = ss.denoise(gaussian, split, 0.5, count=20)
    clean, noisy, denoised = found.rows.double()
    assert found.psnr == pytest.approx(10 * np.log10(4 / (denoised - clean).square().mean().item()), abs=1e-4)
    assert (noisy - clean).std().item() == pytest.approx(0.5, rel=0.1)
    assert found.psnr == pytest.approx(ss.denoise("gaussian", "digits", 0.5, count=20).psnr)
    assert "gaussian at σ = 0.5" in found._repr_html_()


def test_restored_images_come_with_their_numbers(split, gaussian):
    found = ss.restore(gaussian, split, "super-resolution", amount=2, count=2, each=2, h=0.2, beta=1)
    assert found.table.loc[0, "psnr of their mean"] > found.table.loc[0, "psnr of the measurements"]
    assert picture_in(found._repr_html_()).size[1] > 5 * 8


@pytest.mark.slow
def test_a_checkpoint_is_opened_and_says_what_it_is(checkpoint, split):
    network = ss.open(checkpoint)
    assert isinstance(network, NetworkDenoiser)
    assert str(checkpoint) in network.origin
    samples = ss.sample(network, 2, beta=1, h=0.5)
    assert torch.equal(samples.images, ss.sample(checkpoint, 2, beta=1, h=0.5).images)
    with pytest.raises(UserError, match="28×28|8×8 grey"):
        ss.sample(network, 1, images=ss.images("disks", n=3, test_n=2, size=16))
    with pytest.raises(UserError, match="no such checkpoint"):
        ss.open("nowhere")
    with pytest.raises(UserError, match="did you mean 'gaussian'"):
        ss.denoiser("gausian", split)


@pytest.fixture(scope="module")
def explained(checkpoint, split):
    return ss.explain(ss.open(checkpoint), split, preset="tiny", lenses=["memorization"], seed=3)


@pytest.mark.slow
def test_a_model_is_explained_on_a_page_with_tables_and_figures(explained, checkpoint):
    page = html.unescape(
        re.fullmatch(r'<iframe srcdoc="([^"]*)" style="[^"]*"></iframe>', explained._repr_html_()).group(1)
    )
    assert page == explained.page.read_text()
    assert explained.headline.rstrip(".") in html.unescape(page)
    assert "100 images of digits" in explained.results.methods["Training images"]
    assert all(isinstance(table, pd.DataFrame) for table in explained.tables.values())
    assert len(explained.tables)
    assert all(figure._repr_html_().startswith("<figure><img") for figure in explained.figures.values())
    assert str(checkpoint) in explained.results.methods["Model"]


@pytest.mark.slow
def test_opened_objects_are_explained_as_their_names_are(explained, checkpoint):
    named = ss.explain(checkpoint, "digits", preset="tiny", lenses=["memorization"], seed=3)
    assert named.headline == explained.headline
    for name, table in explained.tables.items():
        pd.testing.assert_frame_equal(table, named.tables[name])
    folder = named.page.parent
    assert folder.is_dir()
    del named
    assert not folder.exists()


@pytest.mark.slow
def test_a_run_in_a_folder_of_ones_own_goes_on_with_the_same_network_only(checkpoint, split, tmp_path):
    network = ss.open(checkpoint)
    network.network.requires_grad_(False)
    with pytest.raises(UserError, match="no lens is called 'memorisation'; did you mean 'memorization'"):
        ss.explain(network, split, lenses=["memorisation"], out=tmp_path / "run")
    ss.explain(network, split.train.subset(range(64)), preset="tiny", lenses=["memorization"], out=tmp_path / "run")
    assert (tmp_path / "run" / "report.html").is_file()
    with pytest.raises(UserError, match="already holds a finished run"):
        ss.explain(network, split, out=tmp_path / "run")


def test_what_is_no_network_is_not_explained(gaussian, split):
    with pytest.raises(UserError, match="gaussian is no network"):
        ss.explain(gaussian, split)
