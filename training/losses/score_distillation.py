"""Score distillation: how far the student's outputs are from what a diffusion model holds for pictures.

Notation, all in latents (B, C, h, w): z = the student's output, z_t = alpha_t z + sigma_t noise, and `f(z_t)` the clean
latent that a denoising network expects behind z_t. The real-score network f_real is frozen and knows photos; the
fake-score network f_fake is trained beside the student and knows the student's outputs. A score is
`(alpha_t f(z_t) - z_t) / sigma_t^2`, so that the difference of two scores is a multiple of `f_real - f_fake`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from gendrpix.models.networks import signal_and_noise
from training.config import Score, TeacherConfig

LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
SMALLEST_DISTANCE = 1e-4
"""Below it the losses' weights grow no further."""


# Terms ----------------------------------------------------------------------------------------------------------------


def vsd_loss(z: Tensor, real: Tensor, fake: Tensor, weights: Tensor | None = None) -> Tensor:
    """Variational score distillation (arXiv 2305.16213): `grad_z = w (f_fake(z_t) - f_real(z_t))`.

    A surrogate with that gradient: `|z - stop(z - grad_z)|^2 / 2`, mean over elements. The paper's gradient is the
    difference of the two noise predictions, which is alpha_t / sigma_t times that of the clean latents; its w(t) is
    free, and here `1 / mean |z - f_real(z_t)|` of each sample, as in distribution matching distillation (arXiv
    2311.18828). `real` and `fake` (B, C, h, w) are `f(z_t)`; no gradient passes through them. `weights` (B,) as in
    `losses.generator_loss`.
    """
    with torch.no_grad():
        target = z - (fake - real) * _inverse_distance(z, real)
    return _mean((z - target).square() / 2, weights)


def sid_loss(z: Tensor, real: Tensor, fake: Tensor, alpha: float = 1.0, weights: Tensor | None = None) -> Tensor:
    """Score identity distillation (arXiv 2404.04057), mean over elements.

    `w [ <f_real - f_fake, f_real - z> - alpha |f_real - f_fake|^2 ]`: the Fisher divergence rewritten by the score
    identity E[<d, f_fake - z>] = 0, minus alpha times its naive estimate; w = 1 / mean |z - f_real(z_t)|, stopped. The
    gradient passes through z and, by way of z_t, through both networks' `f(z_t)`.
    """
    return _identity_loss(z, z, real, fake, alpha, weights)


def cid_loss(
    z: Tensor, truth: Tensor, real: Tensor, fake: Tensor, alpha: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """Consistent score identity distillation of GenDR (arXiv 2503.06790), as this project reads it.

    The ground truth's latent takes the place of the student's own in `sid_loss`'s projection:
    `w [ <f_real - f_fake, f_real - z_gt> - alpha |f_real - f_fake|^2 ]`, so that the scores are pulled together
    towards the one picture that is wanted. w as in `sid_loss`, with the student's z. The weight, alpha and the
    timesteps are settings, because there is no official code to compare with.
    """
    return _identity_loss(z, truth, real, fake, alpha, weights)


def _identity_loss(
    z: Tensor, anchor: Tensor, real: Tensor, fake: Tensor, alpha: float, weights: Tensor | None
) -> Tensor:
    apart = real - fake
    elements = apart * (real - anchor) - alpha * apart.square()
    return _mean(_inverse_distance(z, real) * elements, weights)


def guided(positive: Tensor, negative: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance of clean latents: `negative + guidance (positive - negative)`."""
    return torch.lerp(negative, positive, guidance)


def _inverse_distance(z: Tensor, real: Tensor) -> Tensor:
    """(B, 1, 1, 1): one over each sample's mean |z - f_real(z_t)|, without a gradient."""
    distance = (z - real).detach().abs().mean(dim=(1, 2, 3), keepdim=True)
    return 1 / distance.clamp_min(SMALLEST_DISTANCE)


def _mean(elements: Tensor, weights: Tensor | None) -> Tensor:
    samples = elements.flatten(1).mean(1)
    return samples.mean() if weights is None else (samples * weights).mean()


# Noise ----------------------------------------------------------------------------------------------------------------


def draw_noise(
    like: Tensor, indices: Sequence[int], seed: int, stream: int, timesteps: tuple[int, int] = (0, 1000)
) -> tuple[Tensor, list[int]]:
    """Standard-normal noise of `like`'s shape, and a timestep of [low, high) for each sample.

    Both depend on (seed, stream, sample index) alone. The noise is drawn on the CPU, so that devices agree.
    """
    noises, times = [], []
    for index in indices:
        rng = np.random.default_rng(np.random.SeedSequence([seed, index, stream]))
        times.append(int(rng.integers(*timesteps)))
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        noises.append(torch.randn(like.shape[1:], generator=generator))
    return torch.stack(noises).to(like), times


def diffuse(z: Tensor, noise: Tensor, times: Sequence[int]) -> Tensor:
    """`z_t = alpha_t z + sigma_t noise`, a timestep a sample, Stable Diffusion's schedule."""
    signal, sigma = _levels(times, z)
    return (signal * z + sigma * noise).to(z.dtype)


def _levels(times: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, 1, 1) alpha_t and sigma_t."""
    pairs = like.new_tensor([signal_and_noise(time) for time in times], dtype=torch.float32)
    return pairs[:, 0].view(-1, 1, 1, 1), pairs[:, 1].view(-1, 1, 1, 1)


class Denoiser:
    """A UNet as a denoiser at any timestep, under one prompt or a prompt a sample.

    `form` tells what it predicts: "epsilon", the noise, or "v", `alpha_t noise - sigma_t z` (arXiv 2202.00512).
    """

    def __init__(self, unet: nn.Module, form: str) -> None:
        if form not in ("epsilon", "v"):
            raise ValueError(
                f'A denoiser must predict noise or velocity (form "epsilon" or "v"); these weights have {form!r}. '
                "Pass a base model that the stage `base` has exported."
            )
        self.unet, self.form = unet, form

    def output(self, noisy: Tensor, times: Sequence[int], prompt: Tensor) -> Tensor:
        """What the UNet says of z_t, (B, C, h, w) float32; `prompt` is (1 or B, L, D)."""
        prompts = prompt.to(noisy.dtype).expand(len(noisy), -1, -1)
        result: Tensor = self.unet(noisy, torch.tensor(times, device=noisy.device), prompts).sample
        return result.float()

    def clean(self, noisy: Tensor, times: Sequence[int], prompt: Tensor) -> Tensor:
        """`f(z_t)`: the clean latent behind z_t."""
        output = self.output(noisy, times, prompt)
        signal, sigma = _levels(times, noisy)
        return signal * noisy - sigma * output if self.form == "v" else (noisy - sigma * output) / signal

    def denoising_loss(
        self, z: Tensor, noise: Tensor, times: Sequence[int], prompt: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """The ordinary objective: mean squared error of the predicted noise or velocity (arXiv 2006.11239, eq. 14)."""
        signal, sigma = _levels(times, z)
        target = signal * noise - sigma * z if self.form == "v" else noise
        output = self.output(diffuse(z, noise, times), times, prompt)
        return _mean((output - target).square(), weights)


# Distillation ---------------------------------------------------------------------------------------------------------


class TrainedScore(Denoiser):
    """A score network that is trained: a copy of the base, of which adapters or all weights change.

    A checkpoint keeps the trained weights alone. A `lora_alpha` of 0 is that of the rank.
    """

    def __init__(self, base: UNet2DConditionModel, form: str, lora_rank: int, lora_alpha: int = 0) -> None:
        super().__init__(copy.deepcopy(base).requires_grad_(False), form)
        if lora_rank:
            _add_adapters(self.unet, lora_rank, lora_alpha or lora_rank)
        else:
            self.unet.requires_grad_(True)
        self.trained = {name: weight for name, weight in self.unet.named_parameters() if weight.requires_grad}

    def keep_trainable(self, *, trainable: bool) -> None:
        """Freeze or free the trained weights for a phase."""
        for weight in self.trained.values():
            weight.requires_grad_(trainable)

    def state_dict(self) -> dict[str, Tensor]:
        """The trained weights by name."""
        return {name: weight.detach() for name, weight in self.trained.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take saved weights over. Raises ValueError where they are of other adapters."""
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in self.trained.items()}:
            raise ValueError(
                "The checkpoint's score network has other trained weights than this run's. Resume with the "
                "lora_rank of the run, or give another run folder."
            )
        for name, weight in self.trained.items():
            weight.copy_(state[name])


class ScoreDistillation:
    """A teacher's score term, and the score networks that are trained for it.

    `prompts` (2, L, D) are the positive and the negative embedding; the second is needed for guidance alone.
    """

    def __init__(self, config: TeacherConfig, base: UNet2DConditionModel, prompts: Tensor, form: str) -> None:
        self.kind: Score = config.score
        self.alpha, self.timesteps, self.seed = config.score_alpha, config.score_timesteps, config.loop.seed
        self.prompt, self.negative = prompts[:1], prompts[1:]
        self.guidance = config.score_guidance
        adapters = config.lora_rank, config.lora_alpha
        self.fake = TrainedScore(base, form, *adapters)
        self.learning_real = TrainedScore(base, form, *adapters) if config.train_real else None
        self.real = self.learning_real or Denoiser(base, form)
        if config.loop.gradient_checkpointing:
            for network in (self.real, self.fake):
                network.unet.enable_gradient_checkpointing()  # type: ignore[operator]
        self.trained = [one for one in (self.fake, self.learning_real) if one is not None]
        self.optimizers = [
            torch.optim.AdamW(one.trained.values(), lr=config.fake_learning_rate, betas=(0.0, 0.999), weight_decay=0.0)
            for one in self.trained
        ]

    @property
    def states(self) -> list[Any]:
        """What a checkpoint must hold."""
        return [*self.trained, *self.optimizers]

    def term(self, z: Tensor, truth: Tensor, indices: Sequence[int], weights: Tensor) -> Tensor:
        """The student's loss on its output z, with noise of its own. The score networks are frozen meanwhile."""
        noise, times = draw_noise(z, indices, self.seed, 3, self.timesteps)
        return self.at(z, truth, times, noise, weights)

    def at(
        self, z: Tensor, truth: Tensor, times: Sequence[int], noise: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """`term` at given timesteps, with given noise."""
        for network in self.trained:
            network.keep_trainable(trainable=False)
        noisy = diffuse(z, noise, times)
        with torch.set_grad_enabled(self.kind != "vsd"):
            real, fake = (network.clean(noisy, times, self.prompt) for network in (self.real, self.fake))
            if self.guidance != 1.0:
                real = guided(real, self.real.clean(noisy, times, self.negative), self.guidance)
        if self.kind == "vsd":
            return vsd_loss(z, real, fake, weights)
        if self.kind == "sid":
            return sid_loss(z, real, fake, self.alpha, weights)
        return cid_loss(z, truth, real, fake, self.alpha, weights)

    def follow(self, z: Tensor, indices: Sequence[int], weights: Tensor) -> Tensor:
        """The fake-score network's loss: to denoise the student's outputs, which get no gradient."""
        return self._denoise(self.fake, z, indices, weights, 4)

    def follow_truth(self, z: Tensor, indices: Sequence[int], weights: Tensor) -> Tensor:
        """The real-score network's loss, where it is trained: to denoise the truth's latents."""
        assert self.learning_real is not None
        return self._denoise(self.learning_real, z, indices, weights, 8)

    def _denoise(
        self, network: TrainedScore, z: Tensor, indices: Sequence[int], weights: Tensor, stream: int
    ) -> Tensor:
        network.keep_trainable(trainable=True)
        noise, times = draw_noise(z, indices, self.seed, stream, self.timesteps)
        return network.denoising_loss(z.detach(), noise, times, self.prompt, weights)


def _add_adapters(unet: nn.Module, rank: int, alpha: int) -> None:
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ValueError("lora_rank needs peft: pip install peft, or pass --lora-rank 0.") from error
    settings = LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=LORA_TARGETS)
    unet.add_adapter(settings)  # type: ignore[operator]
