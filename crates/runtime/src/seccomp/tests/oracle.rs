//! The rules of a configuration read one by one, without ranges, tables of decisions or jumps.

use super::interpreter::Call;
use crate::seccomp::abi::{Abi, X32_BIT};
use crate::seccomp::tables;
use coracle_spec::runtime::{Seccomp, SyscallArg, SyscallRule};

const KILL: u32 = 0;
const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const ENOSYS: u32 = 0x0005_0026;

/// Calls whose arguments are as long as an int in the kernel, with how many of the first are.
const INTS: [(&str, usize, usize); 18] = [
    ("bpf", 0, 1),
    ("clone", 0, 1),
    ("fcntl", 0, 2),
    ("fcntl64", 0, 2),
    ("getsockopt", 0, 3),
    ("ioctl", 0, 2),
    ("keyctl", 0, 1),
    ("kill", 0, 2),
    ("open", 1, 2),
    ("openat", 0, 1),
    ("openat", 2, 3),
    ("personality", 0, 1),
    ("prctl", 0, 1),
    ("setns", 0, 2),
    ("setsockopt", 0, 3),
    ("socket", 0, 3),
    ("socketpair", 0, 3),
    ("tgkill", 0, 3),
];

pub(super) struct Oracle<'a> {
    configured: &'a Seccomp,
    /// Names by number, for each convention.
    names: [Vec<Option<&'static str>>; 3],
}

impl<'a> Oracle<'a> {
    pub(super) fn new(configured: &'a Seccomp) -> Self {
        let names = [Abi::X86_64, Abi::X86, Abi::X32].map(|abi| {
            let mut names = vec![None; 600];
            for name in tables::names() {
                if let Some(number) = tables::lookup(name).unwrap().of(abi) {
                    names[number as usize] = Some(name);
                }
            }
            names
        });
        Self { configured, names }
    }

    fn convention(&self, architecture: u32, number: u32) -> Option<Abi> {
        let enabled = |name: &str| self.configured.architectures.iter().any(|a| a == name);
        match architecture {
            0xc000_003e if number == u32::MAX && !enabled("SCMP_ARCH_X32") => Some(Abi::X86_64),
            0xc000_003e if number & X32_BIT != 0 || number > X32_BIT => {
                enabled("SCMP_ARCH_X32").then_some(Abi::X32)
            }
            0xc000_003e => Some(Abi::X86_64),
            0x4000_0003 => enabled("SCMP_ARCH_X86").then_some(Abi::X86),
            _ => None,
        }
    }

    fn name(&self, abi: Abi, number: u32) -> Option<&'static str> {
        *self.names[abi as usize].get(number.checked_sub(abi.base())? as usize)?
    }

    fn rules(&self, name: &str) -> impl Iterator<Item = &'a SyscallRule> {
        self.configured.syscalls.iter().filter(move |rule| rule.names.iter().any(|n| n == name))
    }

    pub(super) fn looks_at_arguments(&self, architecture: u32, number: u32) -> bool {
        let Some(abi) = self.convention(architecture, number) else { return false };
        let name = self.name(abi, number);
        name.is_some_and(|name| {
            self.rules(name).any(|rule| !rule.args.is_empty()) || ["socketcall", "ipc"].contains(&name)
        })
    }

    pub(super) fn decide(&self, call: Call) -> u32 {
        let Some(abi) = self.convention(call.architecture, call.number) else { return KILL };
        let default = action(&self.configured.default_action, self.configured.default_errno_ret);
        if abi == Abi::X86_64
            && call.number == u32::MAX
            && !["ALLOW", "LOG"].iter().any(|a| self.configured.default_action.ends_with(a))
        {
            return default;
        }
        let Some(name) = self.name(abi, call.number) else {
            return if self.is_beyond(abi, call.number) { ENOSYS } else { default };
        };
        if self.is_beyond(abi, call.number) {
            return ENOSYS;
        }
        let decided = self.decide_named(abi, name, &call.arguments);
        match (abi, name) {
            (Abi::X86, "socketcall" | "ipc") => self.behind(name, &call.arguments).unwrap_or(decided),
            _ => decided,
        }
    }

    /// Whether the number is above all that the profile names.
    fn is_beyond(&self, abi: Abi, number: u32) -> bool {
        let all = self.configured.syscalls.iter().flat_map(|rule| &rule.names);
        let highest = all.filter_map(|name| tables::lookup(name)?.of(abi)).max();
        let passes = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"].contains(&self.configured.default_action.as_str());
        !passes && highest.is_some_and(|highest| number.wrapping_sub(abi.base()) > highest)
    }

    fn decide_named(&self, abi: Abi, name: &str, arguments: &[u64; 6]) -> u32 {
        let conditional = self.rules(name).filter(|rule| !rule.args.is_empty());
        let mut holding =
            conditional.filter(|rule| rule.args.iter().all(|arg| holds(abi, name, arg, arguments)));
        if let Some(rule) = holding.next() {
            return action(&rule.action, rule.errno_ret);
        }
        match self.rules(name).find(|rule| rule.args.is_empty()) {
            Some(rule) => action(&rule.action, rule.errno_ret),
            None => action(&self.configured.default_action, self.configured.default_errno_ret),
        }
    }

    /// What the call behind a multiplexed one forbids, where the rules of the multiplexing one do not see arguments.
    fn behind(&self, name: &str, arguments: &[u64; 6]) -> Option<u32> {
        const SOCKETS: &str = "socket bind connect listen accept4 getsockname getpeername socketpair sendto recvfrom sendto recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg";
        let direct = if name == "socketcall" {
            let call = (arguments[0] & 0xffff_ffff) as usize;
            SOCKETS.split(' ').nth(call.checked_sub(1)?)?
        } else {
            match arguments[0] & 0xffff {
                1 => "semop",
                2 => "semget",
                3 => "semctl",
                11 => "msgsnd",
                12 => "msgrcv",
                13 => "msgget",
                14 => "msgctl",
                21 => "shmat",
                22 => "shmdt",
                23 => "shmget",
                24 => "shmctl",
                _ => return None,
            }
        };
        tables::lookup(direct)?.of(Abi::X86)?;
        let passes = |action: u32| action == ALLOW || action == LOG;
        if self.rules(name).any(|rule| !rule.args.is_empty())
            || !passes(self.decide_named(Abi::X86, name, &[0; 6]))
        {
            return None;
        }
        if self.rules(direct).any(|rule| !rule.args.is_empty()) {
            return Some(ENOSYS);
        }
        Some(self.decide_named(Abi::X86, direct, &[0; 6])).filter(|action| !passes(*action))
    }
}

fn action(name: &str, number: Option<u32>) -> u32 {
    let number = number.unwrap_or(1);
    match name {
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_KILL" => KILL,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 + number,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 + number,
        other => panic!("{other}"),
    }
}

fn holds(abi: Abi, name: &str, arg: &SyscallArg, arguments: &[u64; 6]) -> bool {
    let index = arg.index as usize;
    let int =
        abi == Abi::X86 || INTS.iter().any(|(call, from, to)| *call == name && (*from..*to).contains(&index));
    let seen = if int { arguments[index] & 0xffff_ffff } else { arguments[index] };
    // A negative int is what its sign was extended to.
    let meant = |value: u64| {
        let signed = value.cast_signed();
        if int && (i64::from(i32::MIN)..0).contains(&signed) { value & 0xffff_ffff } else { value }
    };
    match arg.op.as_str() {
        "SCMP_CMP_EQ" => seen == meant(arg.value),
        "SCMP_CMP_NE" => seen != meant(arg.value),
        "SCMP_CMP_LT" => seen < meant(arg.value),
        "SCMP_CMP_LE" => seen <= meant(arg.value),
        "SCMP_CMP_GT" => seen > meant(arg.value),
        "SCMP_CMP_GE" => seen >= meant(arg.value),
        "SCMP_CMP_MASKED_EQ" => seen & arg.value == meant(arg.value_two),
        other => panic!("{other}"),
    }
}
