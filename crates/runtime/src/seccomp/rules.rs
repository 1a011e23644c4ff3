//! What a configuration decides about each call of each calling convention, as ranges of numbers. Pure.
//!
//! Of the rules about one call, those with conditions are asked first, in their order; then the first one without.
//! (libseccomp lets a rule without conditions silence those with: a deny by argument would be lost.)

use super::abi::{Abi, Machine, X32_BIT, enabled};
use super::action::Action;
use super::condition::{Comparison, Condition, Width};
use super::tables;
use crate::error::Result;
use coracle_spec::runtime::Seccomp;

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The first whose conditions all hold decides.
    pub(super) branches: Vec<Branch>,
    /// What happens otherwise.
    pub(super) otherwise: Action,
}

/// An action under conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

/// The decision about all calls from a number to the next range's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u32,
    pub(super) decision: Decision,
}

/// The decisions about all calls of programs of one kind, by `seccomp_data.arch`. The first range starts at 0.
#[derive(Clone, Debug)]
pub(super) struct Architecture {
    pub(super) audit: u32,
    pub(super) ranges: Vec<Range>,
}

impl From<Action> for Decision {
    fn from(action: Action) -> Self {
        Self { branches: Vec::new(), otherwise: action }
    }
}

impl Decision {
    /// Whether the call happens, whatever its arguments.
    fn lets_through(&self) -> bool {
        self.branches.is_empty() && self.otherwise.lets_through()
    }
}

/// The decisions of `configured` on `machine`. Names that no kernel known here has are skipped, as a profile may be
/// newer than this program.
///
/// # Errors
/// [`crate::Error::Invalid`] names what is unknown or cannot be done.
pub(super) fn decide(machine: Machine, configured: &Seccomp) -> Result<Vec<Architecture>> {
    let default = Action::parse(&configured.default_action, configured.default_errno_ret)?;
    let abis = enabled(machine, &configured.architectures)?;
    let mut calls: Vec<Calls> = abis.iter().map(|abi| Calls::new(*abi, default)).collect();
    for rule in &configured.syscalls {
        let action = Action::parse(&rule.action, rule.errno_ret)?;
        let conditions = rule.args.iter().map(Condition::parse).collect::<Result<Vec<_>>>()?;
        for name in &rule.names {
            let Some(numbers) = tables::lookup(name) else { continue };
            for calls in &mut calls {
                if let Some(number) = numbers.of(calls.abi) {
                    calls.add(number, name, &conditions, action);
                }
            }
        }
    }
    for calls in &mut calls {
        calls.close_multiplexers();
    }
    Ok(architectures(calls, default))
}

/// The rules about the calls of one convention, by number.
struct Calls {
    abi: Abi,
    default: Action,
    rules: Vec<Rules>,
}

/// The rules about one call.
#[derive(Clone, Default)]
struct Rules {
    branches: Vec<Branch>,
    unconditional: Option<Action>,
}

impl Calls {
    fn new(abi: Abi, default: Action) -> Self {
        Self { abi, default, rules: Vec::with_capacity(600) }
    }

    fn add(&mut self, number: u32, name: &str, conditions: &[Condition], action: Action) {
        let index = number as usize;
        if self.rules.len() <= index {
            self.rules.resize(index + 1, Rules::default());
        }
        let rules = &mut self.rules[index];
        if conditions.is_empty() {
            rules.unconditional.get_or_insert(action);
        } else {
            let narrow = self.abi.is_narrow();
            let conditions = conditions.iter().map(|c| c.for_call(name, narrow)).collect();
            rules.branches.push(Branch { conditions, action });
        }
    }

    fn decision(&self, number: u32) -> Decision {
        match self.rules.get(number as usize) {
            Some(rules) => Decision {
                branches: rules.branches.clone(),
                otherwise: rules.unconditional.unwrap_or(self.default),
            },
            None => self.default.into(),
        }
    }

    /// Lets no call through by way of another one that passes its arguments in memory, where no filter sees them.
    fn close_multiplexers(&mut self) {
        if self.abi != Abi::X86 {
            return;
        }
        for multiplexer in &MULTIPLEXERS {
            let number = |name| tables::lookup(name).and_then(|numbers| numbers.of(self.abi));
            let Some(own) = number(multiplexer.name) else { continue };
            if !self.decision(own).lets_through() {
                continue;
            }
            let hidden = multiplexer.calls.iter().filter_map(|(selector, name)| {
                let direct = self.decision(number(name)?);
                let action = if direct.branches.is_empty() { direct.otherwise } else { Action::NO_SUCH_CALL };
                (!direct.lets_through()).then(|| multiplexer.branch(*selector, action))
            });
            let hidden: Vec<Branch> = hidden.collect();
            if let Some(rules) = self.rules.get_mut(own as usize) {
                rules.branches.extend(hidden);
            }
        }
    }

    /// The decisions as ranges of numbers that count from the convention's base.
    fn ranges(&self) -> Vec<Range> {
        let mut ranges = Vec::with_capacity(100);
        let base = self.abi.base();
        for number in (0..).take(self.rules.len()) {
            push(&mut ranges, base + number, self.decision(number));
        }
        // What the profile's author could not know yet is not there, so that the C library tries an older call.
        let end: u32 = self.rules.len().try_into().expect("the tables hold small numbers");
        let beyond =
            if self.default.lets_through() || end == 0 { self.default } else { Action::NO_SUCH_CALL };
        push(&mut ranges, base + end, beyond.into());
        ranges
    }
}

fn push(ranges: &mut Vec<Range>, first: u32, decision: Decision) {
    if ranges.last().is_none_or(|last| last.decision != decision) {
        ranges.push(Range { first, decision });
    }
}

/// Joins conventions that programs of one kind share: x32 calls have numbers of their own, and are of a kind that is
/// killed unless it is enabled. The number -1 is that of a call which a tracer has cancelled.
fn architectures(calls: Vec<Calls>, default: Action) -> Vec<Architecture> {
    let x32 = calls.iter().find(|calls| calls.abi == Abi::X32).map(Calls::ranges);
    let x32 = x32.unwrap_or_else(|| {
        let unknown = Range { first: X32_BIT, decision: Action::KILL_THREAD.into() };
        vec![unknown, Range { first: u32::MAX, decision: default.into() }]
    });
    let kinds = calls.into_iter().filter(|calls| calls.abi != Abi::X32);
    kinds
        .map(|calls| {
            let mut ranges = calls.ranges();
            if calls.abi == Abi::X86_64 {
                x32.iter().for_each(|range| push(&mut ranges, range.first, range.decision.clone()));
            }
            Architecture { audit: calls.abi.audit(), ranges }
        })
        .collect()
}

/// A call of i386 that stands for several, chosen by its first argument.
struct Multiplexer {
    name: &'static str,
    /// What the kernel reads of the first argument.
    mask: u64,
    /// The first argument, and the direct call (of newer kernels) that does the same.
    calls: &'static [(u64, &'static str)],
}

impl Multiplexer {
    fn branch(&self, selector: u64, action: Action) -> Branch {
        let comparison = Comparison::MaskedEqual { mask: self.mask, value: selector };
        Branch { conditions: vec![Condition { argument: 0, comparison, width: Width::Half }], action }
    }
}

/// socketcall(2) and ipc(2); the numbers are those of `linux/net.h` and `linux/ipc.h`. Families of sockets that a
/// profile keeps out would come in through the former (CVE-2026-31431).
const MULTIPLEXERS: [Multiplexer; 2] = [
    Multiplexer {
        name: "socketcall",
        mask: 0xffff_ffff,
        calls: &[
            (1, "socket"),
            (2, "bind"),
            (3, "connect"),
            (4, "listen"),
            (5, "accept4"),
            (6, "getsockname"),
            (7, "getpeername"),
            (8, "socketpair"),
            (9, "sendto"),
            (10, "recvfrom"),
            (11, "sendto"),
            (12, "recvfrom"),
            (13, "shutdown"),
            (14, "setsockopt"),
            (15, "getsockopt"),
            (16, "sendmsg"),
            (17, "recvmsg"),
            (18, "accept4"),
            (19, "recvmmsg"),
            (20, "sendmmsg"),
        ],
    },
    Multiplexer {
        name: "ipc",
        mask: 0xffff,
        calls: &[
            (1, "semop"),
            (2, "semget"),
            (3, "semctl"),
            (11, "msgsnd"),
            (12, "msgrcv"),
            (13, "msgget"),
            (14, "msgctl"),
            (21, "shmat"),
            (22, "shmdt"),
            (23, "shmget"),
            (24, "shmctl"),
        ],
    },
];
