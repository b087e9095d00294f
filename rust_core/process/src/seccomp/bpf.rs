//! Classic BPF for seccomp: the architecture is told apart once, then the number is found by bisection.
//!
//! Source: Documentation/userspace-api/seccomp_filter.rst; linux/filter.h, linux/seccomp.h.

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// It fails with this errno.
    Errno(u16),
    /// Allowed if its flags (first argument) make no namespace, else EPERM.
    Clone,
    /// Allowed if its family (first argument) is one of [`FAMILIES`], else EPERM.
    Socket,
    /// Allowed for the few execution domains of Docker's profile, else EPERM.
    Personality,
}

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
/// Families of sockets, by the first number from which the answer holds: all that Docker's profile allows. Left out are
/// ALG (38: kernel cryptography, a family of many faults), VSOCK (40: it reaches the hypervisor past every network
/// namespace), and those that hardly anybody uses any more.
const FAMILIES: [(u32, bool); 18] = [
    (0, true),
    (3, false),
    (7, true),
    (11, false),
    (13, true),
    (19, false),
    (21, true),
    (23, false),
    (24, true),
    (25, false),
    (26, true),
    (34, false),
    (35, true),
    (37, false),
    (39, true),
    (40, false),
    (41, true),
    (46, false),
];
/// PER_LINUX, UNAME26 and PER_LINUX32 with and without it, and the question for the present one.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const EPERM: u32 = 1;

/// Offsets in struct seccomp_data. The low half of the first argument is all that the kernel reads of each argument
/// judged here; its high half is ignored there and must be here.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
pub(super) const OFFSET_ARGUMENT: u32 = 16;

pub(super) const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
pub(super) const JUMP_IF_EQUAL: u16 = 0x15;
pub(super) const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;
pub(super) const JUMP_IF_GREATER: u16 = 0x25;
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;

#[derive(Debug, Clone, Copy)]
pub(super) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

pub(super) fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

pub(super) fn jump(code: u16, value: u32, if_true: u8, if_false: u8) -> Instruction {
    Instruction { code, if_true, if_false, value }
}

/// The program as an array of struct sock_filter. Each section is an architecture's audit number and its ranges:
/// (first number, what happens to it), ascending from 0; `leaf` says how that is done. Any other architecture is killed.
pub(super) fn assemble<T>(
    sections: &[(u32, Vec<(u32, T)>)],
    leaf: &dyn Fn(&T) -> Vec<Instruction>,
) -> Vec<u8> {
    let mut program = vec![plain(LOAD, OFFSET_ARCH)];
    for (audit_number, ranges) in sections {
        let mut section = vec![plain(LOAD, OFFSET_NUMBER)];
        section.extend(search(ranges, leaf));
        // Past a section by an unconditional jump, since a conditional one reaches 255 instructions only.
        program.push(jump(JUMP_IF_EQUAL, *audit_number, 1, 0));
        program.push(plain(JUMP, section.len() as u32));
        program.extend(section);
    }
    program.push(plain(RETURN, KILL_PROCESS));
    program.iter().flat_map(encode).collect()
}

fn encode(instruction: &Instruction) -> [u8; 8] {
    let code = instruction.code.to_ne_bytes();
    let value = instruction.value.to_ne_bytes();
    [code[0], code[1], instruction.if_true, instruction.if_false, value[0], value[1], value[2], value[3]]
}

fn search<T>(ranges: &[(u32, T)], leaf: &dyn Fn(&T) -> Vec<Instruction>) -> Vec<Instruction> {
    let [(_, verdict)] = ranges else {
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let pivot = above[0].0;
        let (below, above) = (search(below, leaf), search(above, leaf));
        let mut program = match u8::try_from(below.len()) {
            Ok(distance) => vec![jump(JUMP_IF_GREATER_OR_EQUAL, pivot, distance, 0)],
            Err(_) => {
                vec![jump(JUMP_IF_GREATER_OR_EQUAL, pivot, 0, 1), plain(JUMP, below.len() as u32)]
            }
        };
        program.extend(below);
        program.extend(above);
        return program;
    };
    leaf(verdict)
}

/// What carries out one verdict of the default profile.
pub(super) fn leaf(verdict: &Verdict) -> Vec<Instruction> {
    let (allow, refuse) = (plain(RETURN, ALLOW), plain(RETURN, ERRNO | EPERM));
    let argument = plain(LOAD, OFFSET_ARGUMENT);
    match *verdict {
        Verdict::Allow => vec![allow],
        Verdict::Errno(errno) => vec![plain(RETURN, ERRNO | u32::from(errno))],
        Verdict::Clone => vec![argument, jump(JUMP_IF_ANY_BIT, NAMESPACE_FLAGS, 1, 0), allow, refuse],
        Verdict::Socket => {
            let answer = |is_allowed: &bool| vec![if *is_allowed { allow } else { refuse }];
            let mut program = vec![argument];
            program.extend(search(&FAMILIES, &answer));
            program
        }
        Verdict::Personality => {
            let count = PERSONALITIES.len();
            let mut program = vec![argument];
            for (index, value) in PERSONALITIES.iter().enumerate() {
                program.push(jump(JUMP_IF_EQUAL, *value, (count - index) as u8, 0));
            }
            program.extend([refuse, allow]);
            program
        }
    }
}
