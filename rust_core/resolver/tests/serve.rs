//! Real sockets of loopback: a client, the resolver, and a name server that is played here.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use resolver::{Client, Listening, Resolver, MAX_CONNECTIONS, MAX_DATAGRAM_BYTES, MAX_FORWARDED};
use rustix::net::{socket, AddressFamily, SocketType};

const WAIT: Duration = Duration::from_secs(10);
/// A question for `example.org`, A, number 0x1234.
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x01\0\x01";
const OWN: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01";

fn open(kind: SocketType) -> OwnedFd {
    socket(AddressFamily::INET, kind, None).expect("a socket")
}

/// A resolver with one container `web`, asked by client `c`, and where it is asked by UDP and TCP.
fn serving(servers: Vec<SocketAddr>) -> (Resolver, SocketAddr, SocketAddr) {
    let resolver = Resolver::default();
    let address: IpAddr = "10.9.0.2".parse().unwrap();
    resolver.put("n", "net", "web", &["web".to_owned()], &[address]);
    resolver.set_client("c", Client { networks: vec!["n".to_owned()], servers });
    let listening = Listening::bind(open(SocketType::DGRAM), open(SocketType::STREAM)).expect("bound");
    let (udp, tcp) = listening.ports().expect("ports");
    resolver.serve("c", listening).expect("served");
    (resolver, (resolver::ADDRESS, udp).into(), (resolver::ADDRESS, tcp).into())
}

fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket
}

fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    let mut buffer = [0; 5000];
    let length = socket.recv(&mut buffer).expect("an answer");
    buffer[..length].to_vec()
}

fn ask_by_tcp(stream: &mut TcpStream, question: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.write_all(&u16::try_from(question.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(question).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).expect("an answer");
    answer
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 15
}

/// The question as an answer with an address in it.
fn answer_to(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] |= 0x80;
    answer[7] = 1;
    answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
    answer
}

fn name_server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn a_name_is_answered_by_udp_and_tcp_and_what_follows_on_a_connection_too() {
    let (resolver, udp, tcp) = serving(Vec::new());
    let answer = ask(&client(udp), OWN);
    assert!(answer.ends_with(&[10, 9, 0, 2]) && code(&answer) == 0, "{answer:?}");
    let mut stream = TcpStream::connect(tcp).unwrap();
    assert_eq!([ask_by_tcp(&mut stream, OWN), ask_by_tcp(&mut stream, OWN)], [answer.clone(), answer]);
    // Without servers there is nobody to ask.
    assert_eq!(code(&ask(&client(udp), QUESTION)), 2);
    resolver.stop("c");
    resolver.stop("c");
    let deadline = Instant::now() + WAIT;
    while UdpSocket::bind(udp).is_err() {
        assert!(Instant::now() < deadline, "its sockets are closed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_is_believed_only_with_the_number_and_question_that_it_was_asked() {
    let (server, address) = name_server();
    let (_resolver, udp, _) = serving(vec![address]);
    let played = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, sender) = server.recv_from(&mut buffer).expect("a question");
        let asked = buffer[..length].to_vec();
        let mut wrong_number = answer_to(&asked);
        wrong_number[0] ^= 0xff;
        let mut wrong_name = answer_to(&asked);
        wrong_name[13] = b'X';
        for (at, one) in [wrong_number, wrong_name, b"junk".to_vec(), Vec::new()].iter().enumerate() {
            server.send_to(one, sender).unwrap_or_else(|error| panic!("{at}: {error}"));
        }
        server.send_to(&answer_to(&asked), sender).unwrap();
        asked
    });
    let answer = ask(&client(udp), QUESTION);
    assert_eq!(answer, answer_to(QUESTION), "with the number of the client");
    assert_eq!(played.join().unwrap()[2..], QUESTION[2..]);
}

#[test]
fn the_next_server_is_asked_where_one_refuses_or_says_nothing() {
    let (silent, silent_address) = name_server();
    let (refusing, refusing_address) = name_server();
    let (server, address) = name_server();
    let (_resolver, udp, _) = serving(vec![silent_address, refusing_address, address]);
    let played = std::thread::spawn(move || {
        let mut buffer = [0; 512];
        let (length, sender) = refusing.recv_from(&mut buffer).expect("a question");
        let mut refused = buffer[..length].to_vec();
        refused[2] |= 0x80;
        refused[3] = 5;
        refusing.send_to(&refused, sender).unwrap();
        let (length, sender) = server.recv_from(&mut buffer).expect("a question");
        server.send_to(&answer_to(&buffer[..length]), sender).unwrap();
    });
    assert_eq!(ask(&client(udp), QUESTION), answer_to(QUESTION));
    played.join().unwrap();
    drop(silent);
}

#[test]
fn by_tcp_the_server_is_asked_by_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_resolver, _, tcp) = serving(vec![listener.local_addr().unwrap()]);
    let played = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 2 + QUESTION.len()];
        stream.read_exact(&mut bytes).unwrap();
        let answer = answer_to(&bytes[2..]);
        stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&answer).unwrap();
    });
    assert_eq!(ask_by_tcp(&mut TcpStream::connect(tcp).unwrap(), QUESTION), answer_to(QUESTION));
    played.join().unwrap();
}

#[test]
fn what_a_container_may_have_is_bounded_and_junk_hinders_nobody() {
    let (silent, address) = name_server();
    let (_resolver, udp, tcp) = serving(vec![address]);
    let asking = client(udp);
    for number in 0..=MAX_FORWARDED {
        let mut question = QUESTION.to_vec();
        question[..2].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
        asking.send(&question).unwrap();
    }
    // The one too many fails at once; the server was asked for all others.
    let mut buffer = [0; 512];
    let length = asking.recv(&mut buffer).expect("a refusal");
    assert_eq!(
        (usize::from(u16::from_be_bytes([buffer[0], buffer[1]])), code(&buffer[..length])),
        (MAX_FORWARDED, 2)
    );
    for _ in 0..MAX_FORWARDED {
        silent.recv(&mut buffer).expect("a question");
    }
    let long = vec![0; MAX_DATAGRAM_BYTES + 1];
    for junk in [&b""[..], b"x", &[0xff; 600], &long] {
        asking.send(junk).unwrap();
    }
    assert_eq!(code(&ask(&client(udp), OWN)), 0);
    let connections: Vec<_> = (0..MAX_CONNECTIONS).map(|_| TcpStream::connect(tcp).unwrap()).collect();
    let mut last = connections.last().unwrap().try_clone().unwrap();
    assert_eq!(code(&ask_by_tcp(&mut last, OWN)), 0);
    let mut more = TcpStream::connect(tcp).unwrap();
    more.set_read_timeout(Some(WAIT)).unwrap();
    // Closed without a word; a reset if it had said something already.
    assert_eq!(more.read(&mut buffer).expect("it ends"), 0);
    drop(connections);
}
