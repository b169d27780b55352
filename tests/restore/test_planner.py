"""Predicted memory, the order of the plans, and what happens when memory runs out all the same."""

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gendrpix.image.picture import Picture
from gendrpix.models.networks import split_feed_forward
from gendrpix.models.tiling import restore_tiled
from gendrpix.restore import memory, planner
from gendrpix.restore.memory import TRACED_PX, MemoryTracker, container_bytes, pass_bytes, trace_bytes_per_pixel
from gendrpix.restore.pipelines import RestorerPipeline
from gendrpix.restore.planner import Plan, PlanError, choose_plan, list_plans, predict_peak, restore_within
from gendrpix.specs import MIN_TILE_PX
from tests.helpers.models import tiny_pipeline

ROOT = Path(__file__).resolve().parents[2]
PLENTY = 2**50


def random_pixels(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width) * 2 - 1


@pytest.fixture
def pix() -> RestorerPipeline:
    return tiny_pipeline("gendr-pix")


@pytest.fixture
def tight(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture counts as small beside what is free, the whole takes 1 GB, and a tile as many MB as its side."""
    monkeypatch.setattr(planner, "AMPLE_BYTES_PER_PX", PLENTY)
    monkeypatch.setattr(planner, "predict_peak", lambda *_, tile_px, **__: (tile_px or 1000) * 10**6)


# Rehearsal ---------------------------------------------------------------------------------------------------------


def test_the_ledger_books_what_lives_at_one_time() -> None:
    tracker = MemoryTracker()
    with torch.device("meta"), tracker:
        a = torch.empty(1000)  # 4,000 bytes
        b = a + 1  # 8,000
        view = b.view(10, 100)  # shares
        del a, b  # the view still holds 4,000
        c = view * 2  # 8,000
        del view
        d = torch.cat([c, c])  # 12,000
    assert tracker.peak == 12_000 and d.shape == (20, 100)


def test_the_ledger_agrees_with_a_sum_by_hand() -> None:
    """Two convolutions, one after the other: input, middle and output never all live when the input was let go."""
    first, second = (torch.nn.Conv2d(*channels, 3, padding=1, device="meta") for channels in ((2, 6), (6, 4)))
    tracker = MemoryTracker()
    with torch.inference_mode(), torch.device("meta"), tracker:
        x = torch.empty(1, 2, 10, 10)
        x = first(x)
        x = second(x)
    assert tracker.peak == (6 + 4) * 100 * 4


def test_a_rehearsal_moves_and_copies_no_weights(pix: RestorerPipeline) -> None:
    before = {name: (value.data_ptr(), value.clone()) for name, value in pix.unet.named_parameters()}
    assert trace_bytes_per_pixel(pix, guided=True, batched=True) > 0
    for name, value in pix.unet.named_parameters():
        assert value.data_ptr() == before[name][0] and torch.equal(value, before[name][1])
    actor = memory.without_contents(pix)
    assert all(value.is_meta for value in actor.unet.parameters())


def test_a_rehearsal_keeps_the_attention_and_asks_again_when_it_changes(pix: RestorerPipeline) -> None:
    from gendrpix.models.attention import set_attention

    pass_bytes(pix, TRACED_PX**2)
    set_attention(pix.unet, "window", (8, 4))
    actor = memory.without_contents(pix)
    kinds = [type(processor).__name__ for processor in actor.unet.attn_processors.values()]
    assert "WindowProcessor" in kinds
    pass_bytes(pix, TRACED_PX**2)
    assert len(memory._rates[pix]) == 2


def test_what_takes_more_is_predicted_to_take_more(pix: RestorerPipeline) -> None:
    one, apart, together = (
        predict_peak(pix, 2048, 2048, guided=guided, batched=batched)
        for guided, batched in ((False, True), (True, False), (True, True))
    )
    assert one < apart < together
    assert predict_peak(pix, 4096, 4096) > 3 * one
    assert predict_peak(pix, 2048, 2048, tile_px=512) < 0.6 * one
    assert predict_peak(pix, 2048, 2048, tile_px=512, streamed=True) < predict_peak(pix, 2048, 2048, tile_px=512)
    assert predict_peak(pix, 2048, 2048, num_pictures=2) > 1.5 * one
    assert predict_peak(tiny_pipeline("gendr"), 512, 512) > 0
    assert predict_peak(pix, 500, 500, tile_px=512) == predict_peak(pix, 500, 500)


def test_below_the_size_where_feed_forward_layers_are_split_a_pixel_takes_more(pix: RestorerPipeline) -> None:
    """As the exact rehearsal says: 640 x 400 pixels are fewer than 512 x 512, and take more memory."""
    split_feed_forward(pix.unet)
    small, large = (pass_bytes(pix, height * width) for height, width in ((400, 640), (512, 512)))
    assert memory.trace_peak_memory(pix, 400, 640) > 1.05 * memory.trace_peak_memory(pix, 512, 512)
    assert small > 1.05 * large


@pytest.mark.slow
def test_predictions_are_within_15_percent() -> None:
    """A small picture, attention kinds, both dtypes, tiles, PadCFG, an autoencoder: some lines of the page's table."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory_table", "--rows", "0", "6", "8", "9", "11", "20"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_half_the_bits_take_half(pix: RestorerPipeline) -> None:
    single = pass_bytes(pix, 1000)
    assert pass_bytes(pix.to(torch.bfloat16), 1000) == pytest.approx(single / 2, rel=0.05)


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    assert container_bytes(tmp_path) > 10**15
    (tmp_path / "memory.current").write_text("300\n")
    for limit, left in (("1000\n", 700), ("200\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert container_bytes(tmp_path) == left
    (tmp_path / "memory.max").write_text("max\n")
    assert container_bytes(tmp_path) > 10**15


# Choosing ----------------------------------------------------------------------------------------------------------


def shape(plan: Plan) -> tuple[bool, int | None]:
    return plan.batched, plan.tile_px


def test_plans_come_in_the_order_of_speed(pix: RestorerPipeline) -> None:
    guided = [shape(plan) for plan in list_plans(pix, 600, 400, guided=True)]
    assert guided == [(True, None), (False, None), (False, 512), (False, 384), (False, 256), (False, MIN_TILE_PX)]
    assert [plan.tile_px for plan in list_plans(pix, 600, 400)] == [None, 512, 384, 256, 128]
    assert [shape(plan) for plan in list_plans(pix, 600, 400, guided=True, tile=None)] == [(True, None), (False, None)]
    own = [shape(plan) for plan in list_plans(pix, 600, 400, guided=True, tile=264)]
    assert own == [(True, 264), (False, 264), (False, 256), (False, 128)]
    assert next(iter(list_plans(pix, 600, 400, streamed=True))).tile_px == 512
    assert next(iter(list_plans(pix, 60, 40, streamed=True))).tile_px == MIN_TILE_PX
    with pytest.raises(ValueError, match="multiple of 8"):
        list(list_plans(pix, 600, 400, tile=100))


def test_the_first_that_fits_is_chosen(pix: RestorerPipeline) -> None:
    plans = list(list_plans(pix, 1500, 1500, guided=True))
    for plan in plans:
        budget = int(plan.predicted_bytes * planner.MARGIN) + 1
        first = next(one for one in plans if one.predicted_bytes * planner.MARGIN <= budget)
        assert choose_plan(pix, 1500, 1500, guided=True, budget_bytes=budget) == first
    assert choose_plan(pix, 1500, 1500, guided=True, budget_bytes=PLENTY) == plans[0]
    assert "both branches as one batch" in plans[0].explanation and "Tiles of 1024 pixels" in plans[2].explanation
    assert choose_plan(pix, 64, 64).tile_px is None  # by default, what is free


def test_nothing_fits_is_one_sentence_with_a_proposal(pix: RestorerPipeline) -> None:
    with pytest.raises(PlanError, match=r"^This needs about .* free; choose a smaller scale, .*\.$"):
        choose_plan(pix, 1500, 1500, budget_bytes=1000)


# Doing it ----------------------------------------------------------------------------------------------------------


def test_what_fits_is_restored_as_asked(pix: RestorerPipeline) -> None:
    pixels = random_pixels(150, 200)
    fitted = restore_within(pix, pixels, None)
    assert fitted.notes == () and fitted.branches is None
    assert torch.equal(fitted.restored, pix.restore(pixels))
    fitted = restore_within(pix, pixels, 1.5, keep_branches=True)
    restored, branches = pix.restore_guided(pixels, 1.5)
    assert torch.equal(fitted.restored, restored) and torch.equal(fitted.branches.negative, branches.negative)


@pytest.mark.parametrize("guidance", [None, 1.5])
def test_a_small_budget_makes_tiles_and_says_so(pix: RestorerPipeline, guidance: float | None, tight: None) -> None:
    pixels = random_pixels(200, 150, batch=2)
    fitted = restore_within(pix, pixels, guidance, keep_branches=guidance is not None, budget_bytes=150_000_000)
    (note,) = fitted.notes
    assert "Done instead: Tiles of 128 pixels" in note and "are free" in note
    expected = restore_tiled(pixels, lambda tile: pix.restore_guided(tile, guidance, batched=False)[0], 128)
    if guidance is None:
        assert torch.equal(fitted.restored, expected)
    else:  # mixed after the blend, so that omega can move: the clamp comes later
        assert (fitted.restored - expected).abs().mean() < 0.01
        positive, negative = fitted.branches
        assert (fitted.restored - (1.5 * positive - 0.5 * negative).clamp(-1, 1)).abs().max() < 1e-6


def test_no_tiles_means_no_tiles(pix: RestorerPipeline, tight: None) -> None:
    with pytest.raises(PlanError, match="choose a smaller scale"):
        restore_within(pix, random_pixels(200, 150), None, tile=None, budget_bytes=1000)


def test_tiles_that_were_asked_for_are_made(pix: RestorerPipeline) -> None:
    pixels = random_pixels(200, 150)
    fitted = restore_within(pix, pixels, None, tile=136)
    assert fitted.notes == () and torch.equal(fitted.restored, restore_tiled(pixels, pix.restore, 136))


@pytest.fixture
def starved(pix: RestorerPipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The network runs out of memory beyond one picture of 200 x 200 pixels, as CUDA says it; the calls' shapes."""
    calls: list[tuple[int, ...]] = []
    whole = pix._predict

    def predict(pixels: Tensor, prompts: Tensor) -> Tensor:
        calls.append(tuple(pixels.shape))
        if pixels.numel() > 3 * 200 * 200:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(pixels, prompts)

    monkeypatch.setattr(pix, "_predict", predict)
    return calls


def test_out_of_memory_goes_from_the_batch_to_one_after_the_other(
    pix: RestorerPipeline, starved: list[tuple[int, ...]]
) -> None:
    out = pix(Picture(color=random_pixels(160, 160)), scale=1, guidance=1.5, output_type="pt")
    assert [call[0] for call in starved] == [2, 1, 1]
    (note,) = out.notes
    assert note.startswith("The whole picture at once, both branches as one batch: memory ran out.")
    assert "one after the other" in note
    expected = pix(Picture(color=random_pixels(160, 160)), scale=1, guidance=1.5, batched=False, output_type="pt")
    assert out.images.shape == expected.images.shape and expected.notes == ()


def test_out_of_memory_goes_on_to_tiles(pix: RestorerPipeline, starved: list[tuple[int, ...]]) -> None:
    pixels = random_pixels(300, 260)
    out = pix([Picture(color=pixels)] * 2, scale=1, output_type="pt")
    assert len(out.notes) == 2 and all("memory ran out" in note for note in out.notes)  # 256, then 128; none twice
    assert "Tiles of 128 pixels" in out.notes[1]
    assert torch.equal(out.images[:1], restore_tiled(pixels, pix.restore, MIN_TILE_PX))


def test_where_memory_ran_out_the_smaller_plan_runs_tight_and_serving_goes_on(
    pix: RestorerPipeline, starved: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tight: list[bool] = []

    @contextlib.contextmanager
    def noted(_: torch.device) -> Iterator[None]:
        tight.append(True)
        yield
        tight.append(False)

    monkeypatch.setattr("gendrpix.restore.planner.tight_memory", noted)
    restore_within(pix, random_pixels(160, 160), 1.5, budget_bytes=2**40)
    assert [call[0] for call in starved] == [2, 1, 1] and tight == [True, False]
    small = random_pixels(24, 16)
    assert torch.equal(restore_within(pix, small, None, budget_bytes=2**40).restored, pix.restore(small))
    assert tight == [True, False]


def test_the_memory_of_a_process_really_runs_out() -> None:
    """Not stood in for: the system refuses the CPU's allocator what the whole picture takes as one batch."""
    pytest.importorskip("resource")
    code = """
        import resource, torch
        from pathlib import Path
        from tests.helpers.models import tiny_pipeline
        from gendrpix.image.picture import Picture

        torch.set_num_threads(1)
        pipeline = tiny_pipeline("gendr-pix")
        small, large = (Picture(color=torch.rand(1, 3, side, side) * 2 - 1) for side in (64, 640))
        restore = lambda picture: pipeline(picture, scale=1, guidance=1.5, output_type="pt")
        first = restore(small).images
        [size] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize")]
        held = int(size.split()[1]) * 1024
        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (held + 85_000_000, limits[1]))
        starved = restore(large)
        assert "memory ran out" in starved.notes[0], starved.notes
        assert torch.equal(restore(small).images, first)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        fed = restore(large)
        assert fed.notes == () and starved.images.shape == fed.images.shape
        assert (starved.images - fed.images).abs().mean() < 0.01
        print(*starved.notes)
    """
    paths = str(ROOT)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": paths}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "one after the other" in run.stdout


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 12")])
def test_the_smallest_plan_that_runs_out_is_a_sentence(
    pix: RestorerPipeline, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> Tensor:
        raise error

    monkeypatch.setattr(pix, "_predict", fail)
    with pytest.raises(PlanError, match=r"Memory ran out .* choose a smaller scale .*\."):
        pix(Picture(color=random_pixels(150, 150)), scale=1)
    with pytest.raises(PlanError, match="nothing smaller"):
        pix(Picture(color=random_pixels(20, 20)), scale=1, tile=None)


def test_other_errors_are_not_taken_for_it(pix: RestorerPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(pix, "_predict", fail)
    with pytest.raises(RuntimeError, match="multiplied"):
        pix(Picture(color=random_pixels(20, 20)), scale=1)


def test_the_autoencoder_goes_into_tiles_before_the_whole_picture_does() -> None:
    pipeline = tiny_pipeline("gendr")
    plans = list(list_plans(pipeline, 1024, 1536))
    assert [(plan.tile_px, plan.vae_tile_px) for plan in plans[:4]] == [
        (None, None),
        (None, 1024),
        (None, 512),
        (1024, None),
    ]
    assert plans[2].predicted_bytes < plans[1].predicted_bytes < plans[0].predicted_bytes
    assert "its autoencoder in tiles of 512" in plans[2].explanation
    assert not any(plan.vae_tile_px for plan in list_plans(tiny_pipeline("gendr-pix"), 1024, 1536))


def test_a_budget_for_the_autoencoders_tiles() -> None:
    pipeline = tiny_pipeline("gendr-adc")
    pixels = torch.rand(1, 3, 640, 640) * 2 - 1
    plans = list(list_plans(pipeline, 640, 640))
    budget = int(plans[1].predicted_bytes * 1.16)
    fitted = restore_within(pipeline, pixels, None, budget_bytes=budget)
    assert len(fitted.notes) == 1 and "its autoencoder in tiles of 512" in fitted.notes[0]
    assert (fitted.restored - pipeline.restore(pixels)).abs().max() < 1e-3
