//! Following a path within a layer, whatever the layer is written to: components, links, and what is missing.

use std::collections::VecDeque;

use crate::entry::{push, split_last};
use crate::{LayerError, Rule};

/// What to do about a component that the layer does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Make it a directory, as the lower layers have it where the layer's facts say that it has no entry of its own.
    Make,
    /// Make it a directory as the lower layers have it.
    MakeFromLower,
    /// Take it and the rest as they are written.
    Leave,
    /// As `Leave`, but follow links of the lower layers.
    LeaveFromLower,
}

impl Missing {
    /// True if nothing is made.
    pub fn leaves(self) -> bool {
        matches!(self, Self::Leave | Self::LeaveFromLower)
    }
}

/// Where a path led; `D` is how a writer holds a directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<D> {
    /// A directory of the layer.
    Entered(D),
    /// A path that the layer does not have (only with `Missing::Leave` and `LeaveFromLower`).
    Absent(Vec<u8>),
    /// A file stands in the way.
    Blocked,
}

impl<D> Place<D> {
    /// The path of the place, which `path_of` tells for a directory of the layer; `None` if a file stands in the way.
    pub fn path(
        self,
        path_of: impl FnOnce(D) -> Result<Vec<u8>, LayerError>,
    ) -> Result<Option<Vec<u8>>, LayerError> {
        match self {
            Self::Entered(directory) => path_of(directory).map(Some),
            Self::Absent(path) => Ok(Some(path)),
            Self::Blocked => Ok(None),
        }
    }
}

/// What became of a component that the layer does not have.
pub(crate) enum Step<D> {
    /// Made.
    Made(D),
    /// A lower layer has a link there, with this text.
    Link(Vec<u8>),
    /// Nothing there, nothing made.
    Left,
}

/// The next step of a route.
pub(crate) enum Turn {
    /// To the directory above; at the root nowhere.
    Up,
    /// To the component of this name.
    Down(Vec<u8>),
}

/// The components that are left of a path, with those of the links met on the way.
#[derive(Debug)]
pub(crate) struct Route {
    left: VecDeque<Vec<u8>>,
    link_count: u64,
}

impl Route {
    pub fn new<'p>(names: impl Iterator<Item = &'p [u8]>) -> Self {
        Self { left: names.map(<[u8]>::to_vec).collect(), link_count: 0 }
    }

    /// Takes the next step; `None` at the end.
    pub fn turn(&mut self) -> Option<Turn> {
        loop {
            let name = self.left.pop_front()?;
            match name.as_slice() {
                b"" | b"." => {}
                b".." => return Some(Turn::Up),
                _ => return Some(Turn::Down(name)),
            }
        }
    }

    /// True if a link was followed, so that the path is no more the one that was asked for.
    pub fn is_past_link(&self) -> bool {
        self.link_count > 0
    }

    /// The text of a link comes before what is left; true if it goes on from the root.
    pub fn follow(&mut self, target: &[u8], link_count_max: u64) -> Result<bool, Rule> {
        self.link_count += 1;
        if self.link_count > link_count_max {
            return Err(Rule::SymlinkLoop);
        }
        for component in target.split(|b| *b == b'/').rev() {
            self.left.push_front(component.to_vec());
        }
        Ok(target.starts_with(b"/"))
    }

    /// `missing` with what is left, as it is written.
    pub fn rest(self, mut missing: Vec<u8>) -> Vec<u8> {
        for name in self.left {
            match name.as_slice() {
                b"" | b"." => {}
                b".." => missing.truncate(split_last(&missing).0.len()),
                name => push(&mut missing, name),
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::components;

    fn route(path: &str) -> Route {
        Route::new(components(path.as_bytes()))
    }

    #[test]
    fn what_is_left_is_taken_as_it_is_written() {
        for (missing, left, whole) in [
            ("a", "b/c", "a/b/c"),
            ("x/a", "b/../c/./d", "x/a/c/d"),
            ("a", "..", ""),
            ("a", "../../../b", "b"),
            ("a", "", "a"),
        ] {
            assert_eq!(route(left).rest(missing.into()), whole.as_bytes(), "{missing} {left}");
        }
    }

    #[test]
    fn links_come_before_what_is_left_and_are_counted() {
        let mut route = route("c");
        assert!(!route.is_past_link());
        assert_eq!(route.follow(b"a//./b", 2), Ok(false));
        assert_eq!(route.follow(b"/../r", 2), Ok(true));
        assert!(route.is_past_link());
        assert_eq!(route.follow(b"x", 2), Err(Rule::SymlinkLoop));
        let mut names = Vec::new();
        while let Some(turn) = route.turn() {
            names.push(match turn {
                Turn::Up => "..".to_owned(),
                Turn::Down(name) => String::from_utf8(name).unwrap(),
            });
        }
        assert_eq!(names, ["..", "r", "a", "b", "c"]);
    }
}
