"""The named endpoints through real clients, on tiny random weights: gradio_client, plain HTTP, MCP."""

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from gendrpix import load_restorer, open_picture
from gendrpix.settings.recipe import Recipe
from gendrpix.settings.restoration import RestoreSettings
from gendrpix.specs import CHOICE_LABELS
from gendrpix.ui.api import ALL
from gendrpix.ui.engine.cancel import StoppedError
from gendrpix.ui.engine.engine import Engine
from gendrpix.ui.page import build_page
from tests.helpers.models import TINY, save_tiny_family
from tests.helpers.pace import scaled
from tests.helpers.pictures import photo as draw_photo

SOON_S = 60
"""What a stopped computation may take to end on a busy machine; it would go on for longer than this."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_family(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def engine(weights: Path) -> Engine:
    return Engine(str(weights))


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    page = build_page(engine)
    page.queue()
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, mcp_server=True)
    yield address.rstrip("/")
    page.close()


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with connect(address) as client:
        yield client


class connect:
    """A client that is closed in the end."""

    def __init__(self, address: str) -> None:
        self.client = Client(address, verbose=False, httpx_kwargs={"timeout": scaled(30)})

    def __enter__(self) -> Client:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    draw_photo(40, 36).save(tmp_path / "my photo.png")
    return tmp_path / "my photo.png"


def decoded(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# What each gives back ----------------------------------------------------------------------------------------------


def test_the_four_are_public_and_typed_and_nothing_else(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/restore", "/compare", "/sweep", "/benchmark"}
    parameters = {one["parameter_name"]: one for one in named["/restore"]["parameters"]}
    assert parameters["restorer"]["type"]["enum"] == ALL == list(CHOICE_LABELS)
    assert parameters["scale"]["type"]["oneOf"] == [{"type": "null"}, {"type": "number"}]
    assert parameters["guidance"]["type"]["oneOf"] == [{"type": "null"}, {"type": "number"}]
    assert not parameters["photo"]["parameter_has_default"]
    assert len(named["/compare"]["returns"]) == 2
    assert all("enlarge" in named[name]["description"] for name in ("/restore",))


def test_restore_gives_the_pixels_of_python_and_their_recipe(client: Client, photo: Path, weights: Path) -> None:
    path = client.predict(handle_file(photo), "gendr-pix", 2.0, 1.5, 1, 2, 3, 4, api_name="/restore")
    how = {"scale": 2.0, "guidance": 1.5, "pos_pad": (1, 2), "neg_pad": (3, 4)}
    [expected] = load_restorer("gendr-pix", weights)(photo, **how).images
    assert np.array_equal(decoded(path), np.asarray(expected))
    recipe = Recipe.from_png(Path(path))
    assert recipe.settings == RestoreSettings(**how, dtype="float32")
    assert len(recipe.weights_sha256) == 64


def test_restore_takes_a_longer_side_and_the_photos_colours(client: Client, photo: Path, weights: Path) -> None:
    path = client.predict(handle_file(photo), size_px=100, color_fix="wavelet", api_name="/restore")
    [expected] = load_restorer("gendr-pix", weights)(photo, scale=2.5, color_fix="wavelet").images
    assert np.array_equal(decoded(path), np.asarray(expected))


def test_compare_gives_files_and_figures(client: Client, photo: Path) -> None:
    files, figures = client.predict(
        photo=handle_file(photo), restorers=["gendr-pix*", "gendr"], scale=2.0, api_name="/compare"
    )
    assert [Image.open(file).size for file in files] == [(80, 72)] * 3
    assert [line["restorer"] for line in figures] == ["input", "gendr", "gendr-pix*"]
    assert figures[2]["speed_relative_to_gendr"] > 0 and figures[1]["peak_bytes"] is not None


def test_sweep_gives_64_scores_once_timed(client: Client, photo: Path) -> None:
    call = {"photo": handle_file(photo), "side": "negative", "pos_rows": 1, "scale": 2.0, "api_name": "/sweep"}
    swept = client.predict(**call)
    scores = np.array(swept["scores"])
    assert scores.shape == (8, 8) and swept["metric"] == "grid" and swept["unit"] == "dB"
    best = swept["best"]
    assert best["score"] == scores.min() == scores[best["rows"], best["columns"]]
    assert swept["paper"] == {"rows": 3, "columns": 3, "score": scores[3, 3]}
    assert swept["other_side"] == [1, 4]
    curve = {point["omega"]: point["score"] for point in swept["omega_curve"]}
    assert curve[1.5] == pytest.approx(scores[3, 3], abs=1e-6)  # the same offsets and omega
    assert swept["seconds"] > 0
    again = client.predict(**call)
    assert again["scores"] == swept["scores"] and again["seconds"] is None  # known: no time is claimed


def test_benchmark_times_or_says_why_not(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("bench.cost", "bench.run", "restore.network"):
        monkeypatch.setattr(f"gendrpix.{module}.MODEL_SPECS", {TINY.name: TINY})
    monkeypatch.setattr("gendrpix.specs.MODEL_SPECS", {TINY.name: TINY})
    monkeypatch.setattr("gendrpix.bench.environment.CEILING_SIDE", {"cpu": 64})
    call = {"restorers": ["gendr-pix", "gendr-pix*"], "repeats": 2, "api_name": "/benchmark"}
    result = client.predict(sizes=[32, 64], **call)
    cases = result["cases"]
    assert [(case["name"], case["width_px"]) for case in cases] == [
        ("gendr-pix", 32), ("gendr-pix", 64), ("gendr-pix*", 32), ("gendr-pix*", 64),
    ]  # fmt: skip
    assert all(len(case["all_seconds"]) == 2 and case["reason"] is None for case in cases)
    assert {line["name"] for line in result["exponents"]} == {"gendr-pix", "gendr-pix*"}
    monkeypatch.setattr("gendrpix.bench.run.available_bytes", lambda device: 1000)
    small = client.predict(sizes=[64], **call)["cases"]
    assert all(case["seconds"] is None and "choose a smaller size" in case["reason"] for case in small)


# What is refused ---------------------------------------------------------------------------------------------------

REFUSED = [
    ("/restore", {"restorer": "nonsense"}, "restorer is 'nonsense'; expected one of"),
    ("/restore", {"restorer": ["gendr"]}, "expected one of"),
    ("/restore", {"scale": 9.0}, "scale is 9; expected a number from 1 to 8"),
    ("/restore", {"scale": "4"}, "scale is '4'; expected a number"),
    ("/restore", {"guidance": 1.5, "restorer": "gendr"}, "guidance is for gendr-pix only, not for gendr;"),
    ("/restore", {"guidance": "much", "restorer": "gendr-pix"}, "guidance is 'much'"),
    ("/restore", {"pos_rows": 8}, "whole numbers from 0 to 7"),
    ("/restore", {"neg_columns": 1.5}, "whole numbers from 0 to 7"),
    ("/restore", {"plain_cfg": "yes"}, "expected true or false"),
    ("/restore", {"size_px": 10}, "a longer side of 10 is out of reach: scale is 0.25; expected a number from 1 to 8"),
    ("/restore", {"color_fix": "sepia"}, "color_fix"),
    ("/compare", {"repeats": 0}, "repeats is 0; expected a whole number from 1 to 10"),
    ("/compare", {"restorers": []}, "No restorer is chosen"),
    ("/compare", {"restorers": {"a": 1}}, "expected a list"),
    ("/sweep", {"side": "left"}, "expected one of positive, negative"),
    ("/sweep", {"side": "negative", "omega": 1.0}, "At omega 1 the bad run has no say"),
    ("/sweep", {"metric": "psnr"}, "expected one of grid, piqe, musiq"),
    ("/sweep", {"side_px": 4000}, "side_px is 4000; expected a whole number from 64 to 512"),
    ("/benchmark", {"sizes": [100]}, "multiples of 8"),
    ("/benchmark", {"sizes": "512"}, "expected a list"),
    ("/benchmark", {"repeats": 11}, "repeats is 11; expected a whole number from 1 to 10"),
    ("/benchmark", {"restorers": ["other"]}, "expected one of gendr"),
]


@pytest.mark.deadline
@pytest.mark.parametrize(("name", "values", "sentence"), REFUSED)
def test_bad_values_get_a_sentence(client: Client, photo: Path, name: str, values: dict, sentence: str) -> None:
    given = values if name == "/benchmark" else {"photo": handle_file(photo), **values}
    with pytest.raises(AppError) as caught:
        client.predict(**given, api_name=name)
    assert sentence in str(caught.value) and "Traceback" not in str(caught.value)


def post(address: str, name: str, **values: object) -> str:
    return httpx.post(f"{address}/gradio_api/call/v2/{name}", json=values, timeout=60).json()["event_id"]


def upload(address: str, photo: Path) -> dict[str, Any]:
    with photo.open("rb") as file:
        [path] = httpx.post(f"{address}/gradio_api/upload", files={"files": file}).json()
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_plain_http_reads_uploaded_files_only(address: str, photo: Path) -> None:
    def answer(file: dict[str, Any]) -> str:
        event = post(address, "restore", photo=file, scale=1.0)
        return httpx.get(f"{address}/gradio_api/call/restore/{event}", timeout=60).text

    uploaded = upload(address, photo)
    said = answer(uploaded)
    assert "event: complete" in said
    [result] = json.loads(said.split("event: complete\ndata: ")[1].splitlines()[0])
    assert httpx.get(result["url"]).headers["content-type"] == "image/png"
    assert "event: error" in answer({**uploaded, "path": str(photo)})


# Progress, turns, cancelling, leaving ------------------------------------------------------------------------------


class Slow:
    """Makes one prediction take as long as wanted: many small ones, each of which looks whether it is still wanted."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pipeline = engine.pipeline("gendr-pix")
        self.quick = self.pipeline._predict
        self.started, self.ended, self.hurry = threading.Event(), threading.Event(), threading.Event()
        self.stopped = False
        monkeypatch.setattr(self.pipeline, "_predict", self.predict)

    def predict(self, pixels: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        self.started.set()
        try:
            while not self.hurry.wait(0.02):
                self.quick(pixels[..., :8, :8], prompts)
        except StoppedError:
            self.stopped = True
            raise
        finally:
            self.ended.set()
        return self.quick(pixels, prompts)


@pytest.fixture
def slow(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    slow = Slow(engine, monkeypatch)
    yield slow
    slow.hurry.set()


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_progress_is_told(client: Client, photo: Path, slow: Slow) -> None:
    job = client.submit(handle_file(photo), ["gendr-pix*"], 2.0, api_name="/compare")
    assert slow.started.wait(SOON_S)

    def told() -> list[tuple]:
        return [(one.index, one.length, one.desc) for one in job.status().progress_data or ()]

    wait_for(lambda: told() == [(1, 2, "Running GenDR-Pix*")])
    slow.hurry.set()
    files, _ = job.result(SOON_S)
    assert len(files) == 2


def test_a_cancelled_job_stops_and_the_next_one_runs(client: Client, photo: Path, slow: Slow) -> None:
    job = client.submit(handle_file(photo), "gendr-pix*", 2.0, api_name="/restore")
    assert slow.started.wait(SOON_S)
    job.cancel()
    assert slow.ended.wait(SOON_S) and slow.stopped
    slow.hurry.set()
    assert Image.open(client.predict(handle_file(photo), "gendr-pix*", 2.0, api_name="/restore")).size == (80, 72)


def test_a_client_that_goes_leaves_nothing_running(address: str, photo: Path, slow: Slow, client: Client) -> None:
    event = post(address, "restore", photo=upload(address, photo), scale=2.0)
    with httpx.stream("GET", f"{address}/gradio_api/call/restore/{event}", timeout=60):
        assert slow.started.wait(SOON_S)
        assert not slow.ended.wait(0.3)  # it runs as long as the connection is there
    assert slow.ended.wait(SOON_S) and slow.stopped
    slow.hurry.set()
    assert client.predict(handle_file(photo), "gendr-pix*", 1.0, api_name="/restore")


def test_a_client_that_goes_while_it_waits_is_never_run(address: str, photo: Path, slow: Slow, client: Client) -> None:
    first = client.submit(handle_file(photo), "gendr-pix*", 2.0, api_name="/restore")
    assert slow.started.wait(SOON_S)
    runs: list[int] = []
    quick, slow.quick = slow.quick, lambda *args: (runs.append(args[0].shape[-1]), quick(*args))[1]
    event = post(address, "restore", photo=upload(address, photo), scale=4.0)
    with httpx.stream("GET", f"{address}/gradio_api/call/restore/{event}", timeout=60):
        time.sleep(0.3)
    slow.hurry.set()
    assert Image.open(first.result(SOON_S)).size == (80, 72)
    assert Image.open(client.predict(handle_file(photo), "gendr-pix*", 1.0, api_name="/restore")).size == (40, 36)
    assert 160 not in runs


def test_two_clients_are_served_in_turn_and_get_their_own(
    address: str, engine: Engine, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, inside, most = engine.pipeline("gendr-pix"), [0], [0]
    quick = pipeline._predict

    def predict(pixels: torch.Tensor, prompts: torch.Tensor) -> torch.Tensor:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        result = quick(pixels, prompts)
        inside[0] -= 1
        return result

    photos = []
    for number in range(2):
        photos.append(tmp_path / f"{number}.png")
        noise = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(noise).save(photos[-1])
    restorer = load_restorer("gendr-pix", weights)
    expected = [np.asarray(restorer(open_picture(path), scale=2.0).images[0]) for path in photos]
    monkeypatch.setattr(pipeline, "_predict", predict)

    def ask(number: int) -> list[np.ndarray]:
        with connect(address) as client:
            call = {"restorer": "gendr-pix*", "scale": 2.0, "api_name": "/restore"}
            return [decoded(client.predict(handle_file(photos[number]), **call)) for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, range(2)))
    for own, right in zip(answers, expected, strict=True):
        assert all(np.array_equal(one, right) for one in own)
    assert most[0] == 1


# MCP ---------------------------------------------------------------------------------------------------------------


def test_mcp_tools(address: str, photo: Path) -> None:
    pytest.importorskip("mcp", reason="the package mcp is not installed")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    url = "data:image/png;base64," + base64.b64encode(photo.read_bytes()).decode()

    async def talk() -> tuple[list[Any], Any, Any]:
        async with (
            streamablehttp_client(f"{address}/gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            done = await session.call_tool("restore", {"photo": url, "scale": 2.0})
            wrong = await session.call_tool("benchmark", {"sizes": [100]})
            return tools, done, wrong

    with ThreadPoolExecutor(1) as pool:  # a loop of its own: a browser's tests may have left one in this thread
        tools, done, wrong = pool.submit(asyncio.run, talk()).result(60)
    assert {tool.name for tool in tools} == {"restore", "compare", "sweep", "benchmark"}
    restore = next(tool for tool in tools if tool.name == "restore")
    assert "PNG" in restore.description
    described = restore.inputSchema["properties"]
    assert described["restorer"]["enum"] == ALL and "1 to 8" in described["scale"]["description"]
    assert not done.isError
    [image] = [content for content in done.content if content.type == "image"]
    assert Image.open(io.BytesIO(base64.b64decode(image.data))).size == (80, 72)
    assert wrong.isError and "multiples of 8" in wrong.content[0].text


def test_helper_events_are_private(engine: Engine) -> None:
    page = build_page(engine)
    public = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}
    assert public == {"restore", "compare", "sweep", "benchmark"}
    assert isinstance(page, gr.Blocks)
