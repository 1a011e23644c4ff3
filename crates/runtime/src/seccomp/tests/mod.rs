//! Compiled programs against a direct reading of the rules, call by call.

mod interpreter;
mod oracle;

use super::abi::{Abi, X32_BIT};
use super::profile::{KernelVersion, resolve};
use super::{Machine, compile, compile_for, default_profile, tables};
use coracle_spec::runtime::{Seccomp, SyscallArg, SyscallRule};
use coracle_sys::seccomp::Instruction;
use interpreter::{Call, run};
use proptest::prelude::*;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;

/// What Docker leaves a container by default.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

fn default_with(extra: &[&str]) -> Seccomp {
    let capabilities: Vec<String> = CAPABILITIES.iter().chain(extra).map(ToString::to_string).collect();
    let kernel = KernelVersion { major: 6, minor: 18 };
    resolve(default_profile(), &capabilities, Machine::X86_64, kernel).unwrap()
}

fn number(name: &str, abi: Abi) -> u32 {
    tables::lookup(name).unwrap().of(abi).unwrap() + abi.base()
}

/// Numbers that are calls, that are none, and that lie at the edges of what an instruction can compare.
fn numbers() -> impl Iterator<Item = u32> {
    (0..=560).chain((0..=560).map(|n| n | X32_BIT)).chain([X32_BIT - 1, 0x7fff_ffff, 0x8000_0000, u32::MAX])
}

/// Arguments at and around every value that `configured` compares with, in both halves.
fn arguments(configured: &Seccomp) -> Vec<[u64; 6]> {
    let rules = configured.syscalls.iter().flat_map(|rule| &rule.args);
    let mut values: Vec<u64> = rules
        .flat_map(|arg| [arg.value, arg.value_two])
        .flat_map(|value| [value, value.wrapping_sub(1), value.wrapping_add(1), value ^ (1 << 32), !value])
        .chain([0, 1, 2, 8, u64::from(u32::MAX), u64::MAX, 1 << 31, 1 << 32, 1 << 63])
        .collect();
    values.sort_unstable();
    values.dedup();
    let rotated = |shift: usize| {
        let values = values.clone();
        (0..values.len()).map(move |at| std::array::from_fn(|i| values[(at + i * shift) % values.len()]))
    };
    rotated(0).chain(rotated(1)).chain(rotated(3)).collect()
}

/// Most arguments tried for one call.
const TRIES: usize = 80;

fn assert_equal_everywhere(configured: &Seccomp, program: &[Instruction]) {
    let all = arguments(configured);
    let all: Vec<[u64; 6]> = all.iter().step_by(all.len().div_ceil(TRIES)).copied().collect();
    let oracle = oracle::Oracle::new(configured);
    for architecture in [X86_64, X86, 0xc000_00b7, 0] {
        for number in numbers() {
            // A call whose arguments nobody looks at needs one try.
            let tries = if oracle.looks_at_arguments(architecture, number) { &all[..] } else { &all[..1] };
            for arguments in tries {
                let call = Call { architecture, number, arguments: *arguments };
                let expected = oracle.decide(call);
                let (found, _) = run(program, call);
                assert_eq!(found, expected, "{call:x?}, expected {expected:#x}, found {found:#x}");
            }
        }
    }
}

#[test]
fn the_default_profile_decides_every_call_as_its_rules_say() {
    for extra in [&[][..], &["CAP_SYS_ADMIN"], &["CAP_SYS_PTRACE", "CAP_BPF", "CAP_SYS_TIME"]] {
        let configured = default_with(extra);
        let filter = compile(&configured).unwrap();
        assert!(filter.instructions.len() < 1000, "{}", filter.instructions.len());
        assert_equal_everywhere(&configured, &filter.instructions);
    }
}

#[test]
fn an_allowed_call_is_decided_within_twenty_instructions() {
    let program = compile(&default_with(&[])).unwrap().instructions;
    for architecture in [X86_64, X86] {
        for number in 0..=560 {
            for family in [0, 1, 2, 39, 41] {
                let call = Call { architecture, number, arguments: [family; 6] };
                let (found, steps) = run(&program, call);
                assert!(found != ALLOW || steps <= 20, "{call:?} takes {steps} instructions");
            }
        }
    }
}

#[test]
fn the_default_profile_keeps_out_what_docker_keeps_out() {
    let program = compile(&default_with(&[])).unwrap().instructions;
    let decide = |abi: Abi, name: &str, arguments: &[u64]| {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        run(&program, Call { architecture: abi.audit(), number: number(name, abi), arguments: all }).0
    };
    for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
        for name in [
            "mount",
            "pivot_root",
            "keyctl",
            "bpf",
            "perf_event_open",
            "userfaultfd",
            "kexec_load",
            "unshare",
            "setns",
            "open_by_handle_at",
            "io_uring_setup",
            "init_module",
        ] {
            assert_eq!(decide(abi, name, &[]), EPERM, "{abi:?} {name}");
        }
        assert_eq!(decide(abi, "clone3", &[]), ENOSYS);
        for (family, expected) in
            [(2, ALLOW), (16, ALLOW), (39, ALLOW), (41, ALLOW), (38, EPERM), (40, EPERM)]
        {
            assert_eq!(decide(abi, "socket", &[family]), expected, "{abi:?} {family}");
            // The kernel reads an int: the other half of the register must not decide.
            assert_eq!(decide(abi, "socket", &[family | 1 << 32]), expected, "{abi:?} {family}");
        }
        assert_eq!(decide(abi, "clone", &[0x1000_0000]), EPERM, "{abi:?}: CLONE_NEWUSER");
        assert_eq!(decide(abi, "clone", &[0x11]), ALLOW);
        assert_eq!(decide(abi, "personality", &[0xffff_ffff]), ALLOW);
        assert_eq!(decide(abi, "personality", &[1]), EPERM);
    }
    assert_eq!(decide(Abi::X86, "socketcall", &[1]), ENOSYS, "a socket of any family");
    assert_eq!(decide(Abi::X86, "socketcall", &[3]), ALLOW, "connect");
    let newer = Call { architecture: X86_64, number: 500, arguments: [0; 6] };
    assert_eq!(run(&program, newer).0, ENOSYS, "a call that the profile's author did not know");
}

#[test]
fn conventions_that_are_not_enabled_are_killed() {
    let configured = Seccomp { architectures: vec![], ..default_with(&[]) };
    let program = compile(&configured).unwrap().instructions;
    for (architecture, number, expected) in
        [(X86_64, 0, ALLOW), (X86_64, X32_BIT, 0), (X86_64, u32::MAX, EPERM), (X86, 3, 0), (7, 0, 0)]
    {
        let call = Call { architecture, number, arguments: [0; 6] };
        assert_eq!(run(&program, call).0, expected, "{call:x?}");
    }
    assert_equal_everywhere(&configured, &program);
}

#[test]
fn a_filter_for_arm_has_its_own_numbers() {
    let capabilities: Vec<String> = CAPABILITIES.map(str::to_owned).to_vec();
    let kernel = KernelVersion { major: 6, minor: 1 };
    let configured = resolve(default_profile(), &capabilities, Machine::Aarch64, kernel).unwrap();
    let program = compile_for(Machine::Aarch64, &configured).unwrap().instructions;
    let decide = |number, argument| {
        run(&program, Call { architecture: 0xc000_00b7, number, arguments: [argument; 6] }).0
    };
    assert_eq!((decide(63, 0), decide(40, 0), decide(198, 2), decide(198, 38)), (ALLOW, EPERM, ALLOW, EPERM));
    assert_eq!(run(&program, Call { architecture: X86_64, number: 0, arguments: [0; 6] }).0, 0);
}

#[test]
fn what_cannot_be_compiled_is_refused_with_the_reason() {
    let rule = |action: &str, arg: Option<(u32, &str)>| SyscallRule {
        names: vec!["read".into()],
        action: action.into(),
        errno_ret: None,
        args: arg
            .map(|(index, op)| SyscallArg { index, value: 0, value_two: 0, op: op.into() })
            .into_iter()
            .collect(),
    };
    let with = |rule| Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        syscalls: vec![rule],
        ..Seccomp::default()
    };
    for (configured, expected) in [
        (Seccomp::default(), "unknown action \"\""),
        (with(rule("SCMP_ACT_NOTIFY", None)), "NOTIFY"),
        (with(rule("SCMP_ACT_ALLOW", Some((6, "SCMP_CMP_EQ")))), "no argument 6"),
        (with(rule("SCMP_ACT_ALLOW", Some((0, "=")))), "unknown comparison"),
        (Seccomp { flags: vec!["X".into()], ..with(rule("SCMP_ACT_ALLOW", None)) }, "flag"),
        (Seccomp { architectures: vec!["X".into()], ..with(rule("SCMP_ACT_ALLOW", None)) }, "architecture"),
    ] {
        let error = compile(&configured).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let many = (0..3000).map(|value| SyscallRule {
        args: vec![SyscallArg { index: 0, value, value_two: 0, op: "SCMP_CMP_EQ".into() }],
        ..rule("SCMP_ACT_KILL", None)
    });
    let configured =
        Seccomp { default_action: "SCMP_ACT_ALLOW".into(), syscalls: many.collect(), ..Seccomp::default() };
    assert!(compile(&configured).unwrap_err().to_string().contains("the limit is 4096"));
}

#[test]
fn what_is_too_far_for_a_jump_is_reached_in_two() {
    // Each call has conditions of its own, so that half of the search is further away than 255 instructions.
    let rule = |(value, name): (u64, &str)| SyscallRule {
        names: vec![name.to_owned()],
        action: "SCMP_ACT_ERRNO".into(),
        errno_ret: u32::try_from(value).ok(),
        args: vec![SyscallArg { index: 1, value: value << 31, value_two: 0, op: "SCMP_CMP_GE".into() }],
    };
    let configured = Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        syscalls: (0..).zip(tables::names()).map(rule).collect(),
        ..Seccomp::default()
    };
    let program = compile(&configured).unwrap().instructions;
    assert!(program.iter().any(|instruction| instruction.code == 0x05), "no trampoline");
    assert_equal_everywhere(&configured, &program);
}

#[test]
fn a_filter_that_has_one_answer_only_is_a_program_too() {
    let configured = Seccomp { default_action: "SCMP_ACT_KILL".into(), ..Seccomp::default() };
    let program = compile(&configured).unwrap().instructions;
    assert_eq!(program.len(), 1);
    assert_equal_everywhere(&configured, &program);
}

fn any_arg() -> impl Strategy<Value = SyscallArg> {
    let value =
        prop_oneof![0..4_u64, Just(38), Just(u64::MAX), Just(1 << 32), Just(0xffff_ffff), any::<u64>()];
    let op = prop::sample::select(vec!["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]);
    (0..6_u32, value.clone(), value, op).prop_map(|(index, value, value_two, op)| SyscallArg {
        index,
        value,
        value_two,
        op: format!("SCMP_CMP_{op}"),
    })
}

fn any_rule() -> impl Strategy<Value = SyscallRule> {
    let known: Vec<&str> = tables::names().chain(["no_such_call"]).collect();
    let few = prop::sample::select(vec!["socket", "clone", "read", "socketcall", "ipc", "connect", "semget"]);
    let names = prop::collection::vec(prop_oneof![prop::sample::select(known), few], 1..12);
    let action = prop::sample::select(vec!["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "LOG", "TRACE"]);
    (names, action, prop::collection::vec(any_arg(), 0..4), prop::option::of(0..200_u32)).prop_map(
        |(names, action, args, errno)| SyscallRule {
            names: names.into_iter().map(str::to_owned).collect(),
            errno_ret: errno.filter(|_| action == "ERRNO" || action == "TRACE"),
            action: format!("SCMP_ACT_{action}"),
            args,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn random_rules_are_compiled_to_what_they_say(
        syscalls in prop::collection::vec(any_rule(), 0..40),
        default in prop::sample::select(vec!["ALLOW", "ERRNO", "KILL", "LOG"]),
        architectures in prop::sample::subsequence(vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"], 0..3),
    ) {
        let configured = Seccomp {
            default_action: format!("SCMP_ACT_{default}"),
            architectures: architectures.into_iter().map(str::to_owned).collect(),
            syscalls,
            ..Seccomp::default()
        };
        let program = compile(&configured).unwrap().instructions;
        assert_equal_everywhere(&configured, &program);
    }
}
