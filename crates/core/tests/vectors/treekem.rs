//! treekem.

use std::collections::BTreeMap;

use corncrake_core::crypto::hpke::HpkePrivateKey;
use corncrake_core::crypto::signature::SignatureKey;
use corncrake_core::crypto::{Secret, kdf};
use corncrake_core::mls::PROTOCOL_VERSION;
use corncrake_core::mls::codec::{Decode, Encode};
use corncrake_core::mls::commit::{UpdatePath, UpdatePathNode};
use corncrake_core::mls::extension::Extensions;
use corncrake_core::mls::group_info::GroupContext;
use corncrake_core::mls::leaf_node::LeafNodeSource;
use corncrake_core::mls::tree::RatchetTree;
use corncrake_core::mls::tree_math::{LeafIndex, NodeIndex};
use corncrake_core::mls::treekem::{FreshPath, TreeKeys};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::Value;

use crate::load::{bytes, cases_of, list, number};

fn leaf_index(value: &Value) -> LeafIndex {
    LeafIndex::new(u32::try_from(number(value)).expect("a leaf"))
}

/// The private state of each member.
fn members(case: &Value) -> BTreeMap<LeafIndex, (TreeKeys, SignatureKey)> {
    let member = |value: &Value| {
        let index = leaf_index(&value["index"]);
        let leaf = HpkePrivateKey::try_from_bytes(&bytes(&value["encryption_priv"]));
        let parents = list(&value["path_secrets"]).iter().map(|secret| {
            let node = NodeIndex::new(u32::try_from(number(&secret["node"])).expect("a node"));
            let path_secret = Secret::from(bytes(&secret["path_secret"]));
            let node_secret = kdf::derive_secret(&path_secret, "node").expect("a secret");
            (node, HpkePrivateKey::derive(&node_secret).expect("a key"))
        });
        let keys = TreeKeys::from_parts(index, leaf.expect("a key"), parents.collect());
        let signer = SignatureKey::try_from_seed(&bytes(&value["signature_priv"])).expect("a key");
        (index, (keys, signer))
    };
    list(&case["leaves_private"]).iter().map(member).collect()
}

fn context(case: &Value, tree: &RatchetTree) -> Vec<u8> {
    let context = GroupContext {
        cipher_suite: u16::try_from(number(&case["cipher_suite"])).expect("a suite"),
        group_id: bytes(&case["group_id"]),
        epoch: number(&case["epoch"]),
        tree_hash: tree.root_hash(),
        confirmed_transcript_hash: bytes(&case["confirmed_transcript_hash"]),
        extensions: Extensions::default(),
    };
    assert_eq!(context.to_bytes()[..2], PROTOCOL_VERSION.to_be_bytes());
    context.to_bytes()
}

/// Opens a path for everybody but its sender and checks who gets what.
fn open_for_all(
    members: &BTreeMap<LeafIndex, (TreeKeys, SignatureKey)>,
    tree: &RatchetTree,
    sender: LeafIndex,
    nodes: &[UpdatePathNode],
    context: &[u8],
) -> Vec<(LeafIndex, TreeKeys, Secret)> {
    members
        .iter()
        .filter(|(index, _)| **index != sender)
        .map(|(index, (keys, _))| {
            let (keys, commit_secret) =
                keys.open_path(tree.view(), sender, nodes, &[], context).expect("a path for all");
            assert!(keys.belong_to(tree.view()));
            (*index, keys, commit_secret)
        })
        .collect()
}

#[test]
fn treekem() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for case in cases_of("treekem", &[3]) {
        let tree = RatchetTree::decode_exact(&bytes(&case["ratchet_tree"])).expect("a tree");
        let members = members(&case);
        assert!(members.values().all(|(keys, _)| keys.belong_to(tree.view())));
        for given in list(&case["update_paths"]) {
            let sender = leaf_index(&given["sender"]);
            let path = UpdatePath::decode_exact(&bytes(&given["update_path"])).expect("a path");

            let mut after = tree.clone();
            let mut diff = tree.diff();
            let keys: Vec<_> = path.nodes.iter().map(|node| node.encryption_key.clone()).collect();
            let parent_hash = diff.set_path(sender, &keys).expect("as many keys as nodes");
            assert_eq!(path.leaf_node.parent_hash(), Some(parent_hash.as_slice()));
            path.leaf_node.verify(&bytes(&case["group_id"]), sender).expect("a signature");
            diff.set_leaf(sender, Some(path.leaf_node.clone()));
            after.merge(diff.into_changes());
            assert_eq!(after.root_hash().as_ref(), bytes(&given["tree_hash_after"]));

            let opened =
                open_for_all(&members, &after, sender, &path.nodes, &context(&case, &after));
            for (index, keys, commit_secret) in opened {
                assert_eq!(commit_secret.expose(), bytes(&given["commit_secret"]));
                let path_secret = Secret::from(bytes(&given["path_secrets"][index.get() as usize]));
                let node_secret = kdf::derive_secret(&path_secret, "node").expect("a secret");
                let common = index.common_ancestor(sender);
                let expected = HpkePrivateKey::derive(&node_secret).expect("a key");
                assert_eq!(keys.parents()[&common].expose(), expected.expose());
            }

            // A path of our own over the same tree.
            let (_, signer) = &members[&sender];
            let fresh = FreshPath::generate(tree.view(), sender, &mut rng).expect("a path");
            let mut leaf = tree.leaf(sender).expect("a leaf").clone();
            let mut diff = tree.diff();
            let parent_hash = diff.set_path(sender, &fresh.public_keys()).expect("a path");
            leaf.encryption_key = fresh.leaf().public();
            leaf.source = LeafNodeSource::Commit { parent_hash };
            leaf.sign(&bytes(&case["group_id"]), sender, signer);
            diff.set_leaf(sender, Some(leaf));
            let mut after = tree.clone();
            after.merge(diff.into_changes());
            let context = context(&case, &after);
            let nodes = fresh.seal(after.view(), &[], &context, &mut rng).expect("keys");
            for (_, _, commit_secret) in open_for_all(&members, &after, sender, &nodes, &context) {
                assert_eq!(&commit_secret, fresh.commit_secret());
            }
            assert!(fresh.into_keys().belong_to(after.view()));
            assert!(after.parents_are_valid());
        }
    }
}
