"""The perceptual term L_P with a named choice of trunk; the model card of a trained model must say which."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gendrpix.metrics.registry import LpipsNet
from gendrpix.metrics.weight_files import load_lpips
from gendrpix.models.networks import Autoencoder
from training.config import Perceptual

PerceptualLoss = Callable[[Tensor, Tensor], Tensor]
"""(student, target), (B, 3, H, W) in [-1, 1] => scalar."""


def build_perceptual_loss(
    kind: Perceptual, autoencoder: Autoencoder | None, device: torch.device
) -> PerceptualLoss | None:
    """The loss of that name: features of the frozen autoencoder's encoder, or LPIPS with one of two trunks.

    "none" gives None. Raises ValueError for "encoder" where there is no autoencoder, and where LPIPS's weights can
    neither be found nor downloaded.
    """
    if kind == "none":
        return None
    if kind == "encoder":
        if autoencoder is None:
            raise ValueError('perceptual="encoder" needs an autoencoder, which this stage has not; choose LPIPS.')
        return EncoderFeatureLoss(autoencoder).to(device)
    return _lpips("squeeze" if kind == "lpips-squeeze" else "vgg", device)


class EncoderFeatureLoss(nn.Module):
    """Squared distance of the encoder's feature maps, scaled to unit length at each place, summed over depths.

    LPIPS (arXiv 1801.03924) without its learnt channel weights, on the frozen encoder that the family has anyway.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.encoder = autoencoder.encoder

    def forward(self, student: Tensor, target: Tensor) -> Tensor:
        """(B, 3, H, W) twice => scalar."""
        with torch.no_grad():
            wanted = self._maps(target)
        total = student.new_zeros(())
        for got, want in zip(self._maps(student), wanted, strict=True):
            total = total + (_unit(got) - _unit(want)).square().sum(1).mean()
        return total

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        x, maps = self.encoder.conv_in(pixels), []
        for block in self.encoder.down_blocks:
            x = block(x)
            maps.append(x)
        return maps


def _unit(feature: Tensor) -> Tensor:
    return feature / (feature.square().sum(1, keepdim=True) + 1e-6).sqrt()


def _lpips(net: LpipsNet, device: torch.device) -> PerceptualLoss:
    try:
        metric = load_lpips(net, device, as_loss=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"LPIPS with the {net} trunk cannot be had ({error}). Connect to a network once, set TORCH_HOME to a "
            f'folder that holds its weights, or choose perceptual="encoder".'
        ) from error
    return lambda student, target: metric(student / 2 + 0.5, target / 2 + 0.5).mean()
