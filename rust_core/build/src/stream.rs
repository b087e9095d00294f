//! A draft as the tar of a layer, made while it is read: sorted by path, the same bytes for the same draft.

use std::collections::btree_map;

use layer::tar::{entry_headers, padding, END};
use layer::{Entry, EntryKind, EntryPath, LayerError, Limits, TarSource};

use crate::content::Reader;
use crate::draft::{LayerDraft, Node};
use crate::tree::MetaKind;
use crate::BuildError;

/// Such a tar.
#[derive(Debug)]
pub struct DraftStream {
    nodes: btree_map::IntoIter<Vec<u8>, Node>,
    pending: Vec<u8>,
    used: usize,
    data: Option<(Reader, u64)>,
    limits: Limits,
    is_ended: bool,
}

impl DraftStream {
    /// Begins with the first entry.
    pub fn new(draft: LayerDraft) -> Self {
        let nodes = draft.into_nodes().into_iter();
        let limits = Limits::default();
        Self { nodes, pending: Vec::new(), used: 0, data: None, limits, is_ended: false }
    }

    fn refill(&mut self) -> Result<(), BuildError> {
        if let Some((reader, padding_bytes)) = &mut self.data {
            if !reader.next(&mut self.pending)? {
                self.pending.resize(usize::try_from(*padding_bytes).unwrap_or(0), 0);
                self.data = None;
            }
            return Ok(());
        }
        let Some((path, node)) = self.nodes.next() else {
            self.is_ended = true;
            self.pending.extend_from_slice(&END);
            return Ok(());
        };
        let entry = self.entry(path, &node)?;
        self.pending = entry_headers(&entry, &self.limits)?;
        if entry.data_size_bytes > 0 {
            self.data = Some((node.content.open()?, padding(entry.data_size_bytes)));
        }
        Ok(())
    }

    fn entry(&self, path: Vec<u8>, node: &Node) -> Result<Entry, BuildError> {
        let meta = &node.meta;
        let mut data_size_bytes = 0;
        let kind = match (&node.link, &meta.kind) {
            (Some(target), _) => EntryKind::Hardlink { target: EntryPath::new(target.clone())? },
            (None, MetaKind::Directory) => EntryKind::Directory,
            (None, MetaKind::Symlink { target }) => EntryKind::Symlink { target: target.clone() },
            (None, MetaKind::File { size_bytes }) => {
                data_size_bytes = *size_bytes;
                EntryKind::File { size_bytes: *size_bytes, extents: None }
            }
            (None, MetaKind::Device { is_block: true, major, minor }) => {
                EntryKind::BlockDevice { major: *major, minor: *minor }
            }
            (None, MetaKind::Device { major, minor, .. }) => {
                EntryKind::CharDevice { major: *major, minor: *minor }
            }
            (None, MetaKind::Fifo | MetaKind::Socket) => EntryKind::Fifo,
        };
        let is_link = node.link.is_some();
        Ok(Entry {
            path: EntryPath::new(path)?,
            kind,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            mtime: meta.mtime,
            xattrs: if is_link { Vec::new() } else { meta.xattrs.clone() },
            data_offset_bytes: 0,
            data_size_bytes,
        })
    }
}

impl TarSource for DraftStream {
    fn read(&mut self, buffer: &mut [u8], is_cancelled: &dyn Fn() -> bool) -> Result<usize, LayerError> {
        loop {
            if is_cancelled() {
                return Err(LayerError::Cancelled { subject: "a layer being written".to_owned() });
            }
            if self.used < self.pending.len() {
                let count = buffer.len().min(self.pending.len() - self.used);
                buffer[..count].copy_from_slice(&self.pending[self.used..self.used + count]);
                self.used += count;
                return Ok(count);
            }
            if self.is_ended || buffer.is_empty() {
                return Ok(0);
            }
            self.pending.clear();
            self.used = 0;
            self.refill().map_err(BuildError::into_layer)?;
        }
    }
}
