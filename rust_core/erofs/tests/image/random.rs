//! Random trees, removed from and added to, are what a model in memory says.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use erofs::{FileData, InodeId, New, Tree};
use proptest::prelude::*;

use crate::support::{attributes, tree, write, Mounted};

#[derive(Debug, Clone)]
enum Step {
    Directory(usize, String, u16),
    File(usize, String, u32),
    Symlink(usize, String, usize),
    Remove(usize, String),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-d]", 1 => "[ -.0-~]{1,40}", 1 => "[a-c]{230,255}"]
        .prop_filter("a directory's own names", |name: &String| name != "." && name != "..")
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<usize>(), name(), 0..0o10000u16).prop_map(|(at, name, mode)| Step::Directory(at, name, mode)),
        4 => (any::<usize>(), name(), 0..5000u32).prop_map(|(at, name, size)| Step::File(at, name, size)),
        2 => (any::<usize>(), name(), 1..1500usize).prop_map(|(at, name, len)| Step::Symlink(at, name, len)),
        1 => (any::<usize>(), name()).prop_map(|(at, name)| Step::Remove(at, name)),
    ]
}

fn join(above: &str, name: &str) -> String {
    if above.is_empty() {
        name.to_owned()
    } else {
        format!("{above}/{name}")
    }
}

/// Does the steps on the tree and on the model: path -> what is there.
fn build(steps: &[Step], tree: &mut Tree) -> BTreeMap<String, String> {
    let mut model = BTreeMap::new();
    let mut directories: Vec<(String, InodeId)> = vec![(String::new(), tree.root())];
    for step in steps {
        let (Step::Directory(at, name, _)
        | Step::File(at, name, _)
        | Step::Symlink(at, name, _)
        | Step::Remove(at, name)) = step;
        let (above, directory) = directories[at % directories.len()].clone();
        let path = join(&above, name);
        tree.remove(directory, name.as_bytes(), &mut |_, _, _| {}).unwrap();
        model.retain(|found: &String, _| *found != path && !found.starts_with(&format!("{path}/")));
        directories.retain(|(found, _)| *found != path && !found.starts_with(&format!("{path}/")));
        let mut add = |new, mode| tree.add(directory, name.as_bytes(), new, attributes(mode)).unwrap();
        match step {
            Step::Directory(_, _, mode) => {
                let id = add(New::Directory, *mode);
                directories.push((path.clone(), id));
                model.insert(path, format!("dir {mode:o}"));
            }
            Step::File(_, _, size) => {
                add(New::File((*size).into(), FileData::Device(3)), 0o644);
                model.insert(path, format!("file {size}"));
            }
            Step::Symlink(_, _, len) => {
                add(New::Symlink(&vec![b't'; *len]), 0o777);
                model.insert(path, format!("link {len}"));
            }
            Step::Remove(..) => {}
        }
    }
    model
}

fn read(mounted: &Mounted, device: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        for name in mounted.names(&directory) {
            let path = join(&directory, &name);
            let status = mounted.lstat(&path);
            let what = if status.is_dir() {
                pending.push(path.clone());
                format!("dir {:o}", status.mode() & 0o7777)
            } else if status.is_symlink() {
                format!("link {}", std::fs::read_link(mounted.path(&path)).unwrap().as_os_str().len())
            } else {
                let data = std::fs::read(mounted.path(&path)).unwrap();
                assert!(data == device[1536..1536 + data.len()], "{path}");
                format!("file {}", status.len())
            };
            found.insert(path, what);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_tree_is_read_back_as_it_was_built(steps in proptest::collection::vec(step(), 0..120)) {
        let device: Vec<u8> = (0..8192_u32).map(|n| (n % 249) as u8).collect();
        let mut tree = tree();
        let model = build(&steps, &mut tree);
        let written = write(&mut tree, &device);
        prop_assert_eq!(read(&written.mount(), &device), model);
    }
}
