//! Making a group: its directories, its limits, its devices; or nothing at all.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{mkdirat, openat, unlinkat, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sys::failpoint;

use crate::device_program;
use crate::files::{self, io};
use crate::group::Member;
use crate::prepare::fill_cpuset;
use crate::{
    CgroupError, CgroupHost, CheckedLimits, Clamp, CurrentMemory, DeviceAccess, DeviceControl, DeviceRule,
    Group, IfAbsent, Limits, Mode as HostMode, PlannedWrite, Report, Version, DEFAULT_DEVICE_RULES,
    MAX_DEVICE_RULES,
};

const GROUP_MODE: Mode = Mode::from_raw_mode(0o755);

/// v1 controllers whose hierarchies always get a group of ours: three that limits need from the first moment on or
/// may need later, and devices.
const ALWAYS: [&str; 4] = ["memory", "pids", "cpu", "devices"];
/// These where a limit needs them, at the start or in an update.
pub(crate) const ON_DEMAND: [&str; 3] = ["cpuset", "blkio", "hugetlb"];
/// These besides, on a host without v2, which otherwise freezes and counts.
const WITHOUT_UNIFIED: [&str; 2] = ["freezer", "cpuacct"];

impl CgroupHost {
    /// The group `<parent>/<name>` exists in each hierarchy it needs, has `limits`, and may use
    /// the devices of `access` only. An empty group of that name, left by a crash, is replaced. On failure
    /// nothing is left of it. Blocking (0.3 ms).
    ///
    /// # Errors
    /// [`CgroupError::FieldInvalid`] before anything is made; [`CgroupError::ControllerMissing`];
    /// [`CgroupError::LimitRejected`] when the kernel refuses a value; [`CgroupError::Busy`] if a group of that name
    /// has processes.
    pub fn create(
        &self,
        parent: &str,
        name: &str,
        limits: &Limits,
        access: &DeviceAccess,
    ) -> Result<Group, CgroupError> {
        let checked = limits.check()?;
        if matches!(access, DeviceAccess::Default(rules) if rules.len() > MAX_DEVICE_RULES) {
            let rule = format!("are at most {MAX_DEVICE_RULES} (MAX_DEVICE_RULES)");
            return Err(CgroupError::FieldInvalid { field: "devices", rule });
        }
        let writes = crate::plan(&checked, self.layout(), CurrentMemory::UNLIMITED)?;
        let mut group = Group {
            name: name.to_owned(),
            members: Vec::new(),
            report: Report { clamps: Vec::new(), devices: DeviceControl::NotEnforced },
        };
        let made = self.fill(&mut group, parent, &checked, &writes, access);
        if made.is_err() {
            for member in group.members.iter().rev() {
                // The first error is the one that tells; what cannot be undone is found by the next recovery.
                let _ = unlinkat(member.parent.as_fd(), name, AtFlags::REMOVEDIR);
            }
        }
        made.map(|()| group)
    }

    fn fill(
        &self,
        group: &mut Group,
        parent: &str,
        checked: &CheckedLimits,
        writes: &[PlannedWrite],
        access: &DeviceAccess,
    ) -> Result<(), CgroupError> {
        for index in self.wanted(checked) {
            let member = self.make_directory(parent, &group.name, index)?;
            group.members.push(member);
            failpoint::hit("cgroup.made");
        }
        for member in &group.members {
            if member.version == Version::V1 && self.layout().hierarchies()[member.hierarchy].has("cpuset") {
                let parent = member.parent.as_fd();
                fill_cpuset(parent, parent, Path::new(&group.name), &member.path)?;
            }
        }
        for planned in writes {
            let Some(member) = group.members.iter().find(|member| member.hierarchy == planned.hierarchy)
            else {
                continue;
            };
            if planned.write.limit == "cpu_real_time_runtime_micros" {
                self.lift_real_time(parent, planned);
            }
            let clamp = apply(member, &group.name, planned)?;
            group.report.clamps.extend(clamp);
        }
        group.report.devices = self.control_devices(group, access)?;
        if group.report.devices == DeviceControl::NotEnforced {
            let (limit, requested) = ("devices", "the default devices".to_owned());
            let (given, reason) = ("nodes of /dev", "no program that judges devices can be installed");
            group.report.clamps.push(Clamp { limit, requested, given, reason });
        }
        failpoint::hit("cgroup.limited");
        Ok(())
    }

    /// The hierarchies in which a group is made.
    fn wanted(&self, limits: &CheckedLimits) -> Vec<usize> {
        let is_v1_only = self.layout().mode() == HostMode::V1;
        self.layout()
            .hierarchies()
            .iter()
            .enumerate()
            .filter(|(_, hierarchy)| {
                let has_any = |names: &[&str]| names.iter().any(|name| hierarchy.has(name));
                hierarchy.version == Version::V2
                    || has_any(&ALWAYS)
                    || (is_v1_only && has_any(&WITHOUT_UNIFIED))
                    || ON_DEMAND.iter().any(|name| limits.needs(name) && hierarchy.has(name))
            })
            .map(|(index, _)| index)
            .collect()
    }

    pub(crate) fn make_directory(
        &self,
        parent: &str,
        name: &str,
        index: usize,
    ) -> Result<Member, CgroupError> {
        let path = self.path_in(index, parent, name)?;
        let mut directory = self.parent(parent, index)?;
        let mut is_retried = false;
        loop {
            match mkdirat(directory.as_fd(), name, GROUP_MODE) {
                Ok(()) => break,
                // Somebody removed the parent since it was prepared.
                Err(Errno::NOENT) if !is_retried => {
                    self.forget_parent(parent, index)?;
                    directory = self.parent(parent, index)?;
                }
                Err(Errno::EXIST) if !is_retried => {
                    match unlinkat(directory.as_fd(), name, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(Errno::BUSY) => return Err(CgroupError::Busy { path }),
                        Err(errno) => return Err(io("unlinkat", &path, errno)),
                    }
                }
                Err(errno) => return Err(io("mkdirat", &path, errno)),
            }
            is_retried = true;
        }
        Ok(Member { hierarchy: index, version: self.version(index), parent: directory, path })
    }

    fn control_devices(&self, group: &Group, access: &DeviceAccess) -> Result<DeviceControl, CgroupError> {
        let DeviceAccess::Default(further) = access else {
            return Ok(DeviceControl::Unrestricted);
        };
        let home = self.layout().home("devices");
        let Some(member) = group.members.iter().find(|member| Some(member.hierarchy) == home) else {
            return judge_devices(group, further);
        };
        let below = Path::new(&group.name);
        let rejected = |file: &str, value: &str, errno: Errno| CgroupError::LimitRejected {
            file: member.path.join(file),
            value: value.to_owned(),
            errno: errno.raw_os_error(),
        };
        files::write(member.parent.as_fd(), &below.join("devices.deny"), "a")
            .map_err(|errno| rejected("devices.deny", "a", errno))?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let allow = openat(member.parent.as_fd(), below.join("devices.allow"), flags, Mode::empty())
            .map_err(|errno| rejected("devices.allow", "", errno))?;
        let write = |rule: &str| {
            files::write_open(allow.as_fd(), rule).map_err(|errno| rejected("devices.allow", rule, errno))
        };
        DEFAULT_DEVICE_RULES.into_iter().try_for_each(write)?;
        further.iter().try_for_each(|rule| write(&rule.to_string()))?;
        Ok(DeviceControl::Enforced)
    }
}

/// A program judges the uses of devices, as the v2 tree has no file for that.
fn judge_devices(group: &Group, further: &[DeviceRule]) -> Result<DeviceControl, CgroupError> {
    let Some(member) = group.members.iter().find(|member| member.version == Version::V2) else {
        return Ok(DeviceControl::NotEnforced);
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(member.parent.as_fd(), &group.name, flags, Mode::empty())
        .map_err(|errno| io("openat", &member.path, errno))?;
    let default: Vec<DeviceRule> = DEFAULT_DEVICE_RULES.iter().filter_map(|rule| rule.parse().ok()).collect();
    debug_assert_eq!(default.len(), DEFAULT_DEVICE_RULES.len());
    let program = device_program::program(default.iter().chain(further));
    match sys::cgroup_device::install(directory.as_fd(), &program) {
        Ok(()) => Ok(DeviceControl::Enforced),
        // A kernel without such programs, or a daemon without rights on the host.
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM | Errno::OPNOTSUPP) => Ok(DeviceControl::NotEnforced),
        Err(errno) => Err(io("bpf", &member.path, errno)),
    }
}

/// Sets one limit; answers with a clamp if the host has switched it off.
pub(crate) fn apply(
    member: &Member,
    name: &str,
    planned: &PlannedWrite,
) -> Result<Option<Clamp>, CgroupError> {
    let write = &planned.write;
    let errno = match files::write(member.parent.as_fd(), &Path::new(name).join(write.file), &write.value) {
        Ok(()) => return Ok(None),
        Err(errno) => errno,
    };
    // EOPNOTSUPP is v1's answer where swap is not accounted for and the file is there all the same.
    let is_absent = matches!(errno, Errno::NOENT | Errno::OPNOTSUPP);
    match write.if_absent {
        IfAbsent::Clamp { given, reason } if is_absent => {
            Ok(Some(Clamp { limit: write.limit, requested: write.value.clone(), given, reason }))
        }
        IfAbsent::Unsupported(controller) if is_absent => {
            Err(CgroupError::ControllerMissing { controller, limit: write.limit })
        }
        _ => Err(CgroupError::LimitRejected {
            file: member.path.join(write.file),
            value: write.value.clone(),
            errno: errno.raw_os_error(),
        }),
    }
}
