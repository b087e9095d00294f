//! Random layers against a model in memory that knows nothing of files, fds or overlayfs.

use std::collections::{BTreeMap, BTreeSet};

use layer::LayerError;
use proptest::prelude::*;

use crate::image::Image;
use crate::tar_writer::{tar, Item};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    File(String),
    Link(String),
    /// Children, and whether it replaced a file of its own layer.
    Dir(BTreeMap<String, Node>, bool),
}

impl Node {
    pub fn dir() -> Self {
        Self::Dir(BTreeMap::new(), false)
    }
}

/// One layer's own tree, entries in order.
#[derive(Debug, Clone)]
pub struct Model {
    pub root: Node,
}

/// A file stands in the way, or links go in circles.
pub struct Refused;

impl Model {
    pub fn at<'a>(mut node: &'a mut Node, path: &[String]) -> Option<&'a mut Node> {
        for name in path {
            match node {
                Node::Dir(children, _) => node = children.get_mut(name)?,
                Node::File(_) | Node::Link(_) => return None,
            }
        }
        Some(node)
    }

    pub fn get(&self, path: &[String]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, name| match node {
            Node::Dir(children, _) => children.get(name),
            Node::File(_) | Node::Link(_) => None,
        })
    }

    /// The real directory that `path` means, missing ones made.
    fn enter(&mut self, path: &[String]) -> Result<Vec<String>, Refused> {
        let mut left: Vec<String> = path.iter().rev().cloned().collect();
        let (mut here, mut links) = (Vec::new(), 0);
        while let Some(name) = left.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    here.pop();
                    continue;
                }
                _ => {}
            }
            let Some(Node::Dir(children, _)) = Self::at(&mut self.root, &here) else { return Err(Refused) };
            match children.entry(name.clone()).or_insert_with(Node::dir) {
                Node::Dir(..) => here.push(name),
                Node::File(_) => return Err(Refused),
                Node::Link(target) => {
                    links += 1;
                    if links > 40 {
                        return Err(Refused);
                    }
                    if target.starts_with('/') {
                        here.clear();
                    }
                    left.extend(target.split('/').rev().map(str::to_owned));
                }
            }
        }
        Ok(here)
    }

    fn put(&mut self, path: &[String], node: Node) -> Result<(), Refused> {
        let (name, parent) = path.split_last().unwrap();
        let parent = self.enter(parent)?;
        let Some(Node::Dir(children, _)) = Self::at(&mut self.root, &parent) else { return Err(Refused) };
        match (children.get(name), &node) {
            (Some(Node::Dir(..)), Node::Dir(..)) => {}
            (Some(_), Node::Dir(..)) => {
                children.insert(name.clone(), Node::Dir(BTreeMap::new(), true));
            }
            _ => {
                children.insert(name.clone(), node);
            }
        }
        Ok(())
    }
}

fn flatten(node: &Node, path: &str, found: &mut BTreeMap<String, String>) {
    let what = match node {
        Node::File(data) => format!("file {data}"),
        Node::Link(target) => format!("link {target}"),
        Node::Dir(..) => "dir".to_owned(),
    };
    if !path.is_empty() {
        found.insert(path.to_owned(), what);
    }
    if let Node::Dir(children, _) = node {
        for (name, child) in children {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            flatten(child, &path, found);
        }
    }
}

pub fn tree_of(node: &Node) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    flatten(node, "", &mut found);
    found
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["a", "b", "c"].prop_map(|name: String| name)
}

pub fn path() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(name(), 1..4)
}

#[derive(Debug, Clone)]
pub enum Step {
    Dir(Vec<String>),
    File(Vec<String>, String),
    Link(Vec<String>, String),
    Whiteout(Vec<String>),
    Opaque(Vec<String>),
}

fn item(step: &Step) -> Item {
    match step {
        Step::Dir(path) => Item::dir(path.join("/")),
        Step::File(path, data) => Item::file(path.join("/"), data),
        Step::Link(path, target) => Item::symlink(path.join("/"), target),
        Step::Whiteout(path) => {
            let (name, parent) = path.split_last().unwrap();
            let parts: Vec<String> = parent.iter().cloned().chain([format!(".wh.{name}")]).collect();
            Item::file(parts.join("/"), "")
        }
        Step::Opaque(path) => Item::file(format!("{}/.wh..wh..opq", path.join("/")), ""),
    }
}

pub fn blob(steps: &[Step]) -> Vec<u8> {
    tar(&steps.iter().map(item).collect::<Vec<_>>())
}

/// A layer's own tree, or `None` where it is to be refused.
pub fn own_tree(steps: &[Step]) -> Option<Model> {
    let mut model = Model { root: Node::dir() };
    for step in steps {
        let result = match step {
            Step::Dir(path) => model.put(path, Node::dir()),
            Step::File(path, data) => model.put(path, Node::File(data.clone())),
            Step::Link(path, target) => model.put(path, Node::Link(target.clone())),
            Step::Whiteout(_) | Step::Opaque(_) => Ok(()),
        };
        result.ok()?;
    }
    Some(model)
}

pub fn plain_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        path().prop_map(Step::Dir),
        (path(), "[a-z]{0,3}").prop_map(|(path, data)| Step::File(path, data)),
    ]
}

pub fn link_step() -> impl Strategy<Value = Step> {
    let target = proptest::collection::vec(prop_oneof![3 => name(), 1 => Just("..".to_owned())], 1..4);
    (path(), target, any::<bool>()).prop_map(|(path, target, is_absolute)| {
        let start = if is_absolute { "/" } else { "" };
        Step::Link(path, format!("{start}{}", target.join("/")))
    })
}

fn marker_step() -> impl Strategy<Value = Step> {
    prop_oneof![path().prop_map(Step::Whiteout), path().prop_map(Step::Opaque)]
}

/// The markers of a layer, by the paths they hide or mark.
#[derive(Debug, Default)]
pub struct Markers {
    whiteouts: BTreeSet<Vec<String>>,
    opaques: BTreeSet<Vec<String>>,
}

fn is_dir(node: Option<&Node>) -> bool {
    matches!(node, Some(Node::Dir(..)))
}

/// A marker of a directory that the layer lacks and a lower one has makes the directory, unless one above it is
/// opaque already.
fn imply_opaques(layer: &mut Model, lower: &Model, markers: &Markers) {
    let mut settled: BTreeSet<Vec<String>> = BTreeSet::new();
    for path in &markers.opaques {
        let is_hidden = (0..path.len()).any(|len| {
            settled.contains(&path[..len]) || matches!(layer.get(&path[..len]), Some(Node::Dir(_, true)))
        });
        let is_own = is_dir(layer.get(path));
        if is_own || (!is_hidden && is_dir(lower.get(path)) && layer.enter(path).is_ok()) {
            settled.insert(path.clone());
        }
    }
}

pub fn merge(layer: Option<&Node>, lower: Option<&Node>, path: &[String], markers: &Markers) -> Option<Node> {
    let (own, replaced) = match layer {
        Some(Node::Dir(children, replaced)) => (Some(children), *replaced),
        Some(node) => return Some(node.clone()),
        None if markers.whiteouts.contains(path) => return None,
        None => (None, false),
    };
    let hides = replaced || markers.opaques.contains(path) || markers.whiteouts.contains(path);
    let below = match lower {
        Some(Node::Dir(children, _)) if !hides => Some(children),
        Some(Node::Dir(..)) | None => None,
        Some(node) if own.is_none() => return Some(node.clone()),
        Some(_) => None,
    };
    if own.is_none() && !is_dir(lower) {
        return None;
    }
    let names: BTreeSet<&String> =
        own.into_iter().chain(below).flat_map(|children| children.keys()).collect();
    let mut children = BTreeMap::new();
    for name in names {
        let path: Vec<String> = path.iter().chain([name]).cloned().collect();
        let (own, below) = (own.and_then(|c| c.get(name)), below.and_then(|c| c.get(name)));
        if let Some(node) = merge(own, below, &path, markers) {
            children.insert(name.clone(), node);
        }
    }
    Some(Node::Dir(children, false))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(250) })]

    #[test]
    fn a_layer_with_links_is_what_its_entries_make_in_order(
        steps in proptest::collection::vec(prop_oneof![2 => plain_step(), 1 => link_step()], 1..12),
    ) {
        let mut image = Image::new();
        match (own_tree(&steps), image.add(&blob(&steps))) {
            (Some(model), Ok(_)) => prop_assert_eq!(image.mount().tree(), tree_of(&model.root)),
            (None, Err(LayerError::Rejected { .. })) => prop_assert!(image.folders().is_empty()),
            (model, result) => prop_assert!(false, "{model:?}\n{result:?}"),
        }
    }

    #[test]
    fn a_layer_over_another_is_their_merge(
        low in proptest::collection::vec(plain_step(), 1..10),
        high in proptest::collection::vec(prop_oneof![1 => plain_step(), 1 => marker_step()], 1..10),
    ) {
        let (Some(lower), Some(mut layer)) = (own_tree(&low), own_tree(&high)) else { return Ok(()) };
        let mut markers = Markers::default();
        for step in &high {
            match step {
                Step::Whiteout(path) => drop(markers.whiteouts.insert(path.clone())),
                Step::Opaque(path) => drop(markers.opaques.insert(path.clone())),
                Step::Dir(_) | Step::File(..) | Step::Link(..) => {}
            }
        }
        imply_opaques(&mut layer, &lower, &markers);
        let expected = merge(Some(&layer.root), Some(&lower.root), &[], &markers).unwrap();
        let mut image = Image::new();
        image.add(&blob(&low)).unwrap();
        image.add(&blob(&high)).unwrap();
        prop_assert_eq!(image.mount().tree(), tree_of(&expected));
    }
}
