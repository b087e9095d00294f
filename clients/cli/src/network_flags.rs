//! The flags of `fluyt run` and `fluyt create` about networks, and what they ask for. Pure.

use clap::Args;

use crate::api::v1::types;
use crate::api::v1::types::network_spec::Mode;
use crate::failure::Failure;
use crate::ports::parse_published;

/// Flags about networks; names and meanings are Docker's.
#[derive(Args, Debug, Default)]
pub struct NetworkFlags {
    /// none, host, bridge, or a network: NAME or name=NAME,alias=A,ip=ADDRESS,ip6=ADDRESS,mac-address=MAC; repeatable
    #[arg(long = "network", visible_alias = "net", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Further name on the first network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    network_alias: Vec<String>,
    /// IPv4 address on the first network
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// IPv6 address on the first network
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Hardware address on the first network
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// Publish a port: [ADDRESS:][PORT:]PORT[/tcp|udp|sctp], PORT may be a range as 8000-8010 (8000-8010:80: the first that is free)
    #[arg(short, long, value_name = "PORTS", value_parser = parse_published)]
    publish: Vec<types::PublishedPort>,
    /// Publish every port that the image exposes on a free port
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Domain in which short names are looked for; a single `.` for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Option for resolv.conf
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Line for /etc/hosts, NAME:ADDRESS or NAME=ADDRESS; the address host-gateway stands for the host
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = parse_host)]
    add_host: Vec<String>,
}

impl NetworkFlags {
    /// What they ask for; None if they ask for nothing.
    ///
    /// # Errors
    /// A mode and a network at once, or a part of a network that is not known.
    pub fn spec(&self) -> Result<Option<types::NetworkSpec>, Failure> {
        let mut spec = types::NetworkSpec {
            published_ports: self.publish.clone(),
            publish_all_ports: self.publish_all,
            dns_servers: self.dns.clone(),
            dns_search: self.dns_search.clone(),
            dns_options: self.dns_option.clone(),
            extra_hosts: self.add_host.clone(),
            ..types::NetworkSpec::default()
        };
        for text in &self.networks {
            match text.as_str() {
                "none" => spec.mode = Mode::None.into(),
                "host" => spec.mode = Mode::Host.into(),
                // The engine's own network is what a container is on that names none.
                "bridge" | "default" if self.networks.len() == 1 => spec.mode = Mode::Bridge.into(),
                text => match text.strip_prefix("container:") {
                    Some(container) => {
                        spec.mode = Mode::Container.into();
                        container.clone_into(&mut spec.container);
                    }
                    None => {
                        spec.mode = Mode::Bridge.into();
                        spec.attachments.push(attachment(text)?);
                    }
                },
            }
        }
        if self.networks.len() > 1 && spec.attachments.len() < self.networks.len() {
            return Err(Failure::usage(
                "none, host and container:NAME cannot be had together with a network",
                "name one of them, or networks only",
            ));
        }
        self.add_to_first(&mut spec)?;
        Ok((spec != types::NetworkSpec::default()).then_some(spec))
    }

    fn add_to_first(&self, spec: &mut types::NetworkSpec) -> Result<(), Failure> {
        let given = (&self.ip, &self.ip6, &self.mac_address);
        if self.network_alias.is_empty() && given == (&None, &None, &None) {
            return Ok(());
        }
        if !matches!(spec.mode(), Mode::Unspecified | Mode::Bridge) {
            return Err(Failure::usage(
                "--ip, --ip6, --mac-address and --network-alias are about a network of the container's own",
                "leave them out, or name a network in place of none, host or container:NAME",
            ));
        }
        if spec.attachments.is_empty() {
            let attachment = types::NetworkAttachment { network: "bridge".to_owned(), ..Default::default() };
            spec.attachments.push(attachment);
            spec.mode = Mode::Bridge.into();
        }
        if let Some(first) = spec.attachments.first_mut() {
            first.aliases.extend(self.network_alias.iter().cloned());
            let set = |given: &Option<String>, field: &mut String| {
                if let Some(value) = given {
                    value.clone_into(field);
                }
            };
            set(&self.ip, &mut first.ipv4_address);
            set(&self.ip6, &mut first.ipv6_address);
            set(&self.mac_address, &mut first.mac_address);
        }
        Ok(())
    }
}

/// `NAME`, or `name=NAME` and options, as Docker has them.
fn attachment(text: &str) -> Result<types::NetworkAttachment, Failure> {
    let mut found = types::NetworkAttachment::default();
    if !text.contains('=') {
        text.clone_into(&mut found.network);
        return Ok(found);
    }
    for part in text.split(',') {
        let wrong = || {
            Failure::usage(
                format!("--network {text}: `{part}` is not known"),
                "write name=NAME, alias=NAME, ip=ADDRESS, ip6=ADDRESS, mac-address=MAC, interface=NAME or gw-priority=N",
            )
        };
        match part.split_once('=').ok_or_else(wrong)? {
            ("name", value) => value.clone_into(&mut found.network),
            ("alias", value) => found.aliases.push(value.to_owned()),
            ("ip", value) => value.clone_into(&mut found.ipv4_address),
            ("ip6", value) => value.clone_into(&mut found.ipv6_address),
            ("mac-address", value) => value.clone_into(&mut found.mac_address),
            ("interface", value) => value.clone_into(&mut found.interface_name),
            ("gw-priority", value) => found.gateway_priority = value.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        }
    }
    Ok(found)
}

/// `name=address` is as good as `name:address`.
fn parse_host(text: &str) -> Result<String, String> {
    // An address may have colons, a name has neither.
    match text.split_once('=').or_else(|| text.split_once(':')) {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => Ok(format!("{name}:{address}")),
        _ => Err(format!("`{text}` is not a line of hosts; write NAME:ADDRESS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: NetworkFlags,
    }

    fn spec(arguments: &[&str]) -> Option<types::NetworkSpec> {
        let line = Line::try_parse_from([&["fluyt"], arguments].concat()).unwrap();
        line.flags.spec().unwrap()
    }

    #[test]
    fn nothing_is_asked_for_without_a_flag() {
        assert_eq!(spec(&[]), None);
    }

    #[test]
    fn modes_and_networks_are_told_apart() {
        let mode = |text: &str| spec(&["--network", text]).unwrap();
        assert_eq!(mode("none").mode(), Mode::None);
        assert_eq!(mode("host").mode(), Mode::Host);
        assert_eq!((mode("bridge").mode(), mode("bridge").attachments.len()), (Mode::Bridge, 0));
        assert_eq!(
            (mode("container:web").mode(), mode("container:web").container),
            (Mode::Container, "web".into())
        );
        let front = mode("front");
        assert_eq!((front.mode(), &*front.attachments[0].network), (Mode::Bridge, "front"));
    }

    #[test]
    fn addresses_and_aliases_go_to_the_first_network_or_the_default_one() {
        let flags =
            ["--network", "name=front,alias=a,gw-priority=2", "--network", "back", "--ip", "10.0.0.5"];
        let found = spec(&flags).unwrap().attachments;
        assert_eq!((&*found[0].network, &*found[0].ipv4_address), ("front", "10.0.0.5"));
        assert_eq!((found[0].aliases.clone(), found[0].gateway_priority), (vec!["a".to_owned()], 2));
        assert_eq!((&*found[1].network, &*found[1].ipv4_address), ("back", ""));
        assert_eq!(spec(&["--ip", "10.0.0.5"]).unwrap().attachments[0].network, "bridge");
    }

    #[test]
    fn a_mode_beside_a_network_is_refused() {
        let line = Line::try_parse_from(["fluyt", "--network", "host", "--network", "front"]).unwrap();
        assert!(line.flags.spec().is_err());
        let line = Line::try_parse_from(["fluyt", "--network", "name=front,colour=red"]).unwrap();
        assert!(line.flags.spec().is_err());
    }

    #[test]
    fn addresses_and_names_need_a_network_to_have_them_on() {
        for mode in ["none", "host", "container:web"] {
            for flag in
                ["--ip=10.0.0.5", "--ip6=fd00::5", "--mac-address=02:00:00:00:00:05", "--network-alias=a"]
            {
                let line = Line::try_parse_from(["fluyt", "--network", mode, flag]).unwrap();
                let failure = line.flags.spec().expect_err(flag).to_string();
                assert!(failure.contains("network of the container's own"), "{mode} {flag}: {failure}");
            }
        }
    }

    #[test]
    fn hosts_are_written_either_way() {
        assert_eq!(parse_host("db:10.0.0.7").unwrap(), "db:10.0.0.7");
        assert_eq!(parse_host("six=fe80::1").unwrap(), "six:fe80::1");
        assert_eq!(parse_host("six:fe80::1").unwrap(), "six:fe80::1");
        assert!(parse_host("db").is_err() && parse_host(":1").is_err());
        let found = spec(&["--add-host", "db=10.0.0.9", "--add-host", "six:fd00::1"]).unwrap().extra_hosts;
        assert_eq!(found, ["db:10.0.0.9", "six:fd00::1"]);
    }
}
