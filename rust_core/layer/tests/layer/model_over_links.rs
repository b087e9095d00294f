//! Random layers over a layer with links, against the model: parents without an entry are followed below.

use proptest::prelude::*;

use crate::image::Image;
use crate::model::{
    blob, link_step, merge, own_tree, plain_step, tree_of, Markers, Model, Node, Refused, Step,
};

/// The directory that `path` means in the layer over the lower one, made in the layer where it has none.
fn enter(layer: &mut Model, lower: &Model, path: &[String]) -> Result<Vec<String>, Refused> {
    let mut left: Vec<String> = path.iter().rev().cloned().collect();
    let (mut here, mut links): (Vec<String>, _) = (Vec::new(), 0);
    while let Some(name) = left.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                here.pop();
                continue;
            }
            _ => {}
        }
        let next: Vec<String> = here.iter().chain([&name]).cloned().collect();
        let is_hidden =
            (0..next.len()).any(|len| matches!(layer.get(&next[..len]), Some(Node::Dir(_, true))));
        match layer.get(&next) {
            Some(Node::Dir(..)) => here = next,
            Some(Node::File(_) | Node::Link(_)) => return Err(Refused),
            None => match lower.get(&next) {
                Some(Node::Link(target)) if !is_hidden => {
                    links += 1;
                    if links > 40 {
                        return Err(Refused);
                    }
                    if target.starts_with('/') {
                        here.clear();
                    }
                    left.extend(target.split('/').rev().map(str::to_owned));
                }
                _ => {
                    let Some(Node::Dir(children, _)) = Model::at(&mut layer.root, &here) else {
                        return Err(Refused);
                    };
                    children.insert(name, Node::dir());
                    here = next;
                }
            },
        }
    }
    Ok(here)
}

fn put(layer: &mut Model, lower: &Model, path: &[String], node: Node) -> Result<(), Refused> {
    let (name, parent) = path.split_last().unwrap();
    let parent = enter(layer, lower, parent)?;
    let Some(Node::Dir(children, _)) = Model::at(&mut layer.root, &parent) else { return Err(Refused) };
    match (children.get(name), &node) {
        (Some(Node::Dir(..)), Node::Dir(..)) => {}
        (Some(_), Node::Dir(..)) => drop(children.insert(name.clone(), Node::Dir([].into(), true))),
        _ => drop(children.insert(name.clone(), node)),
    }
    Ok(())
}

fn layer_over(lower: &Model, steps: &[Step]) -> Option<Model> {
    let mut layer = Model { root: Node::dir() };
    for step in steps {
        match step {
            Step::Dir(path) => put(&mut layer, lower, path, Node::dir()).ok()?,
            Step::File(path, data) => put(&mut layer, lower, path, Node::File(data.clone())).ok()?,
            Step::Link(..) | Step::Whiteout(_) | Step::Opaque(_) => unreachable!("not generated here"),
        }
    }
    Some(layer)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_layer_over_one_with_links_goes_where_the_links_lead(
        low in proptest::collection::vec(prop_oneof![1 => plain_step(), 1 => link_step()], 1..10),
        mut high in proptest::collection::vec(plain_step(), 1..8),
    ) {
        // Directories first, parents before children, as every archiver writes them: that a directory's own entry
        // counts wherever it stands is another test's matter (X06).
        high.sort_by_key(|step| match step {
            Step::Dir(path) => path.len(),
            _ => usize::MAX,
        });
        // What the layer itself takes away again was never there, so the links below it do not count; the model, which
        // goes entry by entry, has no word for that.
        let paths: Vec<(&[String], bool)> = high
            .iter()
            .map(|step| match step {
                Step::File(path, _) => (path.as_slice(), true),
                Step::Dir(path) => (path.as_slice(), false),
                Step::Link(..) | Step::Whiteout(_) | Step::Opaque(_) => unreachable!("not generated here"),
            })
            .collect();
        let replaces = |file: &[String]| paths.iter().any(|(path, _)| path.starts_with(file) && *path != file)
            || paths.iter().any(|(path, is_file)| *path == file && !is_file);
        prop_assume!(!paths.iter().any(|(path, is_file)| *is_file && replaces(path)));
        let Some(lower) = own_tree(&low) else { return Ok(()) };
        let mut image = Image::new();
        image.add(&blob(&low)).unwrap();
        let result = image.add(&blob(&high));
        match layer_over(&lower, &high) {
            None => prop_assert!(result.is_err()),
            Some(layer) => {
                result.unwrap();
                let merged = merge(Some(&layer.root), Some(&lower.root), &[], &Markers::default()).unwrap();
                prop_assert_eq!(image.mount().tree(), tree_of(&merged));
            }
        }
    }
}
