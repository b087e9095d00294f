//! Messages with descriptors over a unix socket (SCM_RIGHTS of unix(7)), made for SOCK_SEQPACKET: one call, one message.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    recvmsg, sendmsg, sendmsg_addr, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
};

/// The most descriptors one message carries.
pub const MAX_DESCRIPTORS: usize = 16;

/// One message has been queued whole, with its descriptors; the caller keeps its own copies. A closed peer is EPIPE,
/// never SIGPIPE.
///
/// # Errors
/// EINVAL above [`MAX_DESCRIPTORS`], EPIPE or ECONNRESET if the peer has gone, EMSGSIZE, EAGAIN on a full
/// non-blocking socket.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    if fds.len() > MAX_DESCRIPTORS {
        return Err(Errno::INVAL);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    loop {
        match sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == bytes.len() => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// A message of nothing but these descriptors has been queued at `address`, for a datagram socket.
///
/// # Errors
/// As [`send`].
pub fn send_to(socket: impl AsFd, address: &SocketAddrUnix, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if fds.len() > MAX_DESCRIPTORS || !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let parts = [IoSlice::new(b"")];
    sendmsg_addr(socket.as_fd(), address, &parts, &mut ancillary, SendFlags::NOSIGNAL).map(|_| ())
}

/// One message: (its length in `buffer`, its descriptors, all CLOEXEC). Length 0 means that the peer has closed.
///
/// # Errors
/// EMSGSIZE if the message or its descriptors did not fit (they are closed again), EAGAIN on an empty non-blocking
/// socket, ECONNRESET.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg(socket.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            answer => break answer?,
        }
    };
    let mut fds = Vec::new();
    for item in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = item {
            fds.extend(received);
        }
    }
    // A cut message must not pass for a whole one; `fds` is dropped, so that nothing leaks.
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok((message.bytes, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{socketpair, AddressFamily, SocketFlags, SocketType};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a socket pair")
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (left, right) = pair();
        let (read_end, write_end) = rustix::pipe::pipe().expect("a pipe");
        send(&left, b"hello", &[write_end.as_fd()]).expect("sent");
        drop(write_end);
        let mut buffer = [0; 16];
        let (length, fds) = receive(&right, &mut buffer).expect("received");
        assert_eq!((&buffer[..length], fds.len()), (&b"hello"[..], 1));
        assert!(rustix::io::fcntl_getfd(&fds[0]).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
        rustix::io::write(&fds[0], b"!").expect("written through the passed end");
        assert_eq!(rustix::io::read(&read_end, &mut buffer).expect("read"), 1);
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error_and_not_a_short_one() {
        let (left, right) = pair();
        send(&left, b"0123456789", &[]).expect("sent");
        assert_eq!(receive(&right, &mut [0; 4]).expect_err("too long"), Errno::MSGSIZE);
    }

    #[test]
    fn a_closed_peer_reads_as_length_zero_and_writes_as_epipe() {
        let (left, right) = pair();
        drop(right);
        assert_eq!(send(&left, b"x", &[]), Err(Errno::PIPE));
        assert_eq!(receive(&left, &mut [0; 4]).expect("end").0, 0);
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (left, _right) = pair();
        let many = vec![left.as_fd(); MAX_DESCRIPTORS + 1];
        assert_eq!(send(&left, b"x", &many), Err(Errno::INVAL));
    }
}
