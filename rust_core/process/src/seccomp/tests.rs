//! The compiled program is run by a small interpreter against the profile, number by number.

use super::*;

/// What the kernel would do: the program's return value, by the rules of classic BPF.
fn judge(program: &[u8], arch: u32, number: u32, argument: u64) -> u32 {
    let word = |at: usize| u32::from_ne_bytes(program[at..at + 4].try_into().expect("four bytes"));
    let mut accumulator = 0;
    let mut at = 0;
    loop {
        let code = u16::from_ne_bytes([program[at * 8], program[at * 8 + 1]]);
        let (if_true, if_false) = (usize::from(program[at * 8 + 2]), usize::from(program[at * 8 + 3]));
        let value = word(at * 8 + 4);
        at += 1;
        match code {
            0x20 => {
                accumulator = match value {
                    0 => number,
                    4 => arch,
                    16 => argument as u32,
                    20 => (argument >> 32) as u32,
                    other => panic!("load of {other}"),
                };
            }
            0x05 => at += value as usize,
            0x15 => at += if accumulator == value { if_true } else { if_false },
            0x35 => at += if accumulator >= value { if_true } else { if_false },
            0x25 => at += if accumulator > value { if_true } else { if_false },
            0x54 => accumulator &= value,
            0x45 => at += if accumulator & value != 0 { if_true } else { if_false },
            0x06 => return value,
            other => panic!("instruction {other:#x}"),
        }
    }
}

const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0001;
const NOT_IMPLEMENTED: u32 = 0x0005_0026;
const KILL: u32 = 0x8000_0000;

fn program(abi: Abi, capabilities: &[&str]) -> Vec<u8> {
    let held: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
    bpf::assemble(&[(abi.audit_number(), ranges(abi, &held))], &bpf::leaf)
}

fn number_of(abi: Abi, name: &str) -> u32 {
    let line =
        profile::lines().find(|line| line.name == name).unwrap_or_else(|| panic!("{name} is not listed"));
    line.numbers[abi as usize].unwrap_or_else(|| panic!("{name} does not exist here"))
}

const ALL: [Abi; 3] = [Abi::X86_64, Abi::I386, Abi::Aarch64];

#[test]
fn every_number_is_judged_as_the_profile_says() {
    for abi in ALL {
        for held in [&[][..], &["SYS_ADMIN"], &["SYS_PTRACE", "BPF", "SYSLOG"]] {
            let program = program(abi, held);
            let mut expected = vec![REFUSE; 600];
            let mut highest = 0;
            for line in profile::lines() {
                let Some(number) = line.numbers[abi as usize] else { continue };
                highest = highest.max(number);
                expected[number as usize] = match line.rule {
                    _ if line.capabilities.iter().any(|name| held.contains(name)) => ALLOW,
                    Rule::Allow | Rule::Clone | Rule::Socket | Rule::Personality => ALLOW,
                    Rule::OnlyWithCapability => REFUSE,
                    Rule::NotImplemented => NOT_IMPLEMENTED,
                };
            }
            for (number, expected) in expected.iter().enumerate() {
                let expected = if number as u32 > highest { NOT_IMPLEMENTED } else { *expected };
                let found = judge(&program, abi.audit_number(), number as u32, 0);
                assert_eq!(found, expected, "{abi:?} {number} with {held:?}");
            }
        }
    }
}

#[test]
fn namespaces_can_be_made_only_by_one_who_may_administer() {
    for abi in ALL {
        let (clone, clone3) = (number_of(abi, "clone"), number_of(abi, "clone3"));
        let default = program(abi, &[]);
        for flag in
            [0x0002_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
        {
            assert_eq!(judge(&default, abi.audit_number(), clone, flag | 17), REFUSE, "{flag:#x}");
        }
        // CLONE_VM|FS|FILES|SIGHAND|THREAD|SYSVSEM|SETTLS|PARENT_SETTID|CHILD_CLEARTID: a thread.
        assert_eq!(judge(&default, abi.audit_number(), clone, 0x003d_0f00), ALLOW);
        // The kernel ignores what stands above 32 bits.
        assert_eq!(judge(&default, abi.audit_number(), clone, 0x7e02_0000_0000_0011), ALLOW);
        assert_eq!(judge(&default, abi.audit_number(), clone3, 0), NOT_IMPLEMENTED);
        assert_eq!(judge(&default, abi.audit_number(), number_of(abi, "unshare"), 0), REFUSE);
        let admin = program(abi, &["SYS_ADMIN"]);
        assert_eq!(judge(&admin, abi.audit_number(), clone, 0x1000_0011), ALLOW);
        assert_eq!(judge(&admin, abi.audit_number(), clone3, 0), ALLOW);
    }
}

#[test]
fn sockets_and_personalities_are_judged_by_their_argument() {
    for abi in ALL {
        let program = program(abi, &[]);
        let socket = |family| judge(&program, abi.audit_number(), number_of(abi, "socket"), family);
        for family in [0, 1, 2, 7, 10, 13, 16, 17, 18, 22, 24, 26, 33, 36, 39, 41, 45] {
            assert_eq!(socket(family), ALLOW, "family {family}");
        }
        for family in [3, 6, 11, 19, 23, 25, 34, 37, 38, 40, 46, 0x1_0000_0026, 0xffff_ffff_0000_0028] {
            assert_eq!(socket(family), REFUSE, "family {family}");
        }
        let personality = |domain| judge(&program, abi.audit_number(), number_of(abi, "personality"), domain);
        for domain in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            assert_eq!(personality(domain), ALLOW, "{domain:#x}");
        }
        for domain in [1, 0x4_0000, 0x000c_0000, 0xffff_fffe] {
            assert_eq!(personality(domain), REFUSE, "{domain:#x}");
        }
    }
}

#[test]
fn what_docker_blocks_is_blocked() {
    // Source: docs.docker.com/engine/security/seccomp, "Significant syscalls blocked by the default profile".
    let blocked = [
        "acct",
        "bpf",
        "clock_settime",
        "delete_module",
        "finit_module",
        "init_module",
        "ioperm",
        "iopl",
        "kcmp",
        "lookup_dcookie",
        "mbind",
        "get_mempolicy",
        "set_mempolicy",
        "mount",
        "umount2",
        "open_by_handle_at",
        "perf_event_open",
        "quotactl",
        "reboot",
        "setns",
        "settimeofday",
        "unshare",
        "fsopen",
        "move_mount",
        "syslog",
    ];
    let unlisted = [
        "add_key",
        "keyctl",
        "request_key",
        "kexec_load",
        "kexec_file_load",
        "nfsservctl",
        "pivot_root",
        "swapon",
        "swapoff",
        "_sysctl",
        "sysfs",
        "uselib",
        "userfaultfd",
        "ustat",
        "vm86",
        "create_module",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "move_pages",
        "migrate_pages",
    ];
    let program = program(Abi::X86_64, &[]);
    for name in blocked {
        assert_eq!(judge(&program, 0xc000_003e, number_of(Abi::X86_64, name), 0), REFUSE, "{name}");
    }
    for name in unlisted {
        assert!(profile::lines().all(|line| line.name != name), "{name}");
    }
}

#[test]
fn other_architectures_are_killed_and_x32_does_not_exist() {
    let host = compile(&Profile::Default, &[]).expect("it compiles").remove(0);
    for arch in [0x0000_0028, 0xc000_00f3, 0x8000_0015, 0] {
        assert_eq!(judge(&host, arch, 0, 0), KILL, "{arch:#x}");
    }
    let program = program(Abi::X86_64, &[]);
    assert_eq!(judge(&program, 0xc000_003e, 0x4000_0000, 0), NOT_IMPLEMENTED);
    assert_eq!(judge(&program, 0xc000_003e, u32::MAX, 0), NOT_IMPLEMENTED);
}

#[test]
fn the_program_fits_and_finds_any_number_in_few_steps() {
    let host = compile(&Profile::Default, &[]).expect("it compiles").remove(0);
    let count = host.len() / 8;
    assert!(count < sys::seccomp::MAX_INSTRUCTIONS / 4, "{count} instructions");
    assert_eq!(compile(&Profile::Default, &[]), Ok(vec![host]));
    assert_eq!(compile(&Profile::Unconfined, &[]), Ok(Vec::new()));
}

#[test]
fn a_profile_has_a_name_or_is_json() {
    assert_eq!("default".parse(), Ok(Profile::Default));
    assert_eq!("unconfined".parse(), Ok(Profile::Unconfined));
    let error = "runtime/default".parse::<Profile>().expect_err("unknown");
    assert!(error.to_string().contains("runtime/default"));
}

const NATIVE_ABI: Abi = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };
const NATIVE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };

fn made(json: &str, capabilities: &[&str]) -> Result<Vec<u8>, ProfileInvalid> {
    let held: Vec<String> = capabilities.iter().map(|name| (*name).to_owned()).collect();
    compile(&Profile::Json(json.to_owned()), &held).map(|mut filters| filters.remove(0))
}

fn native(name: &str) -> u32 {
    profile::numbers_of(profile::abis_of_this_host()[0])[name]
}

#[test]
fn a_profile_of_ones_own_judges_by_name_capability_and_argument() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "comment": "x", "syscalls": [
        {"names": ["mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 30},
        {"names": ["userfaultfd"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["sync"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["chroot"], "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["syslog"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "999.0"}},
        {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "includes": {"arches": ["s390x"]}},
        {"name": "personality", "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}
    ]}"#;
    let plain = made(json, &["SYS_CHROOT"]).expect("a profile");
    let admin = made(json, &["SYS_ADMIN"]).expect("a profile");
    let of = |program: &[u8], name: &str, argument| judge(program, NATIVE, native(name), argument);
    assert_eq!(of(&plain, "mkdirat", 0), 0x0005_001e);
    assert_eq!(of(&plain, "userfaultfd", 0), KILL);
    assert_eq!((of(&plain, "sync", 0), of(&admin, "sync", 0)), (REFUSE, ALLOW));
    assert_eq!((of(&plain, "chroot", 0), of(&admin, "chroot", 0)), (REFUSE, ALLOW));
    assert_eq!((of(&plain, "syslog", 0), of(&plain, "getpid", 0)), (ALLOW, ALLOW));
    assert_eq!((of(&plain, "personality", 8), of(&plain, "personality", 9)), (0x0003_0000, ALLOW));
    assert_eq!(of(&plain, "personality", 0x1_0000_0008), ALLOW, "all 64 bits count");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(judge(&plain, NATIVE, 0x4000_0000 + native("mkdirat"), 0), NOT_IMPLEMENTED);
        assert_eq!(judge(&plain, 0x4000_0003, 1, 0), KILL, "32 bits were not asked for");
    }
}

proptest::proptest! {
    #[test]
    fn every_comparison_is_that_of_64_bits(
        argument in proptest::prop_oneof![proptest::prelude::any::<u64>(), 0_u64..4],
        value in proptest::prop_oneof![proptest::prelude::any::<u64>(), 0_u64..4],
        mask in proptest::prelude::any::<u64>(),
    ) {
        for (op, expected) in [
            ("NE", argument != value),
            ("LT", argument < value),
            ("LE", argument <= value),
            ("EQ", argument == value),
            ("GE", argument >= value),
            ("GT", argument > value),
            ("MASKED_EQ", argument & mask == value),
        ] {
            let (first, second) = if op == "MASKED_EQ" { (mask, value) } else { (value, 7) };
            let json = format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["sync"], "action": "SCMP_ACT_ERRNO",
                "args": [{{"index": 0, "value": {first}, "valueTwo": {second}, "op": "SCMP_CMP_{op}"}}]}}]}}"#
            );
            let program = made(&json, &[]).expect("a profile");
            let judged = judge(&program, NATIVE, native("sync"), argument);
            proptest::prop_assert_eq!(judged == REFUSE, expected, "{} {} {}", argument, op, value);
        }
    }
}

#[test]
fn rules_for_one_call_are_tried_in_order_and_one_without_conditions_last() {
    let json = r#"{"defaultAction": "SCMP_ACT_KILL_PROCESS", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
        {"names": ["sync"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["sync"], "action": "SCMP_ACT_ERRNO", "args": [
            {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
        {"names": ["syslog"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}]}
    ]}"#;
    let program = made(json, &[]).expect("a profile");
    let judged = |name: &str, argument| judge(&program, NATIVE, native(name), argument);
    assert_eq!([0, 1, 2, 3].map(|argument| judged("sync", argument)), [ALLOW, REFUSE, REFUSE, ALLOW]);
    assert_eq!([3, 4].map(|argument| judged("syslog", argument)), [ALLOW, KILL]);
    assert_eq!(judged("getpid", 0), KILL);
}

#[test]
fn what_is_no_profile_is_refused_and_each_limit_has_its_name() {
    let call = r#"{"names": ["sync"], "action": "SCMP_ACT_ERRNO""#;
    let with = |rest: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW"{rest}}}"#);
    let many: String = (0..2_000)
        .map(|value| format!(r#"{call}, "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_EQ"}}]}}"#))
        .collect::<Vec<_>>()
        .join(",");
    for (json, word) in [
        ("{".to_owned(), "cannot be read"),
        ("{}".to_owned(), "defaultAction"),
        (r#"{"defaultAction": "allow"}"#.to_owned(), "the action"),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#.to_owned(), "SCMP_ACT_NOTIFY"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#.to_owned(), "4095"),
        (with(r#", "listenerPath": "/x""#), "listener"),
        (with(r#", "flags": ["SECCOMP_FILTER_FLAG_LOG"]"#), "SECCOMP_FILTER_FLAG_LOG"),
        (with(r#", "architectures": ["amd64"]"#), "SCMP_ARCH_X86_64"),
        (with(r#", "architectures": [], "archMap": []"#), "either"),
        (
            with(&format!(
                r#", "syscalls": [{call}, "args": [{{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}}]}}]"#
            )),
            "index 6",
        ),
        (
            with(&format!(r#", "syscalls": [{call}, "args": [{{"index": 0, "value": 0, "op": "="}}]}}]"#)),
            "comparison",
        ),
        (with(&format!(r#", "syscalls": [{many}]"#)), "MAX_FILTER_INSTRUCTIONS"),
        (with(&format!(r#", "comment": "{}""#, "x".repeat(MAX_PROFILE_BYTES))), "MAX_PROFILE_BYTES"),
    ] {
        let error = made(&json, &[]).expect_err(word);
        assert!(error.rule.contains(word), "{word}: {}", error.rule);
    }
}

/// All that the profiles ask about.
const CAPABILITIES: [&str; 13] = [
    "BPF",
    "DAC_READ_SEARCH",
    "PERFMON",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
];

#[test]
fn the_default_is_equal_in_effect_to_dockers_own_profile() {
    let dockers = include_str!("../../../../tests/data/seccomp/default.json");
    let mut holders: Vec<Vec<&str>> = CAPABILITIES.iter().map(|name| vec![*name]).collect();
    holders.extend([vec![], vec!["SYSLOG"], CAPABILITIES.to_vec()]);
    let first_arguments =
        (0..=64).chain([0x2_0000, 0x2_0008, 0x0200_0000, 0x1000_0000, 0x7e02_0000, 0xffff_ffff]);
    let first_arguments: Vec<u64> = first_arguments.collect();
    let newest = profile::lines().filter_map(|line| line.numbers[NATIVE_ABI as usize]).max().unwrap();
    let mut differences = Vec::new();
    for held in holders {
        let names: Vec<String> = held.iter().map(|name| (*name).to_owned()).collect();
        let ours = compile(&Profile::Default, &names).unwrap().remove(0);
        let theirs = made(dockers, &held).unwrap();
        for number in 0..700 {
            for argument in &first_arguments {
                let (ours, theirs) =
                    (judge(&ours, NATIVE, number, *argument), judge(&theirs, NATIVE, number, *argument));
                // Of numbers newer than the profile Docker's own compiler says ENOSYS, as ours does, and this one EPERM.
                let is_newer = ours == NOT_IMPLEMENTED && theirs == REFUSE && number > newest;
                if ours != theirs && !is_newer {
                    differences
                        .push(format!("{number}({argument:#x}) with {held:?}: {ours:#x}, {theirs:#x}"));
                }
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differ: {:#?}",
        differences.len(),
        &differences[..differences.len().min(20)]
    );
}
