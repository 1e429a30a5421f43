"""Where weights lie in shared blocks, and what a write to one does."""

from __future__ import annotations

import pytest
import torch

from edif_backend.executors.attached import CopyOnWrite
from edif_backend.executors.weights_keeper import digest
from edif_backend.executors.weights_layout import Layout


class Tied(torch.nn.Module):
    """Two layers that share a weight, a third whose weights are parts of one larger storage, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 5)
        self.output = torch.nn.Linear(5, 7, bias=False)
        self.output.weight = self.embedding.weight
        file = torch.arange(100, dtype=torch.float32)  # as a mapped file holds many weights
        self.left = torch.nn.Parameter(file[3:23].view(4, 5))
        self.right = torch.nn.Parameter(file[23:43].view(5, 4).T)
        self.narrow = torch.nn.Parameter(torch.arange(9).to(torch.bfloat16))
        self.register_buffer("scale", torch.tensor(3.0))
        self.requires_grad_(False)


@pytest.fixture
def module() -> Tied:
    torch.manual_seed(0)
    return Tied()


def attached(module: torch.nn.Module, layout: Layout) -> list[torch.Tensor]:
    blocks = [torch.zeros(-(-size // 4096) * 4096, dtype=torch.uint8) for size in layout.sizes]
    layout.copy_into(blocks)
    layout.rebind(blocks)
    return blocks


def test_every_tensor_is_what_it_was_and_lies_in_the_block(module: Tied) -> None:
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parameters = {name: id(parameter) for name, parameter in module.named_parameters()}
    layout = Layout.of(module, ["cpu"], lambda _: "cpu")
    (block,) = attached(module, layout)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert tensor.untyped_storage().data_ptr() == block.untyped_storage().data_ptr()
    assert parameters == {name: id(parameter) for name, parameter in module.named_parameters()}
    assert module.output.weight is module.embedding.weight
    assert module.right.stride() == (1, 4)


def test_only_the_bytes_of_weights_are_held_each_well_aligned(module: Tied) -> None:
    layout = Layout.of(module, ["cpu"], lambda _: "cpu")
    assert len(layout.places) == 5  # embedding with output, left, right, narrow, scale
    assert all(place.start % 512 == 0 for place in layout.places)
    assert layout.sizes == (5 * 512,)


def test_weights_go_where_they_are_told_tied_ones_together(module: Tied) -> None:
    layout = Layout.of(module, ["a", "b"], lambda name: "a" if name.startswith("embedding") else "b")
    assert layout.sizes == (512, 4 * 512)
    assert {len(place.tensors) for place in layout.places} == {1}


def test_a_write_changes_a_copy_and_all_views_of_it(module: Tied) -> None:
    layout = Layout.of(module, ["cpu"], lambda _: "cpu")
    (block,) = attached(module, layout)
    shared = block.clone()
    row = module.embedding.weight.data[2]
    with CopyOnWrite(layout):
        row.mul_(0)
        module.left[0, 1] = 50
        torch._foreach_add_([module.right.data, module.narrow.data], 1)
        torch.add(module.scale, 1, out=module.scale)
    assert torch.equal(block, shared)
    assert not module.output.weight[2].any()
    assert module.output.weight[1].any()
    assert module.left[0].tolist() == [3, 50, 5, 6, 7]
    assert module.right[0, 0] == 24
    assert module.narrow[8] == 9
    assert module.scale == 4


def test_what_is_no_weight_is_left_alone(module: Tied) -> None:
    layout = Layout.of(module, ["cpu"], lambda _: "cpu")
    attached(module, layout)
    mine = torch.zeros(3)
    place = mine.data_ptr()
    with CopyOnWrite(layout):
        mine.add_(1)
        read = module.left + 1
    assert mine.data_ptr() == place
    assert read[0, 0] == 4
    assert module.left.untyped_storage().data_ptr() == module.narrow.untyped_storage().data_ptr()


@pytest.mark.parametrize("at", [0, 4095, 5000, 8191])
def test_a_changed_byte_changes_the_digest(at: int) -> None:
    block = torch.randint(0, 255, (8192,), dtype=torch.uint8)
    keys = torch.randint(-(1 << 62), 1 << 62, (256,)) | 1  # fewer than there are words: pieces are told apart
    before = digest(block, keys)
    assert digest(block.clone(), keys) == before
    block[at] += 1
    assert digest(block, keys) != before


def test_exchanged_words_change_the_digest() -> None:
    block = torch.randint(0, 255, (8192,), dtype=torch.uint8)
    keys = torch.randint(-(1 << 62), 1 << 62, (256,)) | 1
    before = digest(block, keys)
    for one, other in ((0, 8), (0, 2048)):
        changed = block.clone()
        changed[one : one + 8], changed[other : other + 8] = block[other : other + 8], block[one : one + 8]
        assert digest(changed, keys) != before
