//! Decisions as a program of classic BPF.
//!
//! Jumps only go forward, so the program is written from its end: every target is there before what jumps to it. A
//! conditional jump reaches 255 instructions; what is further away gets an unconditional one (a trampoline) in between.
//!
//! ```text
//! architecture? ── binary search for the range of the number ── conditions on arguments ── action
//! ```

use super::action::Action;
use super::condition::{Comparison, Condition, Width};
use super::rules::{Architecture, Decision, Range};
use coracle_sys::seccomp::Instruction;

// Operations, linux/bpf_common.h: class, size or source, mode or comparison.
const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;

// Offsets into struct seccomp_data, linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Furthest a conditional jump is made to reach: the other branch of the same jump may still need a trampoline.
const REACH: usize = 254;

/// Where a jump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// To any return of this action; one is made if none is near.
    Return(Action),
    /// To an instruction, counted from the program's end.
    At(usize),
}

/// The program of all architectures; those it does not know are killed.
pub(super) fn program(architectures: &[Architecture]) -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    let mut next = Target::Return(Action::KILL_THREAD);
    for architecture in architectures.iter().rev() {
        let search = assembler.search(&architecture.ranges);
        let search = assembler.load(NUMBER, search);
        next = assembler.jump(JUMP_EQUAL, architecture.audit, search, next);
    }
    match next {
        // Every call of every architecture has the same fate, and an empty program none.
        Target::Return(_) => _ = assembler.here(next),
        Target::At(_) => _ = assembler.load(ARCHITECTURE, next),
    }
    assembler.reversed.reverse();
    assembler.reversed
}

#[derive(Default)]
struct Assembler {
    /// The program, last instruction first.
    reversed: Vec<Instruction>,
    /// The latest return of each action.
    returns: Vec<(Action, usize)>,
}

impl Assembler {
    /// Finds the range that the loaded number is in.
    fn search(&mut self, ranges: &[Range]) -> Target {
        if let [only] = ranges {
            return self.decision(&only.decision);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let above = self.search(high);
        let below = self.search(low);
        self.jump(JUMP_GREATER_OR_EQUAL, high[0].first, above, below)
    }

    fn decision(&mut self, decision: &Decision) -> Target {
        let mut next = Target::Return(decision.otherwise);
        for branch in decision.branches.iter().rev() {
            let mut pass = Target::Return(branch.action);
            for condition in branch.conditions.iter().rev() {
                pass = self.condition(*condition, pass, next);
            }
            next = pass;
        }
        next
    }

    fn condition(&mut self, condition: Condition, pass: Target, fail: Target) -> Target {
        if pass == fail {
            return pass;
        }
        let words = Words::of(condition);
        match condition.comparison {
            Comparison::Equal(value) => self.equal(words, u64::MAX, value, pass, fail),
            Comparison::NotEqual(value) => self.equal(words, u64::MAX, value, fail, pass),
            Comparison::MaskedEqual { mask, value } => self.equal(words, mask, value, pass, fail),
            Comparison::Greater(value) => self.above(words, JUMP_GREATER, value, pass, fail),
            Comparison::GreaterOrEqual(value) => self.above(words, JUMP_GREATER_OR_EQUAL, value, pass, fail),
            Comparison::Less(value) => self.above(words, JUMP_GREATER_OR_EQUAL, value, fail, pass),
            Comparison::LessOrEqual(value) => self.above(words, JUMP_GREATER, value, fail, pass),
        }
    }

    fn equal(&mut self, words: Words, mask: u64, value: u64, pass: Target, fail: Target) -> Target {
        let low = self.equal_word(words.low, low_half(mask), low_half(value), pass, fail);
        match words.high {
            Some(high) => self.equal_word(high, high_half(mask), high_half(value), low, fail),
            None if high_half(value) == 0 => low,
            None => fail,
        }
    }

    fn equal_word(&mut self, offset: u32, mask: u32, value: u32, pass: Target, fail: Target) -> Target {
        if value & !mask != 0 {
            return fail;
        }
        if mask == 0 {
            return pass;
        }
        let mut test = self.jump(JUMP_EQUAL, value, pass, fail);
        if mask != u32::MAX {
            test = self.before(AND, mask, test);
        }
        self.load(offset, test)
    }

    /// Tests whether the argument is above `value`, or equal to it if `test` says so.
    fn above(&mut self, words: Words, test: u16, value: u64, pass: Target, fail: Target) -> Target {
        let Some(high) = words.high else {
            if high_half(value) > 0 {
                return fail;
            }
            let low = self.jump(test, low_half(value), pass, fail);
            return self.load(words.low, low);
        };
        let low = self.jump(test, low_half(value), pass, fail);
        let low = self.load(words.low, low);
        let equal = self.jump(JUMP_EQUAL, high_half(value), low, fail);
        let above = self.jump(JUMP_GREATER, high_half(value), pass, equal);
        self.load(high, above)
    }

    fn jump(&mut self, test: u16, operand: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let (yes, no) = (self.near(yes), self.near(no));
        let distance = |target: usize| {
            u8::try_from(self.reversed.len() - target - 1).expect("targets are near, trampolines included")
        };
        let (jump_true, jump_false) = (distance(yes), distance(no));
        self.push(Instruction { code: test, jump_true, jump_false, operand })
    }

    /// The place of `target`, or of a stand-in for it, that a conditional jump can reach.
    fn near(&mut self, target: Target) -> usize {
        let place = match target {
            Target::At(place) => Some(place),
            Target::Return(action) => {
                self.returns.iter().find(|(a, _)| *a == action).map(|(_, place)| *place)
            }
        };
        match place.filter(|place| self.reversed.len() - place - 1 <= REACH) {
            Some(place) => place,
            None => self.here(target),
        }
    }

    /// Writes an instruction that leads to `target` from wherever the program is now.
    fn here(&mut self, target: Target) -> usize {
        let place = self.reversed.len();
        match target {
            Target::Return(action) => {
                self.push(plain(RETURN, action.value()));
                self.returns.retain(|(known, _)| *known != action);
                self.returns.push((action, place));
            }
            Target::At(there) => {
                let distance = u32::try_from(place - there - 1).expect("a program is far shorter");
                self.push(plain(JUMP, distance));
            }
        }
        place
    }

    /// Loads a word, and goes on to `then`.
    fn load(&mut self, offset: u32, then: Target) -> Target {
        match then {
            // What is loaded would not be looked at.
            Target::Return(_) => then,
            Target::At(_) => self.before(LOAD, offset, then),
        }
    }

    /// Writes an instruction that does not jump, right before `then`.
    fn before(&mut self, code: u16, operand: u32, then: Target) -> Target {
        if then != Target::At(self.reversed.len().wrapping_sub(1)) {
            self.here(then);
        }
        self.push(plain(code, operand))
    }

    fn push(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::At(self.reversed.len() - 1)
    }
}

const fn plain(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

/// Where the halves of an argument are; x86-64 and arm64 put the lower one first.
#[derive(Clone, Copy)]
struct Words {
    low: u32,
    high: Option<u32>,
}

impl Words {
    fn of(condition: Condition) -> Self {
        let low = ARGUMENTS + 8 * u32::from(condition.argument);
        Self { low, high: (condition.width == Width::Whole).then_some(low + 4) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "half is what is asked for")]
const fn low_half(value: u64) -> u32 {
    value as u32
}

const fn high_half(value: u64) -> u32 {
    low_half(value >> 32)
}
