//! What a layer's writer asks of the layers below, and what this layer hides of them.

use super::{Ledger, PendingLink};
use crate::entry::{ancestors, split_last};
use crate::lower::LowerNode;
use crate::route::Missing;
use crate::{LayerError, Rule};

impl Ledger<'_> {
    /// True if nothing of the lower layers shows at `path`, since a directory above it is opaque: marked so until now,
    /// or by `is_opaque`, which tells it of a directory that was made.
    pub fn is_hidden(
        &self,
        path: &[u8],
        is_opaque: impl Fn(&[u8]) -> Result<bool, LayerError>,
    ) -> Result<bool, LayerError> {
        any(ancestors(path), |above| Ok(self.opaques.contains(above) || is_opaque(above)?))
    }

    /// What the lower layers have at `path`, where this layer has nothing, if `missing` asks for it; else
    /// `LowerNode::Absent`. With `is_past_link` the path is not the one that an entry has, so no fact can tell of it.
    pub fn lower_at(
        &self,
        path: &[u8],
        missing: Missing,
        is_past_link: bool,
        is_hidden: impl FnOnce() -> Result<bool, LayerError>,
    ) -> Result<LowerNode, LayerError> {
        let Some(finish) = self.finish else { return Ok(LowerNode::Absent) };
        let asks = match missing {
            Missing::Make => is_past_link || self.implied_before.contains(path),
            Missing::MakeFromLower | Missing::LeaveFromLower => true,
            Missing::Leave => false,
        };
        Ok(if asks && !is_hidden()? { finish.lowers.find(path)? } else { LowerNode::Absent })
    }

    /// How a marker's directory is looked for at the end.
    pub fn marker_missing(&self) -> Missing {
        if self.finish.is_some() {
            Missing::LeaveFromLower
        } else {
            Missing::Leave
        }
    }

    /// True if a marker in `directory`, which this layer does not have, can have a meaning: one below has it. A layer
    /// that is stored by itself cannot know and keeps the marker.
    pub fn may_be_below(&self, directory: &[u8]) -> Result<bool, LayerError> {
        let Some(finish) = self.finish else { return Ok(true) };
        Ok(matches!(finish.lowers.find(directory)?, LowerNode::Directory(_)))
    }

    /// True if a whiteout of `path` needs a device. Over known layers, what none of them has needs none (X25).
    pub fn needs_whiteout(&self, path: &[u8]) -> Result<bool, LayerError> {
        let Some(finish) = self.finish else { return Ok(true) };
        Ok(!matches!(finish.lowers.find(path)?, LowerNode::Absent))
    }

    /// What the lower layers have of a waiting link's target, which led to `path`; `None` if they do not have it, or
    /// this layer hides it.
    pub fn link_source(
        &self,
        link: &PendingLink,
        path: &[u8],
        is_opaque: impl Fn(&[u8]) -> Result<bool, LayerError>,
    ) -> Result<Option<LowerNode>, LayerError> {
        let Some(finish) = self.finish else { return Ok(None) };
        let (directory, name) = split_last(path);
        let is_whiteout = self.whiteouts.get(directory).is_some_and(|names| names.contains(name));
        if is_whiteout || self.is_hidden(path, is_opaque)? {
            return Ok(None);
        }
        match finish.lowers.find(path)? {
            LowerNode::Absent => Ok(None),
            LowerNode::Directory(_) => Err(self.rejected(&link.path, Rule::HardlinkToDirectory)),
            node => Ok(Some(node)),
        }
    }

    /// Overlayfs looks for no attribute at the root of a layer, so what a root marker hides is hidden name by name:
    /// by whiteouts of all names of the lower layers if they are known, else by the fact that it does.
    pub fn hide_root(&mut self) -> Result<(), LayerError> {
        let Some(finish) = self.finish else {
            self.written.facts.is_root_opaque = true;
            return Ok(());
        };
        let names = finish.lowers.root_names()?;
        let hidden = self.whiteouts.entry(Vec::new()).or_default();
        names.iter().for_each(|name| hidden.insert(name));
        Ok(())
    }
}

/// True if whiteouts in `directory` hide nothing more, since it is opaque or one above it is; not so the root, whose
/// marker has become whiteouts.
pub(crate) fn hides_all(
    directory: &[u8],
    is_opaque: impl Fn(&[u8]) -> Result<bool, LayerError>,
) -> Result<bool, LayerError> {
    let paths = std::iter::once(directory).chain(ancestors(directory));
    any(paths, |path| Ok(!path.is_empty() && is_opaque(path)?))
}

/// As `Iterator::any`; a failure ends the search.
fn any<'p>(
    paths: impl Iterator<Item = &'p [u8]>,
    holds: impl Fn(&[u8]) -> Result<bool, LayerError>,
) -> Result<bool, LayerError> {
    for path in paths {
        if holds(path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_hide_nothing_more_in_and_below_opaque_directories_but_the_root() {
        let is_opaque = |path: &[u8]| Ok(matches!(path, b"" | b"a/b"));
        for (directory, hides) in
            [("", false), ("a", false), ("a/b", true), ("a/b/c/d", true), ("a/bc", false), ("b", false)]
        {
            assert_eq!(hides_all(directory.as_bytes(), is_opaque).unwrap(), hides, "{directory}");
        }
    }
}
