"""The weight files of learned metrics: those bundled here, and whether the others can be downloaded."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from gendrpix.files import ASSETS
from gendrpix.metrics.registry import BUNDLED_LPIPS_NET, LpipsNet

PROBE_TIMEOUT_S = 5.0
"""How long the server of missing weights may take to answer before they count as out of reach."""
BUNDLED_LPIPS = ASSETS / "metrics" / f"lpips-{BUNDLED_LPIPS_NET}.safetensors"


def load_lpips(net: LpipsNet, device: torch.device, **options: Any) -> Any:
    """pyiqa's LPIPS with that trunk: from the bundled weights where they are its, else as pyiqa finds them.

    options: others of `pyiqa.create_metric`. Raises OSError or RuntimeError where the weights cannot be had.
    """
    import pyiqa

    if net != BUNDLED_LPIPS_NET:
        return pyiqa.create_metric("lpips", net=net, device=device, **options)
    made = pyiqa.create_metric("lpips", net=net, device=device, pretrained=False, pnet_rand=True, **options)
    stored, state = load_file(BUNDLED_LPIPS), made.net.state_dict()
    for key in state:
        part, _, rest = key.partition(".")
        if part == "net":  # net.slice2.3.squeeze.weight <= features.3.squeeze.weight
            state[key] = stored[f"features.{rest.partition('.')[2]}"]
        elif part == "lins":  # the same tensors as lin0 to lin6, listed a second time
            state[key] = stored[f"lin{rest}"]
        elif part.startswith("lin"):
            state[key] = stored[key]
    made.net.load_state_dict(state)
    return made


def weight_files(name: str, lpips_net: LpipsNet = BUNDLED_LPIPS_NET) -> dict[Path, str]:
    """The files, each with its address, that pyiqa reads for a metric; it downloads those that are not there.

    Nothing for LPIPS with the bundled trunk.
    """
    from pyiqa.utils.download_util import DEFAULT_CACHE_DIR

    urls: list[str] = []
    files: dict[Path, str] = {}
    if name == "musiq":
        from pyiqa.archs.musiq_arch import default_model_urls as musiq_urls

        urls = [musiq_urls["koniq10k"]]
    elif name == "niqe":
        from pyiqa.archs.niqe_arch import default_model_urls as niqe_urls

        urls = [niqe_urls["url"]]
    elif name == "dists":
        from pyiqa.archs.dists_arch import default_model_urls as dists_urls
        from torchvision import models

        files.update([_trunk_file(models.VGG16_Weights.IMAGENET1K_V1.url)])
        urls = [dists_urls["url"]]
    elif name == "clipiqa":
        from pyiqa.archs.clip_model import _MODELS as clip_urls

        trunk = clip_urls["RN50"]
        files[Path(torch.hub.get_dir()) / "clip" / trunk.rsplit("/", 1)[-1]] = trunk
    elif name == "maniqa":
        from pyiqa.archs.maniqa_arch import default_model_urls as maniqa_urls

        files.update([_timm_file("vit_base_patch8_224")])
        urls = [maniqa_urls["pipal"]]
    elif name == "lpips" and lpips_net != BUNDLED_LPIPS_NET:
        from pyiqa.archs.lpips_arch import default_model_urls as lpips_urls
        from torchvision import models

        trunks = {
            "alex": models.AlexNet_Weights.IMAGENET1K_V1,
            "vgg": models.VGG16_Weights.IMAGENET1K_V1,
        }
        files.update([_trunk_file(trunks[lpips_net].url)])
        urls = [lpips_urls[f"0.1_{lpips_net}"]]
    files.update({Path(DEFAULT_CACHE_DIR) / url.rsplit("/", 1)[-1]: url for url in urls})
    return files


def _trunk_file(url: str) -> tuple[Path, str]:
    """Where torchvision keeps the weights of that address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1], url


def _timm_file(model: str) -> tuple[Path, str]:
    """Where timm keeps a model's default weights, which it takes from the hub."""
    import timm

    config = timm.get_pretrained_cfg(model, allow_unregistered=False)
    assert config is not None and config.hf_hub_id is not None
    repository, file = config.hf_hub_id, "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, file)
    path = Path(cached) if isinstance(cached, str) else Path(constants.HF_HUB_CACHE) / repository / file
    return path, huggingface_hub.hf_hub_url(repository, file)


def check_reachable(url: str) -> None:
    """Raise OSError unless the server of `url` answers soon, or if HF_HUB_OFFLINE forbids downloads."""
    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    if not url.startswith("https://"):
        raise OSError(f"{url} is no https address")
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "gendrpix"})  # noqa: S310 - https
    with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S):  # noqa: S310 - checked above
        pass
