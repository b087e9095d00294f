//! Compiled seccomp filters, kept for the next start that needs the same.

use std::sync::{Arc, Mutex, PoisonError};

use process::seccomp::{compile, Profile, ProfileInvalid};

/// Compiled filters that are kept; of more, the one that was not used for longest goes.
pub const MAX_CACHED_FILTERS: usize = 16;

/// What a profile and the capabilities it depends on compile to.
#[derive(Debug)]
struct Cached {
    profile: Profile,
    capabilities: Vec<String>,
    filters: Arc<Vec<Vec<u8>>>,
}

impl Cached {
    fn is_of(&self, profile: &Profile, capabilities: &[String]) -> bool {
        self.profile == *profile && self.capabilities == capabilities
    }
}

/// The filters of late, by profile and capabilities. Shared between threads; none waits while another one compiles.
#[derive(Debug, Default)]
pub(crate) struct FilterCache {
    /// The one used last is the last.
    kept: Mutex<Vec<Cached>>,
}

impl FilterCache {
    /// The filters of the profile for a process that may have `capabilities`. Blocking where they are not kept
    /// (microseconds for the default profile, milliseconds for one of 256 KiB).
    ///
    /// # Errors
    /// As [`compile`].
    pub fn take(
        &self,
        profile: &Profile,
        capabilities: &[String],
    ) -> Result<Arc<Vec<Vec<u8>>>, ProfileInvalid> {
        self.take_or(profile, capabilities, compile)
    }

    fn take_or(
        &self,
        profile: &Profile,
        capabilities: &[String],
        compile: impl FnOnce(&Profile, &[String]) -> Result<Vec<Vec<u8>>, ProfileInvalid>,
    ) -> Result<Arc<Vec<Vec<u8>>>, ProfileInvalid> {
        if let Some(filters) = self.find(profile, capabilities) {
            return Ok(filters);
        }
        // Without the lock: a long profile of one caller holds up no start of another.
        let filters = Arc::new(compile(profile, capabilities)?);
        Ok(self.keep(profile, capabilities, filters))
    }

    fn find(&self, profile: &Profile, capabilities: &[String]) -> Option<Arc<Vec<Vec<u8>>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.iter().rposition(|cached| cached.is_of(profile, capabilities))?;
        let used = kept.remove(place);
        let filters = Arc::clone(&used.filters);
        kept.push(used);
        Some(filters)
    }

    /// They are kept; those of another thread, if it was first.
    fn keep(
        &self,
        profile: &Profile,
        capabilities: &[String],
        filters: Arc<Vec<Vec<u8>>>,
    ) -> Arc<Vec<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = kept.iter().find(|cached| cached.is_of(profile, capabilities)) {
            return Arc::clone(&first.filters);
        }
        if kept.len() == MAX_CACHED_FILTERS {
            kept.remove(0);
        }
        let (profile, capabilities) = (profile.clone(), capabilities.to_vec());
        kept.push(Cached { profile, capabilities, filters: Arc::clone(&filters) });
        filters
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Profiles that differ by nothing but a number.
    fn profile(number: usize) -> Profile {
        Profile::Json(format!("{{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"defaultErrnoRet\": {number}}}"))
    }

    /// Takes the filters of a profile, and tells whether they were compiled for that.
    fn is_compiled(cache: &FilterCache, number: usize, capabilities: &[String]) -> bool {
        let compiled = Cell::new(false);
        let filters = cache.take_or(&profile(number), capabilities, |profile, capabilities| {
            compiled.set(true);
            compile(profile, capabilities)
        });
        assert_eq!(*filters.unwrap(), compile(&profile(number), capabilities).unwrap());
        compiled.get()
    }

    #[test]
    fn the_same_profile_is_compiled_once_for_the_same_capabilities() {
        let cache = FilterCache::default();
        let capabilities = ["CHOWN".to_owned()];
        assert!(is_compiled(&cache, 1, &[]));
        assert!(!is_compiled(&cache, 1, &[]));
        assert!(is_compiled(&cache, 1, &capabilities));
        assert!(is_compiled(&cache, 2, &[]));
        assert!(!is_compiled(&cache, 1, &capabilities));
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let cache = FilterCache::default();
        for number in 0..MAX_CACHED_FILTERS {
            assert!(is_compiled(&cache, number, &[]));
        }
        // The oldest is used again, so that the second oldest has to go.
        assert!(!is_compiled(&cache, 0, &[]));
        assert!(is_compiled(&cache, MAX_CACHED_FILTERS, &[]));
        assert!(!is_compiled(&cache, 0, &[]));
        assert!(is_compiled(&cache, 1, &[]));
        assert_eq!(cache.kept.lock().unwrap().len(), MAX_CACHED_FILTERS);
    }

    #[test]
    fn a_profile_that_is_none_is_not_kept() {
        let cache = FilterCache::default();
        assert!(cache.take(&Profile::Json("{}".to_owned()), &[]).is_err());
        assert!(cache.kept.lock().unwrap().is_empty());
    }

    #[test]
    fn who_compiles_holds_up_nobody() {
        let cache = FilterCache::default();
        assert!(is_compiled(&cache, 1, &[]));
        std::thread::scope(|threads| {
            let (begun, has_begun) = mpsc::channel();
            let (go_on, may_go_on) = mpsc::channel::<()>();
            let slow = threads.spawn(|| {
                let compile_slowly = move |profile: &Profile, capabilities: &[String]| {
                    begun.send(()).unwrap();
                    may_go_on.recv_timeout(Duration::from_secs(30)).expect("others were served meanwhile");
                    compile(profile, capabilities)
                };
                cache.take_or(&profile(2), &[], compile_slowly).unwrap()
            });
            has_begun.recv().unwrap();
            assert!(!is_compiled(&cache, 1, &[]));
            // Of two that compile the same, one has the other's.
            let first = cache.take(&profile(2), &[]).unwrap();
            go_on.send(()).unwrap();
            assert!(Arc::ptr_eq(&first, &slow.join().unwrap()));
        });
    }
}
