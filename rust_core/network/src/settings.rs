//! Kernel settings of the host's namespace that networks of containers need. They stay when the engine goes.

use std::path::Path;

use errors::IoError;
use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;

use crate::error::NetworkError;

/// Where the settings stand.
const ROOT: &str = "/proc/sys/net";

/// Packets are forwarded between the bridge and the host's other links, and what the host sends from 127.0.0.1 to a
/// published port may leave by the bridge. Idempotent.
///
/// With IPv6, links that take their routes from router advertisements go on to do so, although the host forwards.
///
/// # Errors
/// `IO_FAILED`.
///
/// Source: kernel Documentation/networking/ip-sysctl.rst, `ip_forward`, `route_localnet`, `accept_ra`.
pub fn allow_forwarding(bridge: &str, has_ipv6: bool) -> Result<(), NetworkError> {
    set("ipv4/ip_forward", "1")?;
    set(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
    match set(&format!("ipv6/conf/{bridge}/accept_ra"), "0") {
        // A host without IPv6.
        Err(NetworkError::Io(error)) if error.errno == Errno::NOENT.raw_os_error() && !has_ipv6 => {
            return Ok(())
        }
        done => done?,
    }
    if has_ipv6 {
        keep_advertised_routes()?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

fn keep_advertised_routes() -> Result<(), NetworkError> {
    let path = format!("{ROOT}/ipv6/conf");
    let entries = std::fs::read_dir(&path).map_err(|error| IoError::from_std("open", &path, &error))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let key = format!("ipv6/conf/{name}/accept_ra");
        // 1 means: unless the host forwards.
        if get(&key).is_ok_and(|value| value == "1") {
            set(&key, "2")?;
        }
    }
    Ok(())
}

fn get(key: &str) -> Result<String, NetworkError> {
    let path = Path::new(ROOT).join(key);
    let text = std::fs::read_to_string(&path).map_err(|error| IoError::from_std("read", &path, &error))?;
    Ok(text.trim().to_owned())
}

fn set(key: &str, value: &str) -> Result<(), NetworkError> {
    if get(key)? == value {
        return Ok(());
    }
    let path = Path::new(ROOT).join(key);
    let fail = |operation| {
        move |errno: Errno| IoError::new(operation, Path::new(ROOT).join(key), errno.raw_os_error())
    };
    let file = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail("open"))?;
    rustix::io::write(&file, value.as_bytes()).map_err(fail("write"))?;
    Ok(())
}
