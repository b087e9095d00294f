//! All further processes of the container: the daemons' requests, and whom to tell what.

use std::os::fd::{AsFd, OwnedFd};

use control::spool::{SpoolWriter, MAX_FRAME_BYTES};
use control::wire::{self, MAX_EXECS, MAX_EXEC_ID_BYTES, MAX_PLAN_BYTES};
use errors::IoError;
use process::spec::{CgroupJoin, Ids};
use process::{ExecSpec, StartFailure, Starting, Stdio, Step};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::pipe::{pipe_with, PipeFlags};

use crate::exec::{Ends, Exec, Part};
use crate::exec_group::ExecGroup;

/// What all further processes need of the container.
pub struct Execs {
    all: Vec<Exec>,
    next_serial: u64,
    own: OwnedFd,
    cgroup: CgroupJoin,
    ids: Option<Ids>,
    /// The OOM score of a process that asks for none: what this program had before it lowered its own.
    oom_score_adj: i32,
    chunk: Box<[u8]>,
}

impl Execs {
    /// None yet. `cgroup`: the container's groups; `own`: pidfd of this program.
    pub fn new(own: OwnedFd, cgroup: CgroupJoin, ids: Option<Ids>, oom_score_adj: i32) -> Self {
        Self { all: Vec::new(), next_serial: 0, own, cgroup, ids, oom_score_adj, chunk: Box::default() }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Exec> {
        self.all.iter()
    }

    /// The one of an id.
    pub fn find(&mut self, id: &str) -> Option<&mut Exec> {
        self.all.iter_mut().find(|exec| exec.id == id)
    }

    /// The one of our own number.
    pub fn get(&mut self, serial: u64) -> Option<&mut Exec> {
        self.all.iter_mut().find(|exec| exec.serial == serial)
    }

    /// Whether there is a buffer to give back.
    pub fn has_buffers(&self) -> bool {
        !self.chunk.is_empty()
    }

    /// The next output takes a new buffer.
    pub fn release_buffers(&mut self) {
        self.chunk = Box::default();
    }

    /// A process is on its way; what comes of it is told later, a refusal too. A second request for an id changes
    /// nothing.
    pub fn begin(&mut self, init: BorrowedFd<'_>, id: String, plan: Option<OwnedFd>, open_stdin: bool) {
        if self.find(&id).is_some() {
            return;
        }
        let Ok(spool) = SpoolWriter::new() else { return };
        let mut ends = Ends::default();
        let mut group = None;
        let started = self.start(init, &id, plan, open_stdin, &mut group, &mut ends);
        if let (Err(_), Some(group)) = (&started, &group) {
            group.remove();
        }
        let mut exec = Exec::new(id, self.next_serial, started, ends, spool, open_stdin);
        exec.group = group;
        self.next_serial += 1;
        self.all.push(exec);
    }

    fn start(
        &self,
        init: BorrowedFd<'_>,
        id: &str,
        plan: Option<OwnedFd>,
        open_stdin: bool,
        group: &mut Option<ExecGroup>,
        ends: &mut Ends,
    ) -> Result<Starting, StartFailure> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if id.is_empty() || id.len() > MAX_EXEC_ID_BYTES || !id.bytes().all(is_name) {
            return Err(StartFailure::rule(Step::Spec, id, "not an id"));
        }
        if self.all.len() >= MAX_EXECS {
            let rule = format!("more than MAX_EXECS ({MAX_EXECS}) further processes");
            return Err(StartFailure::rule(Step::Spec, id, rule));
        }
        let mut spec = receive_spec(plan).map_err(|error| StartFailure {
            step: Step::Spec,
            errno: error.errno,
            path: error.path.to_string_lossy().into_owned(),
            detail: format!("the request cannot be read: {}", error.operation),
            exit_code: 125,
        })?;
        spec.oom_score_adj.get_or_insert(self.oom_score_adj);
        let fail = |what: &'static str| move |errno| StartFailure::kernel(Step::Stdio, what, errno);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(fail("pipe2"));
        let mut theirs: [Option<OwnedFd>; 3] = [None, None, None];
        if spec.terminal.is_none() {
            if open_stdin {
                let (read, write) = pipe()?;
                (theirs[0], ends.stdin) = (Some(read), Some(write));
            }
            for (their, our) in [(1, &mut ends.stdout), (2, &mut ends.stderr)] {
                let (read, write) = pipe()?;
                // The flag belongs to the reading end alone.
                rustix::io::ioctl_fionbio(&read, true).map_err(fail("ioctl(FIONBIO)"))?;
                (theirs[their], *our) = (Some(write), Some(read));
            }
        }
        sys::failpoint::hit("supervisor.exec_group");
        let mut cgroup = self.cgroup.clone();
        *group = ExecGroup::make(&mut cgroup, &format!("exec-{id}"))?;
        let stdio = Stdio {
            stdin: theirs[0].as_ref().map(AsFd::as_fd),
            stdout: theirs[1].as_ref().map(AsFd::as_fd),
            stderr: theirs[2].as_ref().map(AsFd::as_fd),
        };
        sys::failpoint::hit("supervisor.exec_process");
        let container = process::Container { init, own: self.own.as_fd(), cgroup: &cgroup, ids: self.ids };
        process::begin(&spec, container, stdio)
    }

    /// Something happened to a descriptor of a process; its number if that is to be told.
    pub fn serve(&mut self, serial: u64, part: Part) -> Option<u64> {
        let mut chunk = self.take_chunk();
        let is_news = self.get(serial).is_some_and(|exec| match part {
            Part::Start => exec.look(),
            Part::Process => exec.reap(&mut chunk),
            Part::Output(stream) => {
                exec.copy(stream, &mut chunk, false);
                false
            }
        });
        self.chunk = chunk;
        is_news.then_some(serial)
    }

    /// `connection` has read on, or reads no longer (a `position` of None); the process's number if its end is to be
    /// told now.
    pub fn take(&mut self, connection: u64, id: &str, position: Option<u64>) -> Option<u64> {
        let mut chunk = self.take_chunk();
        let ended = self.find(id).and_then(|exec| {
            exec.take(connection, position);
            exec.drain(&mut chunk, false).then_some(exec.serial)
        });
        self.chunk = chunk;
        ended
    }

    /// `connection` has gone. The numbers of those whose end is to be told now.
    pub fn leave(&mut self, connection: u64) -> Vec<u64> {
        let mut chunk = self.take_chunk();
        let mut ended = Vec::new();
        for exec in &mut self.all {
            exec.leave(connection);
            if exec.drain(&mut chunk, false) {
                ended.push(exec.serial);
            }
        }
        self.chunk = chunk;
        ended
    }

    /// Nothing of it is kept; one that runs is killed.
    pub fn forget(&mut self, id: &str) {
        if let Some(exec) = self.find(id).filter(|exec| !exec.is_over()) {
            exec.kill();
        }
        self.all.retain(|exec| exec.id != id || !exec.is_over());
    }

    /// The container has ended, and all of them with it. The numbers of those whose end is to be told now.
    pub fn end_all(&mut self) -> Vec<u64> {
        let mut chunk = self.take_chunk();
        let ended = self.all.iter_mut().filter_map(|exec| exec.end(&mut chunk).then_some(exec.serial));
        let ended = ended.collect();
        self.chunk = chunk;
        ended
    }

    fn take_chunk(&mut self) -> Box<[u8]> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            // Zeroed pages that nothing has touched take no memory.
            return vec![0; MAX_FRAME_BYTES].into_boxed_slice();
        }
        chunk
    }
}

fn receive_spec(plan: Option<OwnedFd>) -> Result<ExecSpec, IoError> {
    let malformed = || IoError::new("decode", "", Errno::BADMSG.raw_os_error());
    let bytes = sys::memfd::read_sealed(plan.ok_or_else(malformed)?, MAX_PLAN_BYTES)?;
    wire::decode(&bytes).map_err(|_| malformed())
}
