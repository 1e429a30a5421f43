"""A model spread over devices by layers, and user code that does not know of it; the devices are simulated.

Loaded as the zygote loads (transformers' ``device_map``), run as the executor runs; real numbers that must be those of
the model whole on one such device: bit for bit, gradients but for the order in which they are added up.  Nothing here
has touched a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nnsight import TransformersModel
from tests.pool_jobs import Capture
from tests.simulated_devices import SimulatedDevices
from tests.unit.conftest import FAMILIES
from transformers import AutoModelForCausalLM

from edif_backend.errors import ModelUnusable
from edif_backend.executors import mixing
from edif_backend.executors.allowance import Allowance
from edif_backend.executors.executor import run
from edif_backend.models import layers
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.loading import load, pieces_of
from edif_backend.models.tiny_gpt2 import make_tokenizer

PROMPT = torch.tensor([[3, 1, 4, 1, 5, 9]])
ALLOWANCE = Allowance(None, 1 << 30, {})
ENTRIES = {name: ModelEntry(id=f"test/{name}", title=name, source="hub", repo=f"test/{name}") for name in FAMILIES}


def files_in(folder: Path) -> Any:
    """All that loading asks of a snapshot."""
    return SimpleNamespace(folder=folder)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("spread")

    def make(family: str) -> Path:
        home = place / family
        if not home.exists():
            tokenizer = make_tokenizer()
            ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(FAMILIES[family](vocab_size=len(tokenizer), **ends)).save_pretrained(home)
            tokenizer.save_pretrained(home)
        return home

    return make


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # other threads would not be in the simulation
    with SimulatedDevices():
        yield


def spread(folder: Path, family: str, count: int) -> TransformersModel:
    entry, files = ENTRIES[family], files_in(folder)
    pieces = pieces_of(load(files, entry)._module)
    return load(files, entry, layers.evenly(pieces, [f"cpu:{number + 1}" for number in range(count)]))


def layers_of(model: Any, family: str) -> Any:
    return model.transformer.h if family == "gpt2" else model.model.layers


def add_early_to_late(model: Any, blocks: Any) -> list[Any]:
    with model.trace(PROMPT):
        early = hidden(blocks[0].output)
        late = hidden(blocks[3].output)
        mixed = (early + late).save()
        stacked = torch.stack([late, early]).mean(0).save()
        joined = torch.cat((early, late), dim=-1).save()
        made_here = (torch.ones(6, 1) * late).save()
    return [mixed, stacked, joined, made_here]


def patch_across(model: Any, blocks: Any) -> list[Any]:
    with model.trace(PROMPT):
        early = hidden(blocks[0].output)
        blocks[2].mlp.output = early * 0.5
        late = hidden(blocks[3].output)
        late[:, 1] = early[:, 2]
        late[:, torch.tensor([0, 3])] += early[:, :2]
        late.mul_(1 + early.abs())
        logits = model.output.logits.save()
    return [logits]


def logit_lens(model: Any, blocks: Any) -> list[Any]:
    with model.trace(PROMPT):
        rows = [model.lm_head(hidden(block.output))[:, -1] for block in blocks]
        lens = torch.stack(rows).softmax(-1).save()
        by_hand = (hidden(blocks[3].output) @ model.lm_head.weight.T).save()
        moved = rows[0].to(rows[3].device).save()
        where = torch.where(rows[0] > rows[3], rows[0], rows[3]).save()
    return [lens, by_hand, moved, where]


def gradients(model: Any, blocks: Any) -> list[Any]:
    with model.trace(PROMPT):
        early = hidden(blocks[0].output)
        early.requires_grad_(True)
        late = hidden(blocks[3].output)
        loss = (early * late).sum() + model.output.logits[0, -1, 7]
        with loss.backward():
            late_gradient = late.grad
            crossed = (late_gradient + early).save()
            early_gradient = early.grad.save()
    return [crossed, early_gradient]


def generation(model: Any, blocks: Any) -> list[Any]:
    with model.generate(PROMPT, max_new_tokens=4, do_sample=False) as tracer:
        steps = [].save()
        for _ in tracer.iter[:4]:
            early = hidden(blocks[0].output)
            blocks[3].mlp.output = blocks[3].mlp.output + early
            steps.append(hidden(blocks[3].output)[:, -1])
    return list(steps)


def hidden(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


JOBS = (add_early_to_late, patch_across, logit_lens, gradients, generation)


def on_host(values: list[Any]) -> list[torch.Tensor]:
    return [value.detach().cpu() for value in values]


def same(values: list[Any], others: list[Any]) -> bool:
    pairs = list(zip(on_host(values), on_host(others), strict=True))
    return bool(pairs) and all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("count", [2, 4, 5])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.usefixtures("devices")
def test_code_that_mixes_devices_gives_what_the_whole_model_gives(
    folder_of: Callable[[str], Path], family: str, count: int
) -> None:
    plain, *spreads = (
        load(files_in(folder_of(family)), ENTRIES[family]),
        *(spread(folder_of(family), family, parts) for parts in (1, count)),
    )
    whole, parts = spreads
    assert len({str(weight.device) for weight in parts._module.parameters()}) >= min(count, 4)
    for job in JOBS:
        expected = job(whole, layers_of(whole, family))
        told: list[str] = []
        with mixing.operands_moved(parts._module, told.append):
            got = job(parts, layers_of(parts, family))
        if job is gradients:  # where paths meet, autograd adds in the order of its nodes, to which moves belong
            torch.testing.assert_close(on_host(got), on_host(expected), rtol=0, atol=1e-7)
        else:
            assert same(got, expected), job.__name__
        # attention chooses another kernel for a simulated device than for the host, which differs in the last bit
        torch.testing.assert_close(on_host(got), on_host(job(plain, layers_of(plain, family))))
        if job is not logit_lens:  # there the output layer, called as a module, has its own input brought to it
            assert len(told) == 1, job.__name__
            assert "Tensors of several devices met" in told[0]
    with mixing.operands_moved(plain._module, told.append) as nothing:
        assert nothing is None  # a model on the CPU alone has no mixing around it


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.usefixtures("devices")
def test_the_control_without_the_mover_the_same_code_fails(
    folder_of: Callable[[str], Path], job: Callable[[Any, Any], list[Any]]
) -> None:
    parts = spread(folder_of("llama"), "llama", 4)
    with pytest.raises(Exception, match="same device"):
        job(parts, layers_of(parts, "llama"))


@pytest.mark.usefixtures("devices")
def test_an_executor_sends_values_of_the_host_and_says_once_that_it_moved_some(
    folder_of: Callable[[str], Path],
) -> None:
    whole, parts = load(files_in(folder_of("llama")), ENTRIES["llama"]), spread(folder_of("llama"), "llama", 2)
    capture, said = Capture(), StringIO()
    with whole.trace(PROMPT, backend=capture):
        early = whole.model.layers[0].output
        pair = [early * 2].save()  # noqa: F841 - read below
        mixed = (early + whole.model.layers[3].output).save()  # noqa: F841 - read below
    came = []
    for model in (whole, parts):
        with redirect_stdout(said):
            came.append(run(model, capture.payload, True, {}, ALLOWANCE))
    assert type(came[1]["mixed"]) is torch.Tensor
    assert torch.equal(came[0]["mixed"], came[1]["mixed"])
    assert torch.equal(came[0]["pair"][0], came[1]["pair"][0])
    assert said.getvalue().count("Tensors of several devices met") == 1


@pytest.mark.usefixtures("devices")
def test_parts_that_are_too_small_are_refused_with_the_numbers(folder_of: Callable[[str], Path]) -> None:
    with pytest.raises(ModelUnusable, match=r"cannot be spread over devices: The model's 6 pieces of [\d,]+ bytes"):
        load(files_in(folder_of("llama")), ENTRIES["llama"], [("cpu:1", 60_000), ("cpu:2", 60_000)])
