//! The threads that drive connections: one for each registry, so that none waits for what another one sends.
//!
//! An HTTP/1 reader works through whatever comes, and a chunk size may be written with zeros without end: no byte of it
//! is data, and each is looked at. Limits of time end such a transfer; until then it keeps one thread busy, its own.

use std::sync::{Arc, Mutex, PoisonError};

use errors::IoError;
use tokio::runtime::{Builder, Runtime};

use crate::RegistryError;

/// For how many registries threads are kept; beyond that the least recently asked one that nobody waits for goes.
pub const RUNTIMES_MAX_COUNT: usize = 16;
/// Threads for name look-ups of one registry, which block.
const LOOKUP_THREADS: usize = 4;

/// One runtime for each registry that was asked lately, the least recently asked first.
#[derive(Debug, Default)]
pub(crate) struct Runtimes {
    known: Mutex<Vec<(String, Arc<Runtime>)>>,
}

impl Runtimes {
    /// The runtime of a registry, made where there is none. While more than [`RUNTIMES_MAX_COUNT`] registries are asked
    /// at once, some share one. Blocks for the start of a thread.
    ///
    /// # Errors
    /// `IO_FAILED` if no thread can be started.
    pub fn get(&self, registry: &str) -> Result<Arc<Runtime>, RegistryError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = known.iter().position(|(name, _)| name == registry) {
            let found = known.remove(at);
            let runtime = Arc::clone(&found.1);
            known.push(found);
            return Ok(runtime);
        }
        if known.len() >= RUNTIMES_MAX_COUNT {
            // Clones are made under this lock only, so that a count of one stays one.
            match known.iter().position(|(_, runtime)| Arc::strong_count(runtime) == 1) {
                Some(idle) => end(known.remove(idle).1),
                None => {
                    let shared = known.remove(0);
                    let runtime = Arc::clone(&shared.1);
                    known.push(shared);
                    return Ok(runtime);
                }
            }
        }
        let runtime = Arc::new(start()?);
        known.push((registry.to_owned(), Arc::clone(&runtime)));
        Ok(runtime)
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        let known = self.known.get_mut().unwrap_or_else(PoisonError::into_inner);
        known.drain(..).for_each(|(_, runtime)| end(runtime));
    }
}

fn start() -> Result<Runtime, RegistryError> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(LOOKUP_THREADS)
        .thread_name("fluyt-registry")
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| IoError::from_std("clone", "", &error).into())
}

/// Ends the threads without waiting for them, unless somebody still uses the runtime and so ends it later.
fn end(runtime: Arc<Runtime>) {
    if let Some(last) = Arc::into_inner(runtime) {
        last.shutdown_background();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_has_its_own_thread_as_long_as_there_are_few() {
        let runtimes = Runtimes::default();
        let first = runtimes.get("a").unwrap();
        assert!(Arc::ptr_eq(&first, &runtimes.get("a").unwrap()));
        assert!(!Arc::ptr_eq(&first, &runtimes.get("b").unwrap()));
    }

    #[test]
    fn runtimes_are_bounded_and_those_in_use_stay() {
        let runtimes = Runtimes::default();
        let held: Vec<_> =
            (0..RUNTIMES_MAX_COUNT - 1).map(|n| runtimes.get(&n.to_string()).unwrap()).collect();
        for n in 0..3 * RUNTIMES_MAX_COUNT {
            runtimes.get(&format!("idle {n}")).unwrap();
            assert!(runtimes.known.lock().unwrap().len() <= RUNTIMES_MAX_COUNT);
        }
        for (n, runtime) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(runtime, &runtimes.get(&n.to_string()).unwrap()));
        }
        let last = runtimes.get("last").unwrap();
        // All are in use: another registry rides along with one of them.
        let shared = runtimes.get("one too many").unwrap();
        assert!(held.iter().chain([&last]).any(|runtime| Arc::ptr_eq(runtime, &shared)));
    }
}
