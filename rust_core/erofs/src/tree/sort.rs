//! Brings the names of a directory into the order of their bytes, by runs of which one at a time is in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Tree;
use crate::error::ImageError;
use crate::records::Window;
use crate::slot::NONE;

/// Names of one run.
const RUN_NAMES: usize = 32 * 1024;

/// What sorting needs, for one directory after the other.
#[derive(Debug)]
pub(crate) struct Scratch {
    run_names: usize,
    window: Window,
    /// Names of a run, one behind the other.
    bytes: Vec<u8>,
    /// Where each of them begins and ends, and its slot.
    names: Vec<(u32, u32, u32)>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { run_names: RUN_NAMES, window: Window::default(), bytes: Vec::new(), names: Vec::new() }
    }
}

impl Tree {
    /// Sorts the names of a directory, of which removed ones are gone then, and tells each to `visit`, in their order.
    pub(crate) fn sort(
        &mut self,
        directory: u32,
        scratch: &mut Scratch,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), ImageError> {
        let mut order: Vec<u32> = self.live_names(directory).collect();
        // As they were added, which is how their records lie.
        order.reverse();
        self.load(directory, &mut scratch.window)?;
        for run in order.chunks_mut(scratch.run_names) {
            self.sort_run(run, scratch)?;
        }
        if order.len() > scratch.run_names {
            order = self.merge(&order, scratch.run_names, visit)?;
        } else {
            let names = scratch.names.iter().take(order.len());
            names.for_each(|(start, end, _)| visit(&scratch.bytes[*start as usize..*end as usize]));
        }
        let mut next = NONE;
        for number in order.into_iter().rev() {
            self.slot_mut(number).set_next(next);
            next = number;
        }
        self.set_first(directory, next);
        Ok(())
    }

    fn sort_run(&self, run: &mut [u32], scratch: &mut Scratch) -> Result<(), ImageError> {
        let Scratch { window, bytes, names, .. } = scratch;
        bytes.clear();
        names.clear();
        let place = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for number in &*run {
            let start = place(bytes);
            bytes.extend_from_slice(self.name(*number, window)?);
            names.push((start, place(bytes), *number));
        }
        let name = |(start, end, _): &(u32, u32, u32)| &bytes[*start as usize..*end as usize];
        names.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        for (slot, (_, _, number)) in run.iter_mut().zip(names) {
            *slot = *number;
        }
        Ok(())
    }

    /// The order of all names, of which each run is in order.
    fn merge(
        &self,
        order: &[u32],
        run_names: usize,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Result<Vec<u32>, ImageError> {
        let mut merged = Vec::with_capacity(order.len());
        let mut runs: Vec<_> = order.chunks(run_names).map(|run| (run.iter(), Window::default())).collect();
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (index, (run, window)) in runs.iter_mut().enumerate() {
            if let Some(number) = run.next() {
                heads.push(Reverse((self.name(*number, window)?.to_vec(), index, *number)));
            }
        }
        while let Some(Reverse((mut name, index, number))) = heads.pop() {
            visit(&name);
            merged.push(number);
            let (run, window) = &mut runs[index];
            if let Some(number) = run.next() {
                name.clear();
                name.extend_from_slice(self.name(*number, window)?);
                heads.push(Reverse((name, index, *number)));
            }
        }
        Ok(merged)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::empty;
    use super::*;
    use crate::file::{Attributes, FileData, New};

    /// Names of files, directories and links in an order of their own, some removed.
    fn populated(count: u32, kept_names_bytes: usize) -> (Tree, Vec<Vec<u8>>) {
        let mut tree = Tree { kept_names_bytes, ..empty() };
        let (root, mut left) = (tree.root(), Vec::new());
        for n in 0..count {
            let name = format!("{}-of-{n}", n.wrapping_mul(0x9e37_79b9)).into_bytes();
            let new = match n % 3 {
                0 => New::Directory,
                1 => New::Symlink(b"anywhere"),
                _ => New::File(1, FileData::Hole),
            };
            let added = tree.add(root, &name, new, Attributes::default()).unwrap();
            if n % 6 == 1 {
                let link = [&b"link-"[..], &name].concat();
                tree.link(root, &link, added).unwrap();
                left.push(link);
            }
            if n % 5 == 0 {
                tree.remove(root, &name, &mut |_, _, _| {}).unwrap();
            } else {
                left.push(name);
            }
        }
        left.sort();
        (tree, left)
    }

    #[test]
    fn names_are_sorted_in_one_run_and_in_many() {
        let cases = [(0, 8), (1, 8), (7, 8), (9, 8), (3_000, 64), (3_000, 1), (3_000, 4_000)];
        // Names of directories in memory, in part, and all in the file.
        for ((count, run_names), kept_names_bytes) in
            cases.into_iter().flat_map(|case| [1 << 20, 900, 0].map(|kept| (case, kept)))
        {
            let (mut tree, expected) = populated(count, kept_names_bytes);
            let mut scratch = Scratch { run_names, ..Scratch::default() };
            let mut visited = Vec::new();
            tree.sort(0, &mut scratch, &mut |name| visited.push(name.to_vec())).unwrap();
            assert_eq!(visited, expected, "{count} in runs of {run_names}");
            let mut window = Window::default();
            let listed: Vec<Vec<u8>> =
                tree.live_names(0).map(|number| tree.name(number, &mut window).unwrap().to_vec()).collect();
            assert_eq!(listed, expected, "{count} in runs of {run_names}");
        }
    }
}
