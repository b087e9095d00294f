"""Tiny static programs, made here byte by byte: for what no program of busybox does. Nothing is compiled."""

import platform
import struct

_MACHINES = {"x86_64": 62, "aarch64": 183}
_OWN_MACHINE = _MACHINES[platform.machine()]
#: A machine number of ELF that this host cannot be (MIPS).
FOREIGN_MACHINE = 8
_ADDRESS = 0x400000
_HEADER_BYTES = 64 + 56

_CODE = {
    "x86_64": {
        # xor eax, eax; mov dword [rax], 0
        "segv": "31c0 c70000000000",
        # ud2
        "ill": "0f0b",
        # mov eax, 107 (geteuid); syscall; mov edi, eax; mov eax, 60 (exit); syscall
        "euid": "b86b000000 0f05 89c7 b83c000000 0f05",
    },
    "aarch64": {
        # mov x0, #0; str wzr, [x0]
        "segv": "000080d2 1f0000b9",
        # udf #0
        "ill": "00000000",
        # mov x8, #175 (geteuid); svc #0; mov x8, #93 (exit); svc #0
        "euid": "e81580d2 010000d4 a80b80d2 010000d4",
    },
}[platform.machine()]


def program(does: str, *, machine: int = _OWN_MACHINE) -> bytes:
    """A program that ends by SIGSEGV (`segv`), by SIGILL (`ill`), or with its effective user id modulo 256 (`euid`).

    Source: elf(5), an ELF64 header and one PT_LOAD segment that is read and executed.
    """
    code = bytes.fromhex(_CODE[does])
    size = _HEADER_BYTES + len(code)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _ADDRESS + _HEADER_BYTES, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 4096) + code
