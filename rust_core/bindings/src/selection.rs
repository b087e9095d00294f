//! What a copy takes of a tree, as Python holds it: looked for when it is needed, its digest remembered with the context.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use build::SelectionRequest;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::cancel::CancelToken;
use crate::error::raise;

const DIGEST_BYTES: usize = 32;

/// By what was asked for.
pub(crate) type Digests = Mutex<HashMap<[u8; DIGEST_BYTES], [u8; DIGEST_BYTES]>>;

/// Selections of one context whose digests are remembered; those of further ones are taken each time.
const MAX_REMEMBERED_SELECTIONS: usize = 256;

/// What a selection is asked for.
pub(crate) struct Wish {
    pub(crate) tree: Arc<dyn build::Tree>,
    pub(crate) matchers: Vec<Arc<::ignore::Matcher>>,
    pub(crate) pattern: Vec<u8>,
    pub(crate) is_required: bool,
    pub(crate) parents_pattern: Vec<u8>,
}

impl Wish {
    fn select(&self, is_cancelled: &dyn Fn() -> bool) -> Result<build::Selection, build::BuildError> {
        let request = SelectionRequest {
            pattern: &self.pattern,
            is_required: self.is_required,
            parents_pattern: &self.parents_pattern,
            is_excluded: &|path, _| {
                !self.matchers.is_empty() && {
                    let path = String::from_utf8_lossy(path);
                    self.matchers.iter().any(|matcher| matcher.excludes(&path))
                }
            },
            is_cancelled,
        };
        build::select(self.tree.as_ref(), &request)
    }

    /// Stands for what is asked of a tree, where nothing is left out.
    fn key(&self) -> [u8; DIGEST_BYTES] {
        let is_required = vec![u8::from(self.is_required)];
        build::key_of(&[self.pattern.clone(), self.parents_pattern.clone(), is_required])
    }
}

/// See the stub.
#[pyclass(frozen, module = "fluytd._core.build")]
pub(crate) struct Selection {
    wish: Wish,
    /// Looked for when it is needed, where its digest was known.
    found: OnceLock<build::Selection>,
    remembered: Option<(Arc<Digests>, [u8; DIGEST_BYTES])>,
}

impl Selection {
    /// What `wish` names; looked for only once its digest is not among those of its context. Blocking.
    pub(crate) fn new(
        wish: Wish,
        digests: Option<&Arc<Digests>>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, build::BuildError> {
        let remembered =
            digests.filter(|_| wish.matchers.is_empty()).map(|digests| (Arc::clone(digests), wish.key()));
        let selection = Self { wish, found: OnceLock::new(), remembered };
        // What was found once is found again: the tree is the same one.
        if selection.remembered_digest().is_none() {
            selection.get(is_cancelled)?;
        }
        Ok(selection)
    }

    pub(crate) fn get(
        &self,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<&build::Selection, build::BuildError> {
        if let Some(found) = self.found.get() {
            return Ok(found);
        }
        let found = self.wish.select(is_cancelled)?;
        Ok(self.found.get_or_init(|| found))
    }

    fn remembered_digest(&self) -> Option<[u8; DIGEST_BYTES]> {
        let (digests, key) = self.remembered.as_ref()?;
        digests.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn remember(&self, digest: [u8; DIGEST_BYTES]) {
        let Some((digests, key)) = &self.remembered else { return };
        let mut digests = digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() < MAX_REMEMBERED_SELECTIONS {
            digests.insert(*key, digest);
        }
    }
}

#[pymethods]
impl Selection {
    fn digest<'py>(&self, py: Python<'py>, cancel: &CancelToken) -> PyResult<Bound<'py, PyBytes>> {
        let digest = || {
            if let Some(digest) = self.remembered_digest() {
                return Ok(digest);
            }
            let is_cancelled = || cancel.inner.is_cancelled();
            let digest = self.get(&is_cancelled)?.digest(&is_cancelled)?;
            self.remember(digest);
            Ok::<_, build::BuildError>(digest)
        };
        Ok(PyBytes::new(py, &py.detach(digest).map_err(raise)?))
    }

    fn write(&self, py: Python<'_>, directory: &str, cancel: &CancelToken) -> PyResult<bool> {
        let is_cancelled = || cancel.inner.is_cancelled();
        let write = || build::materialise(self.get(&is_cancelled)?, Path::new(directory), &is_cancelled);
        py.detach(write).map_err(raise)
    }

    #[getter]
    fn is_found(&self) -> bool {
        self.found.get().is_some()
    }

    #[getter]
    fn entry_count(&self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| self.get(&|| false).map(build::Selection::entry_count)).map_err(raise)
    }

    #[getter]
    fn match_count(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| self.get(&|| false).map(build::Selection::match_count)).map_err(raise)
    }
}
