"""Where weights are found, and the sentence where they are not."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderDC

from gendrpix.weights import load
from gendrpix.weights.load import find_folder, find_restorer_folder, load_autoencoder
from tests.helpers.models import save_tiny_family, tiny_autoencoder


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_family(tmp_path_factory.mktemp("family"), names=("gendr-pix",))


def test_a_folder_a_bundled_name_and_nothing_else(
    family: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "micro").mkdir()
    monkeypatch.setattr(load, "BUNDLED", tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    assert find_folder(family) == family
    assert find_folder("micro") == tmp_path / "micro"
    for nowhere in ("nobody/nothing", "no such folder", str(tmp_path / "missing")):
        with pytest.raises(ValueError, match="no folder here, no bundled model"):
            find_folder(nowhere)


def test_a_restorer_lies_in_the_family_or_is_the_folder_itself(family: Path) -> None:
    assert find_restorer_folder("gendr-pix", family) == family / "gendr-pix"
    assert find_restorer_folder("gendr-pix", family / "gendr-pix") == family / "gendr-pix"
    with pytest.raises(ValueError, match=r"no weights of gendr-adc.*--weights"):
        find_restorer_folder("gendr-adc", family)
    with pytest.raises(ValueError, match="expected one of gendr, gendr-adc, gendr-pix"):
        find_restorer_folder("gendr-max", family)


def test_an_autoencoder_comes_back_as_its_class_and_dtype(family: Path) -> None:
    loaded = load_autoencoder(family / "autoencoder", torch.bfloat16)
    assert isinstance(loaded, AutoencoderDC)
    assert loaded.dtype == torch.bfloat16
    exact = load_autoencoder(family / "autoencoder").state_dict()
    assert all(torch.equal(weight, exact[name]) for name, weight in tiny_autoencoder().state_dict().items())


def test_a_folder_that_is_no_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "Evil"}))
    with pytest.raises(ValueError, match="names the class 'Evil'; expected one of AutoencoderKL, AutoencoderDC"):
        load_autoencoder(tmp_path)


def test_weights_are_never_unpickled(family: Path, tmp_path: Path) -> None:
    """A folder with a pickle in place of safetensors is refused, whatever the pickle would run."""
    (tmp_path / "config.json").write_text((family / "autoencoder" / "config.json").read_text())
    torch.save(tiny_autoencoder().state_dict(), tmp_path / "diffusion_pytorch_model.bin")
    with pytest.raises((OSError, ValueError)):
        load_autoencoder(tmp_path)
