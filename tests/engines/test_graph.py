"""The graph that is exported: equal to the pipeline, its parts to the functions that they stand for."""

import numpy as np
import pytest
import torch

from gendrpix.engines.enlarge import Enlarge, mirror
from gendrpix.engines.graph import Restorer
from gendrpix.engines.pattern import pattern_of
from gendrpix.engines.running import Floats, Runner
from gendrpix.engines.windows import WindowedAttention, plan_windows, windows_needed
from gendrpix.image.resize import reflect_pad, resize
from gendrpix.models.attention import plan_axis, set_attention, spread
from gendrpix.models.pattern import without_pattern
from gendrpix.restore.pipelines import load_restorer
from tests.helpers.engines import PADS, assert_as_torch, pictures, restored_by_torch, seeded_pipeline, seeded_restorer
from tests.helpers.models import TINY, tiny_pipeline

HALF_MAX = 65504.0


def as_runner(restorer: Restorer) -> Runner:
    @torch.inference_mode()
    def run(picture: Floats) -> Floats:
        return restorer(torch.from_numpy(picture)).numpy()

    return run


@pytest.mark.parametrize("guidance", [None, 1.5])
def test_the_graph_equals_the_pipeline(guidance: float | None) -> None:
    pipeline = seeded_pipeline()
    run = as_runner(seeded_restorer(pipeline, guidance))
    assert_as_torch(run, pipeline, guidance, largest=1e-5 * 255)
    one_pixel = np.full((1, 3, 1, 1), 0.3, np.float32)
    np.testing.assert_allclose(run(one_pixel), restored_by_torch(pipeline, one_pixel, guidance), atol=1e-5)


@pytest.mark.parametrize("alpha_bar", [None, 0.5])
@pytest.mark.parametrize("form", ["direct", "epsilon", "v"])
def test_every_form_of_prediction_at_the_weights_own_level(form: str, alpha_bar: float | None) -> None:
    pipeline = seeded_pipeline(form)
    if alpha_bar is not None:
        pipeline.register_to_config(alpha_bar=alpha_bar)
    picture = pictures()["26 x 38"]
    found = as_runner(seeded_restorer(pipeline))(picture)
    np.testing.assert_allclose(found, restored_by_torch(pipeline, picture), atol=1e-5)


@pytest.mark.parametrize("kind", ["full", "windows without far keys"])
def test_other_attention(kind: str) -> None:
    pipeline = seeded_pipeline(far=False)
    if kind == "full":
        set_attention(pipeline.unet, "full", TINY.window_tokens)
    assert_as_torch(as_runner(seeded_restorer(pipeline)), pipeline, largest=1e-5 * 255)


def test_a_picture_with_channels_last_in_memory_is_the_same() -> None:
    """torch's GroupNorm loses flat areas in that order on a CPU."""
    run, sky = as_runner(seeded_restorer(seeded_pipeline())), pictures()["sky"]
    last = torch.from_numpy(sky).contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(run(last.numpy()), run(sky), atol=1e-6)


def test_restorers_with_an_autoencoder_are_refused() -> None:
    with pytest.raises(ValueError, match="has an autoencoder and cannot be exported; choose gendr-pix"):
        Restorer(tiny_pipeline("gendr-adc"), guidance=None, **PADS)


def test_other_networks_are_refused() -> None:
    pipeline = seeded_pipeline()
    pipeline.unet.register_to_config(act_fn="relu")
    with pytest.raises(ValueError, match="cannot be exported"):
        seeded_restorer(pipeline)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 9), (2, 5), (17, 23)])
def test_fixed_filters_enlarge_as_resize_does(height: int, width: int) -> None:
    picture = torch.rand(1, 3, height, width).round()  # steps overshoot, so that the clamp is seen
    expected = resize(picture * 2 - 1, 4 * height, 4 * width)
    with torch.inference_mode():
        torch.testing.assert_close(Enlarge()(picture), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("before, after", [(0, 0), (0, 4), (8, 8), (3, 5)])
def test_mirror_is_reflect_pad(size: int, before: int, after: int) -> None:
    x = torch.rand(1, 3, size, 4)
    torch.testing.assert_close(mirror(x, 2, before, after), reflect_pad(x, 0, 0, before, after), atol=0, rtol=0)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("window", [4, 8, 16])
def test_windows_are_those_of_the_attention(window: int, shifted: bool) -> None:
    for size in (*range(1, 70), 255, 256, 4099):
        expected = plan_axis(size, window, shifted=shifted)
        found = plan_windows(size, windows_needed(size, window), shifted=shifted, like=torch.empty(0))
        reads = found.starts[:, None] + torch.arange(found.side)
        assert torch.equal(reads, expected.reads), size
        assert torch.equal(found.owner, expected.owner) and torch.equal(found.inside, expected.inside), size


@pytest.mark.parametrize("height, width", [(5, 9), (64, 48), (1023, 2047), (32767, 1)])
def test_far_places_are_those_of_the_attention(height: int, width: int) -> None:
    attn = seeded_pipeline().unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    for sample in (0, 3):
        far = WindowedAttention(attn, 8, shifted=False, sample=sample)
        assert torch.equal(far._far_places(height, width), spread(height, width, 128, sample))


@pytest.mark.parametrize("tokens", [1, 7])
def test_the_pattern_is_what_without_pattern_takes(tokens: int) -> None:
    given, restored = torch.rand(2, 1, 3, 72, 104).unbind()
    restored = restored + torch.rand(1, 3, 8, 8).tile(1, 1, 9, 13)  # a pattern beyond chance
    added = torch.nn.functional.pixel_unshuffle(restored - given, 8)
    pattern = torch.nn.functional.pixel_shuffle(pattern_of(added, tokens), 8)
    expected = restored - without_pattern(restored, given, tokens)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(pattern, expected, atol=2e-6, rtol=0)


def test_no_number_of_the_bundled_weights_leaves_what_16_bits_hold() -> None:
    """A CPU computes in float32 and would hide what is infinite on a GPU; a factor of 8 is left."""
    restorer = seeded_restorer(load_restorer("gendr-pix"))
    largest: dict[str, float] = {}

    def look(name: str):
        def hook(_module, _inputs, output) -> None:
            largest[name] = max(largest.get(name, 0.0), float(output.abs().max()))

        return hook

    for name, module in restorer.named_modules():
        if not list(module.children()):
            module.register_forward_hook(look(name))
    with torch.inference_mode():
        for name in ("16 x 16", "black", "white", "sky"):
            restorer(torch.from_numpy(pictures()[name]))
    assert len(largest) > 100
    assert max(largest.values()) < HALF_MAX / 8, max(largest, key=largest.__getitem__)
