"""Namespaces: an own tree of files, own processes, an own network. Root may make them, or a user namespace allows it.

The tree has the allowed folders only, under their usual paths. Folders above them are new and open to everybody, so
another user reaches an allowed folder below one that is closed to him.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from laneway.confinement import kernel

NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
NO_SETUID, NO_DEVICES, NO_PROGRAMS, BIND, RECURSIVE, PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
DETACH: Final = 2
AT_RECURSIVE, SET_READ_ONLY = 0x8000, 1
MOUNT_SETATTR: Final = 442
PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41}
UP, GET_FLAGS, SET_FLAGS = 1, 0x8913, 0x8914
"""IFF_UP, SIOCGIFFLAGS and SIOCSIFFLAGS of netdevice(7)."""
TEMPORARY: Final = "/tmp"  # noqa: S108
"""Where the new tree is built, over the folder that each system has, and where its own temporary files are."""
DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def unshare(flags: int) -> None:
    """Leave shared namespaces, in a user namespace of our own if this user may not. Raises OSError."""
    try:
        kernel.unshare(flags)
    except PermissionError:
        if not os.geteuid() or not _can_make_user_namespace():
            raise  # also root without the capability: a container
        _unshare_user(flags)


def _unshare_user(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(flags | NEW_USER)
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", "ascii")


def _can_make_user_namespace() -> bool:
    """Try it in a child: a user namespace that the kernel made without rights in it cannot be left again."""
    child = os.fork()
    if not child:
        with suppress(OSError):
            _unshare_user(NEW_MOUNTS)
            kernel.mount("none", "/", None, RECURSIVE | PRIVATE)
            kernel.mount("tmpfs", TEMPORARY, "tmpfs", NO_SETUID | NO_DEVICES)
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def start_loopback() -> None:
    """Start the loopback device of a new network, so that a program may talk to itself."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack_from("H", fcntl.ioctl(any_socket, GET_FLAGS, request), 16)[0]
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH22x", b"lo", flags | UP))


def enter_tree(*, readable: Iterable[str], writable: Iterable[str], temporary: str | None, proc: bool) -> None:
    """Make the allowed folders all that there is. The process is in its own mount namespace. Raises OSError.

    `temporary` is also /tmp. `proc` mounts /proc of the own process namespace.
    """
    if kernel.MACHINE not in PIVOT_ROOT:
        raise OSError(f"the number of pivot_root is not known on {kernel.MACHINE}")
    here = str(Path.cwd())
    kernel.mount("none", "/", None, RECURSIVE | PRIVATE)
    places = {path: _open(path) for path in (*readable, *writable, *DEVICES)}
    targets = {here if path == "." else path: place for path, place in places.items()}
    if temporary:
        targets |= {TEMPORARY: _open(temporary), temporary: _open(temporary)}
    try:
        kernel.mount("tmpfs", TEMPORARY, "tmpfs", NO_SETUID | NO_DEVICES, "mode=0755,size=1m")
        for path in sorted(targets, key=len):
            _bind(targets[path], TEMPORARY + path, read_only=path in set(readable))
    finally:
        for place in targets.values():
            if isinstance(place, int):
                os.close(place)
    _enter(TEMPORARY, proc=proc)
    with suppress(OSError):
        os.chdir(here)


def _enter(root: str, *, proc: bool) -> None:
    if proc:
        Path(root, "proc").mkdir(exist_ok=True)
        kernel.mount("proc", root + "/proc", "proc", NO_SETUID | NO_DEVICES | NO_PROGRAMS)
        _link(root + "/dev/fd", "/proc/self/fd")
    os.chdir(root)
    kernel.syscall(PIVOT_ROOT[kernel.MACHINE], "pivot_root", b".", b".")
    kernel.unmount(".", DETACH)
    os.chdir("/")


def _open(path: str) -> int | str | None:
    """An open place, the text of a link such as /bin, or None for what does not exist."""
    with suppress(OSError):
        if Path(path).is_symlink() and Path(path).parent == Path("/"):
            return str(Path(path).readlink())
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    return None


def _bind(source: int | str | None, target: str, *, read_only: bool) -> None:
    if source is None:
        return
    if isinstance(source, str):
        _link(target, source)
        return
    place = f"/proc/self/fd/{source}"
    _make_place(Path(target), folder=Path(place).is_dir())
    kernel.mount(place, target, None, BIND | RECURSIVE)
    if read_only:
        attributes, name = struct.pack("QQQQ", SET_READ_ONLY, 0, 0, 0), os.fsencode(target)
        kernel.syscall(MOUNT_SETATTR, "mount_setattr", -100, name, AT_RECURSIVE, attributes, len(attributes))


def _make_place(target: Path, *, folder: bool) -> None:
    if os.path.lexists(target):
        return
    (target if folder else target.parent).mkdir(parents=True, exist_ok=True)
    if not folder:
        target.touch()


def _link(target: str, source: str) -> None:
    if not os.path.lexists(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).symlink_to(source)
