//! tree-math, tree-operations, tree-validation.

use corncrake_core::mls::codec::{Decode, Encode};
use corncrake_core::mls::proposal::Proposal;
use corncrake_core::mls::tree::RatchetTree;
use corncrake_core::mls::tree_math::{LeafIndex, NodeIndex, TreeSize};

use crate::load::{bytes, cases, cases_of, list, number};

fn index(value: u64) -> u32 {
    u32::try_from(value).expect("fits")
}

#[test]
fn tree_math() {
    for case in cases("tree-math") {
        let leaves = index(number(&case["n_leaves"]));
        let size = TreeSize::holding(LeafIndex::new(leaves - 1)).expect("a size");
        assert_eq!(size.leaves(), leaves);
        assert_eq!(u64::from(size.nodes()), number(&case["n_nodes"]));
        assert_eq!(u64::from(size.root().get()), number(&case["root"]));
        for at in 0..size.nodes() {
            let node = NodeIndex::new(at);
            let same = |field: &str, ours: Option<NodeIndex>| {
                let theirs = case[field][at as usize].as_u64().map(index);
                assert_eq!(ours.map(NodeIndex::get), theirs, "{field} of {node:?}");
            };
            same("left", node.left());
            same("right", node.right());
            same("parent", node.parent(size));
            same("sibling", node.sibling(size));
        }
    }
}

#[test]
fn tree_operations() {
    // Suite 1 needs nothing but its hash here, which is ours.
    for case in cases_of("tree-operations", &[1, 3]) {
        let mut tree = RatchetTree::decode_exact(&bytes(&case["tree_before"])).expect("a tree");
        assert_eq!(tree.root_hash().as_ref(), bytes(&case["tree_hash_before"]));
        let sender = LeafIndex::new(index(number(&case["proposal_sender"])));
        let mut diff = tree.diff();
        match Proposal::decode_exact(&bytes(&case["proposal"])).expect("a proposal") {
            Proposal::Add(package) => drop(diff.add(package.leaf_node).expect("a place")),
            Proposal::Update(leaf) => diff.update(sender, *leaf),
            Proposal::Remove(leaf) => diff.remove(leaf),
            other => panic!("unexpected {other:?}"),
        }
        let changes = diff.into_changes();
        tree.merge(changes);
        assert_eq!(tree.to_bytes(), bytes(&case["tree_after"]));
        assert_eq!(tree.root_hash().as_ref(), bytes(&case["tree_hash_after"]));
    }
}

#[test]
fn tree_validation() {
    // The trees of suite 1 hold the same kinds of keys and hashes as ours.
    for case in cases_of("tree-validation", &[1, 3]) {
        let encoded = bytes(&case["tree"]);
        let tree = RatchetTree::decode_exact(&encoded).expect("a tree");
        assert_eq!(tree.to_bytes(), encoded);
        for (at, expected) in (0..).zip(list(&case["resolutions"])) {
            let resolution = tree.view().resolution(NodeIndex::new(at));
            let expected: Vec<_> = list(expected).iter().map(number).collect();
            let ours: Vec<_> = resolution.iter().map(|node| u64::from(node.get())).collect();
            assert_eq!(ours, expected);
        }
        for (at, expected) in (0..).zip(list(&case["tree_hashes"])) {
            let hash = tree.hash(NodeIndex::new(at)).expect("a node");
            assert_eq!(hash.as_ref(), bytes(expected));
        }
        assert!(tree.parents_are_valid());
        let group_id = bytes(&case["group_id"]);
        for (index, leaf) in tree.leaves() {
            leaf.verify(&group_id, index).expect("a signature");
        }
    }
}
