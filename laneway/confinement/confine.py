"""Takes rights away from this process and what it starts, and says what the kernel did not give."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from laneway.confinement import kernel, landlock, namespaces, rights, seccomp

SYSTEM: Final = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix/store",
    "/run/systemd/resolve",
)
"""Folders of the system that every program may read, as far as its user may."""
PYTHON: Final = tuple(
    dict.fromkeys(
        path for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix) for path in (prefix, os.path.realpath(prefix))
    )
)
"""The folders of the Python that runs this."""
PROC: Final = tuple(f"/proc/{name}" for name in ("cpuinfo", "meminfo", "stat", "loadavg", "uptime", "version", "sys"))
"""What of /proc does not belong to a process."""


class NotConfined(Exception):
    """The process must not go on: it would have more rights than it should, or too few for its work."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a child may do. Paths are absolute; `user` and `group` are numbers, None keeps those of the parent."""

    user: int | None = None
    group: int | None = None
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    """A path `.` is the current folder."""
    temporary: str | None = None
    """The folder for temporary files, which becomes /tmp if the child gets a file tree of its own."""
    reach: tuple[str, ...] = ()
    """The folders that the child must be able to enter."""
    network: bool = False
    processes: bool = True
    """Whether it may start processes and threads."""
    proc: bool = False
    """Whether it is in a process namespace of its own, whose /proc it may see."""
    limits: dict[str, int] = field(default_factory=dict[str, int])
    """Hard limits, by the names of `rights.LIMITS`."""
    required: bool = False
    """Whether the child must not run if anything of `open` is left."""


@dataclass(slots=True)
class Outcome:
    """What the kernel gave, and what it did not: mechanism → reason, and which doors are open therefore."""

    missing: dict[str, str] = field(default_factory=dict[str, str])
    open: list[str] = field(default_factory=list[str])

    def attempt(self, name: str, action: Callable[[], object]) -> bool:
        """Do it; whether it worked."""
        try:
            action()
        except (OSError, ValueError) as error:
            self.missing[name] = str(getattr(error, "strerror", None) or error)[:200]
            return False
        return True


def confine(wanted: Confinement, *, before_filter: Callable[[], object] = lambda: None) -> Outcome:
    """Take the rights away. Raises NotConfined if the user cannot be changed, or if `required` is not reached.

    `before_filter` is called last before system calls are filtered, such as to start a thread.
    """
    outcome = Outcome()
    user = os.geteuid() if wanted.user is None else wanted.user
    limited = outcome.attempt("limits", lambda: rights.limit(wanted.limits, user=user))
    needs_net = not wanted.network and (wanted.processes or not seccomp.is_available())
    net = needs_net and outcome.attempt("network namespace", _enter_network)
    tree = outcome.attempt("file tree", lambda: _enter_tree(wanted))
    fixed = outcome.attempt("no new privileges", rights.forbid_new_privileges)
    locked = outcome.attempt("Landlock", lambda: _restrict_files(wanted, tree=tree, net=net))
    other_user = _become(wanted, outcome)
    _require_reach(wanted)
    before_filter()
    sockets = wanted.network or (net and wanted.processes)
    filtered = outcome.attempt("seccomp", lambda: seccomp.install(sockets=sockets, processes=wanted.processes))
    given = {
        "unlimited resources": limited,
        "the network": wanted.network or net or filtered,
        "files outside its folder, such as those of the data folder": tree or locked,
        "/proc of other processes": tree or locked or other_user,
        "programs that gain rights": fixed,
    }
    outcome.open = [door for door, closed in given.items() if not closed]
    if wanted.required and outcome.open:
        raise NotConfined(f"this is open: {', '.join(outcome.open)}; not given: {outcome.missing}")
    return outcome


def _enter_network() -> None:
    namespaces.unshare(namespaces.NEW_NETWORK | namespaces.NEW_IPC)
    namespaces.start_loopback()


def _enter_tree(wanted: Confinement) -> None:
    namespaces.unshare(namespaces.NEW_MOUNTS)
    readable, writable = (*SYSTEM, *wanted.readable), wanted.writable
    namespaces.enter_tree(readable=readable, writable=writable, temporary=wanted.temporary, proc=wanted.proc)


def _restrict_files(wanted: Confinement, *, tree: bool, net: bool) -> None:
    proc = ("/proc",) if tree and wanted.proc else (*PROC, f"/proc/{os.getpid()}") if wanted.processes else ()
    temporary = "/tmp" if tree and wanted.temporary else wanted.temporary  # noqa: S108
    writable = (*wanted.writable, *namespaces.DEVICES, *([temporary] if temporary else []))
    landlock.restrict(readable=(*SYSTEM, *wanted.readable, *proc), writable=writable, network=wanted.network or net)


def _become(wanted: Confinement, outcome: Outcome) -> bool:
    """Become the wanted user without capabilities; whether it is another user."""
    rights.drop_bounding_set()
    try:
        if wanted.user is not None and wanted.group is not None:
            rights.become(wanted.user, wanted.group)
    except (OSError, OverflowError) as error:
        raise NotConfined(f"it cannot become user {wanted.user}: {error}") from error
    outcome.attempt("no capabilities", kernel.clear_capabilities)
    if wanted.user is None:
        outcome.missing["another user"] = "it has the user of its parent"
    return wanted.user is not None


def _require_reach(wanted: Confinement) -> None:
    for path in wanted.reach:
        if not os.access(path, os.R_OK | os.X_OK):
            raise NotConfined(
                f"user {os.geteuid()} may not enter {path}: let that user through it and the folders above, "
                "or name another user in CHILD_USER"
            )
