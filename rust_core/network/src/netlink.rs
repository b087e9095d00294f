//! A netlink socket: requests, their acknowledgements, and dumps. It knows no kind of message but errors and ends.

use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink_packet_core::{
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_timeout, Timeout};
use rustix::net::{recv, send, socket_with, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The kernel answers at once; a socket that says nothing for so long is broken.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of one datagram of answers. Source: netlink(7), dumps come in pages of at most 32 KiB.
const ANSWER_BYTES: usize = 64 * 1024;
/// The length of a netlink message's header, and of the errno that an error begins with.
const HEADER_BYTES: usize = 16;
const ERRNO_BYTES: usize = 4;
/// Types of answers. Source: linux/netlink.h.
const NLMSG_ERROR: u16 = 2;

/// A netlink socket; what it changes belongs to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// A socket for links, addresses and routes of the calling thread's namespace.
    ///
    /// # Errors
    /// The socket(2) error.
    pub fn route() -> Result<Self, Errno> {
        Self::own(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?)
    }

    /// A socket for nftables of the calling thread's namespace.
    ///
    /// # Errors
    /// The socket(2) error.
    pub fn netfilter() -> Result<Self, Errno> {
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(NETFILTER))?;
        Self::own(socket)
    }

    /// Takes over a socket that was opened elsewhere, in another namespace perhaps.
    ///
    /// # Errors
    /// The setsockopt(2) error.
    pub fn own(socket: OwnedFd) -> Result<Self, Errno> {
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_TIMEOUT))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The kernel has done what `message` asks. `flags` besides NLM_F_REQUEST and NLM_F_ACK.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Errno> {
        let sequence = self.next_sequence();
        self.send_route(message, flags | NLM_F_ACK, sequence)?;
        self.await_acknowledgement(sequence, sequence)
    }

    /// The one thing that the kernel tells of what `message` asks for.
    ///
    /// # Errors
    /// The kernel's refusal; EBADMSG for an answer that cannot be read.
    pub(crate) fn ask(&mut self, message: RouteNetlinkMessage) -> Result<RouteNetlinkMessage, Errno> {
        let sequence = self.next_sequence();
        self.send_route(message, 0, sequence)?;
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]) {
                let answer =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map_err(|_| Errno::BADMSG)?;
                match answer.payload {
                    _ if answer.header.sequence_number != sequence => {}
                    NetlinkPayload::InnerMessage(inner) => return Ok(inner),
                    NetlinkPayload::Error(error) => return Err(errno(error.raw_code())),
                    _ => {}
                }
            }
        }
    }

    /// Everything that the kernel tells of what `message` asks for.
    ///
    /// # Errors
    /// The kernel's refusal; EBADMSG for an answer that cannot be read.
    pub(crate) fn dump(&mut self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Errno> {
        let sequence = self.next_sequence();
        self.send_route(message, NLM_F_DUMP, sequence)?;
        let mut found = Vec::new();
        let mut buffer = vec![0; ANSWER_BYTES];
        loop {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]) {
                let answer =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map_err(|_| Errno::BADMSG)?;
                if answer.header.sequence_number != sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => return Err(errno(error.raw_code())),
                    _ => {}
                }
            }
        }
    }

    /// The messages, whose last one asks for an acknowledgement, are carried out. Their sequence numbers begin at
    /// `first` and end at `last`.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn batch(&mut self, bytes: &[u8], first: u32, last: u32) -> Result<(), Errno> {
        self.send(bytes)?;
        self.await_acknowledgement(first, last)
    }

    /// `count` sequence numbers that follow each other; the first of them.
    pub(crate) fn take_sequences(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// More than the default of answers may wait.
    pub(crate) fn enlarge(&self, bytes: usize) {
        // Without the right to it the default stays, and a large batch is refused by the kernel with ENOBUFS.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.socket, bytes);
        let _ = set_socket_recv_buffer_size(&self.socket, bytes);
    }

    fn next_sequence(&mut self) -> u32 {
        self.take_sequences(1)
    }

    fn send_route(&self, message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Result<(), Errno> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.send(&bytes)
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match send(&self.socket, bytes, SendFlags::empty()) {
                Err(Errno::INTR) => {}
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(Errno::MSGSIZE),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
                Ok((_, 0)) => return Err(Errno::PIPE),
                Ok((_, length)) if length > buffer.len() => return Err(Errno::MSGSIZE),
                Ok((length, _)) => return Ok(length),
            }
        }
    }

    fn await_acknowledgement(&self, first: u32, last: u32) -> Result<(), Errno> {
        let mut buffer = vec![0; ANSWER_BYTES];
        let mut refusal = None;
        loop {
            let length = self.receive(&mut buffer)?;
            for message in messages(&buffer[..length]) {
                let (kind, sequence) = (half(message, 4), word(message, 8));
                let is_ours = sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                if kind != NLMSG_ERROR || !is_ours || message.len() < HEADER_BYTES + ERRNO_BYTES {
                    continue;
                }
                let code = word(message, HEADER_BYTES).cast_signed();
                if code != 0 {
                    refusal.get_or_insert(errno(code));
                }
                // A batch that was refused as a whole is told of by its first message alone.
                if sequence == last || (code != 0 && sequence == first) {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }
}

fn errno(code: i32) -> Errno {
    Errno::from_raw_os_error(code.wrapping_neg())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The messages of one datagram, each with its header; what is no whole message ends them.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let length = word(bytes, 0) as usize;
        if length < HEADER_BYTES || length > bytes.len() {
            return None;
        }
        let (message, _) = bytes.split_at(length);
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        Some(message)
    })
}
