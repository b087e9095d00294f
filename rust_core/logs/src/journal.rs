//! A container's output in the host's journal, line by line, beside the log of files.
//!
//! The journal is told by its native protocol: a datagram of fields, or a sealed memory file where that is too large.
//! Source: systemd, "Native Journal Protocol" (JOURNAL_NATIVE_PROTOCOL.md).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use errors::IoError;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::format::{Stream, STREAMS};

/// A line up to this length is one entry; a longer one comes in pieces, all but the last marked as partial.
pub const MAX_ENTRY_BYTES: usize = 48 * 1024;
/// How long the journal may keep the container's output waiting before a line is dropped and counted.
pub const MAX_WAIT_MILLIS: u32 = 100;

/// Where entries go and what each of them says besides its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSpec {
    /// Path of the journal's socket.
    pub socket_path: PathBuf,
    /// Field names and values; a name is upper case letters, digits and `_`, and does not begin with `_`.
    pub fields: Vec<(String, String)>,
}

/// Sends lines of two streams. It never fails the container: what the journal does not take is counted.
#[derive(Debug)]
pub struct JournalWriter {
    socket: OwnedFd,
    address: SocketAddrUnix,
    /// What each entry says, encoded.
    fields: Vec<u8>,
    lines: [Vec<u8>; 2],
    dropped_bytes: u64,
}

impl JournalWriter {
    /// A writer that has sent nothing yet; whether anybody listens is found out by each line.
    ///
    /// # Errors
    /// The socket(2) error; ENAMETOOLONG for a path that no socket can have.
    pub fn new(spec: &JournalSpec) -> Result<Self, IoError> {
        let path: &Path = &spec.socket_path;
        let fail = |operation| move |errno: Errno| IoError::new(operation, path, errno.raw_os_error());
        let address = SocketAddrUnix::new(path).map_err(fail("socket"))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(fail("socket"))?;
        let mut fields = Vec::new();
        for (name, value) in &spec.fields {
            add_field(&mut fields, name, value.as_bytes());
        }
        Ok(Self { socket, address, fields, lines: Default::default(), dropped_bytes: 0 })
    }

    /// Bytes of lines that the journal did not take.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Takes over a chunk of a stream: each line that it ends is an entry.
    pub fn write(&mut self, stream: Stream, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            let room = MAX_ENTRY_BYTES - self.lines[stream.index()].len();
            let newline = memchr::memchr(b'\n', &chunk[..chunk.len().min(room + 1)]);
            let taken = newline.unwrap_or(chunk.len().min(room));
            self.lines[stream.index()].extend_from_slice(&chunk[..taken]);
            chunk = &chunk[taken + usize::from(newline.is_some())..];
            if newline.is_some() || self.lines[stream.index()].len() == MAX_ENTRY_BYTES {
                self.end_line(stream, newline.is_none());
            }
        }
    }

    /// What the process wrote without a newline at its end is sent too.
    pub fn finish(&mut self) {
        for stream in STREAMS {
            if !self.lines[stream.index()].is_empty() {
                self.end_line(stream, false);
            }
        }
    }

    fn end_line(&mut self, stream: Stream, is_partial: bool) {
        let line = std::mem::take(&mut self.lines[stream.index()]);
        let mut entry = Vec::with_capacity(self.fields.len() + line.len() + 64);
        add_field(&mut entry, "MESSAGE", &line);
        // Source: syslog(3): 3 is an error, 6 is for information.
        add_field(&mut entry, "PRIORITY", if stream == Stream::Stderr { b"3" } else { b"6" });
        if is_partial {
            add_field(&mut entry, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        entry.extend_from_slice(&self.fields);
        if self.send(&entry).is_err() {
            self.dropped_bytes += line.len() as u64;
        }
    }

    fn send(&self, entry: &[u8]) -> Result<(), Errno> {
        match self.send_datagram(entry) {
            // More than a datagram holds: the journal reads it from a file that cannot change any more.
            Err(Errno::MSGSIZE | Errno::NOBUFS) => {
                let file = sys::memfd::seal("journal-entry", entry)
                    .map_err(|error| Errno::from_raw_os_error(error.errno))?;
                self.retried(|| sys::fd_passing::send_to(&self.socket, &self.address, &[file.as_fd()]))
            }
            answer => answer,
        }
    }

    fn send_datagram(&self, entry: &[u8]) -> Result<(), Errno> {
        self.retried(|| {
            let flags = rustix::net::SendFlags::NOSIGNAL;
            rustix::net::sendto(&self.socket, entry, flags, &self.address).map(|_| ())
        })
    }

    /// Once more if the journal's queue was full and has room within the time that it is given.
    fn retried(&self, send: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
        match send() {
            Err(Errno::AGAIN) => {
                let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(MAX_WAIT_MILLIS) * 1_000_000 };
                let mut room = [PollFd::new(&self.socket, PollFlags::OUT)];
                poll(&mut room, Some(&wait))?;
                send()
            }
            Err(Errno::INTR) => send(),
            answer => answer,
        }
    }
}

/// `NAME`, the length of the value in 8 bytes, the value: a form that any bytes fit.
fn add_field(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn parse(mut entry: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut fields = BTreeMap::new();
        while let Some(end) = memchr::memchr(b'\n', entry) {
            let name = String::from_utf8(entry[..end].to_vec()).unwrap();
            let (length, rest) = entry[end + 1..].split_at(8);
            let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
            assert_eq!(rest[length], b'\n');
            fields.insert(name, rest[..length].to_vec());
            entry = &rest[length + 1..];
        }
        fields
    }

    fn journal(dir: &Path) -> (UnixDatagram, JournalWriter) {
        let path = dir.join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let fields = vec![("CONTAINER_NAME".to_owned(), "web".to_owned())];
        (socket, JournalWriter::new(&JournalSpec { socket_path: path, fields }).unwrap())
    }

    fn take(socket: &UnixDatagram) -> Option<BTreeMap<String, Vec<u8>>> {
        let mut buffer = vec![0; 256 * 1024];
        socket.recv(&mut buffer).ok().map(|count| parse(&buffer[..count]))
    }

    #[test]
    fn each_line_is_an_entry_with_all_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, mut writer) = journal(dir.path());
        writer.write(Stream::Stdout, b"one\ntw");
        writer.write(Stream::Stderr, b"\xff\0\n");
        writer.write(Stream::Stdout, b"o\nthree");
        let entries: Vec<_> = std::iter::from_fn(|| take(&socket)).collect();
        let told: Vec<_> = entries.iter().map(|e| (&e["MESSAGE"][..], &e["PRIORITY"][..])).collect();
        assert_eq!(told, [(&b"one"[..], &b"6"[..]), (b"\xff\0", b"3"), (b"two", b"6")]);
        assert_eq!(entries[0]["CONTAINER_NAME"], b"web");
        writer.finish();
        assert_eq!(take(&socket).unwrap()["MESSAGE"], b"three");
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, mut writer) = journal(dir.path());
        writer.write(Stream::Stdout, &vec![b'x'; MAX_ENTRY_BYTES + 5]);
        writer.write(Stream::Stdout, b"\n");
        let (first, last) = (take(&socket).unwrap(), take(&socket).unwrap());
        assert_eq!((first["MESSAGE"].len(), last["MESSAGE"].len()), (MAX_ENTRY_BYTES, 5));
        assert!(
            first.contains_key("CONTAINER_PARTIAL_MESSAGE")
                && !last.contains_key("CONTAINER_PARTIAL_MESSAGE")
        );
    }

    #[test]
    fn what_no_datagram_holds_comes_as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, mut writer) = journal(dir.path());
        rustix::net::sockopt::set_socket_send_buffer_size(&writer.socket, 4096).unwrap();
        let line = vec![b'x'; 40 * 1024];
        writer.write(Stream::Stdout, &[&line[..], b"\n"].concat());
        let (count, fds) = sys::fd_passing::receive(&socket, &mut [0; 64]).unwrap();
        assert_eq!((count, fds.len(), writer.dropped_bytes()), (0, 1, 0));
        let file = fds.into_iter().next().unwrap();
        assert_eq!(parse(&sys::memfd::read_sealed(file, 1 << 20).unwrap())["MESSAGE"], line);
    }

    #[test]
    fn what_nobody_takes_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (socket, mut writer) = journal(dir.path());
        drop(socket);
        writer.write(Stream::Stdout, b"lost\n");
        assert_eq!(writer.dropped_bytes(), 4);
    }
}
