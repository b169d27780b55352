"""`make space`: the folder it assembles starts the page, and what would not work on the hub is refused."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="not a git checkout")


def load_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("space", ROOT / "deploy" / "space.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


space = load_module()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The small files that the checks read."""
    for name in ("README.md", "app.py", "requirements.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def check(folder: Path) -> None:
    requirements = space.read_requirements(folder / "requirements.txt")
    space.check_front_matter(folder, requirements, space.SpecifierSet(">=3.11,<3.14"))


def test_the_real_space_is_assembled_and_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert space.main([str(tmp_path / "space")]) == 0, capsys.readouterr().err
    assert "start: good" in capsys.readouterr().out
    tops = {path.name for path in (tmp_path / "space").iterdir()}
    assert {"app.py", "README.md", "LICENSE", "requirements.txt", "gendrpix", "assets", ".gitattributes"} <= tops
    assert not tops & {"tests", "training", "Makefile"}
    assert space.main([str(tmp_path / "space")]) == 1
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('sdk_version: "6.', 'sdk_version: "5.', "sdk_version is '5."),
        ('python_version: "3.11"', "python_version: 3.11", "expected a quoted version"),
        ("colorFrom: indigo", "colorFrom: teal", "colour 'teal' is unknown"),
        ("app_file: app.py", "app_file: main.py", "expected gradio and a file"),
        ("license: apache-2.0\n", "", "has no license"),
    ],
)
def test_front_matter_that_would_not_work_is_refused(folder: Path, old: str, new: str, sentence: str) -> None:
    check(folder)
    text = (folder / "README.md").read_text()
    assert old in text
    (folder / "README.md").write_text(text.replace(old, new, 1))
    with pytest.raises(space.SpaceError, match=sentence):
        check(folder)


def test_large_files_and_unknown_imports_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = space.read_requirements(folder / "requirements.txt")
    (folder / "gendrpix").mkdir()  # app.py imports it
    (folder / "module.py").write_text("import torch\nimport spaces\nimport PIL.Image\n")
    space.check_imports(folder, requirements)
    (folder / "module.py").write_text("def f():\n    import playwright\n")
    with pytest.raises(space.SpaceError, match=r"module.py imports playwright, which requirements.txt does not bring"):
        space.check_imports(folder, requirements)
    monkeypatch.setattr(space, "LARGE_BYTES", 10)
    (folder / "w.safetensors").write_bytes(b"0" * 11)
    space.check_sizes(folder, [Path("w.safetensors")])
    with pytest.raises(space.SpaceError, match=r"README\.md has"):
        space.check_sizes(folder, [Path("README.md")])
