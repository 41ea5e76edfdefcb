"""Feature spaces: what they do with images before a network sees them, what they find alike, and what they refuse."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, pad

from scorescope.data import load_images
from scorescope.data.fashion_mnist import DEBIAN_FOLDER
from scorescope.data.photographs import COLOUR_PHOTOGRAPHS, photograph
from scorescope.foundation import UserError
from scorescope.probes.features import PixelFeatures, cosines, vectors_of
from scorescope.probes.features_embedded import EmbeddedFeatures, dead_leaves
from scorescope.probes.features_opening import open_features
from scorescope.probes.features_torchscript import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    InceptionFeatures,
    resize_like_tensorflow,
    sscd,
)


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) - 1


class Seen(nn.Module):
    """Gives back what it is shown: mean and corner of every channel."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.mean((2, 3)), images[:, :, 0, 0], torch.full((len(images), 1), images.size(2))], 1)


class PublishedInception(nn.Module):
    """Arguments and results as those of the published file: features of 8-bit images, or probabilities of classes."""

    def forward(self, img: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        assert img.dtype == torch.uint8
        levels = img.float().mean((2, 3))
        if return_features:
            return levels
        bias = torch.zeros(3) if no_output_bias else torch.tensor([0.0, 1.0, 2.0])
        return (levels / 100 + bias).softmax(1)


def saved(module: nn.Module, path: Path) -> Path:
    torch.jit.script(module).save(str(path))
    return path


# ---------------------------------------------------------------- networks in files


def test_sscd_sees_images_as_published(tmp_path):
    space = sscd(saved(Seen(), tmp_path / "sscd.pt"))
    found = space(torch.full((2, 1, 20, 20), 0.5))
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    expected = (0.75 - mean) / std
    assert found[1].numpy() == pytest.approx([*expected, *expected, 288], abs=1e-5)
    assert "288×288" in space.description


def test_sscd_keeps_colours_apart(tmp_path):
    space = sscd(saved(Seen(), tmp_path / "sscd.pt"))
    colours = torch.tensor([1.0, 0.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    expected = (np.array([1.0, 0.5, 0.0]) - IMAGENET_MEAN) / IMAGENET_STD
    assert space(colours)[0, :3].numpy() == pytest.approx(expected, abs=1e-5)


def test_any_torchscript_file_with_options(tmp_path):
    path = saved(Seen(), tmp_path / "net.pt")
    space = open_features(f"torchscript:{path}?size=8,range=bytes,mean=100,std=2,channels=1")
    found = space(torch.full((1, 3, 16, 16), 1.0))
    assert found[0].numpy() == pytest.approx([77.5, 77.5, 8])
    three = open_features(f"torchscript:{path}?range=unit,mean=0.1,0.2,0.3,std=imagenet,channels=3")
    assert three(torch.zeros(1, 1, 4, 4))[0, :3].numpy() == pytest.approx(
        (0.5 - np.array([0.1, 0.2, 0.3])) / IMAGENET_STD
    )
    plain = open_features(f"torchscript:{path}")
    assert plain(torch.full((1, 1, 5, 5), -0.25))[0].numpy() == pytest.approx([-0.25, -0.25, 5])


def test_the_published_inception_file_prepares_images_itself(tmp_path):
    space = InceptionFeatures(saved(PublishedInception(), tmp_path / "inception.pt"))
    assert space.published
    assert space.classifies
    images = torch.full((2, 1, 12, 12), 0.2)
    assert space(images)[0].numpy() == pytest.approx([153.0] * 3)  # round(1.2 · 127.5)
    assert space.log_probabilities(images).exp().numpy() == pytest.approx(np.full((2, 3), 1 / 3))


def test_other_inception_files_get_images_as_the_original_graph_did(tmp_path):
    space = InceptionFeatures(saved(Seen(), tmp_path / "inception.pt"))
    assert not space.classifies
    found = space(torch.full((1, 1, 32, 32), -1.0))[0].numpy()
    assert found == pytest.approx([-1] * 6 + [299])
    with pytest.raises(UserError, match="knows no classes"):
        space.log_probabilities(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(("shape", "side"), [((5, 7), 13), ((32, 32), 299), ((40, 24), 16)])
def test_resizing_as_tensorflow_did(shape, side):
    image = seeded(1, 2, *shape).double()
    found = resize_like_tensorflow(image, side)[0].numpy()
    height, width = shape
    source = image[0].numpy()
    for row, column in [(0, 0), (1, 2), (side - 1, side - 1), (side // 2, 3), (side - 2, side // 3)]:
        y, x = row * height / side, column * width / side
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = y - top, x - left
        upper = (1 - dx) * source[:, top, left] + dx * source[:, top, right]
        lower = (1 - dx) * source[:, bottom, left] + dx * source[:, bottom, right]
        assert found[:, row, column] == pytest.approx((1 - dy) * upper + dy * lower, abs=1e-12)


def test_a_function_of_the_users_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\ndef halves(images):\n    return np.asarray(images)[:, 0, :, :2].sum(1)\nnumber = 3\n"
    )
    images = seeded(3, 1, 4, 4)
    assert torch.allclose(open_features(f"function:{path}:halves")(images), images[:, 0, :, :2].sum(1))
    for word, said in [("nothing", "has no function"), ("number", "has no function")]:
        with pytest.raises(UserError, match=said):
            open_features(f"function:{path}:{word}")
    with pytest.raises(UserError, match="names no Python file"):
        open_features(f"function:{tmp_path / 'other.py'}:halves")


# ---------------------------------------------------------------- the embedded space


def shifted(images: Tensor, pixels: int = 1) -> Tensor:
    height, width = images.shape[-2:]
    moved = pad(images, (pixels,) * 4, mode="replicate")
    return moved[..., :height, 2 * pixels : 2 * pixels + width]


def brighter(images: Tensor) -> Tensor:
    return (0.7 * images + 0.15).clamp(-1, 1)


def blurred(images: Tensor) -> Tensor:
    taps = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / 2 / 0.8**2)
    taps = taps / taps.sum()
    channels = images.shape[1]
    for shape, margin in (((1, 1, 1, 7), (3, 3, 0, 0)), ((1, 1, 7, 1), (0, 0, 3, 3))):
        kernel = taps.view(shape).expand(channels, -1, -1, -1)
        images = torch.nn.functional.conv2d(pad(images, margin, mode="replicate"), kernel, groups=channels)
    return images


def cropped(images: Tensor) -> Tensor:
    size = images.shape[-2:]
    return interpolate(images[..., 1:-1, 1:-1], size=size, mode="bilinear", align_corners=False, antialias=True)


COPIES: dict[str, Callable[[Tensor], Tensor]] = {
    "shift by a pixel": shifted,
    "contrast 0.7, brighter": brighter,
    "blur 0.8 pixels": blurred,
    "crop by a pixel all round, resized": cropped,
}


def retrieval(space: Callable[[Tensor], Tensor], images: Tensor, asked: Tensor) -> dict[str, float]:
    """Share of changed copies whose nearest image, by cosine, is the one that was changed."""
    gallery = normalize(space(images), dim=1)
    found = {}
    for name, change in COPIES.items():
        nearest = (normalize(space(change(images[asked])), dim=1) @ gallery.T).argmax(1)
        found[name] = float((nearest == asked).float().mean())
    return found


def tiles_of_photographs() -> Tensor:
    """Squares of 32×32 of scikit-image's colour photographs, each its own place, none overlapping another."""
    tiles = []
    for name in COLOUR_PHOTOGRAPHS:
        picture = np.asarray(photograph(name, colour=True), dtype=np.float32) / 127.5 - 1
        image = torch.from_numpy(picture).permute(2, 0, 1)[None]
        image = interpolate(image, size=(320, 320), mode="bilinear", antialias=True)
        tiles.append(image.unfold(2, 32, 32).unfold(3, 32, 32).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32))
    found = torch.cat(tiles)
    return found[found.std((1, 2, 3)) > 0.08]  # empty sky resembles empty sky


@pytest.mark.slow
def test_copies_of_photographs_are_found_again():
    tiles = tiles_of_photographs()
    asked = torch.arange(0, len(tiles), 2)
    found = retrieval(EmbeddedFeatures(), tiles, asked)
    in_pixels = retrieval(PixelFeatures(), tiles, asked)
    assert len(tiles) > 300
    assert min(found.values()) >= 0.9, (found, in_pixels)
    assert found["shift by a pixel"] >= in_pixels["shift by a pixel"]


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="fashion-mnist is not installed")
def test_copies_of_clothes_are_found_again_better_than_in_pixels():
    images = load_images("fashion-mnist").test.tensor(range(600))
    asked = torch.arange(0, 600, 4)
    found, in_pixels = (retrieval(space, images, asked) for space in (EmbeddedFeatures(), PixelFeatures()))
    assert min(found.values()) >= 0.75, (found, in_pixels)
    assert np.mean(list(found.values())) >= 0.9
    assert found["shift by a pixel"] > in_pixels["shift by a pixel"] + 0.5


def test_unrelated_images_are_not_alike():
    tiles = tiles_of_photographs()[::3]
    vectors = vectors_of(EmbeddedFeatures(), tiles, at_once=50)
    order = np.random.default_rng(0).permutation(len(vectors))
    apart = cosines(vectors, vectors[order])[order != np.arange(len(order))]
    assert abs(apart.mean()) < 0.3
    assert cosines(vectors, vectors) == pytest.approx(np.ones(len(vectors)))


def test_the_embedded_space_has_the_size_it_says_and_never_changes():
    space = EmbeddedFeatures()
    grey, colour = space(seeded(2, 1, 8, 8)), space(seeded(2, 3, 64, 48))
    assert grey.shape == (2, 571)
    assert colour.shape == (2, 603)
    assert torch.equal(dead_leaves(), dead_leaves())
    # a grey image and the same in three equal channels differ in colours only
    repeated = space(seeded(2, 1, 8, 8).expand(-1, 3, -1, -1))
    assert torch.allclose(repeated[:, :571], grey, atol=1e-3)
    assert repeated[:, 571:].abs().max() < 1e-6


def test_a_flat_image_has_finite_features():
    assert torch.isfinite(EmbeddedFeatures()(torch.zeros(1, 1, 16, 16))).all()


# ---------------------------------------------------------------- many images, and what is refused


def test_vectors_do_not_depend_on_the_batch(digits):
    images = digits.subset(range(70))
    all_at_once = vectors_of(PixelFeatures(), images, at_once=100)
    assert np.array_equal(all_at_once, vectors_of(PixelFeatures(), images, at_once=16))
    assert np.array_equal(all_at_once, vectors_of(PixelFeatures(), images.tensor(), at_once=16))
    assert all_at_once.dtype == np.float32


def test_cosines_against_their_definition():
    a, b = (seeded(20, 7, seed=seed).numpy() for seed in (1, 2))
    expected = [float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)) for x, y in zip(a, b, strict=True)]
    assert cosines(a, b) == pytest.approx(expected, abs=1e-6)
    assert cosines(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)) == 0


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("embeded", "did you mean"),
        ("pixels:3", "takes nothing after its name"),
        ("sscd", "write sscd:FILE"),
        ("sscd:missing.pt", "there is no such file"),
        ("inception:missing.pt", "there is no such file"),
        ("torchscript:net.pt?sise=3", "did you mean"),
        ("torchscript:net.pt?size=big", "a side in pixels"),
        ("torchscript:net.pt?range=half", "signed, unit, bytes"),
        ("torchscript:net.pt?std=0", "one positive number"),
        ("torchscript:net.pt?3", "NAME=VALUE"),
    ],
)
def test_words_that_are_refused(word, said):
    with pytest.raises(UserError, match=said) as caught:
        open_features(word)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_torchscript_are_refused_in_one_line(tmp_path):
    state = tmp_path / "state.pt"
    torch.save({"weight": torch.zeros(3)}, state)
    (tmp_path / "text.pt").write_text("hello")
    for path in (state, tmp_path / "text.pt"):
        with pytest.raises(UserError, match="holds no TorchScript network") as caught:
            sscd(path)
        assert "\n" not in str(caught.value)


class Picky(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(-1, 5)


class NotAVector(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


class Unbounded(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) / 0.0


@pytest.mark.parametrize(
    ("module", "said"), [(Picky(), "does not take"), (NotAVector(), "one vector an image"), (Unbounded(), "NaN or inf")]
)
def test_networks_that_fail_are_reported_in_one_line(tmp_path, module, said):
    space = open_features(f"torchscript:{saved(module, tmp_path / 'net.pt')}")
    with pytest.raises(UserError, match=said) as caught:
        space(torch.ones(2, 1, 4, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("images", [torch.zeros(2, 4, 4), torch.zeros(2, 2, 4, 4), torch.full((1, 1, 4, 4), torch.nan)])
def test_images_that_are_none_are_refused(images):
    with pytest.raises(UserError, match="takes"):
        PixelFeatures()(images)
