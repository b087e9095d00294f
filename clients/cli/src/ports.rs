//! Published ports: as people write them, as lists show them, and `fluyt port`.

use std::net::IpAddr;

use clap::Args;
use tonic::transport::Channel;

use crate::api::v1::container_service_client::ContainerServiceClient;
use crate::api::v1::types::{PublishedPort, TransportProtocol};
use crate::api::v1::GetContainerRequest;
use crate::failure::Failure;
use crate::render;

/// `fluyt port`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  fluyt port web\n  fluyt port web 80/tcp")]
pub struct PortCommand {
    /// Container: id, unique beginning of an id, or name
    container: String,
    /// Only this port of the container, as 80 or 53/udp
    port: Option<String>,
}

/// Runs `fluyt port`.
///
/// # Errors
/// A port that is none or that is not published, or what the engine answers.
pub async fn port(channel: Channel, command: PortCommand) -> Result<u8, Failure> {
    let request = GetContainerRequest { container: command.container.clone(), ..Default::default() };
    let answer = ContainerServiceClient::new(channel).get_container(request).await?.into_inner();
    let container = answer.container.unwrap_or_default();
    let wanted =
        command.port.as_deref().map(parse_service).transpose().map_err(|rule| Failure::usage(rule, ""))?;
    let mut count = 0;
    for published in &container.published_ports {
        let service = (published.container_port, published.protocol());
        if wanted.is_some_and(|wanted| wanted != service) {
            continue;
        }
        count += 1;
        for host in host_sides(published, has_ipv6(&container.networks)) {
            let text = match wanted {
                Some(_) => host,
                None => format!("{}/{} -> {host}", service.0, protocol_name(service.1)),
            };
            render::line(text)?;
        }
    }
    if count == 0 {
        if let Some(port) = &command.port {
            return Err(Failure::new(
                format!("port {} of {} is not published", render::printable(port), command.container),
                "`fluyt port CONTAINER` lists those that are",
            ));
        }
    }
    Ok(0)
}

/// Ports in a list of containers, `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp`; neighbours are joined to ranges.
pub fn shown(ports: &[PublishedPort], networks: &[crate::api::v1::types::NetworkEndpoint]) -> String {
    let mut sorted: Vec<PublishedPort> = ports.to_vec();
    sorted.sort_by_key(|port| (port.host_address.clone(), port.protocol, port.container_port));
    let mut joined: Vec<PublishedPort> = Vec::new();
    for port in sorted {
        match joined.last_mut() {
            Some(last)
                if (&last.host_address, last.protocol) == (&port.host_address, port.protocol)
                    && last.container_port + last.port_count == port.container_port
                    && last.host_port + last.port_count == port.host_port =>
            {
                last.port_count += 1;
            }
            _ => joined.push(port),
        }
    }
    let texts: Vec<String> = joined
        .iter()
        .flat_map(|port| {
            let range = numbers(port.container_port, port.port_count);
            let service = format!("{range}/{}", protocol_name(port.protocol()));
            host_sides(port, has_ipv6(networks)).into_iter().map(move |host| format!("{host}->{service}"))
        })
        .collect();
    texts.join(", ")
}

fn has_ipv6(networks: &[crate::api::v1::types::NetworkEndpoint]) -> bool {
    networks.iter().any(|network| !network.ipv6_address.is_empty())
}

/// `address:port` for each address of the host.
fn host_sides(port: &PublishedPort, has_ipv6: bool) -> Vec<String> {
    let range = numbers(port.host_port, port.port_count);
    match port.host_address.as_str() {
        "" if has_ipv6 => vec![format!("0.0.0.0:{range}"), format!("[::]:{range}")],
        "" => vec![format!("0.0.0.0:{range}")],
        address if address.contains(':') => vec![format!("[{address}]:{range}")],
        address => vec![format!("{address}:{range}")],
    }
}

fn numbers(first: u32, count: u32) -> String {
    if count > 1 {
        format!("{first}-{}", first + count - 1)
    } else {
        first.to_string()
    }
}

fn protocol_name(protocol: TransportProtocol) -> &'static str {
    match protocol {
        TransportProtocol::Udp => "udp",
        TransportProtocol::Sctp => "sctp",
        TransportProtocol::Tcp | TransportProtocol::Unspecified => "tcp",
    }
}

/// `[ADDRESS:][PORT:]PORT[/PROTOCOL]`, each PORT one number or a range. An address without a port, `127.0.0.1::80`, asks
/// for a free one, and a range of the host for one port of the container for the first that is free of it.
///
/// # Errors
/// What is wrong, as a sentence.
///
/// Source: docker run(1), --publish.
pub fn parse_published(text: &str) -> Result<PublishedPort, String> {
    let joined;
    let text = if text.contains('=') {
        joined = from_keys(text)?;
        &joined
    } else {
        text
    };
    let (rest, protocol) = match text.rsplit_once('/') {
        // As Docker takes it.
        Some((rest, "")) => (rest, TransportProtocol::Tcp),
        Some((rest, name)) => (rest, parse_protocol(name)?),
        None => (text, TransportProtocol::Tcp),
    };
    let (left, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, host) = match left.rsplit_once(':') {
        Some((address, host)) => (address, host),
        None if left.ends_with(']') => (left, ""),
        None => ("", left),
    };
    let (container_port, port_count) = parse_range(container)?;
    let (host_port, host_count) = if matches!(host, "" | "0") { (0, port_count) } else { parse_range(host)? };
    // The first of the host's that is free, as Docker has it.
    let host_port_count = if port_count == 1 && host_count > 1 { host_count } else { 0 };
    if host_port_count == 0 && host_count != port_count {
        return Err(format!(
            "`{text}`: the ranges have {host_count} and {port_count} ports, and must have as many"
        ));
    }
    let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(format!("`{text}`: `{address}` is not an IP address (IPv6 stands in brackets)"));
    }
    Ok(PublishedPort {
        container_port,
        host_port,
        port_count,
        host_address: address.to_owned(),
        protocol: protocol.into(),
        allowed_sources: Vec::new(),
        host_port_count,
    })
}

/// The same written as `published=8080,target=80,protocol=udp`.
///
/// Source: docker/cli `cli/command/container/opts.go`, convertToStandardNotation.
fn from_keys(text: &str) -> Result<String, String> {
    let (mut target, mut published, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("target", value)) => target = value,
            Some(("published", value)) => published = value,
            Some(("protocol", value)) => protocol = value,
            // Of services: every container has the port by itself.
            Some(("mode", "host" | "ingress")) => {}
            _ => {
                return Err(format!(
                    "`{text}`: `{field}` is none of target=, published=, protocol= and mode=host"
                ))
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn parse_service(text: &str) -> Result<(u32, TransportProtocol), String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Ok((parse_port(port)?, parse_protocol(protocol)?))
}

fn parse_protocol(name: &str) -> Result<TransportProtocol, String> {
    match name.to_lowercase().as_str() {
        "tcp" => Ok(TransportProtocol::Tcp),
        "udp" => Ok(TransportProtocol::Udp),
        "sctp" => Ok(TransportProtocol::Sctp),
        _ => Err(format!("`{name}` is not a protocol: write tcp, udp or sctp")),
    }
}

/// (first, number of ports).
fn parse_range(text: &str) -> Result<(u32, u32), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    if last < first {
        return Err(format!("`{text}`: a range begins with its lower port"));
    }
    Ok((first, last - first + 1))
}

fn parse_port(text: &str) -> Result<u32, String> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port.into()),
        _ => Err(format!("`{text}` is not a port from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, u32, u32, u32, TransportProtocol) {
        let port = parse_published(text).unwrap();
        (port.host_address.clone(), port.host_port, port.container_port, port.port_count, port.protocol())
    }

    #[test]
    fn ports_are_read_as_dockers() {
        use TransportProtocol::{Sctp, Tcp, Udp};
        let own = str::to_owned;
        assert_eq!(parts("80"), (own(""), 0, 80, 1, Tcp));
        assert_eq!(parts("8080:80"), (own(""), 8080, 80, 1, Tcp));
        assert_eq!(parts("53:53/udp"), (own(""), 53, 53, 1, Udp));
        assert_eq!(parts("9:9/SCTP"), (own(""), 9, 9, 1, Sctp));
        assert_eq!(parts("127.0.0.1:8080:80"), (own("127.0.0.1"), 8080, 80, 1, Tcp));
        assert_eq!(parts("127.0.0.1::80"), (own("127.0.0.1"), 0, 80, 1, Tcp));
        assert_eq!(parts("[::1]:8080:80"), (own("::1"), 8080, 80, 1, Tcp));
        assert_eq!(parts("[::1]::80/udp"), (own("::1"), 0, 80, 1, Udp));
        assert_eq!(parts("8000-8010:9000-9010"), (own(""), 8000, 9000, 11, Tcp));
        assert_eq!(parts("8000-8010:80"), (own(""), 8000, 80, 1, Tcp));
        assert_eq!(parse_published("[::1]:8000-8010:80/udp").unwrap().host_port_count, 11);
        assert_eq!(parse_published("8000-8010:9000-9010").unwrap().host_port_count, 0);
        assert_eq!(parts("3000-3001"), (own(""), 0, 3000, 2, Tcp));
        assert_eq!(parts("80/"), (own(""), 0, 80, 1, Tcp));
        assert_eq!(parts(":80"), (own(""), 0, 80, 1, Tcp));
        assert_eq!(parts("::80"), (own(""), 0, 80, 1, Tcp));
        assert_eq!(parts("0:80"), (own(""), 0, 80, 1, Tcp));
        assert_eq!(parts("2001:db8::1:8080:80"), (own("2001:db8::1"), 8080, 80, 1, Tcp));
        assert_eq!(parts("published=8080,target=80,protocol=udp,mode=host"), (own(""), 8080, 80, 1, Udp));
        assert_eq!(parts("target=80"), (own(""), 0, 80, 1, Tcp));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "",
            ":",
            "x",
            "0",
            "65536",
            "80/icmp",
            "/tcp",
            "127.0.0.1:80",
            "80:8000-8001",
            "published=8080",
            "target=80,host=1",
            "target=80,",
            "=80",
            "9-8",
            "+80",
            "-80",
            "host:80:80",
            "1.2.3:80:80",
            "::1:80:80:",
            "80:",
            "1:2:3:4",
        ] {
            assert!(parse_published(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_show_ranges_and_both_families() {
        let ports: Vec<PublishedPort> =
            ["8081:81", "8080:80", "127.0.0.1:53:53/udp"].map(|text| parse_published(text).unwrap()).to_vec();
        assert_eq!(shown(&ports, &[]), "0.0.0.0:8080-8081->80-81/tcp, 127.0.0.1:53->53/udp");
        let six = crate::api::v1::types::NetworkEndpoint {
            ipv6_address: "fd00::2/64".into(),
            ..Default::default()
        };
        assert_eq!(shown(&ports[..1], &[six]), "0.0.0.0:8081->81/tcp, [::]:8081->81/tcp");
    }
}
