"""Named speed-ups: the same pixels, in the layout or by the products they name, and refusals where they cannot work."""

from typing import get_args

import pytest
import torch

from gendrpix.image.read import open_picture
from gendrpix.models.speedups import WAYS, speed_up
from gendrpix.restore.memory import trace_bytes_per_pixel
from gendrpix.restore.pipelines import RestorerPipeline, load_restorer
from gendrpix.specs import DEFAULT_SPEEDUPS, Speedup
from tests.helpers.models import TINY, save_tiny_family, tiny_pipeline
from tests.helpers.pictures import photo


def apply(pipeline: RestorerPipeline, ways: tuple[str, ...]) -> None:
    speed_up(pipeline.unet, pipeline.vae, pipeline.device, ways)


@pytest.mark.parametrize("ways", [("channels_last_vae",), ("channels_last_unet",), ("fused",), DEFAULT_SPEEDUPS])
@pytest.mark.parametrize("name", ["gendr", "gendr-adc", "gendr-pix"])
def test_the_pixels_stay(name: str, ways: tuple[str, ...]) -> None:
    pixels = tiny_pipeline(name).prepare(open_picture(photo(60, 44)), 2)
    plain, faster = tiny_pipeline(name), tiny_pipeline(name)
    apply(faster, ways)
    torch.testing.assert_close(faster.restore(pixels), plain.restore(pixels), atol=1e-5, rtol=0)


def test_layouts_are_those_named() -> None:
    pipeline = tiny_pipeline("gendr")
    apply(pipeline, ("channels_last_vae",))
    last = {"memory_format": torch.channels_last}
    weights = [p for p in pipeline.vae.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert weights and all(weight.is_contiguous(**last) for weight in weights)
    assert pipeline.unet.conv_in.weight.is_contiguous()
    apply(pipeline, ("channels_last_unet",))
    assert pipeline.unet.conv_in.weight.is_contiguous(**last)


def test_fusing_keeps_the_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.restore.network.MODEL_SPECS", {TINY.name: TINY})
    pixels = tiny_pipeline("gendr-pix").prepare(open_picture(photo(60, 44)), 4)
    results = []
    for ways in ((), ("fused",)):
        pipeline = tiny_pipeline("gendr-pix")
        pipeline.set_attention("window")
        apply(pipeline, ways)
        assert pipeline.attention == "window"
        results.append(pipeline.restore(pixels))
    torch.testing.assert_close(*results, atol=1e-5, rtol=0)


def test_memory_can_still_be_rehearsed() -> None:
    plain, faster = tiny_pipeline("gendr-adc"), tiny_pipeline("gendr-adc")
    apply(faster, DEFAULT_SPEEDUPS)
    assert trace_bytes_per_pixel(faster, guided=False, batched=True) == pytest.approx(
        trace_bytes_per_pixel(plain, guided=False, batched=True), rel=0.2
    )


@pytest.mark.parametrize(
    ("ways", "said"),
    [
        (("warp",), "'warp'; expected one of channels_last_vae"),
        (("compiled", "graphs"), "choose one of them"),
        (("graphs",), "'graphs' needs a CUDA device, this is cpu"),
        (("fp8",), "'fp8' needs a CUDA device, this is cpu"),
    ],
)
def test_what_cannot_work_is_refused(ways: tuple[str, ...], said: str, tmp_path) -> None:
    with pytest.raises(ValueError, match=said):
        load_restorer("gendr-pix", save_tiny_family(tmp_path, names=("gendr-pix",)), speedups=ways)


def test_every_way_has_a_name_in_the_options() -> None:
    assert set(WAYS) == set(get_args(Speedup))


@pytest.mark.slow
def test_compiled_at_two_sizes() -> None:
    plain, faster = tiny_pipeline("gendr-pix"), tiny_pipeline("gendr-pix")
    apply(faster, ("compiled",))
    for size in ((40, 32), (56, 48)):
        pixels = plain.prepare(open_picture(photo(*size)), 2)
        torch.testing.assert_close(faster.restore(pixels), plain.restore(pixels), atol=1e-4, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("ways", [("graphs",), ("fp8",)])
def test_on_a_gpu(ways: tuple[str, ...]) -> None:
    plain, faster = (tiny_pipeline("gendr-pix").to("cuda", torch.bfloat16) for _ in range(2))
    pixels = plain.prepare(open_picture(photo(64, 64)), 2)
    apply(faster, ways)
    assert (faster.restore(pixels) - plain.restore(pixels)).abs().mean() < 0.05
