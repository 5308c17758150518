//! Trees that a joiner gets from a member who lies, hash and signature fitting.

use super::super::super::codec::put_vector;
use super::super::super::leaf_node::LeafNodeSource;
use super::super::super::tree::ParentNode;
use super::*;
use crate::crypto::hpke::HpkePublicKey;

/// The entries of a `ratchet_tree` vector, each as it is encoded.
fn entries(tree: &RatchetTree) -> Vec<Vec<u8>> {
    let last = tree.leaves().next_back().unwrap().0.node().get();
    (0..=last)
        .map(|index| {
            let node = NodeIndex::new(index);
            match (node.leaf(), tree.parent(node)) {
                (Some(leaf), _) => entry(1, tree.leaf(leaf)),
                (None, parent) => entry(2, parent),
            }
        })
        .collect()
}

fn entry(node_type: u8, node: Option<&impl Encode>) -> Vec<u8> {
    let Some(node) = node else { return vec![0] };
    let mut bytes = vec![1, node_type];
    node.encode(&mut bytes);
    bytes
}

fn assemble(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_vector(&mut bytes, |out| entries.iter().for_each(|entry| out.extend(entry)));
    bytes
}

/// Joins a group whose tree has been exchanged by leaf 0.
fn join(members: &Members, tree: &[u8]) -> Result<PublicGroup, Error> {
    let liar = members.at(0);
    let tree = RatchetTree::decode_exact(tree)?;
    let own = LeafIndex::new(0);
    let mut info = liar.group.group_info(Extensions::default(), own, Vec::new());
    info.context.tree_hash = tree.root_hash();
    info.sign(&liar.signer);
    PublicGroup::from_info(&info, tree)
}

/// Eight members once; leaf 2, leaf 5 and perhaps leaf 7 are new and unmerged everywhere above.
fn members(adds: usize) -> Members {
    let mut members = Members::full(8, 21);
    let at = LeafIndex::new;
    members.change(at(0), &[at(2), at(5), at(7)], 0, Path::With);
    for by in [3, 1, 6, 4, 0] {
        members.change(at(by), &[], 0, Path::With);
    }
    for _ in 0..adds {
        members.change(at(1), &[], 1, Path::Without);
    }
    members
}

#[test]
fn the_true_tree_is_accepted() {
    let members = members(3);
    let tree = members.at(0).group.tree();
    assert_eq!(assemble(&entries(tree)), tree.to_bytes());
    assert!(join(&members, &tree.to_bytes()).is_ok());
    let unmerged: usize = (0..tree.size().nodes())
        .filter_map(|node| tree.parent(NodeIndex::new(node)))
        .map(|parent| parent.unmerged_leaves.len())
        .sum();
    assert!(unmerged >= 6, "the tree tests unmerged leaves");
}

#[test]
fn no_parent_can_be_changed_unnoticed() {
    no_parent_of_these_can_be_changed(&members(3));
    no_parent_of_these_can_be_changed(&members(2));
    // Leaf 0 committed while leaf 1 was blank, so that nothing stands between it and the root.
    let mut skipping = Members::full(3, 24);
    skipping.change(LeafIndex::new(0), &[LeafIndex::new(1)], 0, Path::With);
    skipping.change(LeafIndex::new(2), &[], 1, Path::Without);
    assert_eq!(skipping.at(0).group.tree().parent(NodeIndex::new(1)), None);
    no_parent_of_these_can_be_changed(&skipping);
}

fn no_parent_of_these_can_be_changed(members: &Members) {
    let tree = members.at(0).group.tree().clone();
    let honest = entries(&tree);
    let other_key = HpkePrivateKey::generate(&mut members.rng.clone()).public();
    let mut tried = 0;
    for node in (0..tree.size().nodes()).map(NodeIndex::new) {
        let Some(parent) = tree.parent(node) else {
            continue;
        };
        let mut lies = vec![
            ParentNode { encryption_key: other_key.clone(), ..parent.clone() },
            ParentNode { encryption_key: HpkePublicKey::from_bytes(vec![0; 32]), ..parent.clone() },
            ParentNode { parent_hash: vec![1; 32], ..parent.clone() },
        ];
        if !parent.parent_hash.is_empty() {
            lies.push(ParentNode { parent_hash: Vec::new(), ..parent.clone() });
        }
        let list = &parent.unmerged_leaves;
        let mut lists = vec![Vec::new(), list.iter().rev().copied().collect()];
        for leaf in (0..tree.size().leaves() + 2).chain([u32::MAX]).map(LeafIndex::new) {
            // One more, one less, one twice.
            let mut changed = list.clone();
            match changed.binary_search(&leaf) {
                Ok(at) => {
                    let mut twice = changed.clone();
                    twice.insert(at, leaf);
                    lists.push(twice);
                    changed.remove(at);
                }
                Err(at) => changed.insert(at, leaf),
            }
            lists.push(changed);
        }
        for at in 0..list.len() {
            for leaf in node.leaves() {
                // Another one instead.
                let mut changed = list.clone();
                changed[at] = leaf;
                changed.sort_unstable();
                lists.push(changed);
            }
        }
        lists.retain(|changed| changed != list);
        lies.extend(
            lists
                .into_iter()
                .map(|unmerged_leaves| ParentNode { unmerged_leaves, ..parent.clone() }),
        );
        for lie in lies {
            let mut forged = honest.clone();
            forged[node.get() as usize] = entry(2, Some(&lie));
            let joined = join(members, &assemble(&forged));
            assert_eq!(joined.unwrap_err(), Error::InvalidTree, "{node:?}: {lie:?}");
            tried += 1;
        }
        if node != tree.size().root() {
            let mut forged = honest.clone();
            forged[node.get() as usize] = vec![0];
            assert!(join(members, &assemble(&forged)).is_err(), "blank {node:?}");
        }
    }
    assert!(tried > 5);
}

#[test]
fn a_blank_leaf_is_unmerged_nowhere() {
    let members = members(2);
    let tree = members.at(0).group.tree().clone();
    let blank = LeafIndex::new(7);
    assert_eq!(tree.leaf(blank), None);
    // Listed by every parent above it, so that they agree, and in no parent hash.
    let mut forged = entries(&tree);
    let mut listed = 0;
    for step in blank.direct_path(tree.size()) {
        if let Some(parent) = tree.parent(step.parent) {
            let mut lie = parent.clone();
            lie.unmerged_leaves.push(blank);
            forged[step.parent.get() as usize] = entry(2, Some(&lie));
            listed += 1;
        }
    }
    assert!(listed >= 2);
    assert_eq!(join(&members, &assemble(&forged)).unwrap_err(), Error::InvalidTree);
}

/// The tree of a group of four whose last committer says that these leaves came after its commit:
/// the root lists them, and the hashes from there down to the committer fit.
fn listed_at_the_top_only(members: &Members, unmerged_leaves: Vec<LeafIndex>) -> Vec<Vec<u8>> {
    let (forger, left, right, root) = (LeafIndex::new(3), 1, 5, 3);
    let tree = members.at(3).group.tree();
    let mut forged = entries(tree);
    let mut earlier = forged.clone();
    for leaf in &unmerged_leaves {
        earlier[leaf.node().get() as usize] = vec![0];
    }
    let earlier = RatchetTree::decode_exact(&assemble(&earlier)).unwrap();
    let parent_hash = |parent: &ParentNode, tree: &RatchetTree, sibling: u32| {
        let mut input = parent.encryption_key.to_bytes();
        parent.parent_hash.encode(&mut input);
        tree.hash(NodeIndex::new(sibling)).unwrap().encode(&mut input);
        Digest::of(&[&input]).as_ref().to_vec()
    };
    let top = tree.parent(NodeIndex::new(root)).unwrap();
    let top = ParentNode { unmerged_leaves, ..top.clone() };
    let below = ParentNode {
        parent_hash: parent_hash(&top, &earlier, left),
        ..tree.parent(NodeIndex::new(right)).unwrap().clone()
    };
    let mut leaf = tree.leaf(forger).unwrap().clone();
    leaf.source = LeafNodeSource::Commit { parent_hash: parent_hash(&below, tree, 4) };
    leaf.sign(b"group", forger, &members.at(3).signer);
    forged[root as usize] = entry(2, Some(&top));
    forged[right as usize] = entry(2, Some(&below));
    forged[forger.node().get() as usize] = entry(1, Some(&leaf));
    forged
}

#[test]
fn a_leaf_that_is_unmerged_above_is_unmerged_in_between() {
    let members = Members::full(4, 25);
    let none = listed_at_the_top_only(&members, Vec::new());
    assert!(join(&members, &assemble(&none)).is_ok());
    for leaf in [0, 1] {
        let forged = listed_at_the_top_only(&members, vec![LeafIndex::new(leaf)]);
        assert_eq!(join(&members, &assemble(&forged)).err(), Some(Error::InvalidTree));
    }
}

#[test]
fn no_parent_stands_where_nobody_put_one() {
    // Nobody has committed since the founder, so the right half is blank above its leaves.
    let members = Members::founded(8, 22);
    let tree = members.at(0).group.tree().clone();
    let honest = entries(&tree);
    let key = HpkePrivateKey::generate(&mut members.rng.clone()).public();
    let blank: Vec<_> = (0..tree.size().nodes())
        .map(NodeIndex::new)
        .filter(|node| node.level() > 0 && tree.parent(*node).is_none())
        .collect();
    assert!(!blank.is_empty());
    for node in blank {
        let below: Vec<_> = node.leaves().collect();
        for unmerged_leaves in [Vec::new(), below[1..].to_vec(), below] {
            for parent_hash in [Vec::new(), vec![1; 32]] {
                let encryption_key = key.clone();
                let unmerged_leaves = unmerged_leaves.clone();
                let lie = ParentNode { encryption_key, parent_hash, unmerged_leaves };
                let mut forged = honest.clone();
                forged[node.get() as usize] = entry(2, Some(&lie));
                let joined = join(&members, &assemble(&forged));
                assert_eq!(joined.unwrap_err(), Error::InvalidTree, "{node:?}");
            }
        }
    }
}

#[test]
fn leaves_and_keys_are_checked_too() {
    let members = members(3);
    let tree = members.at(0).group.tree().clone();
    let honest = entries(&tree);
    for (index, leaf) in tree.leaves() {
        let place = index.node().get() as usize;
        let mut unsigned = leaf.clone();
        unsigned.signature[3] ^= 1;
        let mut forged = honest.clone();
        forged[place] = entry(1, Some(&unsigned));
        assert!(join(&members, &assemble(&forged)).is_err());
        // Somebody else's leaf, valid as it may be, has a key that the tree holds already.
        let other = tree.leaves().map(|(_, other)| other).find(|other| *other != leaf);
        let mut forged = honest.clone();
        forged[place] = entry(1, other);
        assert_eq!(join(&members, &assemble(&forged)).unwrap_err(), Error::Malformed);
    }
    let mut info =
        members.at(0).group.group_info(Extensions::default(), LeafIndex::new(0), Vec::new());
    info.context.tree_hash = Digest::default();
    info.sign(&members.at(0).signer);
    assert_eq!(PublicGroup::from_info(&info, tree.clone()).unwrap_err(), Error::InvalidTree);
    let mut info =
        members.at(0).group.group_info(Extensions::default(), LeafIndex::new(9), Vec::new());
    info.sign(&members.at(0).signer);
    assert_eq!(PublicGroup::from_info(&info, tree).unwrap_err(), Error::InvalidGroupInfo);
}

#[test]
fn node_vectors_of_the_wrong_shape_are_malformed() {
    let members = Members::full(4, 23);
    let tree = members.at(0).group.tree().clone();
    let honest = entries(&tree);
    let leaf = honest[0].clone();
    let parent = honest[1].clone();
    let blank = vec![0];
    let shapes = [
        ("nothing", vec![]),
        ("a blank leaf", vec![blank.clone()]),
        ("a parent as a leaf", vec![parent.clone()]),
        ("a parent at the end", vec![leaf.clone(), parent.clone()]),
        ("two entries", vec![leaf.clone(), blank.clone()]),
        ("a blank at the end", vec![leaf.clone(), parent.clone(), blank.clone()]),
        ("a leaf as a parent", vec![leaf, honest[2].clone(), honest[4].clone()]),
        ("a parent as the last leaf", vec![honest[0].clone(), blank, parent]),
    ];
    for (what, shape) in shapes {
        assert!(RatchetTree::decode_exact(&assemble(&shape)).is_err(), "{what}");
    }
    let mut longer = tree.to_bytes();
    longer.push(0);
    assert!(RatchetTree::decode_exact(&longer).is_err());
    let bytes = tree.to_bytes();
    for len in 0..bytes.len() {
        assert!(RatchetTree::decode_exact(&bytes[..len]).is_err());
    }
}

#[test]
fn saved_parts_that_do_not_fit_are_corrupt() {
    let members = members(3);
    let saved = &members.at(0).saved;
    assert!(PublicGroup::load(saved.clone()).is_ok());
    for (part, bytes) in saved {
        let mut missing = saved.clone();
        missing.remove(part);
        assert_eq!(PublicGroup::load(missing).unwrap_err(), Error::CorruptState);
        for spoiled in [&bytes[1..], &bytes[..bytes.len() - 1], &[bytes.as_slice(), &[0]].concat()]
        {
            let mut parts = saved.clone();
            parts.insert(*part, spoiled.to_vec());
            assert_eq!(PublicGroup::load(parts).unwrap_err(), Error::CorruptState);
        }
    }
    for index in [0, 7, 8, u32::MAX, u32::MAX - 1, 0x0fff_ffff] {
        let mut parts = saved.clone();
        parts.insert(PartId { kind: 2, index }, vec![1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(PublicGroup::load(parts).unwrap_err(), Error::CorruptState, "page {index}");
    }
    let mut parts = saved.clone();
    parts.insert(PartId { kind: 99, index: 0 }, vec![1]);
    assert_eq!(PublicGroup::load(parts).unwrap_err(), Error::CorruptState);
}
