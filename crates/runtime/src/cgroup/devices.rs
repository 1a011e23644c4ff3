//! Rules for devices on cgroup v2: a program that the kernel runs at each open(2) and mknod(2) of a device.
//!
//! The rules mean what they mean on v1: of those that say something about a request, the last one counts, and where none
//! does, nothing is allowed.
//!
//! Source: `struct bpf_cgroup_dev_ctx` of the kernel's `include/uapi/linux/bpf.h`.

use crate::error::{Error, Result};
use coracle_spec::runtime::DeviceRule;
use coracle_sys::device_filter::Instruction;

/// What can be done with a device: `BPF_DEVCG_ACC_*`.
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ANYTHING: u32 = MAKE | READ | WRITE;

/// Kinds of devices: `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// Registers: the answer, the context, and what is kept in others.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Operations on 32 bits: `BPF_LDX | BPF_MEM | BPF_W`, `BPF_ALU | … | BPF_K`, `BPF_JMP32 | … | BPF_K`, `BPF_EXIT`.
const LOAD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const SET: u8 = 0xb4;
const COPY: u8 = 0xbc;
const SKIP_IF_EQUAL: u8 = 0x16;
const SKIP_UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// A rule in the kernel's terms; nothing stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: u32,
}

/// The program for `rules`.
///
/// # Errors
/// [`Error::Invalid`] for a rule that means nothing.
pub(super) fn program(rules: &[DeviceRule]) -> Result<Vec<Instruction>> {
    let mut program = vec![
        instruction(LOAD, (KIND, CONTEXT), 0, 0),
        instruction(COPY, (ACCESS, KIND), 0, 0),
        instruction(AND, (KIND, 0), 0, 0xffff),
        instruction(SHIFT_RIGHT, (ACCESS, 0), 0, 16),
        instruction(LOAD, (MAJOR, CONTEXT), 4, 0),
        instruction(LOAD, (MINOR, CONTEXT), 8, 0),
    ];
    for rule in merged(rules)?.iter().rev() {
        program.extend(test(rule));
        if rule.is_for_all() {
            // The kernel refuses programs with a part that is never reached.
            return Ok(program);
        }
    }
    program.extend(answer(false));
    Ok(program)
}

/// The rules, where allowing the same device twice for different things is one rule: a request may ask for both at once.
fn merged(rules: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut merged: Vec<Rule> = Vec::new();
    for rule in rules {
        let rule = Rule::parse(rule)?;
        let since_last_denial = merged.iter_mut().rev().take_while(|before| before.allow && rule.allow);
        let same = |before: &&mut Rule| Rule { access: rule.access, ..**before } == rule;
        match since_last_denial.into_iter().find(same) {
            Some(before) => before.access |= rule.access,
            None => merged.push(rule),
        }
    }
    Ok(merged)
}

impl Rule {
    /// Whether it says something about every request.
    fn is_for_all(&self) -> bool {
        self.kind.is_none()
    }

    fn parse(rule: &DeviceRule) -> Result<Self> {
        let invalid = || Error::Invalid(format!("device rule {rule:?} means nothing"));
        let kind = match rule.kind.as_deref() {
            // As on v1, a rule for all kinds is one for all devices and everything that can be done with them.
            None | Some("a" | "") => {
                return Ok(Self {
                    allow: rule.allow,
                    kind: None,
                    major: None,
                    minor: None,
                    access: ANYTHING,
                });
            }
            Some("b") => BLOCK,
            Some("c" | "u") => CHARACTER,
            Some(_) => return Err(invalid()),
        };
        let number = |number: Option<i64>| match number {
            Some(number) if number >= 0 => i32::try_from(number).map(Some).map_err(|_| invalid()),
            _ => Ok(None),
        };
        let access = rule.access.as_deref().unwrap_or("rwm").chars().try_fold(0, |access, letter| {
            Some(
                access
                    | match letter {
                        'm' => MAKE,
                        'r' => READ,
                        'w' => WRITE,
                        _ => return None,
                    },
            )
        });
        Ok(Self {
            allow: rule.allow,
            kind: Some(kind),
            major: number(rule.major)?,
            minor: number(rule.minor)?,
            access: access.ok_or_else(invalid)?,
        })
    }
}

/// Answers if the rule says something about the request, and goes on after it if not.
fn test(rule: &Rule) -> Vec<Instruction> {
    let mut tests = Vec::new();
    let unless_equal = |register, value| instruction(SKIP_UNLESS_EQUAL, (register, 0), 0, value);
    tests.extend(rule.kind.map(|kind| unless_equal(KIND, kind)));
    tests.extend(rule.major.map(|major| unless_equal(MAJOR, major)));
    tests.extend(rule.minor.map(|minor| unless_equal(MINOR, minor)));
    if rule.access != ANYTHING {
        // What is allowed must be all that is asked for; what is denied, any of it.
        let (asked, skip) = if rule.allow {
            (ANYTHING & !rule.access, SKIP_UNLESS_EQUAL)
        } else {
            (rule.access, SKIP_IF_EQUAL)
        };
        tests.push(instruction(COPY, (ANSWER, ACCESS), 0, 0));
        tests.push(instruction(AND, (ANSWER, 0), 0, asked.cast_signed()));
        tests.push(instruction(skip, (ANSWER, 0), 0, 0));
    }
    tests.extend(answer(rule.allow));
    let length = tests.len();
    for (place, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, SKIP_IF_EQUAL | SKIP_UNLESS_EQUAL) {
            test.offset = i16::try_from(length - place - 1).expect("a rule has a handful of instructions");
        }
    }
    tests
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(SET, (ANSWER, 0), 0, i32::from(allow)), instruction(EXIT, (0, 0), 0, 0)]
}

fn instruction(code: u8, (to, from): (u8, u8), offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> DeviceRule {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |text: &str| text.parse().ok();
        let (major, minor) = words[2].split_once(':').unwrap();
        DeviceRule {
            allow: words[0] == "allow",
            kind: Some(words[1].to_owned()),
            major: number(major),
            minor: number(minor),
            access: Some(words[3].to_owned()),
        }
    }

    /// Runs the program as the kernel would.
    fn asked(program: &[Instruction], kind: i32, (major, minor): (u32, u32), access: u32) -> bool {
        let context = [access << 16 | kind.cast_unsigned(), major, minor];
        let mut registers = [0_u32; 6];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let value = immediate.cast_unsigned();
            at += 1;
            let mut skip_if = |yes: bool| at += if yes { usize::try_from(offset).unwrap() } else { 0 };
            match code {
                LOAD => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                SET => registers[to] = value,
                COPY => registers[to] = registers[from],
                SKIP_IF_EQUAL => skip_if(registers[to] == value),
                SKIP_UNLESS_EQUAL => skip_if(registers[to] != value),
                EXIT => return registers[0] == 1,
                _ => panic!("no such instruction"),
            }
        }
    }

    #[test]
    fn the_last_rule_that_says_something_counts() {
        let rules = [
            "deny a *:* rwm",
            "allow c *:* m",
            "allow c 1:3 r",
            "allow c 1:3 w",
            "allow b 8:* rm",
            "deny b 8:7 r",
        ];
        let program = program(&rules.map(rule)).unwrap();
        for (kind, device, access, allowed) in [
            (CHARACTER, (1, 3), READ | WRITE, true),
            (CHARACTER, (1, 3), ANYTHING, false),
            (CHARACTER, (1, 5), READ, false),
            (CHARACTER, (1, 5), MAKE, true),
            (BLOCK, (1, 3), READ, false),
            (BLOCK, (8, 1), READ, true),
            (BLOCK, (8, 1), WRITE, false),
            (BLOCK, (8, 7), READ | MAKE, false),
            (BLOCK, (8, 7), MAKE, true),
        ] {
            assert_eq!(asked(&program, kind, device, access), allowed, "{kind} {device:?} {access}");
        }
    }

    #[test]
    fn without_rules_nothing_is_allowed_and_a_rule_for_all_is_one_for_everything() {
        assert!(!asked(&program(&[]).unwrap(), CHARACTER, (1, 3), READ));
        let privileged = program(&[rule("allow a 1:2 r")]).unwrap();
        assert!(asked(&privileged, BLOCK, (8, 0), ANYTHING));
        assert!(program(&[rule("allow x 1:2 r")]).is_err() && program(&[rule("allow c 1:2 x")]).is_err());
    }

    #[test]
    fn the_kernel_takes_the_program_and_obeys_it() {
        use crate::cgroup::tests::{code, inside};
        use crate::cgroup::{Group, Layout};
        use coracle_spec::runtime::Resources;
        let mountpoint = match Layout::detect().unwrap() {
            Layout::V2 { mountpoint } => mountpoint,
            Layout::V1 { unified, .. } => unified.expect("the kernel has cgroup v2, and it is mounted"),
        };
        let name = format!("coracle-test-{}-devices", std::process::id());
        let group = Group::create(&Layout::V2 { mountpoint }, name.as_ref()).unwrap();
        let devices = ["deny a *:* rwm", "allow c 1:3 rw", "allow c 1:5 r"].map(rule).to_vec();
        group.apply(&Resources { devices, ..Resources::default() }).unwrap();
        let pid = inside(&group, || {
            let opens = |path: &str, write: bool| {
                std::fs::OpenOptions::new().read(true).write(write).open(path).is_ok()
            };
            let right = opens("/dev/null", true) && opens("/dev/zero", false);
            i32::from(!right || opens("/dev/zero", true) || opens("/dev/full", false))
        });
        assert_eq!(code(pid), 0);
        group.remove().unwrap();
    }
}
