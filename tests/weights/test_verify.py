"""Weights from strangers: what is refused, and that nothing was run or allocated before."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gendrpix.files import digest_file
from gendrpix.restore.pipelines import GenDRPipeline, GenDRPixPipeline, load_restorer
from gendrpix.weights import load
from gendrpix.weights.load import BUNDLED, load_autoencoder
from gendrpix.weights.verify import SUMS_FILE, WeightsError, check_sums, read_config, read_shapes, write_sums
from tests.helpers.models import save_tiny_family, tiny_autoencoder
from tests.helpers.pictures import assert_sentence

UNET = "gendr-pix/unet/diffusion_pytorch_model.safetensors"
CONFIG = "gendr-pix/unet/config.json"
INDEX = "gendr-pix/model_index.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_family(tmp_path_factory.mktemp("saved"), names=("gendr", "gendr-pix"))


@pytest.fixture
def family(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "family")


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the checks fails the test."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("loaded before it was refused")

    monkeypatch.setattr("gendrpix.weights.load.load_file", forbidden)
    monkeypatch.setattr("diffusers.UNet2DConditionModel.from_pretrained", forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    monkeypatch.setattr(pickle, "loads", forbidden)


class Bomb:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def refusal(folder: Path, restorer: str = "gendr-pix") -> str:
    with pytest.raises(WeightsError) as caught:
        load_restorer(restorer, folder)
    assert_sentence(str(caught.value))
    return str(caught.value)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# Files that are no safetensors ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("file", [UNET, "gendr-pix/prompts.safetensors"])
def test_a_pickle_by_another_name_is_not_opened(family: Path, tmp_path: Path, file: str, zipped: bool) -> None:
    bomb = {"prompts": Bomb(tmp_path / "ran")}
    torch.save(bomb, family / file) if zipped else (family / file).write_bytes(pickle.dumps(bomb))
    with pytest.MonkeyPatch.context() as patch:
        if file == UNET:
            patch.setattr("gendrpix.restore.pipelines.load_prompts", lambda _: torch.zeros(2, 3, 16))
        assert "is a pickle, which can run code" in refusal(family)
    assert not (tmp_path / "ran").exists()


def header(length: int | None = None, **tensors: object) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short"),
        (b"\0" * 8, "cut short"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<html>not found</html>", "no safetensors"),
        (header(2**62), "header of 4,611,686,018,427,387,904 bytes"),
        (header(9_999_999), "damaged or cut short"),
        (header(a={"dtype": "F16", "shape": [10**6, 10**6], "data_offsets": [0, 2 * 10**12]}), "damaged or cut short"),
        (header(a={"dtype": "F16", "shape": [2**40, 2**40], "data_offsets": [0, 2]}) + b"00", "damaged or cut short"),
        (header(a={"dtype": "F16", "shape": [-1], "data_offsets": [0, 2]}) + b"00", "damaged or cut short"),
        (header(a={"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}) + bytes(8), "holds I64"),
        (header(a={"dtype": "object", "shape": [1], "data_offsets": [0, 8]}) + bytes(8), "damaged or cut short"),
    ],
)
def test_hostile_headers(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_shapes(path)
    assert_sentence(str(caught.value))
    assert words in str(caught.value)


def test_a_file_with_holes_of_terabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    side = 10**5
    path.write_bytes(header(a={"dtype": "F16", "shape": [side, side], "data_offsets": [0, 2 * side**2]}))
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size + 2 * side**2)  # 20 GB that take no place on the disk
    with pytest.raises(WeightsError, match="10,000,000,000 numbers and the limit is 4,000,000,000"):
        read_shapes(path)


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, -1])
def test_truncated_weights(family: Path, kept: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gendrpix.restore.pipelines.load_prompts", lambda _: torch.zeros(2, 3, 16))
    data = (family / UNET).read_bytes()
    (family / UNET).write_bytes(data[: int(len(data) * kept) if kept == 0.5 else int(kept)])
    assert "cut short" in refusal(family)


def test_missing_weights_are_not_looked_for_as_pickles(family: Path) -> None:
    torch.save(load_file(family / UNET), (family / UNET).with_name("diffusion_pytorch_model.bin"))
    (family / UNET).unlink()
    assert "only safetensors are loaded" in refusal(family)


# What does not fit ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda tensors: tensors.pop("conv_in.bias"), "lacks 'conv_in.bias' (1 such)"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "has, unasked, 'extra' (1 such)"),
        (lambda tensors: tensors.update({"conv_in.bias": torch.zeros(7)}), "conv_in.bias of shape (7,)"),
        (lambda tensors: tensors.clear(), "lacks"),
    ],
)
def test_keys_and_shapes_are_strict(
    family: Path, edit: Callable[[dict], object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gendrpix.restore.pipelines.load_prompts", lambda _: torch.zeros(2, 3, 16))
    tensors = load_file(family / UNET)
    edit(tensors)
    save_file(tensors, family / UNET)
    assert words in refusal(family)


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "Evil"}, "names the class 'Evil'"),
        ({"_class_name": ["evil_module", "Evil"]}, "expected UNet2DConditionModel"),
        ({"in_channels": 10**12}, "in_channels = '1000000000000'"),
        ({"block_out_channels": [65_536, 65_536]}, "expected exactly what"),
        ({"cross_attention_dim": 65_536}, "of shape"),
        ({"block_out_channels": [32] * 17}, "lists up to 16 long"),
        ({"layers_per_block": 10**5}, "layers up to 16"),
        ({"transformer_layers_per_block": [[999]]}, "layers up to 16"),
        ({"norm_num_groups": float("nan")}, "norm_num_groups = 'nan'"),
        ({"down_block_types": ["os.system", "DownBlock2D"]}, "describes no UNet2DConditionModel"),
        ({"act_fn": {"a": 1}}, "plain values"),
        ({"block_out_channels": []}, "describes no UNet2DConditionModel"),
    ],
)
def test_hostile_configurations(
    family: Path, changes: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gendrpix.restore.pipelines.load_prompts", lambda _: torch.zeros(2, 3, 16))
    change(family / CONFIG, **changes)
    assert words in refusal(family)


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"_class_name": "StableDiffusionPipeline"}, "is not that of a GenDRPixPipeline"),
        ({"_class_name": ["pipeline", "Evil"]}, "is not that of a GenDRPixPipeline"),
        ({"unet": ["evil", "Model"]}, "names other parts"),
        ({"vae": ["subprocess", "Popen"]}, "names other parts"),
        ({"tokenizer": ["transformers", "CLIPTokenizer"]}, "no proper 'tokenizer'"),
        ({"shared_vae": "../../../etc"}, "expected ../NAME"),
        ({"shared_vae": "/etc"}, "expected ../NAME"),
        ({"timestep": "500"}, "no proper 'timestep'"),
        ({"model": ["mini"]}, "no proper 'model'"),
    ],
)
def test_an_index_names_nothing_foreign(family: Path, changes: dict[str, object], words: str) -> None:
    """diffusers would import modules by the names in it, and run Python files beside it."""
    for place in (family / "gendr-pix", family / "gendr-pix/unet"):
        for name in ("evil.py", "pipeline.py", "Model.py"):
            (place / name).write_text("raise SystemExit('this was run')")
    change(family / INDEX, **changes)
    assert words in refusal(family)


def test_configurations_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for content, words in (
        (b"{", "cannot be read as JSON"),
        (b"[1]", "holds a list"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 200_000, "cannot be read as JSON"),
        (b" " * 1_000_001, "larger than 1,000,000 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=words) as caught:
            read_config(path)
        assert_sentence(str(caught.value))


def test_prompts_are_one_tensor(family: Path) -> None:
    save_file({"prompts": torch.zeros(2, 3, 16), "more": torch.zeros(1)}, family / "gendr-pix/prompts.safetensors")
    assert "expected the one tensor 'prompts'" in refusal(family)


def test_another_restorers_folder_and_autoencoder(family: Path) -> None:
    with pytest.raises(WeightsError, match="is not that of a GenDRPipeline"):
        GenDRPipeline.from_pretrained(family / "gendr-pix")
    change(family / "autoencoder/config.json", decoder_block_out_channels=[8, 8, 16, 32])
    with pytest.raises(WeightsError, match="of shape"):
        load_autoencoder(family / "autoencoder")
    own = tiny_autoencoder()
    assert GenDRPipeline.from_pretrained(family / "gendr", vae=own).vae is own


# Hashes ---------------------------------------------------------------------------------------------------------------


def test_the_bundled_weights_are_those_of_their_list() -> None:
    for folder in sorted(path for path in (BUNDLED / "mini").iterdir() if path.is_dir()):
        check_sums(folder, required=True)
        for config in folder.rglob("*.json"):
            assert "_name_or_path" not in json.loads(config.read_text()), "it tells of the machine"


def test_one_changed_bit_is_found(family: Path) -> None:
    write_sums(family)
    assert isinstance(load_restorer("gendr-pix", family), GenDRPixPipeline)
    data = bytearray((family / UNET).read_bytes())
    data[-1] ^= 1
    (family / UNET).write_bytes(data)
    assert "is another file than the one listed there" in refusal(family)
    load_restorer("gendr", family)
    change(family / "autoencoder/config.json", scaling_factor=0.5)
    assert "autoencoder/config.json" in refusal(family, "gendr")


def test_what_is_missing_or_added_is_found(family: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sums(family)
    (family / "gendr-pix/more.safetensors").write_bytes((family / UNET).read_bytes())
    assert "more.safetensors do not agree: it is not listed there" in refusal(family)
    (family / "gendr-pix/more.safetensors").unlink()
    (family / UNET).unlink()
    assert "it is missing" in refusal(family)
    (family / SUMS_FILE).write_text("no list\n")
    assert "no list of SHA-256" in refusal(family)
    (family / SUMS_FILE).unlink()
    monkeypatch.setattr(load, "BUNDLED", family.parent)
    assert f"has no {SUMS_FILE}" in refusal(family)


def test_the_list_is_one_that_sha256sum_reads(family: Path) -> None:
    lines = write_sums(family).read_text().splitlines()
    assert f"{digest_file(family / UNET)}  {UNET}" in lines
    assert not any(SUMS_FILE in line for line in lines)
