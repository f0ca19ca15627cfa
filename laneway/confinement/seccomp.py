"""seccomp: which system calls a process and its descendants may make. No privilege is needed.

The filter is a list of what is refused: ways to other processes, to the kernel's own interfaces, to namespaces, and to
the network. What the filter refuses fails with an error; the process goes on. seccomp(2)
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable
from typing import Final

from laneway.confinement import kernel

SET_MODE_FILTER, FLAG_TSYNC = 1, 1
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
PR_GET_SECCOMP: Final = 21
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24
"""Offsets in `struct seccomp_data`; the lower half of the first and the second argument (little-endian)."""
X32: Final = 0x40000000
NEW_NAMESPACES: Final = 0x7E020080
"""All flags CLONE_NEW… of clone(2)."""
TERMINAL_INPUT: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX, which type into a terminal."""
FAMILIES: Final = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, 16)
"""The families of sockets that a network namespace separates, or that a process with network may use; 16: netlink."""

_COMMON: Final = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}
_X86_64: Final = {
    "ptrace": 101,
    "syslog": 103,
    "pivot_root": 155,
    "chroot": 161,
    "acct": 163,
    "settimeofday": 164,
    "mount": 165,
    "umount2": 166,
    "swapon": 167,
    "swapoff": 168,
    "reboot": 169,
    "init_module": 175,
    "delete_module": 176,
    "quotactl": 179,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "unshare": 272,
    "perf_event_open": 298,
    "name_to_handle_at": 303,
    "open_by_handle_at": 304,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "kcmp": 312,
    "finit_module": 313,
    "kexec_file_load": 320,
    "bpf": 321,
    "userfaultfd": 323,
}
_AARCH64: Final = {
    "umount2": 39,
    "mount": 40,
    "pivot_root": 41,
    "chroot": 51,
    "quotactl": 60,
    "acct": 89,
    "unshare": 97,
    "kexec_load": 104,
    "init_module": 105,
    "delete_module": 106,
    "syslog": 116,
    "ptrace": 117,
    "reboot": 142,
    "settimeofday": 170,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "swapon": 224,
    "swapoff": 225,
    "perf_event_open": 241,
    "name_to_handle_at": 264,
    "open_by_handle_at": 265,
    "setns": 268,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "kcmp": 272,
    "finit_module": 273,
    "bpf": 280,
    "userfaultfd": 282,
    "kexec_file_load": 294,
}
REFUSED: Final = {"x86_64": {**_X86_64, **_COMMON}, "aarch64": {**_AARCH64, **_COMMON}}
"""Machine → the system calls that no child needs."""
PROCESSES: Final = {
    # clone, fork, vfork, execve, execveat, kill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal
    "x86_64": (56, 57, 58, 59, 322, 62, 200, 129, 297, 424),
    "aarch64": (220, 221, 281, 129, 130, 138, 240, 424),
}
"""Machine → the system calls that start processes or threads, or signal them."""
_OTHERS: Final = {"x86_64": (0xC000003E, 317, 56, 41, 16), "aarch64": (0xC00000B7, 277, 220, 198, 29)}
"""Machine → its audit number, and the numbers of seccomp, clone, socket and ioctl."""
CLONE3: Final = 435


def is_available() -> bool:
    """Whether the kernel filters system calls, and this module knows their numbers."""
    try:
        return kernel.MACHINE in _OTHERS and kernel.prctl(PR_GET_SECCOMP) >= 0
    except OSError:
        return False


def install(*, sockets: bool, processes: bool) -> None:
    """Refuse the calls for all threads of this process, for good. Raises OSError.

    `sockets` allows the usual families of sockets, otherwise none; `processes` allows to start processes and threads.
    The process needs PR_SET_NO_NEW_PRIVS.
    """
    if kernel.MACHINE not in _OTHERS:
        raise OSError(errno.ENOSYS, f"the filter knows no system calls of {kernel.MACHINE}")
    program = b"".join(_program(kernel.MACHINE, sockets=sockets, processes=processes))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    number = _OTHERS[kernel.MACHINE][1]
    if kernel.syscall(number, "seccomp", SET_MODE_FILTER, FLAG_TSYNC, header):
        raise OSError(errno.EBUSY, "seccomp: a thread has a filter of its own")


def _program(machine: str, *, sockets: bool, processes: bool) -> Iterable[bytes]:
    audit, _, clone, open_socket, ioctl = _OTHERS[machine]
    yield _step(LOAD, ARCHITECTURE)
    yield _step(JUMP_EQUAL, audit, equal=1)
    yield _refuse(errno.ENOSYS)  # programs for another kind of machine have other numbers
    yield _step(LOAD, NUMBER)
    if machine == "x86_64":
        yield _step(JUMP_AT_LEAST, X32, unequal=1)
        yield _refuse(errno.ENOSYS)
    yield from _refuse_call(CLONE3, errno.ENOSYS)  # its flags are in memory; without it, programs use clone
    for number in (*REFUSED[machine].values(), *(() if processes else PROCESSES[machine])):
        yield from _refuse_call(number, errno.EPERM)
    if processes:
        yield from _by_argument(clone, FIRST, (_step(JUMP_ANY_BIT, NEW_NAMESPACES, unequal=1), _refuse(errno.EPERM)))
    yield from _by_argument(ioctl, SECOND, _refuse_values(TERMINAL_INPUT))
    yield from _by_argument(open_socket, FIRST, _allow_values(FAMILIES if sockets else ()))
    yield _step(RETURN, ALLOW)


def _refuse_call(number: int, error: int) -> tuple[bytes, ...]:
    return _step(JUMP_EQUAL, number, unequal=1), _refuse(error)


def _by_argument(number: int, argument: int, steps: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Steps for one system call, with its argument loaded; what they do not refuse is allowed."""
    block = (_step(LOAD, argument), *steps, _step(RETURN, ALLOW))
    return _step(JUMP_EQUAL, number, unequal=len(block)), *block


def _refuse_values(values: tuple[int, ...]) -> tuple[bytes, ...]:
    return tuple(step for value in values for step in (_step(JUMP_EQUAL, value, unequal=1), _refuse(errno.EPERM)))


def _allow_values(values: tuple[int, ...]) -> tuple[bytes, ...]:
    allowed = tuple(step for value in values for step in (_step(JUMP_EQUAL, value, unequal=1), _step(RETURN, ALLOW)))
    return *allowed, _refuse(errno.EACCES)


def _step(code: int, value: int, *, equal: int = 0, unequal: int = 0) -> bytes:
    return struct.pack("HBBI", code, equal, unequal, value)


def _refuse(error: int) -> bytes:
    return _step(RETURN, ERRNO | error)
