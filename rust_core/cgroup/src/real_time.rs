//! Real-time CPU time, which v1 hands out from the root: a group can give its children only what it has itself.

use std::os::fd::AsFd;
use std::path::Path;

use crate::files;
use crate::host::{check_parent, children};
use crate::{CgroupHost, PlannedWrite};

const RUNTIME: &str = "cpu.rt_runtime_us";

impl CgroupHost {
    /// The groups above have, as far as the kernel lets them, what all groups in `parent` have and one more is to get.
    ///
    /// Nothing is told of a failure: the kernel then refuses the write that this goes before, and says so there.
    pub(crate) fn lift_real_time(&self, parent: &str, planned: &PlannedWrite) {
        let (Ok(parent), Ok(wanted)) = (check_parent(parent), planned.write.value.parse::<i64>()) else {
            return;
        };
        let mount_point = self.mount_point(planned.hierarchy);
        let held = |path: &Path| -> i64 {
            let text =
                files::directory(path).and_then(|group| files::read(group.as_fd(), Path::new(RUNTIME)));
            text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        let base = mount_point.join(parent);
        let siblings: i64 =
            children(&base).unwrap_or_default().iter().map(|name| held(&base.join(name))).sum();
        let mut path = mount_point.to_path_buf();
        for component in parent.split('/') {
            path.push(component);
            let needed = siblings.saturating_add(wanted);
            if held(&path) < needed {
                if let Ok(group) = files::directory(&path) {
                    let _ = files::write(group.as_fd(), Path::new(RUNTIME), &needed.to_string());
                }
            }
        }
    }
}
