"""The degradation: statistics of what is drawn against the published numbers, kernels, pixels, errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from training.data.degradation import DegradationPlan, apply, degrade, draw, effective, sample_rng
from training.data.degradation_ops import (
    Blur,
    Jpeg,
    Noise,
    Resize,
    Sharpen,
    blur_kernel,
    convolve,
    resized,
    sharpen,
    sharpened,
    trimmed,
)
from training.data.degradation_presets import PRESETS, find_preset
from training.data.degradation_ranges import BlurRange, DegradationPreset, JpegRange, NoiseRange, ResizeRange

DRAWS = 10_000
Plans = dict[str, list[DegradationPlan]]


@pytest.fixture(scope="module")
def plans() -> Plans:
    return {name: [draw(PRESETS[name], sample_rng(1, i)) for i in range(DRAWS)] for name in PRESETS}


def assert_share(hits: Sequence[bool], expected: float) -> None:
    """A binomial share within four standard errors."""
    error = math.sqrt(expected * (1 - expected) / len(hits))
    assert abs(np.mean(hits) - expected) <= 4 * error + 1e-12, (np.mean(hits), expected)


def assert_uniform(values: Sequence[float], low: float, high: float) -> None:
    """Inside the range, filling it, with the mean of a uniform draw within four standard errors."""
    assert low <= min(values)
    assert max(values) <= high
    assert min(values) < low + 0.05 * (high - low)
    assert max(values) > high - 0.05 * (high - low)
    error = (high - low) / math.sqrt(12 * len(values))
    assert abs(np.mean(values) - (low + high) / 2) <= 4 * error


def passes(plan: DegradationPlan) -> tuple[list[object], list[object]]:
    """The steps of a second-order plan before and after its first JPEG."""
    at = next(i for i, step in enumerate(plan.steps) if isinstance(step, Jpeg))
    return list(plan.steps[: at + 1]), list(plan.steps[at + 1 :])


# Plans ------------------------------------------------------------------------------------------------------

PUBLISHED = {
    "real-esrgan": {"resize": ((0.15, 1.5), (0.3, 1.2)), "sigma": ((1, 30), (1, 25)), "second_blur": 0.8}
    | {"poisson": ((0.05, 3), (0.05, 2.5)), "quality": ((30, 95), (30, 95))},
    "adcsr": {"resize": ((0.3, 1.5), (0.6, 1.2)), "sigma": ((1, 15), (1, 12)), "second_blur": 0.5}
    | {"poisson": ((0.05, 2), (0.05, 1)), "quality": ((60, 95), (60, 100))},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_first_pass_follows_the_published_numbers(plans: Plans, name: str) -> None:
    numbers = PUBLISHED[name]
    firsts = [passes(plan)[0] for plan in plans[name]]
    blurs = [steps[0] for steps in firsts]
    assert all(isinstance(blur, Blur) for blur in blurs)

    sizes = [blur.size_px for blur in blurs]
    assert set(sizes) == {7, 9, 11, 13, 15, 17, 19, 21}
    for size in set(sizes):
        assert_share([s == size for s in sizes], 1 / 8)
    shares = {"iso": 0.45, "aniso": 0.25, "generalized_iso": 0.12, "plateau_iso": 0.12}
    shares |= {"generalized_aniso": 0.03, "plateau_aniso": 0.03}
    assert_share([blur.kind == "sinc" for blur in blurs], 0.1)
    for kind, share in shares.items():
        assert_share([blur.kind == kind for blur in blurs], 0.9 * share)
    assert_uniform([b.sigma_x for b in blurs if b.kind != "sinc"], 0.2, 3)
    assert_uniform([b.sigma_y for b in blurs if b.kind == "aniso"], 0.2, 3)
    assert_uniform([b.angle for b in blurs if b.kind == "aniso"], -math.pi, math.pi)
    assert all(b.sigma_x == b.sigma_y for b in blurs if b.kind in ("iso", "generalized_iso", "plateau_iso"))
    general = [b.beta for b in blurs if b.kind.startswith("generalized")]
    assert_share([beta < 1 for beta in general], 0.5)
    assert_uniform([beta for beta in general if beta < 1], 0.5, 1)
    assert_uniform([beta for beta in general if beta >= 1], 1, 4)
    plateau = [b.beta for b in blurs if b.kind.startswith("plateau")]
    assert_share([beta == 1 for beta in plateau], 0.5)
    assert_uniform([beta for beta in plateau if beta > 1], 1, 2)
    assert_uniform([b.cutoff for b in blurs if b.kind == "sinc" and b.size_px < 13], math.pi / 3, math.pi)
    assert_uniform([b.cutoff for b in blurs if b.kind == "sinc" and b.size_px >= 13], math.pi / 5, math.pi)

    check_resizes([step for steps in firsts for step in steps], DRAWS, (0.2, 0.7), numbers["resize"][0], 1)
    check_noise([s for steps in firsts for s in steps], numbers["sigma"][0], numbers["poisson"][0])
    check_quality([steps[-1].quality for steps in firsts], numbers["quality"][0])


@pytest.mark.parametrize("name", PUBLISHED)
def test_second_pass_follows_the_published_numbers(plans: Plans, name: str) -> None:
    numbers = PUBLISHED[name]
    seconds = [passes(plan)[1] for plan in plans[name]]
    blurs = [steps[0] for steps in seconds if isinstance(steps[0], Blur)]
    assert_share([isinstance(steps[0], Blur) for steps in seconds], numbers["second_blur"])
    assert_share([blur.kind == "sinc" for blur in blurs], 0.1)
    assert_uniform([b.sigma_x for b in blurs if b.kind != "sinc"], 0.2, 1.5)
    to_noise = []
    for steps in seconds:
        at = next(i for i, step in enumerate(steps) if isinstance(step, Noise))
        to_noise += steps[: at + 1]
    check_resizes(to_noise, DRAWS, (0.3, 0.4), numbers["resize"][1], 4, kept=True)
    check_noise(to_noise, numbers["sigma"][1], numbers["poisson"][1])
    jpegs = [[i for i, step in enumerate(steps) if isinstance(step, Jpeg)] for steps in seconds]
    assert all(len(found) == 1 for found in jpegs)
    check_quality([s[at[0]].quality for s, at in zip(seconds, jpegs, strict=True)], numbers["quality"][1])


@pytest.mark.parametrize("name", PUBLISHED)
def test_final_sinc_stands_before_or_after_the_last_jpeg(plans: Plans, name: str) -> None:
    seconds = [passes(plan)[1] for plan in plans[name]]
    sincs = []
    for steps in seconds:
        at = next(i for i, step in enumerate(steps) if isinstance(step, Noise))
        tail = steps[at + 1 :]
        found = [step for step in tail if isinstance(step, Blur)]
        assert len(found) <= 1
        sincs.append((found, isinstance(tail[-1], Jpeg)))
    assert_share([bool(found) for found, _ in sincs], 0.8)
    assert_share([jpeg_last for found, jpeg_last in sincs if found], 0.5)
    final = [found[0] for found, _ in sincs if found]
    assert {blur.kind for blur in final} == {"sinc"}
    assert_uniform([blur.cutoff for blur in final], math.pi / 3, math.pi)


def check_resizes(
    steps: Sequence[object],
    count: int,
    shares: tuple[float, float],
    factors: tuple[float, float],
    divisor: int,
    *,
    kept: bool = False,
) -> None:
    """Shares of enlarging and shrinking; a size that is kept is a step only where the divisor changes."""
    resizes = [step for step in steps if isinstance(step, Resize)]
    assert {step.divisor for step in resizes} == {divisor}
    ups = [step.factor for step in resizes if step.factor > 1]
    downs = [step.factor for step in resizes if step.factor < 1]
    assert_share([True] * len(ups) + [False] * (count - len(ups)), shares[0])
    assert_share([True] * len(downs) + [False] * (count - len(downs)), shares[1])
    assert_uniform(ups, 1, factors[1])
    assert_uniform(downs, factors[0], 1)
    assert (len(resizes) == count) == kept
    for name in ("area", "bilinear", "bicubic"):
        assert_share([step.filter == name for step in resizes], 1 / 3)
    assert not any(step.antialias for step in resizes)


def check_noise(steps: Sequence[object], sigmas: tuple[float, float], scales: tuple[float, float]) -> None:
    noises = [step for step in steps if isinstance(step, Noise)]
    assert len(noises) == DRAWS
    assert_share([noise.kind == "gaussian" for noise in noises], 0.5)
    assert_share([noise.grey for noise in noises], 0.4)
    assert_uniform([n.level for n in noises if n.kind == "gaussian"], *sigmas)
    assert_uniform([n.level for n in noises if n.kind == "poisson"], *scales)


def check_quality(qualities: Sequence[int], limits: tuple[int, int]) -> None:
    assert (min(qualities), max(qualities)) == limits
    assert_uniform(qualities, *limits)


@pytest.mark.parametrize(
    ("name", "clean", "blurred", "kinds", "sigma"),
    [
        ("mild", 0.25, 0.5, {"iso", "aniso"}, 1.2),
        ("photo", 0.2, 0.8, {"iso", "aniso", "generalized_iso", "plateau_iso"}, 3.0),
        ("camera", 0.2, 0.8, {"iso", "aniso", "generalized_iso", "plateau_iso"}, 3.0),
    ],
)
def test_the_small_models_presets_are_single_order_and_partly_plain(
    plans: Plans, name: str, clean: float, blurred: float, kinds: set[str], sigma: float
) -> None:
    mild = plans[name]
    plain = (Resize(factor=1.0, divisor=4, filter="bicubic", antialias=True),)
    # a damaged draw may come out empty of damage too: no blur, bicubic, no noise, no sharpening, no JPEG
    idle = (1 - blurred) / 3 * 0.6 * 0.5 * (0.4 if name == "camera" else 1)
    assert_share([plan.steps == plain for plan in mild], clean + (1 - clean) * idle)
    steps = [step for plan in mild for step in plan.steps]
    blurs = [step for step in steps if isinstance(step, Blur)]
    noises = [step for step in steps if isinstance(step, Noise)]
    jpegs = [step for step in steps if isinstance(step, Jpeg)]
    for found, probability in ((blurs, blurred), (noises, 0.4), (jpegs, 0.5)):
        assert_share([True] * len(found) + [False] * (DRAWS - len(found)), (1 - clean) * probability)
    assert {blur.kind for blur in blurs} == kinds
    assert_uniform([blur.sigma_x for blur in blurs], 0.2, sigma)
    assert {noise.kind for noise in noises} == {"gaussian"}
    assert_uniform([noise.level for noise in noises], 1, 8)
    check_quality([jpeg.quality for jpeg in jpegs], (60, 95))
    assert all(sum(isinstance(s, Resize) for s in plan.steps) == 1 for plan in mild)
    assert all(step.antialias for step in steps if isinstance(step, Resize))


def test_a_camera_sharpens_behind_the_noise_and_before_jpeg(plans: Plans) -> None:
    assert not any(isinstance(step, Sharpen) for plan in plans["photo"] for step in plan.steps)
    found = [plan.steps for plan in plans["camera"] if any(isinstance(step, Sharpen) for step in plan.steps)]
    assert_share([True] * len(found) + [False] * (DRAWS - len(found)), 0.8 * 0.6)
    order = (Blur, Resize, Noise, Sharpen, Jpeg)
    assert all([*steps] == sorted(steps, key=lambda step: order.index(type(step))) for steps in found)
    sharpenings = [step for steps in found for step in steps if isinstance(step, Sharpen)]
    assert_uniform([step.sigma for step in sharpenings], 0.5, 1.5)
    assert_uniform([step.amount for step in sharpenings], 0.2, 1.6)


def test_bicubic_never_does_more(plans: Plans) -> None:
    assert {plan.describe() for plan in plans["bicubic"]} == {"bicubic x0.25"}


def test_plans_depend_on_seed_and_index_alone(plans: Plans) -> None:
    preset = PRESETS["real-esrgan"]
    assert draw(preset, sample_rng(1, 77)) == plans["real-esrgan"][77]
    assert draw(preset, sample_rng(2, 77)) != plans["real-esrgan"][77]
    assert len({plan.noise_seed for plan in plans["real-esrgan"]}) == DRAWS


def test_effective_leaves_out_idle_resizes() -> None:
    up = Resize(factor=1.5, divisor=1, filter="area", antialias=False)
    same, down = dataclasses.replace(up, factor=1.0), dataclasses.replace(up, factor=1.0, divisor=4)
    blur = Blur(kind="iso", size_px=7)
    assert effective([same, blur, up, up, down, blur, down]) == (blur, up, down, blur)


# Kernels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["iso", "aniso", "generalized_aniso", "plateau_iso", "sinc"])
def test_kernels_sum_to_one_and_are_point_symmetric(kind: str) -> None:
    kernel = blur_kernel(Blur(kind=kind, size_px=15, sigma_x=2.0, sigma_y=0.7, angle=0.6, beta=1.4, cutoff=1.5))
    assert kernel.shape == (15, 15)
    assert kernel.dtype == torch.float32
    assert torch.isclose(kernel.sum(), torch.tensor(1.0), atol=1e-5)
    torch.testing.assert_close(kernel, kernel.flip(0, 1))


def test_gaussian_kernel_has_the_covariance_asked_for() -> None:
    angle, sigmas = 0.5, torch.tensor([1.5, 0.8], dtype=torch.float64)
    kernel = blur_kernel(Blur(kind="aniso", size_px=21, sigma_x=1.5, sigma_y=0.8, angle=angle)).double()
    axis = torch.arange(-10.0, 11.0, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    offsets = torch.stack([x.flatten(), y.flatten()])
    covariance = (offsets * kernel.flatten()) @ offsets.T
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    torch.testing.assert_close(covariance, turn @ torch.diag(sigmas**2) @ turn.T, rtol=1e-3, atol=1e-3)


def test_generalised_and_plateau_shapes_along_an_axis() -> None:
    for kind, shape in (
        ("generalized_iso", lambda q: math.exp(-0.5 * q**0.7)),
        ("plateau_iso", lambda q: 1 / (1 + q**0.7)),
    ):
        row = blur_kernel(Blur(kind=kind, size_px=9, sigma_x=1.3, sigma_y=1.3, beta=0.7))[4]
        for offset in range(5):
            expected = shape((offset / 1.3) ** 2) / shape(0.0)
            assert float(row[4 + offset] / row[4]) == pytest.approx(expected, rel=1e-4)


def test_sinc_keeps_low_waves_and_stops_high_ones() -> None:
    cutoff = math.pi / 2
    response = torch.fft.fft2(
        torch.nn.functional.pad(blur_kernel(Blur(kind="sinc", size_px=21, cutoff=cutoff)), (0, 107, 0, 107))
    ).abs()
    wave = torch.fft.fftfreq(128).abs() * 2 * math.pi
    radius = torch.hypot(wave[:, None], wave[None, :])
    assert response[radius < 0.7 * cutoff].min() > 0.8
    assert response[radius > 1.3 * cutoff].max() < 0.2


def test_trimming_changes_nothing_that_shows() -> None:
    image = torch.rand(1, 3, 40, 33, generator=torch.Generator().manual_seed(0))
    kernel = blur_kernel(Blur(kind="iso", size_px=21, sigma_x=0.9, sigma_y=0.9))
    small = trimmed(kernel)
    assert small.shape[0] < 13
    torch.testing.assert_close(convolve(image, small), convolve(image, kernel), atol=1e-5, rtol=0)
    plateau = blur_kernel(Blur(kind="plateau_iso", size_px=7, sigma_x=3.0, sigma_y=3.0))
    assert trimmed(plateau).shape == (7, 7)


def test_convolution_against_numpy_on_a_small_picture() -> None:
    image = torch.rand(1, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    kernel = blur_kernel(Blur(kind="aniso", size_px=9, sigma_x=2.0, sigma_y=0.6, angle=0.4))
    padded = np.pad(image[0, 0].numpy(), 4, mode="reflect")
    expected = np.array([[(padded[y : y + 9, x : x + 9] * kernel.numpy()).sum() for x in range(4)] for y in range(5)])
    np.testing.assert_allclose(convolve(image, kernel)[0, 0].numpy(), expected, atol=1e-5)


# Pixels -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """(3, 96, 80) in [-1, 1]: smooth shapes with some texture."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 12, 10, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(96, 80), mode="bicubic")[0]
    return (smooth + 0.05 * torch.randn(3, 96, 80, generator=generator)).clamp(0, 1) * 2 - 1


@pytest.mark.parametrize("name", PRESETS)
def test_apply_gives_the_reduced_size_range_and_levels(picture: torch.Tensor, name: str) -> None:
    for index in range(12):
        small = degrade(picture, find_preset(name), 0, index)
        assert small.shape == (3, 24, 20)
        assert small.dtype == torch.float32
        assert small.abs().max() <= 1
        levels = (small + 1) * 127.5
        torch.testing.assert_close(levels, levels.round(), atol=1e-3, rtol=0)
        torch.testing.assert_close(small, degrade(picture, find_preset(name), 0, index), rtol=0, atol=0)
        assert (small - torch.nn.functional.avg_pool2d(picture, 4)).abs().mean() < 0.5


@pytest.mark.parametrize("size", [(33, 21), (4, 4), (5, 61), (64, 64)])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_odd_sizes_and_other_scales(size: tuple[int, int], scale: int) -> None:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for index in range(6):
        small = degrade(image, PRESETS["real-esrgan"], 0, index, scale)
        assert small.shape == (1, 3, size[0] // scale, size[1] // scale)
        assert torch.isfinite(small).all()


def test_a_batch_shares_the_plan_but_not_the_noise(picture: torch.Tensor) -> None:
    plan = DegradationPlan(steps=(Noise(kind="gaussian", level=10.0, grey=False),), scale=1, noise_seed=5)
    two = apply(plan, torch.stack([picture, picture]))
    assert not torch.equal(two[0], two[1])
    still = DegradationPlan(steps=(Jpeg(quality=50),), scale=1, noise_seed=5)
    two = apply(still, torch.stack([picture, -picture]))
    torch.testing.assert_close(two[1], apply(still, -picture), rtol=0, atol=0)


def test_noise_levels() -> None:
    grey = torch.zeros(1, 3, 200, 200)
    for is_grey in (False, True):
        plan = DegradationPlan(steps=(Noise(kind="gaussian", level=20.0, grey=is_grey),), scale=1, noise_seed=1)
        difference = apply(plan, grey) - grey
        assert float(difference.std()) == pytest.approx(20 * 2 / 255, rel=0.02)
        assert torch.equal(difference[:, 0], difference[:, 1]) == is_grey
    # shot noise: 256 levels, so 256 counts at white and a variance of value / 256 at scale 1
    ramp = torch.linspace(-1, 1, 256).expand(1, 3, 400, 256)
    plan = DegradationPlan(steps=(Noise(kind="poisson", level=1.0, grey=False),), scale=1, noise_seed=1)
    difference = (apply(plan, ramp) - ramp)[..., 60:70] / 2
    assert float(difference.std()) == pytest.approx(math.sqrt(65 / 255 / 256), rel=0.03)


def test_jpeg_gets_worse_with_less_quality(picture: torch.Tensor) -> None:
    errors = []
    for quality in (95, 60, 30):
        plan = DegradationPlan(steps=(Jpeg(quality=quality),), scale=1, noise_seed=0)
        errors.append(float((apply(plan, picture) - picture).abs().mean()))
    assert errors[0] < errors[1] < errors[2]
    assert errors[0] < 0.1


def test_resize_counts_from_the_clean_size() -> None:
    step = Resize(factor=0.5, divisor=3, filter="area", antialias=False)
    assert step.size(25, 12) == (4, 2)
    assert step.size(2, 2) == (1, 1)
    pixels = torch.rand(1, 3, 17, 9)
    assert resized(pixels, step, 102, 54) is pixels


def test_sharpening_raises_edges_and_leaves_flat_parts() -> None:
    image = torch.full((1, 3, 96, 96), -0.4)
    image[..., 48:] = 0.4
    sharp = sharpen(image)
    assert sharp.shape == image.shape
    assert sharp[..., 48, 49].min() > 0.45
    assert sharp.abs().max() <= 1
    flat = torch.full((1, 3, 64, 64), 0.3)
    torch.testing.assert_close(sharpen(flat), flat, atol=1e-4, rtol=0)


# Errors -----------------------------------------------------------------------------------------------------


def test_a_cameras_sharpening_against_numpy_leaves_halos() -> None:
    edge = torch.full((1, 3, 9, 40), 0.3)
    edge[..., 20:] = 0.7
    result = sharpened(edge, Sharpen(sigma=1.0, amount=0.8))[0, 0, 4].double().numpy()
    taps = np.exp(-0.5 * np.arange(-3, 4) ** 2.0)
    blurred = np.convolve(np.pad(edge[0, 0, 4].double().numpy(), 3, mode="edge"), taps / taps.sum(), mode="valid")
    expected = edge[0, 0, 4].double().numpy() * 1.8 - 0.8 * blurred
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result[19] < 0.25 and result[20] > 0.75 and abs(result[5] - 0.3) < 1e-6
    harsh = sharpened(torch.rand(1, 3, 8, 8), Sharpen(sigma=0.5, amount=50.0))
    assert (harsh.min(), harsh.max()) == (0, 1), "clamped at both ends"


def test_errors_say_what_was_got() -> None:
    plan = draw(PRESETS["mild"], sample_rng(0, 0))
    with pytest.raises(ValueError, match=r"\(1, 64, 64\)"):
        apply(plan, torch.zeros(1, 64, 64))
    with pytest.raises(ValueError, match="3 x 64"):
        apply(plan, torch.zeros(3, 64, 3))
    with pytest.raises(ValueError, match="expected one of bicubic, mild"):
        find_preset("harsh")
    with pytest.raises(ValueError, match="scale is 0"):
        draw(PRESETS["mild"], sample_rng(0, 0), 0)
    with pytest.raises(ValueError, match="seed -1"):
        sample_rng(-1, 0)


@pytest.mark.parametrize(
    ("build", "settings", "match"),
    [
        (Blur, {"kind": "iso", "size_px": 8}, "odd"),
        (NoiseRange, {"probability": 1.5}, "probability"),
        (JpegRange, {"quality": (90, 30)}, "quality"),
        (BlurRange, {"sigma": (3.0, 0.2)}, "sigma"),
        (ResizeRange, {"up": 0.1, "down": 0.1, "factor": (1.2, 1.5)}, "around 1"),
        (DegradationPreset, {"clean_probability": 0.5}, "second pass"),
    ],
)
def test_impossible_settings_are_refused(build: type, settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        build(**settings)
