"""Formats × commands: every checkpoint of another project that opens goes through everything a user does with a model.

Derivatives and devices are tried on every format; the commands, which take longer, on one or two of each family and `explain`
and `audit` on two, and all on every format with ``make test-exhaustive``.
"""

import numpy as np
import pytest
import torch
from tests.cli.conftest import run
from tests.networks.readers.foreign import FOREIGN, Foreign

from scorescope.data import import_images, open_source
from scorescope.denoisers.opened import denoiser_of
from scorescope.networks import classes_of
from scorescope.probes.jacobian import Jacobian
from scorescope.probes.sensitivity import sensitivity
from scorescope.probes.sure import divergence

GUIDED = "ema_0.9999_000010.pt"
CASES = {
    "bf-cnn-linear": ("model.pt", {"first_layer_linear": True}),
    "bf-cnn-old-names": ("model.pt", {}),
    "consistency-edm-classes": ("ema_0.9999432189950708_000010.pt", {"num_head_channels": 16}),
    "ddim-bare-averaged": ("model-790000.ckpt", {}),
    "ddim-list-ema": ("ckpt.pth", {}),
    "edm-training-state": ("training-state-000010.pt", {}),
    "edm2-classes": ("network-snapshot-0000010-0.100.pkl", {}),
    "flow-matching-classes": ("checkpoint.pth", {"num_head_channels": 16}),
    "flow-matching-ema": ("checkpoint.pth", {}),
    "golddiff-unet-bare": ("baseline_unet.pt", {}),
    "guided-cosine-classes": (
        GUIDED,
        {"num_head_channels": 8, "use_new_attention_order": True, "schedule": "cosine"},
    ),
    "guided-linear-eps": (GUIDED, {"num_heads": 4}),
    "improved-cosine-4000": (GUIDED, {"num_heads": 4}),
    "k-diffusion-image-v1": ("run_00050000.safetensors", {}),
    "locality-unet-wrapped": ("fashion_mnist.pth", {}),
    "lucidrains-eps-linear": ("model-1.pt", {}),
    "lucidrains-v-sigmoid": ("model-1.pt", {}),
    "pytorch-ddpm-attention": ("ckpt.pt", {}),
    "score-sde-ve-ncsnpp": ("checkpoint_1.pth", {}),
    "score-sde-vp-ddpmpp": ("checkpoint_1.pth", {}),
    "sit-linear-velocity": ("0050000.pt", {}),
    "torchcfm-otcfm": ("otcfm_cifar10_weights_step_400000.pt", {"num_head_channels": 16}),
}
NAMED = {"improved-cosine-4000": "improved-diffusion"}
BLIND = ("bf-cnn-linear", "bf-cnn-old-names")
EXPLAINED = ("edm2-classes", "lucidrains-eps-linear")
# The commands take seconds on each of these networks, which have relatives among the others.
DEAR = (
    "ddim-bare-averaged",
    "ddim-list-ema",
    "flow-matching-classes",
    "flow-matching-ema",
    "guided-cosine-classes",
    "guided-linear-eps",
    "improved-cosine-4000",
    "locality-unet-wrapped",
    "lucidrains-v-sigmoid",
    "pytorch-ddpm-attention",
    "score-sde-vp-ddpmpp",
    "torchcfm-otcfm",
)
every = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Checkpoints of other projects, unpacked once."""
    return Foreign(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store_of(tmp_path_factory):
    """A store of 24 smooth images of a shape, made once each."""
    folder, known = tmp_path_factory.mktemp("stores"), {}

    def of(shape):
        if shape not in known:
            channels, height, width = shape
            rng = np.random.default_rng(0)
            rows, columns = np.arange(height)[:, None] / height, np.arange(width) / width
            slopes = rng.uniform(-1, 1, (24, channels, 2, 1, 1))
            pixels = 128 + 100 * np.sin(3 * slopes[:, :, 0] * rows + 3 * slopes[:, :, 1] * columns)
            name = "x".join(map(str, shape))
            np.save(folder / f"{name}.npy", pixels.astype(np.uint8))
            import_images(open_source(folder / f"{name}.npy"), folder / name)
            known[shape] = folder / name
        return known[shape]

    return of


@pytest.fixture
def model(foreign, store_of, case):
    """The words that name a model and its data, and its shape."""
    file, arguments = CASES[case]
    path, reference = foreign.file(case, file), foreign.reference(case)
    shape = reference["clean"].shape[1:]
    words = ["--model", path, "--data", store_of(shape)]
    words += ["--arch", NAMED[case]] if case in NAMED else []
    for name, value in arguments.items():
        words += ["--arch-arg", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    return [*words, "--class-label", "1"] if "labels" in reference else words


def done(capsys, *words):
    code, out, err = run(capsys, *words)
    assert code == 0, err
    assert "Traceback" not in out + err
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.exhaustive) if case in DEAR else case for case in CASES]
)
def test_the_commands_on_images(case, model, tmp_path, capsys):
    assert "PSNR" in done(capsys, "denoise", *model, "--sigma", "0.5", "--count", "2", "--out", tmp_path / "d.png")
    pace = ["--h", "0.5", "--beta", "0.5"] if case in BLIND else ["--steps", "3"]
    done(capsys, "sample", *model, *pace, "--count", "2", "--out", tmp_path / "s.png")
    words = ["--problem", "inpainting", "--count", "1", "--each", "1", "--h", "0.5", "--beta", "0.5"]
    assert "values are known" in done(capsys, "restore", *model, *words, "--out", tmp_path / "r.png")
    assert all((tmp_path / f"{name}.png").stat().st_size > 0 for name in "dsr")


def opened_denoiser(foreign, case):
    file, arguments = CASES[case]
    opened = foreign.opened(case, file, NAMED.get(case), **arguments)
    return opened, denoiser_of(opened, case, 1 if classes_of(opened.network).count else None)


@pytest.mark.slow
@every
def test_derivatives(case, foreign):
    """Columns against a difference quotient, rows against columns, the divergence and heatmaps against both."""
    _, denoiser = opened_denoiser(foreign, case)
    denoiser = denoiser.double()
    sigma = 0.5
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(denoiser.image_shape, generator=generator, dtype=torch.float64)
    vectors = torch.randn(3, *image.shape, generator=generator, dtype=torch.float64)
    jacobian = Jacobian(denoiser, image, sigma)
    columns, rows = jacobian.columns(vectors), jacobian.rows(vectors)
    step = 1e-6
    with torch.no_grad():
        moved = denoiser(image + step * vectors, sigma) - denoiser(image - step * vectors, sigma)
    scale = float(columns.abs().max())
    assert float((columns - moved / (2 * step)).abs().max()) < 1e-5 * scale
    products = vectors.flatten(1) @ columns.flatten(1).T
    assert torch.allclose(products, (vectors.flatten(1) @ rows.flatten(1).T).T, rtol=1e-8, atol=1e-8 * scale)
    half = jacobian.symmetric(vectors)
    assert torch.allclose(half, (columns + rows) / 2)
    signs = 2.0 * torch.randint(0, 2, (1, *image.shape), generator=torch.Generator().manual_seed(1)) - 1
    trace = divergence(denoiser, image[None], sigma, torch.Generator().manual_seed(1), draws=1)
    wanted = float((signs * jacobian.columns(signs.double())).sum())
    assert float(trace) == pytest.approx(wanted, rel=1e-8, abs=1e-8 * scale)
    channels = image.shape[0]
    units = torch.zeros(channels, *image.shape, dtype=torch.float64)
    units[range(channels), range(channels), 1, 2] = 1
    heatmap = sensitivity(denoiser, image[None], sigma, [(1, 2)])[0]
    torch.testing.assert_close(heatmap.double(), jacobian.rows(units).abs().sum((0, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@every
def test_nothing_stays_behind_when_the_network_moves(case, foreign):
    """PyTorch's device without memory stands in for a GPU: it refuses to be mixed with tensors of the processor."""
    opened, denoiser = opened_denoiser(foreign, case)
    network = opened.network.to("meta")
    there = {"device": "meta"}
    noisy, sigma = torch.empty(2, *denoiser.image_shape, **there), torch.empty(2, **there)
    labels = torch.empty(2, dtype=torch.int64, **there) if denoiser.classes.count else None
    denoised = opened.preconditioning.denoise(network, noisy, sigma, labels)
    assert denoised.shape == noisy.shape
    assert denoised.device.type == "meta"


def explained(case, model, tmp_path, capsys):
    out = done(capsys, "explain", *model, "--preset", "tiny", "--out", tmp_path / "run")
    assert (tmp_path / "run" / "report.html").stat().st_size > 0
    assert "could not" not in out


def audited(model, tmp_path, capsys):
    out = done(capsys, "audit", *model, "--preset", "tiny", "--count", "8", "--out", tmp_path / "audit")
    assert (tmp_path / "audit" / "report.html").stat().st_size > 0
    assert "no verdict" in out  # weights that are random model nothing


@pytest.mark.slow
@pytest.mark.parametrize("case", EXPLAINED)
def test_explain_and_audit(case, model, tmp_path, capsys):
    explained(case, model, tmp_path, capsys)
    audited(model, tmp_path, capsys)


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", [case for case in CASES if case not in EXPLAINED])
def test_explain_and_audit_of_every_format(case, model, tmp_path, capsys):
    explained(case, model, tmp_path, capsys)
    audited(model, tmp_path, capsys)


def test_every_case_with_reference_outputs_is_here(foreign):
    """A case that is added to the golden files is added here; one file there is two cases."""
    if not FOREIGN.is_dir():
        pytest.skip("golden data foreign is not in ../shared/golden")
    assert {path.name for path in FOREIGN.iterdir() if path.is_dir()} == {*CASES, "bf-cnn-relu"}
