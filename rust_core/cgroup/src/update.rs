//! New limits for a group whose processes run.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;
use sys::failpoint;

use crate::block_io;
use crate::create::{apply, ON_DEMAND};
use crate::files::{self, io};
use crate::group::Member;
use crate::prepare::fill_cpuset;
use crate::{
    Amount, CgroupError, CgroupHost, Clamp, CurrentMemory, IfAbsent, Limits, PlannedWrite, Version, Write,
};

/// How often processes that fork while they are moved into a new cpuset are chased.
const MAX_MOVE_ROUNDS: u32 = 100;

impl CgroupHost {
    /// The group has `limits`, which are all the limits it shall have, not a difference: memory without swap is
    /// again twice the memory. What they leave unset stays as it is. Growing and shrinking both work. Blocking.
    ///
    /// All or nothing: when the kernel refuses one value (memory below what is in use, for example), those before it
    /// are set back, last first, so that each step is one that the kernel has taken before.
    ///
    /// # Errors
    /// As in [`CgroupHost::create`]; [`CgroupError::Io`] with ENOENT if the group is absent.
    pub fn update(&self, parent: &str, name: &str, limits: &Limits) -> Result<Vec<Clamp>, CgroupError> {
        let checked = limits.check()?;
        let writes = crate::plan(&checked, self.layout(), self.current_memory(parent, name)?)?;
        let mut clamps = Vec::new();
        let mut before = Vec::new();
        for planned in &writes {
            match self.change(parent, name, planned, &mut before) {
                Ok(clamp) => clamps.extend(clamp),
                Err(error) => {
                    set_back(name, &before)?;
                    return Err(error);
                }
            }
        }
        Ok(clamps)
    }

    /// Carries out one write; what the file said before is added to `before`.
    fn change(
        &self,
        parent: &str,
        name: &str,
        planned: &PlannedWrite,
        before: &mut Vec<(Member, PlannedWrite)>,
    ) -> Result<Option<Clamp>, CgroupError> {
        failpoint::hit("cgroup.update");
        let index = planned.hierarchy;
        let path = self.path_in(index, parent, name)?;
        let is_late = self.version(index) == Version::V1
            && ON_DEMAND.iter().any(|name| self.layout().hierarchies()[index].has(name))
            && !path.exists();
        let member = if is_late {
            self.make_late(parent, name, index)?
        } else {
            Member {
                hierarchy: index,
                version: self.version(index),
                parent: self.parent(parent, index)?,
                path: path.clone(),
            }
        };
        if planned.write.limit == "cpu_real_time_runtime_micros" {
            self.lift_real_time(parent, planned);
        }
        let file = Path::new(name).join(planned.write.file);
        // What cannot be read cannot be written either, and the write tells why.
        let said = files::read(member.parent.as_fd(), &file).ok();
        let clamp = apply(&member, name, planned)?;
        if let Some(text) = said {
            let if_absent = IfAbsent::Clamp { given: "", reason: "" };
            let write = Write { value: before_of(&planned.write, &text), if_absent, ..planned.write.clone() };
            before.push((member.clone(), PlannedWrite { hierarchy: index, write }));
        }
        if is_late {
            self.move_into(parent, name, &member)?;
        }
        Ok(clamp)
    }

    fn current_memory(&self, parent: &str, name: &str) -> Result<CurrentMemory, CgroupError> {
        let Some(index) = self.layout().home("memory").filter(|index| self.version(*index) == Version::V1)
        else {
            return Ok(CurrentMemory::UNLIMITED);
        };
        let path = self.path_in(index, parent, name)?;
        let directory = files::directory(&path).map_err(|errno| io("open", &path, errno))?;
        let amount = |file: &str| match files::read(directory.as_fd(), Path::new(file)) {
            // Without a limit the kernel shows the largest number of bytes that is whole pages.
            Ok(text) => Ok(match text.trim().parse() {
                Ok(bytes) if bytes < (1_u64 << 62) => Amount::Limited(bytes),
                _ => Amount::Unlimited,
            }),
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(Amount::Unlimited),
            Err(errno) => Err(io("read", &path.join(file), errno)),
        };
        Ok(CurrentMemory {
            memory: amount("memory.limit_in_bytes")?,
            memory_and_swap: amount("memory.memsw.limit_in_bytes")?,
        })
    }

    /// The v1 group, of a controller that is made on demand, of a container that was started without one.
    fn make_late(&self, parent: &str, name: &str, index: usize) -> Result<Member, CgroupError> {
        let member = self.make_directory(parent, name, index)?;
        if self.layout().hierarchies()[index].has("cpuset") {
            let directory = member.parent.as_fd();
            fill_cpuset(directory, directory, Path::new(name), &member.path)?;
        }
        Ok(member)
    }

    /// Every process of the group is also in `member`.
    fn move_into(&self, parent: &str, name: &str, member: &Member) -> Result<(), CgroupError> {
        let Some(from) = self.layout().home("pids").or_else(|| self.layout().home("memory")) else {
            return Ok(());
        };
        let from = self.path_in(from, parent, name)?;
        let procs = Path::new("cgroup.procs");
        let read = |path: &Path| {
            let directory = files::directory(path).map_err(|errno| io("open", path, errno))?;
            files::read(directory.as_fd(), procs).map_err(|errno| io("read", &path.join(procs), errno))
        };
        for _ in 0..MAX_MOVE_ROUNDS {
            let there = read(&member.path)?;
            let missing: Vec<String> = read(&from)?
                .lines()
                .filter(|pid| !there.lines().any(|other| other == *pid))
                .map(str::to_owned)
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            for pid in missing {
                match files::write(member.parent.as_fd(), &Path::new(name).join(procs), &pid) {
                    // It ended meanwhile.
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => return Err(io("write", &member.path.join(procs), errno)),
                }
            }
        }
        Err(CgroupError::Busy { path: member.path.clone() })
    }
}

/// What makes a file say again what it says now.
fn before_of(write: &Write, text: &str) -> String {
    match (&write.key, write.file) {
        (Some(key), file) => block_io::line_of(file, key, text),
        (None, "memory.oom_control") => {
            let is_disabled = files::value_of(text, "oom_kill_disable").unwrap_or(0);
            is_disabled.to_string()
        }
        // The weight of the group stands before those of devices.
        (None, "io.weight") => text.lines().next().unwrap_or_default().to_owned(),
        _ => text.trim_end().to_owned(),
    }
}

/// Every file says again what it said before, the last one changed first.
fn set_back(name: &str, before: &[(Member, PlannedWrite)]) -> Result<(), CgroupError> {
    for (member, planned) in before.iter().rev() {
        let mut planned = planned.clone();
        if planned.write.value.is_empty() {
            // An empty list is written as an empty line: a write of no bytes never reaches the kernel.
            planned.write.value.push('\n');
        }
        apply(member, name, &planned)?;
    }
    Ok(())
}
