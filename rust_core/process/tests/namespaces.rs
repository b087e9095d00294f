//! The container sees itself alone: processes, names, network, mounts, descriptors. Needs root.

mod support;

use process::spec::{Ids, Network};
use support::{strings, Container};

#[test]
fn a_command_runs_as_process_one_and_its_exit_code_comes_back() {
    let container = Container::new("echo pid $$; exit 7");
    let outcome = container.run();
    assert_eq!((outcome.exit_code(), outcome.stdout.as_str()), (7, "pid 1\n"));
}

#[test]
fn the_end_by_a_signal_comes_back() {
    // Process 1 has no default actions of its own; a child of it has.
    let outcome = Container::new("trap : TERM; kill -TERM $$; sh -c 'kill -SEGV $$'; exit $?").run();
    assert_eq!(outcome.exit_code(), 128 + 11);
}

#[test]
fn every_namespace_but_the_users_is_its_own() {
    let read = "for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done";
    let inside = Container::new(read).run();
    for line in inside.output().lines() {
        let kind = line.split(':').next().expect("a kind");
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a link");
        // Without groups to join, there is no cgroup namespace to make.
        if kind != "cgroup" {
            assert_ne!(host.to_str(), Some(line));
        }
    }
}

#[test]
fn network_none_has_the_loopback_device_only_and_it_is_up() {
    let outcome = Container::new("ls /sys/class/net; ping -c 1 -w 2 127.0.0.1 >/dev/null && echo up").run();
    let output = outcome.output();
    assert!(output.ends_with("up"), "{output}");
    assert!(output.starts_with("lo"), "{output}");
    assert!(!output.contains("eth"), "{output}");
}

#[test]
fn a_network_that_nobody_made_ahead_begins_as_every_containers() {
    let show = "cd /proc/sys/net; cat ipv4/ip_unprivileged_port_start ipv4/ping_group_range; \
        for name in accept_ra addr_gen_mode; do cat ipv6/conf/default/$name || echo absent; done";
    let has_ipv6 = std::path::Path::new("/proc/sys/net/ipv6").is_dir();
    let ids = Ids { first_id: 1 << 30, count: 65_536, joined: None };
    for (ids, groups) in [(None, "0\t2147483647"), (Some(ids), "0\t65535")] {
        let outcome = Container::new(show).with(|spec| spec.ids = ids).run();
        let expected = ["0", groups].into_iter().chain(if has_ipv6 { ["0", "1"] } else { ["absent"; 2] });
        assert_eq!(outcome.output().lines().collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{ids:?}");
    }
}

#[test]
fn what_the_spec_says_of_a_parameter_stands_over_the_default() {
    let show = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let sysctls = vec![("net.ipv4.ip_unprivileged_port_start".to_owned(), "900".to_owned())];
    let outcome = Container::new(show).with(|spec| spec.sysctls = sysctls).run();
    assert_eq!(outcome.output(), "900");
}

#[test]
fn network_host_is_the_hosts() {
    let outcome =
        Container::new("readlink /proc/self/ns/net").with(|spec| spec.network = Network::Host).run();
    let host = std::fs::read_link("/proc/self/ns/net").expect("a link");
    assert_eq!(outcome.output(), host.to_str().expect("utf-8"));
}

#[test]
fn host_name_and_domain_name_are_those_of_the_spec() {
    let outcome = Container::new("hostname; cat /proc/sys/kernel/domainname")
        .with(|spec| spec.domainname = "example".to_owned())
        .run();
    assert_eq!(outcome.output(), "box\nexample");
}

#[test]
fn z04_no_descriptor_but_stdio_is_open() {
    let outcome = Container::new("ls /proc/1/fd; true").run();
    let open: Vec<&str> = outcome.output().split_whitespace().collect();
    assert_eq!(open, ["0", "1", "2"]);
    let outcome = Container::new("").with(|spec| spec.args = strings(&["ls", "/proc/self/fd"])).run();
    let open: Vec<&str> = outcome.output().split_whitespace().collect();
    assert_eq!(open, ["0", "1", "2", "3"], "3 is the directory that ls reads");
}

#[test]
fn stdin_stdout_and_stderr_are_the_given_ones() {
    let outcome =
        Container::new("read line; echo \"got $line\"; echo bad >&2; echo again >/dev/stdout").run();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("got input\nagain\n", "bad\n"));
}

#[test]
fn signals_are_at_their_defaults_and_none_is_blocked() {
    let outcome = Container::new("").with(|spec| {
        spec.args = strings(&["grep", "-E", "Sig(Blk|Ign|Cgt)|ShdPnd", "/proc/self/status"]);
    });
    for line in outcome.run().output().lines() {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
}

#[test]
fn the_umask_is_022_and_the_process_leads_a_session() {
    let outcome = Container::new("umask; cat /proc/self/stat").run();
    let output = outcome.output();
    assert!(output.starts_with("0022"), "{output}");
    // Fields 5 and 6 of a stat line: process group and session, of a child of process 1.
    let stat: Vec<&str> = output.lines().nth(1).expect("a line").split_whitespace().collect();
    assert_eq!(stat[5], "1");
}
