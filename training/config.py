"""Every setting of every training stage. Plain values, checked when built, saved with the run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

Backbone = Literal["none", "gendr", "adc", "start"]
Perceptual = Literal["none", "encoder", "lpips-squeeze", "lpips-vgg"]
RealImage = Literal["teacher", "truth"]
Score = Literal["none", "vsd", "sid", "cid"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the pictures come from and what is done to them."""

    folder: Annotated[Path, tyro.conf.arg(aliases=["--data"])] = Path()
    """Folder of photos, searched recursively. No default that works: pass `--data`."""
    more_folders: tuple[Path, ...] = ()
    """More folders of photos, taken together with the first one's."""
    drawn: Path | None = None
    """Folder of pictures drawn by code (`python -m training draw`), which take a share of the training crops. They are
    none of the held-out ones."""
    drawn_share: float = 0.25
    """Share of the crops that come from `drawn`, where it is given."""
    stream: str = ""
    """Photos to train on in place of the folder's, which are then all held out: tar shards of webdataset (paths or
    URLs, "photos-{000..127}.tar"), or "hub:NAME", a data set that `datasets` streams. Needs the extra `training`."""
    stream_column: str = "image"
    """Column of such a data set that holds the pictures."""
    degradation: str = "photo"
    """Preset of `degradation_presets`: "bicubic", "mild", "photo", "camera", "adcsr", "real-esrgan", "mixed"."""
    scale: int = 4
    """Down-scaling factor of the degradation."""
    crop_px: int = 128
    """Side of the square training crop, a multiple of 8."""
    negative_probability: float = 0.1
    """Share of the samples trained with `c_neg`, whose target is the degraded input itself (but see
    `PixConfig.negative_target`)."""
    zoom: tuple[float, float] = (0.5, 1.0)
    """Range of a photo's reduction before it is cropped; smaller means sharper pixels and more of the scene."""
    candidates: int = 2
    """Places drawn for each crop, of which the one with the most detail is taken; 1 draws evenly."""
    sharpen_target: bool = False
    """Sharpen the target by unsharp masking before it is degraded, as Real-ESRGAN's recipe does."""
    num_workers: int = 1
    """Loader processes for each training process."""

    def __post_init__(self) -> None:
        if self.crop_px <= 0 or self.crop_px % 8:
            raise ValueError(f"crop_px is {self.crop_px}, expected a positive multiple of 8.")
        if not 0.0 <= self.negative_probability < 1.0:
            raise ValueError(f"negative_probability is {self.negative_probability}, expected 0 to below 1.")
        if not 0.0 < self.drawn_share < 1.0:
            raise ValueError(f"drawn_share is {self.drawn_share}, expected more than 0 and less than 1.")
        if self.stream and (self.drawn is not None or self.more_folders):
            raise ValueError("A stream takes the place of folders: leave out more_folders and drawn, or the stream.")

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders of photos."""
        return (self.folder, *self.more_folders)

    def sample_settings(self) -> dict[str, Any]:
        """The settings on which the samples depend: all but where the pictures lie and who loads them."""
        settings = dataclasses.asdict(self)
        ignored = ["folder", "more_folders", "drawn", "num_workers"]
        for name in ignored if self.drawn is not None else [*ignored, "drawn_share"]:
            del settings[name]
        return settings


@dataclass(frozen=True, kw_only=True)
class TaughtConfig:
    """A pixel teacher, and its pictures, computed once and kept (`training.teachers.taught`)."""

    teacher: str = ""
    """A network's file (.safetensors, .pth, or ncnn's .param), the folder or hub id of a GenDR, or a folder of
    finished outputs. Empty: no pixel teacher."""
    folder: Path | None = None
    """Where its pictures are kept, for all runs with the same data. None: `taught` in the run's folder."""
    crop_px: int = 256
    """Side of the crops that it sees; a sample is a random part of one, of `data.crop_px`."""
    count: int = 4096
    """Different crops; when all have been used, they are used again with other parts and flips."""
    uses: int = 8
    """Samples taken of a crop before the next ones are needed."""
    seed: int = 0
    """Seed of the crops: runs with other seeds of their own share them."""
    more: tuple[Path, ...] = ()
    """Filled stores of other photos or teachers (folders that `training targets` has printed), whose crops join
    these, each store with the share that its size gives it."""

    def __post_init__(self) -> None:
        if self.crop_px < 8 or self.crop_px % 8:
            raise ValueError(f"taught.crop_px is {self.crop_px}, expected a positive multiple of 8.")
        if self.count < 1 or self.uses < 1:
            raise ValueError(f"taught.count is {self.count} and taught.uses {self.uses}, expected at least 1 of each.")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """What every stage's loop shares."""

    steps: int = 1000
    batch: int = 4
    """Samples for each process and micro-step."""
    accumulate: int = 1
    """Micro-steps whose gradients are added before an optimiser step."""
    seed: int = 0
    learning_rate: float = 2e-4
    final_learning_rate: float = 1e-6
    """Reached by a cosine at the last step."""
    warmup_steps: int = 50
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    sample_every: int = 200
    """Steps between validations: held-out PSNR and a sample grid. 0 turns them off."""
    tracker: Literal["tensorboard", "none"] = "tensorboard"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1.")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """The settings common to all stages."""

    preset: str
    model: str = "mini"
    """Model family of `gendrpix.specs`."""
    run: Path = Path()
    """Folder of the run: resolved config, checkpoints, log, samples, exported weights."""
    resume: bool = True
    """Go on from the run folder's last complete checkpoint, if it has one."""
    dry_run: bool = False
    """Print the settings, sizes, memory and speed to expect, and stop."""
    data: DataConfig = field(default_factory=DataConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    taught: TaughtConfig = field(default_factory=TaughtConfig)
    """A pixel teacher; used by the stages `finest`, `pix` and `teacher`, and by `adc` for its crops alone."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(StageConfig):
    """Reconstruction of clean crops; sets the latents' scale when it ends."""

    start: str = "principal"
    """"principal": weights that compute the principal components of 8 x 8 patches (`training.initializers.pca`);
    "random"; or the folder or hub id of an autoencoder to continue."""
    decoder_only: bool = False
    """Leave the encoder, and so the latents that restorers have learnt, as they are in `start`."""
    start_crops: int = 512
    """Crops from which the principal components are taken."""
    l1_weight: float = 1.0
    l2_weight: float = 2.0
    """Weight of the mean squared error, which the reported PSNR follows."""
    mfs_weight: float = 0.1
    """Weight of the masked Fourier loss, which keeps an 8-pixel pattern out of what is decoded."""
    harmonics_weight: float = 0.0
    """Weight of the squared error in the same bins (`training.losses.pixel.harmonics_loss`), in which every
    pattern is an error."""

    def __post_init__(self) -> None:
        if self.decoder_only and self.start in ("principal", "random"):
            raise ValueError("decoder_only keeps an encoder, and there is none: pass --start with an autoencoder.")


@dataclass(frozen=True, kw_only=True)
class BaseConfig(StageConfig):
    """A text-to-image UNet turned into a 16-channel-latent one: new ends, then the ordinary denoising objective."""

    source: str = ""
    """Folder or hub id of a Stable Diffusion 2.1 in diffusers' layout (`gendrpix.weights.source.MIRRORS` names some).
    Empty: random weights of the model family's geometry, and seeded prompt embeddings."""
    autoencoder: str = ""
    """Folder or hub id of the autoencoder whose latents are learnt."""
    positive_prompt: str = "a sharp, detailed, high-quality photo"
    """Text of `c_pos`, encoded once by the source's own text encoder."""
    negative_prompt: str = "a blurry, noisy, low-quality photo with compression artefacts"
    """Text of `c_neg`, with which the degraded pictures are learnt."""
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    """What a UNet from random weights predicts; a source's scheduler says it itself."""
    alignment_weight: float = 0.0
    """Weight of representation alignment (`training.losses.alignment`); its paper uses 0.5. 0: off."""
    alignment_encoder: str = ""
    """Folder or hub id of the vision transformer to align with, such as facebook/dinov2-base."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig(StageConfig):
    """What every stage with a discriminator shares: small trained heads over a frozen UNet's features."""

    adversarial_weight: float = 0.05
    """Weight of `softplus(-Disc)`; lambda 1 of arXiv 2602.10630."""
    adversarial_start: int = 0
    """Step from which the discriminator is trained and felt."""
    discriminator_learning_rate: float = 1e-3
    """Constant rate of the heads, which begin at random weights at every size of the student."""
    head_channels: int = 64
    whitening_crops: int = 256
    """Real crops by whose features the discriminator's inputs are whitened, once, before training."""
    pattern_tokens: int = 0
    """Side in patches over which the restorer takes away what repeats every 8 pixels
    (`gendrpix.models.pattern.without_pattern`): written into the exported weights. In the stage `pix` the losses see
    the result of that, so that none of them rewards a pattern; in the others it is no part of the training. 0 as in
    the paper."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(DiscriminatorConfig):
    """The one-step GenDR: supervised on latents and pixels, and, with a base model, adversarial and distilled."""

    autoencoder: str = ""
    """Folder or hub id of the autoencoder."""
    base: str = ""
    """Folder or hub id of a base model, as the stage `base` exports it: the start, the real-score network and the
    discriminator's backbone."""
    start: str = ""
    """Folder or hub id of a GenDR to continue, with its prompt embeddings. Empty: the base, else random weights."""
    body: str = ""
    """Folder or hub id of a GenDR-Pix whose UNet, with other ends, is the start
    (`training.initializers.transplant`)."""
    fit_crops: int = 256
    """Crops to which those ends are fitted by least squares."""
    backbone: Literal["none", "base"] = "none"
    """Whose frozen features the discriminator sees. It takes latents; real is the truth."""
    score: Score = "none"
    """Score distillation (`training.losses.score_distillation`): none, or a term for which `base` is needed."""
    score_weight: float = 1.0
    score_alpha: float = 1.0
    """Share of the Fisher divergence that SiD and CiD take off again; SiD's paper uses 1 and 1.2."""
    score_timesteps: tuple[int, int] = (20, 980)
    """Lowest, and one above the highest, timestep of the noise under which the scores are compared."""
    fake_learning_rate: float = 1e-4
    """Of the fake-score network, which follows the student's outputs, and of the real-score one where it is trained."""
    lora_rank: int = 0
    """Rank of the score networks' adapters (needs peft). 0: the whole network is trained, and held twice."""
    lora_alpha: int = 0
    """The adapters' outputs count alpha / rank times; GenDR's paper has alpha 128 at rank 64. 0: as the rank."""
    score_guidance: float = 1.0
    """Classifier-free guidance of the real-score network's clean latents, between `c_neg` and `c_pos`. 1: none."""
    train_real: bool = False
    """Train the real-score network too, on the truth's latents, as GenDR's paper does. It starts as the base."""
    alpha_bar: float = 0.0
    """Squared signal level of the one step, written into the weights; the squared noise level is the rest to 1. GenDR's
    paper takes 0.5. 0: that of the timestep, or of the weights in `start`."""
    timestep: int = -1
    """The timestep that the UNet is told, written into the weights. -1: the model family's, or that of `start`."""
    alignment_weight: float = 0.0
    """Weight of representation alignment (`training.losses.alignment`) of the student. 0: off."""
    alignment_encoder: str = ""
    """Folder or hub id of the vision transformer to align with, such as facebook/dinov2-base."""
    latent_weight: float = 1.0
    """Weight of `|z_gt - z|_1`."""
    pixel_weight: float = 2.0
    """Weight of `|y_gt - D(z)|_1`."""
    pixel_crop_px: int = 96
    """Side of the part of each crop that is decoded for the pixel term, a multiple of 8."""

    def __post_init__(self) -> None:
        low, high = self.score_timesteps
        if not 0 <= low < high <= 1000:
            raise ValueError(f"score_timesteps is {low} {high}, expected 0 <= low < high <= 1000.")
        if self.body and (self.start or self.base):
            raise ValueError("body, start and base are three ways to begin; pass one of them.")
        if self.body and self.fit_crops < 1:
            raise ValueError(f"fit_crops is {self.fit_crops}, expected at least 1 to fit the ends of --body.")
        if self.lora_rank < 0 or self.lora_alpha < 0:
            raise ValueError(f"lora_rank is {self.lora_rank} and lora_alpha {self.lora_alpha}, expected 0 or more.")
        if not 0.0 <= self.alpha_bar <= 1.0 or not -1 <= self.timestep < 1000:
            raise ValueError(
                f"alpha_bar is {self.alpha_bar} and timestep {self.timestep}, expected 0 to 1 and -1 to 999."
            )


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(DiscriminatorConfig):
    """What the two stages of distillation share."""

    teacher: str = ""
    """Folder or hub id of the GenDR pipeline."""
    distill_weight: float = 1.0
    """Weight of the L1 distance to the teacher."""
    backbone: Backbone = "gendr"
    """Whose frozen features the discriminator sees. "start", in the stage `pix` alone: those of the weights in
    `--start`; a GenDR-Adc whose first layer was fitted to latents hears little of what these leave out."""
    truth_weight: float = 0.0
    """Weight of `|y_gt - y_stu|_1` (or of the latents', where the student writes latents)."""
    real: RealImage = "teacher"
    """What the discriminator is shown as real, and what the perceptual and the pattern's losses compare with."""
    fit_crops: int = 512
    """Crops to which the UNet's ends are fitted by least squares before training: both in `adc`, `conv_out` in `pix`.
    0: a replaced end begins with fresh random (or, for `conv_out` in the residual form, zero) weights."""
    target_cache: Path | None = None
    """Folder where the teacher's targets are kept between runs (`training.loop.teacher_cache`). None: computed
    each time."""


@dataclass(frozen=True, kw_only=True)
class AdcConfig(AdversarialConfig):
    """Stage I: `L = |z_tea - z_stu|_1 + l1 * softplus(-Disc(z_stu))` (arXiv 2602.10630)."""


@dataclass(frozen=True, kw_only=True)
class FinestConfig(StageConfig):
    """GenDR-Pix's finest level alone, its weights shared between the quarters of a patch: a fast start for `pix`."""

    start: str = ""
    """Folder or hub id of a GenDR-Pix whose finest level is to go on; the rest loses its say. Empty: random weights."""
    padded_probability: float = 0.0
    """Share of the steps in which the network restores pictures padded by random offsets, as in `PixConfig`."""
    truth_weight: float = 1.0
    """Weight of the L1 distance to the truth."""
    distill_weight: float = 1.0
    """Weight of the L1 distance to the pixel teacher's picture, where one is named."""
    perceptual: Perceptual = "none"
    perceptual_weight: float = 1.0
    """Weight of the perceptual distance to the pixel teacher's picture, where one is named, else to the truth."""


@dataclass(frozen=True, kw_only=True)
class PixConfig(AdversarialConfig):
    """Stage II: `L = |y_tea - y_stu|_1 + l1 softplus(-Disc(y_stu)) + l2 L_P + l3 L_F` (arXiv 2602.10630)."""

    adc: str = ""
    """Folder of the GenDR-Adc pipeline: the student's start and the discriminator's backbone."""
    start: str = ""
    """Folder of a GenDR-Pix pipeline to continue instead of starting from GenDR-Adc."""
    perceptual: Perceptual = "encoder"
    perceptual_weight: float = 1.0
    """Lambda 2 of the paper."""
    perceptual_zoom: tuple[float, float] = (1.0, 1.0)
    """Range of a random reduction of both pictures before the perceptual loss, so that it, too, cannot be pleased by
    one pattern at one scale (the idea of E-LPIPS, arXiv 1906.03973)."""
    mfs_weight: float = 0.1
    """Lambda 3 of the paper."""
    mfs_radius: int = 1
    mfs_sided: Literal["both", "above"] = "both"
    """Whether MFS counts amplitudes that differ from the reference's, as in the paper, or only those above them: a
    student that is too smooth pleases the first by writing a pattern, and gains nothing from the second."""
    harmonics_weight: float = 0.0
    """Weight of the squared error in MFS's bins (`training.losses.pixel.harmonics_loss`), as in the autoencoder's
    stage."""
    shift_weight: float = 0.0
    """Weight of the L1 distance between the results of the same picture at two offsets to the 8-pixel grid
    (`training.losses.pixel.shift_loss`); costs one more forward pass."""
    finish_crops: int = 0
    """Crops to which `conv_out` is fitted once more by least squares when training ends, near where it stands: takes
    out the 8-pixel pattern that noisy steps leave. 0: not."""
    padded_probability: float = 0.0
    """Share of the steps in which the student restores pictures padded by random offsets, as PadCFG will ask of it: it
    meets the odd sizes and all phases of the 8-pixel grid. 0 as in the paper."""
    share_quarters: bool = False
    """Keep the finest level's weights shared between the quarters of a patch, as the stage `finest` leaves them."""
    negative_target: Literal["input", "truth"] = "input"
    """What a sample with `c_neg` learns: its own degraded input, from which guidance then leads away; or the truth, in
    place of the teacher's picture too and without the perceptual term, so that guidance leads from fidelity to
    sharpness."""
    randpad: bool = True
    """Shift the discriminator's and the perceptual loss's view at random against the 8-pixel grid."""

    def __post_init__(self) -> None:
        low, high = self.perceptual_zoom
        if not 0.0 < low <= high <= 1.0:
            raise ValueError(f"perceptual_zoom is {low} {high}, expected 0 < low <= high <= 1.")
        if self.backbone == "start" and not self.start:
            raise ValueError('backbone is "start" and nothing is started from: pass --start, or take "adc".')
        if not 0.0 <= self.padded_probability <= 1.0:
            raise ValueError(f"padded_probability is {self.padded_probability}, expected 0 to 1.")
