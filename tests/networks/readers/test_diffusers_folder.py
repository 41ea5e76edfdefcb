"""A pipeline folder written by diffusers itself gives the denoiser that its own network and scheduler describe."""

from __future__ import annotations

import json
import shutil
import warnings

import pytest
import torch
from tests.conftest import relative_error

from scorescope.foundation import UserError
from scorescope.networks import open_checkpoint
from scorescope.networks.readers import diffusers_folder
from scorescope.networks.readers.diffusers_schedulers import signal_table

diffusers = pytest.importorskip("diffusers", reason="the optional package diffusers is not installed")

SMALL = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (4, 8),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "attention_head_dim": 4,
}


def model(**settings):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(**{**SMALL, **settings}).eval()


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines") / "ddpm"
    diffusers.DDPMPipeline(model(), diffusers.DDPMScheduler(num_train_timesteps=100)).save_pretrained(folder)
    return folder


def pipeline(folder, unet, scheduler, kind="DDPMPipeline"):
    getattr(diffusers, kind)(unet, scheduler).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["DDPM", "DDIM"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_every_prediction_recovers_the_schedulers_clean_image(tmp_path, kind, prediction):
    """At a step of the table our denoiser is the clean image that the pipeline's own scheduler computes."""
    unet = model()
    scheduler = getattr(diffusers, f"{kind}Scheduler")(
        num_train_timesteps=50, beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False
    )
    opened = open_checkpoint(pipeline(tmp_path / "p", unet, scheduler, f"{kind}Pipeline"))
    scheduler.set_timesteps(50)
    generator = torch.Generator().manual_seed(1)
    for step in (0, 20, 49):
        signal = float(scheduler.alphas_cumprod[step])
        sigma = ((1 - signal) / signal) ** 0.5
        noisy = torch.randn(3, 1, 8, 8, generator=generator) * sigma
        with torch.no_grad():
            predicted = unet(signal**0.5 * noisy, step).sample
            expected = scheduler.step(predicted, step, signal**0.5 * noisy).pred_original_sample
            found = opened.preconditioning.denoise(opened.network, noisy, torch.full((3,), sigma))
        assert relative_error(found, expected) < 1e-4
    assert opened.config.image_shape == (1, 8, 8)


def test_the_ve_process_is_that_of_images_from_0_to_1(tmp_path):
    unet = model(time_embedding_type="fourier")
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_min=0.01, sigma_max=50.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from diffusers import ScoreSdeVePipeline

        ScoreSdeVePipeline(unet, scheduler).save_pretrained(tmp_path / "ve")
    opened = open_checkpoint(tmp_path / "ve")
    assert opened.config.sigma_range == pytest.approx((0.02, 100))
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))  # theirs, in [0, 1]
    sigma = torch.tensor([0.3, 2.0])
    with torch.no_grad():
        expected = images + sigma.reshape(-1, 1, 1, 1) ** 2 * unet(images, sigma).sample
        found = opened.preconditioning.denoise(opened.network, 2 * images - 1, 2 * sigma)
    assert relative_error(found, 2 * expected - 1) < 1e-5


def test_learned_times_are_those_of_the_nearest_step(tmp_path):
    unet = model(time_embedding_type="learned", num_train_timesteps=50)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=50, beta_end=0.2)
    opened = open_checkpoint(pipeline(tmp_path / "learned", unet, scheduler))
    assert "the nearest step is taken" in opened.origin
    signal = float(scheduler.alphas_cumprod[30])
    at_step = ((1 - signal) / signal) ** 0.5
    noisy = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([at_step, 1.01 * at_step])  # the next step's is 1.04 times it
    with torch.no_grad():
        scale = (1 + sigma.reshape(-1, 1, 1, 1) ** 2).rsqrt()
        predicted = unet(scale * noisy, torch.tensor([30, 30])).sample
        found = opened.preconditioning.denoise(opened.network, noisy, sigma)
    assert relative_error(found, noisy - sigma.reshape(-1, 1, 1, 1) * predicted) < 1e-5


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta_schedule": "scaled_linear", "beta_start": 0.001, "beta_end": 0.1},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 200},
        {"beta_schedule": "sigmoid"},
        {"trained_betas": [0.01, 0.02, 0.5]},
        {"rescale_betas_zero_snr": True, "num_train_timesteps": 300},
    ],
)
def test_tables_are_those_of_the_schedulers(settings):
    theirs = diffusers.DDPMScheduler(**settings).alphas_cumprod
    assert signal_table(settings) == pytest.approx(theirs.tolist(), rel=2e-3, abs=1e-6)


def test_a_folder_without_scheduler_says_what_it_assumes(tmp_path):
    unet = model()
    unet.save_pretrained(tmp_path / "unet")
    assert "DDPMScheduler with its usual settings" in open_checkpoint(tmp_path / "unet").origin


def test_the_unet_folder_of_a_pipeline_takes_the_pipelines_scheduler(ddpm):
    opened = open_checkpoint(ddpm / "unet")
    assert len(opened.config.preconditioning_arguments["time"]["alphas_cumprod"]) == 100


def test_pickled_weights_and_names_of_before_2023(ddpm, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(ddpm, folder)
    unet = model()
    renamed = {
        name.replace("to_q", "query")
        .replace("to_k", "key")
        .replace("to_v", "value")
        .replace("to_out.0", "proj_attn"): value
        for name, value in unet.state_dict().items()
    }
    assert any("proj_attn" in name for name in renamed)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(renamed, folder / "unet" / "diffusion_pytorch_model.bin")
    expected = open_checkpoint(ddpm).network.state_dict()
    found = open_checkpoint(folder).network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_network_with_classes_needs_one(tmp_path):
    unet = model(num_class_embeds=3)
    opened = open_checkpoint(pipeline(tmp_path / "classes", unet, diffusers.DDPMScheduler()))
    noisy, sigma = torch.ones(2, 1, 8, 8), torch.ones(2)
    with pytest.raises(UserError, match="choose a class label from 0 to 2"):
        opened.preconditioning.denoise(opened.network, noisy, sigma)
    labels = torch.tensor([0, 2])
    with torch.no_grad():
        found = opened.preconditioning.denoise(opened.network, noisy, sigma, labels)
    assert not torch.equal(found[0], found[1])


def edited(folder, tmp_path, name, **changes):
    other = tmp_path / "edited"
    shutil.copytree(folder, other)
    path = other / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return other


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("model_index.json", {"unet": ["evil_package", "UNet2DModel"]}, "no code of a folder is run"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderKL"]}, "has the part 'vae'"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "is a 'UNet2DConditionModel'"),
        ("unet/config.json", {"sample_size": None}, "does not say the images' size"),
        ("unet/config.json", {"block_out_channels": [4, 10**7]}, "build no UNet2DModel|do not fit"),
        ("unet/config.json", {"layers_per_block": 10**9}, "too few"),
        ("unet/config.json", {"act_fn": "nonsense"}, "build no UNet2DModel"),
        ("unet/config.json", {"out_channels": 5}, "makes 5 channels of 1"),
        ("model_index.json", {"text_encoder": ["transformers", "CLIPTextModel"]}, "images that texts describe"),
        ("scheduler/scheduler_config.json", {"_class_name": "VQDiffusionScheduler"}, "its scheduler is a 'VQDiff"),
        ("scheduler/scheduler_config.json", {"timestep_type": "continuous"}, "timestep_type is 'continuous'"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"},
            "of an 'EDMEulerScheduler' epsilon is supported",
        ),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction_type is 'flow'"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "num_train_timesteps is 1000000000"),
        ("scheduler/scheduler_config.json", {"beta_end": 3.0}, "betas do not lie between 0 and 1"),
        ("scheduler/scheduler_config.json", {"beta_end": 10**40}, "more than 64 bits"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "x"}, "beta_schedule is 'x'"),
    ],
)
def test_other_folders_are_refused(ddpm, tmp_path, name, changes, said):
    with pytest.raises(UserError, match=said) as caught:
        open_checkpoint(edited(ddpm, tmp_path, name, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("unet/config.json", b"{", "is not JSON"),
        ("unet/config.json", b"[" * 100_000, "is not JSON"),
        ("unet/config.json", b"[]", "is not a JSON object"),
        ("unet/diffusion_pytorch_model.safetensors", b"short", "damaged or cut short"),
        ("unet/diffusion_pytorch_model.safetensors", None, "neither diffusion_pytorch_model.safetensors nor"),
        ("scheduler/scheduler_config.json", None, "has no scheduler/scheduler_config.json"),
        ("unet/config.json", None, r"has no config\.json"),
    ],
)
def test_damaged_folders_are_refused(ddpm, tmp_path, name, content, said):
    folder = tmp_path / "damaged"
    shutil.copytree(ddpm, folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        open_checkpoint(folder)


def same_images(opened, unet):
    """The folder's denoiser is that of noise prediction over the usual table, by this network."""
    noisy, sigma = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0.2, 2.0])
    with torch.no_grad():
        at = opened.preconditioning.coefficients(sigma.double())
        scale = at.into.float().reshape(-1, 1, 1, 1)
        expected = noisy - sigma.reshape(-1, 1, 1, 1) * unet(scale * noisy, at.noise.float()).sample
        return relative_error(opened.preconditioning.denoise(opened.network, noisy, sigma), expected)


@pytest.mark.parametrize("safe", [True, False])
def test_half_precision_variants_open_where_there_is_nothing_else(tmp_path, safe):
    unet = model().half()
    folder = tmp_path / "half"
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(
        folder, variant="fp16", safe_serialization=safe
    )
    opened = open_checkpoint(folder)
    assert "the fp16 variant of its weights" in opened.origin
    assert next(opened.network.parameters()).dtype == torch.float32
    assert same_images(opened, unet.float()) < 1e-5
    model().save_pretrained(folder / "unet", safe_serialization=safe)
    assert "variant of its weights" not in open_checkpoint(folder).origin


def test_shards_are_put_together(tmp_path):
    unet = model()
    folder = tmp_path / "sharded"
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="20KB")
    shards = sorted((folder / "unet").glob("*-of-*.safetensors"))
    assert len(shards) > 1
    assert same_images(open_checkpoint(folder), unet) < 1e-5
    shards[0].unlink()
    with pytest.raises(UserError, match=f"1 of its {len(shards)} shards are missing"):
        open_checkpoint(folder)
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(UserError, match="lists no shards beside it"):
        open_checkpoint(folder)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_solvers_of_a_table_are_read_as_the_table(tmp_path, kind, prediction):
    unet = model()
    scheduler = getattr(diffusers, kind)(num_train_timesteps=50, prediction_type=prediction, beta_end=0.1)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "p")
    opened = open_checkpoint(tmp_path / "p")
    scheduler.set_timesteps(50)
    step, place = scheduler.timesteps[20], 20
    signal = float(scheduler.alphas_cumprod[int(step)])
    sigma = ((1 - signal) / signal) ** 0.5
    noisy = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * sigma
    with torch.no_grad():
        predicted = unet(signal**0.5 * noisy, step).sample
        if kind == "EulerDiscreteScheduler":
            assert relative_error(scheduler.scale_model_input(noisy, step), signal**0.5 * noisy) < 1e-4
            expected = scheduler.step(predicted, step, noisy).pred_original_sample
        else:
            scheduler._step_index = place
            expected = scheduler.convert_model_output(predicted, sample=signal**0.5 * noisy)
        found = opened.preconditioning.denoise(opened.network, noisy, torch.full((3,), sigma))
    assert relative_error(found, expected) < 1e-4


def test_a_consistency_model_is_told_250_ln_sigma(tmp_path):
    unet = model()
    scheduler = diffusers.CMStochasticIterativeScheduler(sigma_min=0.05)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "p")
    opened = open_checkpoint(tmp_path / "p")
    sigma = 1.7
    noisy = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * sigma
    skip, out = scheduler.get_scalings_for_boundary_condition(torch.tensor(sigma))
    with torch.no_grad():
        time = torch.as_tensor(scheduler.sigma_to_t(torch.tensor([sigma])))
        predicted = unet(noisy / (sigma**2 + scheduler.config.sigma_data**2) ** 0.5, time).sample
        found = opened.preconditioning.denoise(opened.network, noisy, torch.full((2,), sigma))
    assert relative_error(found, skip * noisy + out * predicted) < 1e-5


def test_a_scheduler_of_edm_is_its_preconditioning(tmp_path):
    unet = model()
    scheduler = diffusers.EDMEulerScheduler(sigma_data=0.4)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "p")
    opened = open_checkpoint(tmp_path / "p")
    sigma = torch.tensor(0.9)
    noisy = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * sigma
    with torch.no_grad():
        predicted = unet(scheduler.precondition_inputs(noisy, sigma), scheduler.precondition_noise(sigma)).sample
        expected = scheduler.precondition_outputs(noisy, predicted, sigma)
        found = opened.preconditioning.denoise(opened.network, noisy, sigma.expand(2))
    assert relative_error(found, expected) < 1e-5


def test_flow_matching_predicts_noise_less_image(tmp_path):
    unet = model()
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    diffusers.DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "p")
    opened = open_checkpoint(tmp_path / "p")
    scheduler.set_timesteps(10)
    time = scheduler.timesteps[-1:]
    share = float(scheduler.sigmas[-2])
    generator = torch.Generator().manual_seed(1)
    image, noise = (torch.randn(2, 1, 8, 8, generator=generator) for _ in range(2))
    state = scheduler.scale_noise(image, time, noise)
    with torch.no_grad():
        expected = scheduler.step(
            unet(state, time).sample, time[0], state
        ).prev_sample  # the last step ends at the image
        found = opened.preconditioning.denoise(
            opened.network, state / (1 - share), torch.full((2,), share / (1 - share))
        )
    assert relative_error(found, expected) < 1e-4


def test_a_last_step_of_pure_noise_is_left_out_and_said(tmp_path):
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=30, rescale_betas_zero_snr=True)
    diffusers.DDIMPipeline(model(), scheduler).save_pretrained(tmp_path / "p")
    opened = open_checkpoint(tmp_path / "p")
    assert "its last step, pure noise, is left out" in opened.origin
    assert len(opened.config.preconditioning_arguments["time"]["alphas_cumprod"]) == 29


def test_without_the_package_the_extra_is_named(ddpm, monkeypatch):
    monkeypatch.setattr(diffusers_folder.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'scorescope\[diffusers\]'"):
        open_checkpoint(ddpm)
