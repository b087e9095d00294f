//! Conditions on the arguments of a system call, as instructions. An argument has 64 bits and a register 32, so that each
//! half is looked at.

use super::bpf::{
    jump, plain, Instruction, AND, JUMP_IF_EQUAL, JUMP_IF_GREATER, JUMP_IF_GREATER_OR_EQUAL, LOAD,
    OFFSET_ARGUMENT, RETURN,
};

/// The arguments of a system call.
const ARGUMENTS: u32 = 6;

/// How an argument is compared. Source: libseccomp, enum scmp_compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equal once it is masked.
    Masked(u64),
}

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0.
    pub(super) index: u32,
    comparison: Comparison,
    value: u64,
}

impl Condition {
    /// As a profile writes it; of SCMP_CMP_MASKED_EQ the first value is the mask.
    pub(super) fn new(index: u32, value: u64, value_two: u64, name: &str) -> Result<Self, String> {
        if index >= ARGUMENTS {
            return Err(format!("a call has no argument of index {index}"));
        }
        let (comparison, value) = match name {
            "SCMP_CMP_NE" => (Comparison::NotEqual, value),
            "SCMP_CMP_LT" => (Comparison::Less, value),
            "SCMP_CMP_LE" => (Comparison::LessOrEqual, value),
            "SCMP_CMP_EQ" => (Comparison::Equal, value),
            "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, value),
            "SCMP_CMP_GT" => (Comparison::Greater, value),
            "SCMP_CMP_MASKED_EQ" => (Comparison::Masked(value), value_two),
            _ => return Err(format!("the comparison {name:?} is not supported")),
        };
        Ok(Self { index, comparison, value })
    }
}

/// What happens where all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    /// The value that the filter returns.
    pub(super) result: u32,
}

/// Where a comparison leads: on, to the next condition, or past the rule.
#[derive(Clone, Copy)]
enum Target {
    Next,
    Holds,
    Fails,
}

enum Step {
    Plain(Instruction),
    Jump(u16, u32, Target, Target),
}

/// The rule: its result, or the instruction after it.
pub(super) fn instructions(rule: &Rule) -> Vec<Instruction> {
    let blocks: Vec<Vec<Step>> = rule.conditions.iter().map(steps).collect();
    // With its return; at most 6 conditions of 6 instructions, so that every jump reaches.
    let total: usize = blocks.iter().map(Vec::len).sum::<usize>() + 1;
    let mut program = Vec::with_capacity(total);
    for block in blocks {
        let end = program.len() + block.len();
        for step in block {
            let here = program.len() + 1;
            let distance = |target: Target| match target {
                Target::Next => 0,
                Target::Holds => (end - here) as u8,
                Target::Fails => (total - here) as u8,
            };
            program.push(match step {
                Step::Plain(instruction) => instruction,
                Step::Jump(code, value, holds, fails) => jump(code, value, distance(holds), distance(fails)),
            });
        }
    }
    program.push(plain(RETURN, rule.result));
    program
}

fn steps(condition: &Condition) -> Vec<Step> {
    use Target::{Fails, Holds, Next};
    // struct seccomp_data on a machine whose low half comes first, as all that this engine runs on.
    let low = OFFSET_ARGUMENT + 8 * condition.index;
    let load = |offset| Step::Plain(plain(LOAD, offset));
    let (high_value, low_value) = ((condition.value >> 32) as u32, condition.value as u32);
    let (high, low) = (load(low + 4), load(low));
    let equal = |value, holds, fails| Step::Jump(JUMP_IF_EQUAL, value, holds, fails);
    let greater = |value, holds, fails| Step::Jump(JUMP_IF_GREATER, value, holds, fails);
    let at_least = |value, holds, fails| Step::Jump(JUMP_IF_GREATER_OR_EQUAL, value, holds, fails);
    match condition.comparison {
        Comparison::Equal => vec![high, equal(high_value, Next, Fails), low, equal(low_value, Holds, Fails)],
        Comparison::NotEqual => {
            vec![high, equal(high_value, Next, Holds), low, equal(low_value, Fails, Holds)]
        }
        Comparison::Masked(mask) => vec![
            high,
            Step::Plain(plain(AND, (mask >> 32) as u32)),
            equal(high_value, Next, Fails),
            low,
            Step::Plain(plain(AND, mask as u32)),
            equal(low_value, Holds, Fails),
        ],
        Comparison::Greater => vec![
            high,
            greater(high_value, Holds, Next),
            equal(high_value, Next, Fails),
            low,
            greater(low_value, Holds, Fails),
        ],
        Comparison::GreaterOrEqual => vec![
            high,
            greater(high_value, Holds, Next),
            equal(high_value, Next, Fails),
            low,
            at_least(low_value, Holds, Fails),
        ],
        Comparison::Less => vec![
            high,
            greater(high_value, Fails, Next),
            equal(high_value, Next, Holds),
            low,
            at_least(low_value, Fails, Holds),
        ],
        Comparison::LessOrEqual => vec![
            high,
            greater(high_value, Fails, Next),
            equal(high_value, Next, Holds),
            low,
            greater(low_value, Fails, Holds),
        ],
    }
}
