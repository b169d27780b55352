"""The closed-form start of a UNet's replaced ends."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from gendrpix.models.networks import build_unet, replace_conv_out
from gendrpix.specs import find_model
from tests.helpers.models import TINY
from training.initializers.least_squares import ConvRegression, fit_conv_in, fit_conv_out


def test_a_convolution_is_recovered_from_its_own_outputs() -> None:
    torch.manual_seed(0)
    wanted, fitted = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(3, 5, 3, padding=1)
    fit = ConvRegression(fitted)
    for _ in range(4):
        inputs = torch.randn(2, 3, 12, 12)
        fit.add(inputs, wanted(inputs).detach())
    assert fit.solve(ridge=1e-9) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(fitted.weight, wanted.weight, atol=1e-5, rtol=0)
    torch.testing.assert_close(fitted.bias, wanted.bias, atol=1e-5, rtol=0)


def test_the_fit_is_ridge_regression_around_the_present_weights_and_reports_its_share() -> None:
    torch.manual_seed(0)
    conv, inputs, outputs = nn.Conv2d(2, 1, 3, padding=1), torch.randn(3, 2, 6, 6), torch.randn(3, 1, 6, 6)
    fit = ConvRegression(conv)
    fit.add(inputs, outputs)
    start = torch.cat([conv.weight.detach().flatten(), conv.bias.detach()]).double()[:, None]
    share = fit.solve(ridge=0.5)
    rows = nn.functional.unfold(inputs, 3, padding=1).movedim(1, -1).reshape(-1, 18)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1).double()
    targets = outputs.movedim(1, -1).reshape(-1, 1).double()
    penalty = (0.5 * rows.square().sum(0)).sqrt().diag()  # as rows of an ordinary least-squares problem
    solution = torch.linalg.lstsq(torch.cat([rows, penalty]), torch.cat([targets, penalty @ start])).solution
    torch.testing.assert_close(conv.weight.flatten().double(), solution[:-1, 0], atol=1e-5, rtol=0)
    left = (targets - rows @ solution).square().sum() / targets.square().sum()
    assert share == pytest.approx(1 - float(left), abs=1e-6)


def test_both_ends_of_a_unet_are_fitted() -> None:
    torch.manual_seed(0)
    source, student = build_unet(TINY, 4, 4).eval(), build_unet(TINY, 4, 4).eval()
    prompt = torch.zeros(2, TINY.prompt_tokens, TINY.prompt_channels)
    inputs = [torch.randn(2, 4, 8, 8) for _ in range(4)]
    assert fit_conv_in(student, ((x, source.conv_in(x)) for x in inputs), ridge=1e-9) == pytest.approx(1, abs=1e-5)
    student.load_state_dict({**source.state_dict(), "conv_in.weight": student.conv_in.weight})
    with torch.no_grad():
        wanted = [source(x, 500, prompt).sample for x in inputs]
        replace_conv_out(student, 4, zero=True)

        def outputs() -> Iterator[torch.Tensor]:
            for x, y in zip(inputs, wanted, strict=True):
                student(x, 500, prompt)
                yield y

        assert fit_conv_out(student, outputs(), ridge=1e-9) == pytest.approx(1, abs=1e-4)
        torch.testing.assert_close(student(inputs[0], 500, prompt).sample, wanted[0], atol=1e-2, rtol=0)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="Only a 3 x 3 convolution"):
        ConvRegression(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="Nothing to fit"):
        ConvRegression(build_unet(find_model("mini"), 4, 4).conv_in).solve(0.1)
