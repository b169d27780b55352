"""The mixture "mixed", its codecs, and that the presets of before draw what they drew."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter

import pytest
import torch
from PIL import Image

from training.data.degradation import DegradationPlan, apply, choose, degrade, draw, sample_rng
from training.data.degradation_ops import Jpeg, Step, WebCompression
from training.data.degradation_presets import MIXED_CODECS, MIXED_SHARES, PRESETS, find_preset
from training.data.degradation_ranges import DegradationMixture, DegradationPreset, OtherCodecs

DRAWS = 6000


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """(3, 128, 128) in [-1, 1]: smooth shapes with a little texture."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 16, 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bicubic")[0]
    return (smooth + 0.03 * torch.randn(3, 128, 128, generator=generator)).clamp(0, 1) * 2 - 1


def only(*steps: Step) -> DegradationPlan:
    return DegradationPlan(steps=steps, scale=1, noise_seed=0)


def assert_share(hits: int, count: int, expected: float) -> None:
    """A binomial share within four standard errors."""
    assert abs(hits / count - expected) <= 4 * math.sqrt(expected * (1 - expected) / count), (hits / count, expected)


# Digests of the plans that commit 761c089 draws for seeds 0, 1 and 20260, 40 samples each.
DRAWN_BEFORE = {
    "bicubic": "9c6a4a6b5e201579",
    "mild": "07aaa06067b76d2a",
    "photo": "8201fc3bbbd16e60",
    "camera": "bd5188f38edabe85",
    "adcsr": "91a44c959ca34f1e",
    "real-esrgan": "e2484fd95854d38a",
}


@pytest.mark.parametrize("name", DRAWN_BEFORE)
def test_the_presets_of_before_draw_what_they_drew(name: str) -> None:
    digest = hashlib.sha256()
    for seed in (0, 1, 20260):
        for index in range(40):
            plan = draw(PRESETS[name], sample_rng(seed, index))
            digest.update("; ".join([str(plan.noise_seed), *map(written_out, plan.steps)]).encode())
    assert digest.hexdigest()[:16] == DRAWN_BEFORE[name]


def written_out(step: Step) -> str:
    """The step's name and the parameters that have no default or another value."""
    fields = [(field, getattr(step, field.name)) for field in dataclasses.fields(step)]
    kept = [(f.name, v) for f, v in fields if f.default is dataclasses.MISSING or v != f.default]
    return f"{type(step).__name__}{kept}"


def test_parts_are_drawn_first_and_in_their_shares() -> None:
    mixed = find_preset("mixed")
    assert isinstance(mixed, DegradationMixture)
    chosen: Counter[int] = Counter()
    for index in range(DRAWS):
        rng = sample_rng(5, index)
        part = choose(mixed, rng)
        chosen[[preset for preset, _ in mixed.parts].index(part)] += 1
        if index < 200:
            assert draw(part, rng) == draw(mixed, sample_rng(5, index)), "the rest follows from the same generator"
    assert sum(share for _, share in MIXED_SHARES) == pytest.approx(1)
    for number, (_, share) in enumerate(MIXED_SHARES):
        assert_share(chosen[number], DRAWS, share)


def test_the_parts_are_the_presets_but_for_the_last_compression() -> None:
    mixed = find_preset("mixed")
    assert isinstance(mixed, DegradationMixture)
    for (part, _), (name, _) in zip(mixed.parts, MIXED_SHARES, strict=True):
        plain = PRESETS[name]
        assert isinstance(plain, DegradationPreset)
        if part.second is None:
            assert part == plain
            continue
        assert part.second.jpeg.others == MIXED_CODECS
        jpeg = dataclasses.replace(part.second.jpeg, others=None)
        assert dataclasses.replace(part, second=dataclasses.replace(part.second, jpeg=jpeg)) == plain


def test_last_compressions_come_in_the_stated_shares() -> None:
    part = find_preset("mixed").parts[0][0]  # real-esrgan: always compressed, in both passes
    tails = []
    for index in range(DRAWS):
        found = [s for s in draw(part, sample_rng(2, index)).steps if isinstance(s, Jpeg | WebCompression)]
        assert isinstance(found[0], Jpeg) and found[0].shift == (0, 0), "the first pass stays as published"
        tails.append(found[1:])
    web = [tail[0] for tail in tails if isinstance(tail[0], WebCompression)]
    twice = [tail for tail in tails if len(tail) == 2]
    assert_share(sum(step.codec == "webp" for step in web), DRAWS, MIXED_CODECS.webp)
    assert_share(sum(step.codec == "avif" for step in web), DRAWS, MIXED_CODECS.avif)
    assert_share(len(twice), DRAWS, MIXED_CODECS.jpeg_twice)
    assert {type(step) for tail in twice for step in tail} == {Jpeg}
    shifts = {tail[0].shift for tail in twice}
    assert len(shifts) == 63 and (0, 0) not in shifts, "every offset of an 8 x 8 block but none"
    assert {tail[1].shift for tail in twice} == {(0, 0)}
    qualities = [step.quality for tail in tails for step in tail]
    assert (min(qualities), max(qualities)) == (30, 95)


def test_a_plan_follows_from_seed_and_index_and_says_what_it_is(picture: torch.Tensor) -> None:
    mixed = find_preset("mixed")
    plans = [draw(mixed, sample_rng(0, index)) for index in range(300)]
    assert plans == [draw(mixed, sample_rng(0, index)) for index in range(300)]
    told = " | ".join(plan.describe() for plan in plans)
    assert "webp " in told and "avif " in told and " shifted " in told
    assert only(Jpeg(quality=40, shift=(3, 5)), Jpeg(quality=70)).describe() == "jpeg 40 shifted 3/5, jpeg 70"
    assert only(WebCompression(codec="avif", quality=55)).describe() == "avif 55"
    for index in [plans.index(plan) for plan in plans if "avif" in plan.describe() or "shifted" in plan.describe()][:6]:
        one, again = (degrade(picture, mixed, 0, index) for _ in range(2))
        assert one.shape == (3, 32, 32) and torch.equal(one, again)


def column_steps(pixels: torch.Tensor) -> list[float]:
    """How much the curvature across columns exceeds its mean, for each of the eight phases of a column's number."""
    curvature = (pixels[..., 3:] - 3 * pixels[..., 2:-1] + 3 * pixels[..., 1:-2] - pixels[..., :-3]).abs().mean((0, 1))
    # entry i looks at the edge between columns i + 1 and i + 2
    phases = [float(curvature[(phase - 2) % 8 :: 8].mean()) for phase in range(8)]
    mean = sum(phases) / 8
    return [phase / mean for phase in phases]


def test_a_shifted_second_jpeg_leaves_two_grids(picture: torch.Tensor) -> None:
    once = column_steps(apply(only(Jpeg(quality=12)), picture))
    assert max(range(8), key=once.__getitem__) == 0 and once[3] < 1
    moved = column_steps(apply(only(Jpeg(quality=12, shift=(2, 5))), picture))
    assert max(range(8), key=moved.__getitem__) == 3 and moved[0] < 1, (
        "blocks begin 5 columns outside, so at 3, 11, ..."
    )
    again = Jpeg(quality=40)
    both = column_steps(apply(only(Jpeg(quality=12, shift=(2, 5)), again), picture))
    last = column_steps(apply(only(again), picture))
    assert both[3] > 1.2 * last[3], "the first grid, which the last compression alone does not leave"
    assert both[0] > 1.2 * moved[0], "and the last one's, which the first alone does not leave"
    rows = column_steps(apply(only(Jpeg(quality=12, shift=(2, 5))), picture).transpose(1, 2))
    assert max(range(8), key=rows.__getitem__) == 6


@pytest.mark.parametrize("codec", ["webp", "avif"])
def test_web_compression_gets_worse_with_less_quality_as_jpeg_does(picture: torch.Tensor, codec: str) -> None:
    errors = {}
    for quality in (95, 60, 30):
        result = apply(only(WebCompression(codec=codec, quality=quality)), picture)
        assert result.shape == picture.shape
        errors[quality] = float((result - picture).abs().mean())
        jpeg = float((apply(only(Jpeg(quality=quality)), picture) - picture).abs().mean())
        assert 0.4 * jpeg < errors[quality] < 2 * jpeg, "the same quality is about the same damage"
    assert 0 < errors[95] < errors[60] < errors[30] < 0.2


def test_a_pillow_without_the_codec_is_told_with_the_remedy(
    picture: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.init()
    monkeypatch.delitem(Image.SAVE, "AVIF")
    with pytest.raises(ValueError, match="cannot write AVIF; install its own build"):
        apply(only(WebCompression(codec="avif", quality=50)), picture)


def test_impossible_mixtures_and_steps_are_refused() -> None:
    plain = DegradationPreset()
    with pytest.raises(ValueError, match="add to 1"):
        DegradationMixture(parts=((plain, 0.5), (plain, 0.4)))
    with pytest.raises(ValueError, match="add to 1"):
        DegradationMixture(parts=())
    with pytest.raises(ValueError, match=r"sum is 1\.2"):
        OtherCodecs(webp=0.6, avif=0.6, jpeg_twice=0.0)
    with pytest.raises(ValueError, match="shift is"):
        Jpeg(quality=50, shift=(8, 0))
    with pytest.raises(ValueError, match="expected one of webp, avif"):
        WebCompression(codec="heic", quality=50)  # type: ignore[arg-type]
