//! Sending and receiving messages with a peer that runs as root or as the same user.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::wire;

/// Whether the process at the other end may give orders or answers: root, or the user that this process runs as.
pub fn is_trusted(socket: impl AsFd) -> Result<bool, Errno> {
    let uid = rustix::net::sockopt::socket_peercred(socket)?.uid;
    Ok(uid.is_root() || uid == rustix::process::geteuid())
}

/// Sends one message with its descriptors.
///
/// # Errors
/// The sendmsg(2) error; EMSGSIZE if it exceeds [`wire::MAX_MESSAGE_BYTES`].
pub fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = wire::encode(message).map_err(|_| Errno::MSGSIZE)?;
    sys::fd_passing::send(socket, &bytes, fds)
}

/// Receives one message with its descriptors; None once the peer has closed.
///
/// # Errors
/// The recvmsg(2) error, EAGAIN on a non-blocking socket without news; EBADMSG if it is no message.
pub fn receive<T: for<'a> Deserialize<'a>>(socket: impl AsFd) -> Result<Option<(T, Vec<OwnedFd>)>, Errno> {
    let mut buffer = [0; wire::MAX_MESSAGE_BYTES];
    let (length, fds) = match sys::fd_passing::receive(&socket, &mut buffer) {
        // The peer has gone with messages of ours unread. The kernel tells that before it hands out what the peer
        // had sent, and tells it once.
        Err(Errno::CONNRESET) => match sys::fd_passing::receive(&socket, &mut buffer) {
            Err(Errno::CONNRESET) => return Ok(None),
            answer => answer?,
        },
        answer => answer?,
    };
    if length == 0 {
        return Ok(None);
    }
    let message = wire::decode(&buffer[..length]).map_err(|_| Errno::BADMSG)?;
    Ok(Some((message, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use rustix::net::{socketpair, AddressFamily, SocketFlags, SocketType};

    #[test]
    fn what_a_peer_said_before_it_went_is_received_though_it_left_messages_unread() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        send(&ours, &Request::CloseStdin, &[]).unwrap();
        send(&theirs, &Request::HoldLog { segment: Some(1) }, &[]).unwrap();
        drop(theirs);
        let (message, _) = receive::<Request>(&ours).unwrap().expect("the last words");
        assert_eq!(message, Request::HoldLog { segment: Some(1) });
        assert!(receive::<Request>(&ours).unwrap().is_none());
    }
}
