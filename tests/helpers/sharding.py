"""Stages at a tiny size under DeepSpeed and FSDP on a CPU, in forked processes."""

import importlib
import multiprocessing
import os
import socket
import sys
from multiprocessing.process import BaseProcess

import torch
import yaml

import gendrpix.specs
from tests.helpers.models import TINY
from tests.helpers.stages import ROOT
from training.__main__ import main

LAUNCHERS = ROOT / "training" / "accelerate"


def free_port() -> str:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start_sharded(words: list[str], kind: str, processes: int = 1) -> list[BaseProcess]:
    """The command in `processes` processes: kind is "zero2", "fsdp" or "whole" (one process, nothing divided)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.__main__", "training.stages.adc", "training.stages.pix"])
    os.environ["PYTHONPATH"] = str(ROOT)  # read when the server starts
    port = free_port()
    children = []
    for rank in range(processes):
        variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        variables |= {"WORLD_SIZE": str(processes)} if kind != "whole" else {}
        child = context.Process(target=_run, args=(words, kind, variables if kind != "whole" else {}))
        child.start()
        children.append(child)
    return children


def _run(words: list[str], kind: str, variables: dict[str, str]) -> None:
    os.environ.update(HF_HUB_OFFLINE="1", **variables)
    if kind == "zero2":
        os.environ.update(_deepspeed_variables())
        _spare_compilation()
    else:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    if kind == "fsdp":
        _divide_on_cpu()
    torch.set_num_threads(1)
    gendrpix.specs.MODEL_SPECS = {TINY.name: TINY}
    sys.exit(main(words))


def _deepspeed_variables() -> dict[str, str]:
    """What `accelerate launch` makes of the ZeRO-2 configuration, with DeepSpeed's own device set to the CPU."""
    settings = yaml.safe_load((LAUNCHERS / "eight-gpus-zero2.yaml").read_text())
    plugin = settings["deepspeed_config"]
    return {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(plugin["zero_stage"]),
        "ACCELERATE_MIXED_PRECISION": settings["mixed_precision"],
        "DS_ACCELERATOR": "cpu",
        "DS_BUILD_OPS": "0",
    }


def _spare_compilation() -> None:
    """Without DeepSpeed's own reduction in shared memory, which it would compile first; gloo reduces."""
    backend = importlib.import_module("deepspeed.comm.torch")  # its parent has another `torch`
    vars(backend)["build_shm_op"] = lambda: None


def _divide_on_cpu() -> None:
    """The FSDP configuration's variables; accelerate divides on a GPU alone, so the processes pass for GPU ones."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    settings = yaml.safe_load((LAUNCHERS / "eight-gpus-fsdp.yaml").read_text())
    for name, value in settings["fsdp_config"].items():
        os.environ[name.upper()] = str(value)
    os.environ.update(ACCELERATE_USE_FSDP="true", ACCELERATE_MIXED_PRECISION=settings["mixed_precision"])
    state = PartialState(cpu=True)
    assert state.backend == "gloo"
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
