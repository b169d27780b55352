"""Sweeps: the same pixels as separate runs, and no more predictions than are needed."""

import pytest
import torch

from gendrpix.comparison.sweep import ALL_OFFSETS, BranchBank, best_offset, omega_curve, sweep_offsets
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.ui.runs.sweep import Workspace
from tests.helpers.models import tiny_pipeline


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline("gendr-pix")


@pytest.fixture
def bank(pipeline) -> BranchBank:
    torch.manual_seed(3)
    return BranchBank(pipeline, torch.rand(1, 3, 20, 28) * 2 - 1)


def mean(x: torch.Tensor) -> float:
    return float(x.mean())


def test_mix_is_the_pipelines_own(bank, pipeline) -> None:
    branches = pipeline.restore_branches(bank.pixels, pos_pad=(1, 6), neg_pad=(5, 2))
    expected = (1.7 * branches.positive - 0.7 * branches.negative).clamp(-1, 1)
    torch.testing.assert_close(bank.mixed((1, 6), (5, 2), 1.7), expected, atol=2e-5, rtol=0)
    plain = pipeline.restore_guided(bank.pixels, 1.7, plain_cfg=True)[0]
    torch.testing.assert_close(bank.mixed(None, None, 1.7), plain, atol=2e-5, rtol=0)
    torch.testing.assert_close(bank.mixed(None, None, 1.0), pipeline.restore(bank.pixels), atol=2e-5, rtol=0)


def test_sweep_takes_65_predictions_and_moving_omega_none(bank) -> None:
    cells = list(sweep_offsets(bank, "positive", (3, 3), 1.5, mean))
    assert bank.predicted == 65
    assert [cell.offset for cell in cells] == list(ALL_OFFSETS)
    assert [cell.done for cell in cells] == list(range(1, 65)) and {cell.total for cell in cells} == {64}
    assert cells[12].value == pytest.approx(mean(bank.mixed(cells[12].offset, (3, 3), 1.5)), abs=1e-6)
    again = list(sweep_offsets(bank, "positive", (3, 3), 2.0, mean))
    curve = list(omega_curve(bank, (4, 4), (3, 3), (1.0, 1.5, 2.0), mean))
    assert bank.predicted == 65
    assert curve[2] == (2.0, pytest.approx(next(cell.value for cell in again if cell.offset == (4, 4)), abs=1e-6))


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_batches_change_no_figure(bank, pipeline, side) -> None:
    offsets = ALL_OFFSETS[:10]
    one = [cell.value for cell in sweep_offsets(bank, side, (2, 5), 1.5, mean, offsets=offsets)]
    other = BranchBank(pipeline, bank.pixels)
    many = [cell.value for cell in sweep_offsets(other, side, (2, 5), 1.5, mean, offsets=offsets, batch=4)]
    assert many == pytest.approx(one, abs=1e-5)


def test_stops_between_cells(bank) -> None:
    cells = sweep_offsets(bank, "negative", (4, 4), 1.5, mean)
    next(cells)
    cells.close()
    assert bank.predicted == 2


def test_budget_drops_the_oldest(pipeline) -> None:
    pixels = torch.zeros(1, 3, 16, 16)
    bank = BranchBank(pipeline, pixels, budget_bytes=pixels.numel() * 4 * 3)
    for offset in ALL_OFFSETS[:6]:
        bank.branch("positive", offset)
    assert len(bank._kept) == 3 and bank.predicted == 6
    bank.branch("positive", ALL_OFFSETS[5])
    assert bank.predicted == 6
    bank.branch("positive", ALL_OFFSETS[0])
    assert bank.predicted == 7


def test_refusals(bank, pipeline) -> None:
    with pytest.raises(ValueError, match="has no say"):
        sweep_offsets(bank, "negative", (3, 3), 1.0, mean)
    with pytest.raises(ValueError, match="'positive' or 'negative'"):
        sweep_offsets(bank, "left", (3, 3), 1.5, mean)
    with pytest.raises(ValueError, match="0 to 7"):
        bank.branch("positive", (8, 0))
    with pytest.raises(ValueError, match="GenDR-Pix"):
        BranchBank(tiny_pipeline("gendr-adc"), bank.pixels)
    with pytest.raises(ValueError, match="of one picture"):
        BranchBank(pipeline, torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match="No offset"):
        best_offset([], higher_is_better=True)


def test_best_offset_follows_the_direction(bank) -> None:
    cells = list(sweep_offsets(bank, "positive", (3, 3), 1.5, mean, offsets=ALL_OFFSETS[:5]))
    values = {cell.offset: cell.value for cell in cells}
    assert values[best_offset(cells, higher_is_better=True)] == max(values.values())
    assert values[best_offset(cells, higher_is_better=False)] == min(values.values())


def test_settings_name_the_banks_branches(bank: BranchBank) -> None:
    space = Workspace(bank=bank)
    assert torch.equal(space.result(RestoreSettings()), bank.branch("positive", None).clamp(-1, 1))
    assert torch.equal(space.result(RestoreSettings(plain_cfg=True, guidance=2)), bank.mixed(None, None, 2.0))
    padded = RestoreSettings(pos_pad=(1, 2), neg_pad=(3, 4), guidance=2)
    assert torch.equal(space.result(padded), bank.mixed((1, 2), (3, 4), 2.0))
    assert torch.equal(space.result(RestoreSettings(guidance=2)), bank.mixed((4, 4), (3, 3), 2.0))
