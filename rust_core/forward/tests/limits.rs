//! What those who ask at `::1` may have, by real sockets of loopback.

use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use forward::{Forwarder, Port, Protocol, MAX_CONNECTIONS, MAX_PEERS};
use rustix::process::{getrlimit, setrlimit, Resource};

type Failure = Box<dyn std::error::Error>;

const PATIENCE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(300);

fn front(port: &Port) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port.number()).into()
}

/// Four descriptors a connection are more than what many hosts begin with.
fn raise_descriptor_limit() -> Result<(), Failure> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

#[test]
fn a_connection_beyond_the_limit_waits_until_another_ends() -> Result<(), Failure> {
    raise_descriptor_limit()?;
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let forwarder = Forwarder::default();
    let port = forwarder.listen(Protocol::Tcp, 0)?;
    port.lead_to(vec![server.local_addr()?]);
    thread::spawn(move || -> std::io::Result<()> {
        loop {
            let (mut stream, _) = server.accept()?;
            stream.write_all(b"!")?;
            thread::spawn(move || stream.read_to_end(&mut Vec::new()));
        }
    });
    // One after the other: what comes faster than it is accepted is dropped, and sent again after up to half a minute.
    let mut clients = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut client = TcpStream::connect(front(&port))?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.read_exact(&mut [0])?;
        clients.push(client);
    }
    let mut last = TcpStream::connect(front(&port))?;
    last.set_read_timeout(Some(MOMENT))?;
    let waiting = last.read_exact(&mut [0]).map_err(|error| error.kind());
    assert_eq!(waiting, Err(ErrorKind::WouldBlock));
    drop(clients);
    last.set_read_timeout(Some(PATIENCE))?;
    last.read_exact(&mut [0])?;
    port.close();
    assert_eq!(last.read(&mut [0]).unwrap_or(0), 0);
    Ok(())
}

/// Answers each datagram with nothing but a byte, and returns who sent them.
fn asked(server: &UdpSocket, client: &UdpSocket) -> Result<SocketAddr, Failure> {
    client.send(b"?")?;
    let (_, source) = server.recv_from(&mut [0; 16])?;
    server.send_to(b"!", source)?;
    client.recv(&mut [0; 16])?;
    Ok(source)
}

#[test]
fn a_sender_beyond_the_limit_takes_the_place_of_the_longest_silent() -> Result<(), Failure> {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    server.set_read_timeout(Some(PATIENCE))?;
    let forwarder = Forwarder::default();
    let port = forwarder.listen(Protocol::Udp, 0)?;
    port.lead_to(vec![server.local_addr()?]);
    let mut clients = Vec::new();
    let mut sources = Vec::new();
    for _ in 0..=MAX_PEERS {
        let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.connect(front(&port))?;
        sources.push(asked(&server, &client)?);
        clients.push(client);
    }
    assert_eq!(sources.iter().collect::<HashSet<_>>().len(), MAX_PEERS + 1);
    assert_eq!(asked(&server, &clients[MAX_PEERS])?, sources[MAX_PEERS], "the newest is known");
    assert_ne!(asked(&server, &clients[0])?, sources[0], "the first was forgotten, and is served anew");
    Ok(())
}
