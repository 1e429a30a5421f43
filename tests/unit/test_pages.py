"""Pages laid out for forks: weights keep their values and ties, and what a job touches is made ready beforehand."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
from collections.abc import Callable

import pytest
import torch

from edif_backend.executors import pages

PAGES = 1000


class Tied(torch.nn.Module):
    """Weights of several kinds, two of them one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(400, 4096)  # 6 MB: enough for huge pages
        self.head = torch.nn.Linear(4096, 400, bias=False)
        self.head.weight = self.embedding.weight
        self.narrow = torch.nn.Parameter(torch.randn(7, 3).to(torch.bfloat16), requires_grad=False)
        self.transposed = torch.nn.Parameter(torch.randn(5, 3).T)
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("empty", torch.zeros(0))


def test_weights_keep_values_ties_strides_and_flags() -> None:
    module = Tied()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    strides = {name: tensor.stride() for name, tensor in module.state_dict().items()}
    grads = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    address = module.narrow.data_ptr()
    moved = pages.weights_to_huge_pages(module)
    after = module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert {name: tensor.stride() for name, tensor in after.items()} == strides
    assert {name: parameter.requires_grad for name, parameter in module.named_parameters()} == grads
    assert module.head.weight.data_ptr() == module.embedding.weight.data_ptr()
    assert moved == (module.narrow.data_ptr() != address)
    module.embedding.weight.data[0, 0] = 42
    assert module.head.weight[0, 0] == 42


def test_a_module_without_weights_is_left_alone() -> None:
    assert pages.weights_to_huge_pages(torch.nn.Identity()) is False


def faults_in_fork(work: Callable[[], None], prepare: Callable[[], None]) -> int:
    """Minor page faults of ``work`` in a fork, after ``prepare`` ran there."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            work()
            os.write(into, str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before).encode())
        finally:
            os._exit(0)
    os.close(into)
    with os.fdopen(out) as file:
        answer = int(file.read())
    os.waitpid(child, 0)
    return answer


@pytest.fixture
def memory() -> mmap.mmap:
    area = mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area.write(b"x" * len(area))
    return area


def test_what_a_job_writes_to_is_known_and_made_ready(memory: mmap.mmap) -> None:
    def write() -> None:
        for page in range(0, PAGES, 2):
            memory[page * mmap.PAGESIZE] = 1

    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    touched = pages.touched_by(write)
    inside = sum(length for address, length in touched if start <= address < start + len(memory))
    assert inside == PAGES // 2 * mmap.PAGESIZE
    assert faults_in_fork(write, prepare=lambda: None) >= PAGES // 2
    assert faults_in_fork(write, prepare=lambda: pages.make_own(touched)) < PAGES // 10
    assert memory[0] == ord("x")


def test_a_job_that_fails_leaves_nothing_known() -> None:
    def fail() -> None:
        os._exit(1)

    assert pages.touched_by(fail) == []


def test_stretches_that_are_not_mapped_are_passed_over() -> None:
    pages.make_own([(mmap.PAGESIZE, mmap.PAGESIZE)])
    pages.collapse_heap()
