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
        # mov eax, 41 (socket); mov edi, 2; mov esi, 2; mov edx, 1; syscall; shr eax, 31; then as above
        "ping": "b829000000 bf02000000 be02000000 ba01000000 0f05 c1e81f 89c7 b83c000000 0f05",
    },
    "aarch64": {
        # mov x0, #0; str wzr, [x0]
        "segv": "000080d2 1f0000b9",
        # udf #0
        "ill": "00000000",
        # mov x8, #175 (geteuid); svc #0; mov x8, #93 (exit); svc #0
        "euid": "e81580d2 010000d4 a80b80d2 010000d4",
        # mov x8, #198 (socket); mov x0, #2; mov x1, #2; mov x2, #1; svc #0; lsr x0, x0, #63; mov x8, #93; svc #0
        "ping": "c81880d2 400080d2 410080d2 220080d2 010000d4 00fc7fd3 a80b80d2 010000d4",
    },
}[platform.machine()]


def program(does: str, *, machine: int = _OWN_MACHINE) -> bytes:
    """A program that ends by SIGSEGV (`segv`), by SIGILL (`ill`), or with its effective user id modulo 256 (`euid`).

    `ping` ends with 0 if it may open a datagram socket of ICMP, else with 1; no applet of busybox asks for one.

    Source: elf(5), an ELF64 header and one PT_LOAD segment that is read and executed.
    """
    return _of_code(bytes.fromhex(_CODE[does]), machine)


def exchanger(first: str, second: str) -> bytes:
    """A program that exchanges two names by renameat2(2) without end, as fast as the kernel can.

    Source: renameat2(2), RENAME_EXCHANGE; the numbers of the calls are those of asm/unistd.h.
    """
    names = [name.encode() + b"\0" for name in (first, second)]
    if platform.machine() == "x86_64":
        length = 5 * 4 + 6 * 2 + 2 + 2
        here = _ADDRESS + _HEADER_BYTES + length
        words = [struct.pack("<I", address) for address in (here, here + len(names[0]))]
        # mov eax, 316; mov edi, AT_FDCWD; mov esi, first; mov edx, AT_FDCWD; mov r10d, second; mov r8d, 2; syscall; jmp
        code = b"\xb8\x3c\x01\0\0\xbf\x9c\xff\xff\xff\xbe" + words[0] + b"\xba\x9c\xff\xff\xff\x41\xba" + words[1]
        code += b"\x41\xb8\x02\0\0\0\x0f\x05\xeb" + struct.pack("b", -length)
    else:
        # movz x8, #276; movn x0, #99; adr x1, first; movn x2, #99; adr x3, second; movz x4, #2; svc #0; b start
        first_at, second_at = 32 - 8, 32 + len(names[0]) - 16
        adr = [
            0x10000000 | (at & 3) << 29 | (at >> 2) << 5 | register for at, register in ((first_at, 1), (second_at, 3))
        ]
        whole = (0xD2802288, 0x92800C60, adr[0], 0x92800C62, adr[1], 0xD2800044, 0xD4000001, 0x17FFFFF9)
        code = struct.pack("<8I", *whole)
        length = 32
    assert len(code) == length
    return _of_code(code + b"".join(names), _OWN_MACHINE)


def _of_code(code: bytes, machine: int) -> bytes:
    size = _HEADER_BYTES + len(code)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _ADDRESS + _HEADER_BYTES, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 4096) + code
