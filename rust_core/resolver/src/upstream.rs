//! Questions to name servers. An answer is believed only from the address that was asked, with the number and the question
//! that were sent (RFC 5452 9.1); each question has a socket, and so a port, of its own.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use domain::base::iana::Rcode;
use domain::base::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::answer::refusal;
use crate::limits::{MAX_DATAGRAM_BYTES, MAX_SERVERS, SERVER_TIMEOUT};

/// Room for what fits into an answer to a container, and a byte that tells that there was more.
const DATAGRAM_BYTES: usize = MAX_DATAGRAM_BYTES + 1;

/// What the servers say to the question: of the first that has an answer; else what the last one said, or SERVFAIL.
/// It has the question's number.
pub async fn ask(question: &[u8], servers: &[SocketAddr], by_tcp: bool) -> Vec<u8> {
    let mut last = None;
    for server in servers.iter().take(MAX_SERVERS) {
        let asked = async {
            if by_tcp {
                ask_by_tcp(question, *server).await
            } else {
                ask_by_udp(question, *server).await
            }
        };
        let Ok(Ok(answer)) = timeout(SERVER_TIMEOUT, asked).await else { continue };
        let is_refusal = Message::from_slice(&answer).map_or(true, |one| says_nothing(one.header().rcode()));
        last = Some(answer);
        if !is_refusal {
            break;
        }
    }
    match (last, Message::from_slice(question)) {
        (Some(mut answer), _) => {
            answer[..2].copy_from_slice(&question[..2]);
            answer
        }
        (None, Ok(message)) => refusal(message, Rcode::SERVFAIL),
        // Nobody asks who has not read it.
        (None, Err(_)) => Vec::new(),
    }
}

/// The server cannot or will not tell: another may. Source: resolver(3), as the C library takes them.
fn says_nothing(code: Rcode) -> bool {
    [Rcode::SERVFAIL, Rcode::NOTIMP, Rcode::REFUSED].contains(&code)
}

/// The question with another number, so that only who has seen it can answer.
fn numbered(question: &[u8]) -> io::Result<Vec<u8>> {
    let mut sent = question.to_vec();
    rustix::rand::getrandom(&mut sent[..2], rustix::rand::GetRandomFlags::empty())?;
    Ok(sent)
}

fn is_answer(answer: &[u8], sent: &[u8]) -> bool {
    match (Message::from_slice(answer), Message::from_slice(sent)) {
        (Ok(answer), Ok(sent)) => answer.is_answer(sent),
        _ => false,
    }
}

async fn ask_by_udp(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let sent = numbered(question)?;
    socket.send(&sent).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_answer(&buffer[..length], &sent) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_by_tcp(question: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let sent = numbered(question)?;
    write_message(&mut stream, &sent).await?;
    let answer = read_message(&mut stream).await?;
    if is_answer(&answer, &sent) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// One message of a connection. Source: RFC 1035 4.2.2, its length goes before it.
pub async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// See [`read_message`]. One write, as RFC 7766 8 wants it.
pub async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await
}
