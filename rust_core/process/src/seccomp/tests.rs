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
    bpf::assemble(&[(abi.audit_number(), ranges(abi, &held))])
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
        for family in [1, 2, 10, 16, 17, 37, 39, 41, 44] {
            assert_eq!(socket(family), ALLOW, "family {family}");
        }
        for family in [38, 40, 0x1_0000_0026, 0xffff_ffff_0000_0028] {
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
    let host = compile(Profile::Default, &[]).remove(0);
    for arch in [0x0000_0028, 0xc000_00f3, 0x8000_0015, 0] {
        assert_eq!(judge(&host, arch, 0, 0), KILL, "{arch:#x}");
    }
    let program = program(Abi::X86_64, &[]);
    assert_eq!(judge(&program, 0xc000_003e, 0x4000_0000, 0), NOT_IMPLEMENTED);
    assert_eq!(judge(&program, 0xc000_003e, u32::MAX, 0), NOT_IMPLEMENTED);
}

#[test]
fn the_program_fits_and_finds_any_number_in_few_steps() {
    let host = compile(Profile::Default, &[]).remove(0);
    let count = host.len() / 8;
    assert!(count < sys::seccomp::MAX_INSTRUCTIONS / 4, "{count} instructions");
    assert_eq!(compile(Profile::Default, &[]), vec![host]);
    assert!(compile(Profile::Unconfined, &[]).is_empty());
}

#[test]
fn a_profile_has_one_of_two_names() {
    assert_eq!("default".parse(), Ok(Profile::Default));
    assert_eq!("unconfined".parse(), Ok(Profile::Unconfined));
    let error = "runtime/default".parse::<Profile>().expect_err("unknown");
    assert!(error.to_string().contains("runtime/default"));
}
