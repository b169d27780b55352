"""What the code of the packages never does: unpickle, trust remote code, evaluate text, run a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "gendrpix").rglob("*.py"), *(ROOT / "training").rglob("*.py"), ROOT / "app.py"])
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "telnetlib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "torch.hub.load"}


def faults(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        if isinstance(node, ast.Call):
            yield from call_faults(ast.unparse(node.func), {word.arg: word.value for word in node.keywords})


def call_faults(name: str, words: dict[str | None, ast.expr]) -> Iterator[str]:
    def given(word: str) -> object:
        value = words.get(word)
        return value.value if isinstance(value, ast.Constant) else None

    if name in FORBIDDEN_CALLS:
        yield f"calls {name}"
    if name == "torch.load" and given("weights_only") is not True:
        yield "calls torch.load without weights_only=True"
    if name in ("np.load", "numpy.load") and given("allow_pickle") is not False:
        yield "calls numpy.load without allow_pickle=False"
    if "trust_remote_code" in words or "custom_pipeline" in words:
        yield f"{name} trusts remote code"
    if given("shell") is True:
        yield f"{name} runs a shell"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_runs_no_foreign_code(path: Path) -> None:
    assert list(faults(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "kind.from_pretrained(x, trust_remote_code=True)",
        "eval(text)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_the_scan_sees(code: str) -> None:
    assert len(list(faults(ast.parse(code)))) == 1
