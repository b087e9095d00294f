//! Rules about devices as the program that the kernel asks on a v2 host. Pure.
//!
//! Each rule is a block that allows and ends, or goes on to the next; behind the last nothing is allowed. As in v1, one rule
//! must allow all of what one call asks for.
//!
//! Source: struct bpf_cgroup_dev_ctx of linux/bpf.h; crun's and runc's programs for the same.

use sys::cgroup_device::Instruction;

use crate::{DeviceKind, DeviceRule};

const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE_NUMBER: u8 = 0xb4;
const AND_NUMBER: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// Registers: the context is handed over in 1; 0 is the answer.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const MORE: u8 = 6;

/// BPF_DEVCG_DEV_* and BPF_DEVCG_ACC_* of linux/bpf.h.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MAKE | READ | WRITE;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

/// A program that allows what one of the rules does.
pub(crate) fn program<'rules>(rules: impl Iterator<Item = &'rules DeviceRule>) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(AND_NUMBER, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    rules.for_each(|rule| program.extend(block(rule)));
    program.extend([instruction(MOVE_NUMBER, ANSWER, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

fn block(rule: &DeviceRule) -> Vec<Instruction> {
    let kind = match rule.kind {
        DeviceKind::Block => BLOCK,
        DeviceKind::Character => CHARACTER,
    };
    let given = [(rule.make, MAKE), (rule.read, READ), (rule.write, WRITE)];
    let allowed: i32 = given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, bit)| bit).sum();
    let mut block = vec![instruction(JUMP_UNLESS_EQUAL, KIND, 0, 0, kind)];
    if allowed != ALL {
        block.push(instruction(MOVE_REGISTER, MORE, ACCESS, 0, 0));
        block.push(instruction(AND_NUMBER, MORE, 0, 0, ALL & !allowed));
        block.push(instruction(JUMP_UNLESS_EQUAL, MORE, 0, 0, 0));
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            // The comparison is one of 32 bits: a number above 2^31 is compared as it stands.
            block.push(instruction(JUMP_UNLESS_EQUAL, register, 0, 0, number as i32));
        }
    }
    block.extend([instruction(MOVE_NUMBER, ANSWER, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    let length = block.len();
    for (place, one) in block.iter_mut().enumerate() {
        if one.code == JUMP_UNLESS_EQUAL {
            // To the end of the block; it is shorter than an i16 by far.
            one.offset = (length - place - 1) as i16;
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTRUCTIONS_PER_RULE: usize = 8;

    /// What the program answers, worked out here.
    fn run(program: &[Instruction], kind: i32, access: i32, major: u32, minor: u32) -> u32 {
        let context = [(access << 16 | kind) as u32, major, minor];
        let mut registers = [0u32; 11];
        let mut place = 0usize;
        loop {
            let one = program[place];
            let (to, from) = (usize::from(one.registers & 15), usize::from(one.registers >> 4));
            place += 1;
            match one.code {
                LOAD_WORD => registers[to] = context[one.offset as usize / 4],
                MOVE_REGISTER => registers[to] = registers[from],
                MOVE_NUMBER => registers[to] = one.immediate as u32,
                AND_NUMBER => registers[to] &= one.immediate as u32,
                SHIFT_RIGHT => registers[to] >>= one.immediate,
                JUMP_UNLESS_EQUAL if registers[to] == one.immediate as u32 => {}
                JUMP_UNLESS_EQUAL => place += one.offset as usize,
                EXIT => return registers[0],
                other => panic!("{other:#x} is no instruction of ours"),
            }
        }
    }

    fn rule(text: &str) -> DeviceRule {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_is_allowed_but_what_one_rule_allows_whole() {
        let rules = [rule("c 1:3 rw"), rule("b 8:* r"), rule("c *:* m"), rule("c 4000000000:1 rwm")];
        let program = program(rules.iter());
        for (kind, access, major, minor, expected) in [
            (CHARACTER, READ, 1, 3, 1),
            (CHARACTER, READ | WRITE, 1, 3, 1),
            // Made by the third, read by the first: no rule allows both.
            (CHARACTER, READ | MAKE, 1, 3, 0),
            (CHARACTER, MAKE, 1, 3, 1),
            (CHARACTER, MAKE, 9, 9, 1),
            (CHARACTER, READ, 1, 4, 0),
            (CHARACTER, READ, 2, 3, 0),
            (BLOCK, READ, 1, 3, 0),
            (BLOCK, READ, 8, 17, 1),
            (BLOCK, WRITE, 8, 17, 0),
            (BLOCK, MAKE, 8, 17, 0),
            (CHARACTER, READ, 4_000_000_000, 1, 1),
            (CHARACTER, 0, 1, 4, 1),
        ] {
            let answer = run(&program, kind, access, major, minor);
            assert_eq!(answer, expected, "{kind} {access} {major}:{minor}");
        }
        assert_eq!(run(&super::program([].iter()), CHARACTER, READ, 1, 3), 0);
    }

    #[test]
    fn the_most_rules_fit() {
        let rules = vec![rule("c 1:3 rw"); crate::MAX_DEVICE_RULES + crate::DEFAULT_DEVICE_RULES.len()];
        let length = program(rules.iter()).len();
        assert!(length <= rules.len() * INSTRUCTIONS_PER_RULE + 8);
        assert!(length <= sys::cgroup_device::MAX_INSTRUCTIONS);
    }
}
