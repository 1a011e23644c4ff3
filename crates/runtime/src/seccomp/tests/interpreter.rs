//! A classic BPF machine, as far as seccomp(2) lets programs go.

use coracle_sys::seccomp::Instruction;

/// `struct seccomp_data` without the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let argument = |at: u32| self.arguments[at as usize / 8];
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..=63 if offset.is_multiple_of(8) => (argument(offset - 16) & 0xffff_ffff) as u32,
            16..=63 if offset.is_multiple_of(4) => (argument(offset - 16) >> 32) as u32,
            _ => panic!("a load from {offset}"),
        }
    }
}

/// Runs `program`. Returns its answer and how many instructions that took.
pub(super) fn run(program: &[Instruction], call: Call) -> (u32, usize) {
    let (mut at, mut steps, mut accumulator) = (0, 0, 0);
    loop {
        let Instruction { code, jump_true, jump_false, operand } = program[at];
        steps += 1;
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jump_true } else { jump_false });
        match code {
            0x20 => accumulator = call.word(operand),
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => at += branch(accumulator == operand),
            0x25 => at += branch(accumulator > operand),
            0x35 => at += branch(accumulator >= operand),
            0x06 => return (operand, steps),
            other => panic!("the operation {other:#x}"),
        }
    }
}
