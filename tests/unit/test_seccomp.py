"""The seccomp filter, read as the kernel reads it, for both machines."""

from __future__ import annotations

import errno
import struct

import pytest

from edif_backend.executors import seccomp

ALLOWED, KILLED = "allowed", "killed"
MACHINES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
THREAD = 0x003D_0F00  # what glibc gives clone for a thread
FORK = 0x0120_0011  # and for fork


def verdict(code: bytes, architecture: int, number: int, first: int = 0, second: int = 0) -> str | int:
    """What the program says to one call: allowed, killed, or the error number."""
    steps = list(struct.iter_unpack("=HBBI", code))
    data = struct.pack("=IIQQQQQQQ", number, architecture, 0, first, second, 0, 0, 0, 0)
    at = value = 0
    while True:
        kind, true, false, operand = steps[at]
        at += 1
        if kind == 0x20:
            value = struct.unpack_from("=I", data, operand)[0]
        elif kind == 0x54:
            value &= operand
        elif kind == 0x06:
            return {0x7FFF_0000: ALLOWED, 0x8000_0000: KILLED}.get(operand, operand & 0xFFFF)
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[kind]
            at += true if holds else false


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> tuple[bytes, int, int]:
    """The filter, the machine's architecture, and its column in the table."""
    code = seccomp.program(request.param)
    assert code is not None
    return (code, *MACHINES[request.param])


def test_denied_calls_are_refused(machine: tuple[bytes, int, int]) -> None:
    code, architecture, column = machine
    numbers = [numbers[column] for numbers in seccomp.DENIED.values() if numbers[column] is not None]
    assert {verdict(code, architecture, number) for number in numbers} == {errno.EPERM}


def test_everything_else_known_is_allowed(machine: tuple[bytes, int, int]) -> None:
    code, architecture, column = machine
    special = {(56, 220)[column], 435}
    denied = {numbers[column] for numbers in seccomp.DENIED.values()} | special
    assert {verdict(code, architecture, number) for number in range(463) if number not in denied} == {ALLOWED}


def test_threads_are_made_and_processes_are_not(machine: tuple[bytes, int, int]) -> None:
    code, architecture, column = machine
    clone = (56, 220)[column]
    assert verdict(code, architecture, clone, THREAD) == ALLOWED
    assert verdict(code, architecture, clone, FORK) == errno.EPERM
    for new in (0x2_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000):
        assert verdict(code, architecture, clone, THREAD | new) == errno.EPERM
    assert verdict(code, architecture, 435, 0) == errno.ENOSYS


def test_nobody_types_into_the_terminal_above(machine: tuple[bytes, int, int]) -> None:
    code, architecture, column = machine
    ioctl = (16, 29)[column]
    said = {request: verdict(code, architecture, ioctl, 0, request) for request in (0x5401, 0x5412, 0x541C)}
    assert said == {0x5401: ALLOWED, 0x5412: errno.EPERM, 0x541C: errno.EPERM}
    assert verdict(code, architecture, ioctl, 0, 0x1_0000_5412) == errno.EPERM  # the kernel reads 32 bits


def test_nothing_is_asked_of_userfaultfd_and_the_page_map_is(machine: tuple[bytes, int, int]) -> None:
    code, architecture, column = machine
    ioctl = (16, 29)[column]
    register, of_dev, scan = 0xC020_AA00, 0x0000_AA00, 0xC060_6610
    said = {request: verdict(code, architecture, ioctl, 0, request) for request in (register, of_dev, scan)}
    assert said == {register: errno.EPERM, of_dev: errno.EPERM, scan: ALLOWED}


def test_newer_calls_are_not_there_and_other_machines_are_killed(machine: tuple[bytes, int, int]) -> None:
    code, architecture, _ = machine
    assert verdict(code, architecture, 463) == errno.ENOSYS
    assert verdict(code, architecture, 0x4000_0000 | 39) == KILLED  # x32
    assert verdict(code, 0x4000_0003, 1) == KILLED  # 32-bit x86
    assert verdict(code, 0x4000_0028, 1) == KILLED  # 32-bit ARM


def test_a_machine_without_a_table_has_no_filter() -> None:
    assert seccomp.program("riscv64") is None
