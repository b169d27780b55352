"""Representation alignment (REPA, arXiv 2410.06940): a denoiser's features, projected, shall point where those of a
frozen image encoder point.

    L_align = - mean over places of cos( h(features of the UNet), tokens of the encoder on the clean picture )

The features are those after the first down block, as in GenDR (arXiv 2503.06790), in the base and in the teacher. The
encoder's tokens are averaged, or repeated, to their grid. h is a small trained network, used in training alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.trainable import keep_trainable

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures in [0, 1]: what DINOv2 and its kin were trained with."""
HIDDEN_CHANNELS = 2048


class Alignment:
    """The frozen encoder, the projector, and the features that the UNet left when it was last run.

    encoder: folder or hub id of a vision transformer that transformers' AutoModel reads, such as
    `facebook/dinov2-base`. Raises ValueError where it cannot be had.
    """

    def __init__(self, encoder: str, unet: Any, device: torch.device, learning_rate: float) -> None:
        self.encoder = _load_encoder(encoder).to(device)
        self.projector = nn.Sequential(
            nn.Conv2d(unet.config.block_out_channels[0], HIDDEN_CHANNELS, 1),
            nn.SiLU(),
            nn.Conv2d(HIDDEN_CHANNELS, HIDDEN_CHANNELS, 1),
            nn.SiLU(),
            nn.Conv2d(HIDDEN_CHANNELS, self.encoder.config.hidden_size, 1),
        ).to(device)
        self.optimizer = torch.optim.AdamW(self.projector.parameters(), lr=learning_rate, weight_decay=0.0)
        self.features = torch.empty(0)
        """(B, C, h, w): the output of the UNet's first down block, with its gradient."""
        self._hook = unet.down_blocks[0].register_forward_hook(self._remember)

    def close(self) -> None:
        """Let go of the UNet, which can be copied and exported then."""
        self._hook.remove()

    def _remember(self, _module: nn.Module, _inputs: Any, output: tuple[Tensor, Any]) -> None:
        self.features = output[0]  # beside what the way up will be given

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] => (B, D, g, g): the encoder's tokens of the picture, resized to what it expects."""
        side = self.encoder.config.image_size
        resized = F.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        mean, deviation = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        states = self.encoder((resized / 2 + 0.5 - mean) / deviation).last_hidden_state
        grid = side // self.encoder.config.patch_size
        tokens = states[:, -grid * grid :]  # the class's token and the registers come first
        maps: Tensor = tokens.transpose(1, 2).unflatten(2, (grid, grid)).float()
        return maps

    def loss(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Minus the mean cosine of (B, C, h, w) projected features and (B, D, g, g) tokens: -1 where all agree."""
        projected = self.projector(features).float()
        height, width = projected.shape[-2:]
        wanted = F.adaptive_avg_pool2d(tokens, (height, width))
        cosines: Tensor = F.cosine_similarity(projected, wanted, dim=1)
        return -cosines.mean()

    def term(self, pixels: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
        """The UNet's loss on the features of its last run, and a function that gives the projector's own afterwards.

        pixels: the clean pictures behind that run. The projector is frozen in the first and alone is trained by the
        second, for the features then have no gradient.
        """
        keep_trainable(self.projector, trainable=False)
        features, tokens = self.features, self.encode(pixels)

        def follow() -> Tensor:
            keep_trainable(self.projector, trainable=True)
            return self.loss(features.detach(), tokens)

        return self.loss(features, tokens), follow


def _load_encoder(source: str) -> Any:
    from transformers import AutoModel

    if not source:
        raise ValueError("Representation alignment needs an image encoder: pass --alignment-encoder FOLDER or ID.")
    try:
        encoder = AutoModel.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"No image encoder at {source!r} ({reason}). Pass --alignment-encoder with a folder or hub id of one, such "
            "as facebook/dinov2-base, or --alignment-weight 0."
        ) from error
    missing = [name for name in ("image_size", "patch_size", "hidden_size") if not hasattr(encoder.config, name)]
    if missing:
        raise ValueError(
            f"{source} is no vision transformer with square patches: its config has no {missing[0]}. Pass another "
            "--alignment-encoder, such as facebook/dinov2-base."
        )
    return encoder.requires_grad_(False).eval()
