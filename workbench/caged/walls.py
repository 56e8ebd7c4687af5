"""The walls around a child that parses foreign bytes: memory, processor time, files, processes and the network.

Limits are POSIX resource limits. On Linux a seccomp filter (``man 2 seccomp``) refuses, besides, whatever a parser
never needs: sockets, new programs and processes, files opened for writing, signals to others. Where the kernel or
the machine knows no such filter, the limits alone remain.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import resource
import struct
import sys

# what is refused: system call -> its number on x86_64 and on aarch64, from the kernel's tables
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # the network
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "sendto": (44, 206), "sendmsg": (46, 211), "sendmmsg": (307, 269),
    "recvfrom": (45, 207), "recvmsg": (47, 212),
    # programs and processes
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "setns": (308, 268), "unshare": (272, 97),
    # signals
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
    # files
    "truncate": (76, 45), "ftruncate": (77, 46), "creat": (85, None), "rename": (82, None), "renameat": (264, 38),
    "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "link": (86, None),
    "linkat": (265, 37), "unlink": (87, None), "unlinkat": (263, 35), "symlink": (88, None), "symlinkat": (266, 36),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "mknod": (133, None), "mknodat": (259, 33),
    "openat2": (437, 437),
    # limits and the machine
    "setrlimit": (160, 164), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "init_module": (175, 105), "finit_module": (313, 273), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "kexec_load": (246, 104), "reboot": (169, 142),
    "swapon": (167, 224),
}  # fmt: skip
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, the kernel's word for it
OPEN, OPENAT, CLONE, CLONE3, TGKILL, PRLIMIT = (2, None), (257, 56), (56, 220), (435, 435), (234, 131), (302, 261)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
THREAD = 0x10000  # CLONE_THREAD
REFUSE, NOT_THERE, ALLOW = 0x00050000 | 1, 0x00050000 | 38, 0x7FFF0000  # EPERM, ENOSYS


def virtual_size() -> int:
    """Bytes of address space this process has now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def limit(memory: int, seconds: float) -> None:
    """Cap this process: ``memory`` bytes above what it has now, ``seconds`` of processor time, no files written."""
    for what, cap in (
        (resource.RLIMIT_AS, virtual_size() + memory),
        (resource.RLIMIT_CPU, math.ceil(seconds) + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        value = cap if hard == resource.RLIM_INFINITY else min(cap, hard)
        resource.setrlimit(what, (value, value))


def die_with_parent(parent: int) -> None:
    """End this process when the one that forked it ends (Linux)."""
    if sys.platform == "linux":
        _libc().prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
        if os.getppid() != parent:
            os._exit(1)


def filter_calls() -> bool:
    """Refuse what a parser never needs, for good; False where this system has no such filter."""
    program = _program(platform.machine(), os.getpid()) if sys.platform == "linux" else None
    if program is None:
        return False
    libc = _libc()
    held = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(held)))
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        return False
    return bool(libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(head)), 0, 0) == 0)  # PR_SET_SECCOMP, FILTER


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _program(machine: str, process: int) -> bytes | None:
    """The filter in classic BPF; None for a machine whose call numbers are not written here."""
    if machine not in MACHINES:
        return None
    column, audit = MACHINES[machine]
    flags = [(0x45, 0, 1, WRITING), _return(REFUSE), _return(ALLOW)]
    looked_at = {  # clone3 is said not to exist: then the C library uses clone, whose flags can be seen
        CLONE3: [_return(NOT_THERE)],
        CLONE: [_argument(0), (0x45, 1, 0, THREAD), _return(REFUSE), _return(ALLOW)],
        OPEN: [_argument(1), *flags],
        OPENAT: [_argument(2), *flags],
        TGKILL: [_argument(0), (0x15, 1, 0, process), _return(REFUSE), _return(ALLOW)],
        PRLIMIT: [_argument(2), (0x15, 1, 0, 0), _return(REFUSE), _return(ALLOW)],  # to ask is fine, to set is not
    }
    code = [_load(4), (0x15, 1, 0, audit), _return(0x80000000), _load(0)]  # another architecture: end the process
    if machine == "x86_64":
        code += [(0x35, 0, 1, 0x40000000), _return(REFUSE)]  # the x32 twins of all calls
    rules = [(numbers, [_return(REFUSE)]) for numbers in REFUSED.values()] + list(looked_at.items())
    for numbers, then in rules:
        if (number := numbers[column]) is not None:
            code += [(0x15, 0, len(then), number), *then]
    return b"".join(struct.pack("<HBBI", *step) for step in [*code, _return(ALLOW)])


Step = tuple[int, int, int, int]


def _load(offset: int) -> Step:
    return (0x20, 0, 0, offset)


def _argument(index: int) -> Step:
    return _load(16 + 8 * index)  # its lower half, on a little-endian machine


def _return(verdict: int) -> Step:
    return (0x06, 0, 0, verdict)
