"""Uploading to a stand-in of the hub's API, and loading what was uploaded; format versions."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from huggingface_hub import RepoCard, RepoUrl
from huggingface_hub.errors import HfHubHTTPError

from gendrpix import load_restorer, open_picture
from gendrpix.specs import FORMAT_VERSION
from tests.helpers.models import save_tiny_family, tiny_pipeline
from tests.helpers.pictures import photo

REPO = "someone/restorer"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which each uploaded repository lies, and what was asked for in calls.json."""
    folder = tmp_path / "hub"
    calls: list[dict[str, Any]] = []

    def create_repo(self: object, repo_id: str, **options: Any) -> RepoUrl:
        calls.append(options)
        (folder / repo_id).mkdir(parents=True, exist_ok=options["exist_ok"])
        (folder / "calls.json").write_text(json.dumps(calls))
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload_folder(self: object, *, repo_id: str, folder_path: str, **options: Any) -> None:
        shutil.copytree(folder_path, folder / repo_id, dirs_exist_ok=True)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    return folder


@pytest.mark.parametrize("name", ["gendr-adc", "gendr-pix"])
def test_what_was_uploaded_restores_the_same_pixels(hub: Path, tmp_path: Path, name: str) -> None:
    family = save_tiny_family(tmp_path / "family")
    pipeline = load_restorer(name, family)  # GenDR-Adc's autoencoder lies beside: it must go along
    assert pipeline.push_to_hub(REPO, private=True, licence="apache-2.0") == f"https://huggingface.co/{REPO}"
    assert json.loads((hub / "calls.json").read_text()) == [{"private": True, "exist_ok": True}]
    again = load_restorer(name, hub / REPO)
    picture = open_picture(photo())
    ours, theirs = (one(picture, scale=2, output_type="pt").images for one in (pipeline, again))
    assert torch.equal(ours, theirs)
    card = RepoCard.load(hub / REPO / "README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "diffusers"
    assert f'load_restorer("{name}", weights="{REPO}")' in card.text


def test_the_card_beside_the_weights_goes_along(hub: Path, tmp_path: Path) -> None:
    folder = save_tiny_family(tmp_path / "family", ("gendr-pix",)) / "gendr-pix"
    (folder / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\n\n# Mine\n\nTrained on my photos.\n")
    load_restorer("gendr-pix", folder).push_to_hub(REPO)
    card = RepoCard.load(hub / REPO / "README.md")
    assert card.data.license == "cc-by-sa-4.0"
    assert "Trained on my photos." in card.text and "load_restorer(" in card.text


def test_a_refusal_is_one_sentence(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, *args: Any, **options: Any) -> None:
        raise HfHubHTTPError("401 with a long page", response=httpx.Response(401, request=httpx.Request("POST", "x:")))

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(ValueError, match=r"could not be uploaded .*; check the name, the network, and that you are"):
        tiny_pipeline("gendr-pix").push_to_hub(REPO)
    with pytest.raises(ValueError, match="call push_to_hub"):
        tiny_pipeline("gendr-pix").save_pretrained("nowhere", push_to_hub=True)
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(("version", "remedy"), [(FORMAT_VERSION - 1, "Export"), (FORMAT_VERSION + 1, "Upgrade")])
def test_another_format_version_is_named(hub: Path, version: int, remedy: str) -> None:
    tiny_pipeline("gendr-pix").push_to_hub(REPO)
    index = hub / REPO / "model_index.json"
    saved = json.loads(index.read_text())
    assert saved["format_version"] == FORMAT_VERSION
    index.write_text(json.dumps({**saved, "format_version": version}))
    with pytest.raises(ValueError, match=rf"format version {version}.*reads version {FORMAT_VERSION}.*{remedy}"):
        load_restorer("gendr-pix", hub / REPO)
