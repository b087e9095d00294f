//! What the kernel makes of it, in network namespaces of the tests' own; `nft` and `ip` of the host are the judges.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use network::nft::{redirect, Element, Protocol, Redirected, Table, Target};
use network::{Attachment, Bridge, Links};
use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};

/// Runs `test` in a new network namespace, on a thread of its own. Skipped where the host allows none or lacks a judge.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if let Some(lacking) = ["nft", "ip"].iter().find(|name| Command::new(name).arg("-V").output().is_err()) {
        return eprintln!("skipped: {lacking} is not installed");
    }
    let thread = std::thread::spawn(move || match sys::network::new_namespace() {
        Ok(made) => {
            enter(&made.namespace);
            test();
        }
        Err(errno) => eprintln!("skipped: no network namespace can be made here: {errno}"),
    });
    thread.join().expect("the test's thread");
}

fn enter(namespace: &OwnedFd) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("the program is installed");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn target(address: &str, protocol: u8, port: u16) -> Target {
    Target { address: address.parse().expect("an address"), protocol: Protocol(protocol), port }
}

fn published(address: Option<&str>, port: u16, target: Target) -> Element {
    Element::Published { address: address.map(|text| text.parse().expect("an address")), port, target }
}

#[test]
fn the_table_stands_with_its_elements_and_is_made_anew_without_the_old_ones() {
    in_namespace(|| {
        let table = Table::open("fluyt-test").expect("nftables");
        let web = target("10.9.0.2", 6, 80);
        let elements = [
            Element::Bridge("br0".into()),
            Element::Masqueraded("br0".into()),
            published(None, 8080, web),
            published(Some("127.0.0.1"), 8081, web),
            published(None, 8080, target("fd00::2", 6, 80)),
            published(Some("::1"), 53, target("fd00::2", 17, 53)),
            Element::Restricted(web),
            Element::Allowed { target: web, source: "192.168.0.0/16".parse().expect("a prefix") },
        ];
        assert!(!table.stands().expect("an answer"));
        table.set(&elements).expect("the first time");
        assert!(table.stands().expect("an answer"));
        let list = || output("nft", &["list", "table", "inet", "fluyt-test"]);
        let shown = list();
        for part in [
            "\"br0\" . \"br0\"",
            "elements = { \"br0\" }",
            "tcp . 8080 : 10.9.0.2 . 80",
            "127.0.0.1 . tcp . 8081 : 10.9.0.2 . 80",
            "tcp . 8080 : fd00::2 . 80",
            "::1 . udp . 53 : fd00::2 . 53",
            "10.9.0.2 . tcp . 80 . 192.168.0.0/16",
            "dnat ip to ip daddr . meta l4proto . th dport map @publish_at_4",
            "fib daddr type local jump publish",
        ] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        output("nft", &["add", "rule", "inet", "fluyt-test", "operator", "tcp", "dport", "22", "drop"]);
        table.set(&[Element::Bridge("br1".into())]).expect("the second time");
        let shown = list();
        assert!(
            shown.contains("tcp dport 22 drop") && !shown.contains("br0") && !shown.contains("8080"),
            "{shown}"
        );
        table.delete().expect("it goes");
        table.delete().expect("it has gone");
        assert_eq!(output("nft", &["list", "tables"]), "");
    });
}

#[test]
fn elements_come_and_go_and_one_that_is_absent_hinders_nothing() {
    in_namespace(|| {
        let table = Table::open("t").expect("nftables");
        table.set(&[]).expect("empty");
        let many: Vec<Element> =
            (1..=3000).map(|port| published(None, port, target("10.9.0.2", 6, port))).collect();
        table.change(&many, &[]).expect("all");
        table.change(&many[..1], &[]).expect("one that is there already");
        let absent = published(None, 9999, target("10.9.0.2", 6, 1));
        let gone = [&many[..2999], &[absent]].concat();
        table.change(&[], &gone).expect("the absent one is passed over");
        let shown = output("nft", &["list", "map", "inet", "t", "publish_any_4"]);
        assert!(shown.contains("tcp . 3000") && !shown.contains("tcp . 2999"), "{shown}");
    });
}

#[test]
fn what_is_sent_to_a_port_is_answered_at_another_and_the_first_stays_free() {
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
    in_namespace(|| {
        let address = Ipv4Addr::new(127, 0, 0, 11);
        let wait = Some(std::time::Duration::from_secs(10));
        // Twice, as after a restart of the daemon: only the last ones answer.
        for round in 0..2 {
            let (udp, tcp) =
                (UdpSocket::bind((address, 0)).unwrap(), TcpListener::bind((address, 0)).unwrap());
            let (udp_port, tcp_port) = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
            let mut netlink = network::Netlink::netfilter().expect("netlink");
            let redirected = Redirected { address, port: 53, udp_port, tcp_port };
            redirect(&mut netlink, redirected).expect("redirected");
            let servers = (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap());
            let client = UdpSocket::bind("0.0.0.0:0").unwrap();
            client.connect((address, 53)).unwrap();
            client.set_read_timeout(wait).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 16];
            udp.set_read_timeout(wait).unwrap();
            let (length, sender) = udp.recv_from(&mut buffer).expect("it arrives");
            udp.send_to(b"answer", sender).unwrap();
            assert_eq!(&buffer[..length], b"question");
            assert_eq!(client.recv(&mut buffer).expect("it comes back"), 6);
            let connected = TcpStream::connect((address, 53)).expect("connected");
            assert_eq!(tcp.accept().unwrap().1, connected.local_addr().unwrap());
            // Another address of the namespace is the container's own.
            client.connect(("127.0.0.1", 53)).unwrap();
            client.send(b"own").unwrap();
            servers.0.set_read_timeout(wait).unwrap();
            assert_eq!(servers.0.recv(&mut buffer).expect("its own server"), 3);
            let shown = output("nft", &["list", "table", "inet", "fluyt_names"]);
            assert_eq!(shown.matches("dnat ip to").count(), 2, "round {round}: {shown}");
        }
    });
}

#[test]
fn a_container_is_tied_to_a_bridge_and_let_go() {
    in_namespace(|| {
        let links = Links::open().expect("netlink");
        let bridge = Bridge {
            name: "br0".into(),
            hardware_address: [2, 0x46, 10, 9, 0, 1],
            mtu: 1400,
            addresses: vec!["10.9.0.1/24".parse().expect("v4"), "fd00:9::1/64".parse().expect("v6")],
        };
        links.make_bridge(&bridge).expect("the bridge");
        links.make_bridge(&bridge).expect("again");
        network::allow_forwarding("br0", true).expect("settings");
        let made = sys::network::new_namespace().expect("a container's namespace");
        let inside = Links::new(network::Netlink::own(made.route).expect("its socket"));
        let attachment = Attachment {
            bridge: "br0".into(),
            host_name: "f0123456789abcd".into(),
            name: "eth0".into(),
            hardware_address: [2, 0x46, 10, 9, 0, 2],
            mtu: 1400,
            addresses: vec!["10.9.0.2/24".parse().expect("v4"), "fd00:9::2/64".parse().expect("v6")],
            gateways: vec!["10.9.0.1".parse().expect("v4"), "fd00:9::1".parse().expect("v6")],
        };
        links.attach(&attachment, made.namespace.as_fd(), &inside, None).expect("attached");
        links.attach(&attachment, made.namespace.as_fd(), &inside, None).expect_err("the name is taken");
        let ports = links.list().expect("a list");
        let of = |name: &str| ports.iter().find(|port| port.name == name).cloned();
        assert_eq!(
            of("f0123456789abcd").expect("the port").bridge_index,
            of("br0").expect("the bridge").index
        );
        let details = output("ip", &["-d", "link", "show", "f0123456789abcd"]);
        assert!(details.contains("hairpin on"), "{details}");
        let routed: Vec<String> =
            links.routed(&[]).expect("routes").iter().map(ToString::to_string).collect();
        assert!(routed.contains(&"10.9.0.0/24".to_owned()) && routed.contains(&"fd00:9::/64".to_owned()));
        assert!(!links
            .routed(&["br0".into()])
            .expect("routes")
            .iter()
            .any(|one| one.to_string() == "10.9.0.0/24"));
        let namespace = made.namespace.as_fd();
        for address in ["10.9.0.2", "fd00:9::2"] {
            let address: std::net::IpAddr = address.parse().expect("an address");
            let listener = std::thread::scope(|scope| {
                let listen = || {
                    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).expect("setns");
                    std::net::TcpListener::bind((address, 80)).expect("a listener inside")
                };
                scope.spawn(listen).join().expect("the thread inside")
            });
            let wait = std::time::Duration::from_secs(10);
            std::net::TcpStream::connect_timeout(&(address, 80).into(), wait).expect("the host reaches it");
            drop(listener);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).expect("setns");
                let routes = output("ip", &["route"]);
                assert!(routes.contains("default via 10.9.0.1 dev eth0"), "{routes}");
                assert!(output("ip", &["link", "show", "eth0"]).contains("02:46:0a:09:00:02"));
            });
        });
        links.remove("f0123456789abcd").expect("removed");
        links.remove("f0123456789abcd").expect("it has gone");
        assert!(!links.list().expect("a list").iter().any(|port| port.name.starts_with('f')));
    });
}

#[test]
fn a_pair_that_waits_is_taken_under_its_new_names_and_replaced_where_somebody_removed_it() {
    in_namespace(|| {
        let links = Links::open().expect("netlink");
        let bridge = Bridge {
            name: "br0".into(),
            hardware_address: [2, 0x46, 10, 9, 0, 1],
            mtu: 0,
            addresses: vec!["10.9.0.1/24".parse().expect("v4")],
        };
        links.make_bridge(&bridge).expect("the bridge");
        for (name, mtu, is_removed) in [("eth0", 0, false), ("lan", 1400, false), ("eth0", 0, true)] {
            let made = sys::network::new_namespace().expect("a container's namespace");
            let inside = Links::new(network::Netlink::own(made.route).expect("its socket"));
            let pair = links.make_waiting("f_waits", made.namespace.as_fd(), &inside).expect("it waits");
            links.make_waiting("f_waits", made.namespace.as_fd(), &inside).expect_err("the name is taken");
            assert!(output("ip", &["link", "show", "f_waits"]).contains("state DOWN"));
            if is_removed {
                links.remove("f_waits").expect("by somebody");
            }
            let attachment = Attachment {
                bridge: "br0".into(),
                host_name: "f0".into(),
                name: name.into(),
                hardware_address: [2, 0x46, 10, 9, 0, 2],
                mtu,
                addresses: vec!["10.9.0.2/24".parse().expect("v4")],
                gateways: vec!["10.9.0.1".parse().expect("v4")],
            };
            links.attach(&attachment, made.namespace.as_fd(), &inside, Some(pair)).expect("attached");
            let ports = links.list().expect("a list");
            assert!(!ports.iter().any(|port| port.name == "f_waits"), "{ports:?}");
            let details = output("ip", &["-d", "link", "show", "f0"]);
            let shown_mtu = format!("mtu {}", if mtu == 0 { 1500 } else { mtu });
            for part in ["hairpin on", "master br0", "UP", &shown_mtu, "addrgenmode none"] {
                assert!(details.contains(part), "{part}: {details}");
            }
            let namespace = made.namespace.as_fd();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).expect("setns");
                    let routes = output("ip", &["route"]);
                    assert!(routes.contains(&format!("default via 10.9.0.1 dev {name}")), "{routes}");
                    let shown = output("ip", &["link"]);
                    assert!(shown.contains("02:46:0a:09:00:02") && shown.contains(&shown_mtu), "{shown}");
                });
            });
            links.remove("f0").expect("removed");
        }
    });
}

#[test]
fn a_pair_that_waited_is_gone_where_it_could_not_be_taken() {
    in_namespace(|| {
        let links = Links::open().expect("netlink");
        let made = sys::network::new_namespace().expect("a container's namespace");
        let inside = Links::new(network::Netlink::own(made.route).expect("its socket"));
        links
            .make_bridge(&Bridge {
                name: "br0".into(),
                hardware_address: [2, 0x46, 10, 9, 0, 1],
                mtu: 0,
                addresses: Vec::new(),
            })
            .expect("the bridge");
        let pair = links.make_waiting("f_waits", made.namespace.as_fd(), &inside).expect("it waits");
        let attachment = Attachment {
            bridge: "br0".into(),
            host_name: "f0".into(),
            name: "lo".into(),
            hardware_address: [2, 0x46, 10, 9, 0, 2],
            mtu: 0,
            addresses: Vec::new(),
            gateways: Vec::new(),
        };
        links.attach(&attachment, made.namespace.as_fd(), &inside, Some(pair)).expect_err("there is a lo");
        let left: Vec<String> = links.list().expect("a list").into_iter().map(|port| port.name).collect();
        assert!(!left.iter().any(|name| name.starts_with('f')), "{left:?}");
    });
}

#[test]
fn names_that_no_interface_can_have_are_refused() {
    in_namespace(|| {
        let links = Links::open().expect("netlink");
        for name in ["", "..", "a/b", "a:b", "a b", "sixteen-letters-", "ü"] {
            links.remove(name).expect_err(name);
        }
    });
}
