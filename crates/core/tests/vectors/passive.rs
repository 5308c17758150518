//! passive-client-welcome, passive-client-handling-commit.

use std::collections::BTreeMap;

use corncrake_core::crypto::Secret;
use corncrake_core::crypto::hpke::HpkePrivateKey;
use corncrake_core::crypto::signature::SignatureKey;
use corncrake_core::mls::codec::Decode;
use corncrake_core::mls::extension::ExtensionType;
use corncrake_core::mls::framing::{AuthenticatedContent, MlsMessage};
use corncrake_core::mls::group::{Group, OpenedWelcome};
use corncrake_core::mls::key_package::KeyPackageKeys;
use corncrake_core::mls::psk::{PskSource, ResumptionUsage};
use corncrake_core::mls::public_group::{ProposalCache, PublicGroup};
use corncrake_core::mls::tree::RatchetTree;
use serde_json::Value;

use crate::load::{bytes, cases_of, list};

/// The pre-shared keys of a case, and those that the group's epochs leave behind.
struct Psks {
    external: Vec<(Vec<u8>, Secret)>,
    resumption: Vec<(u64, Secret)>,
}

impl Psks {
    fn of(case: &Value) -> Self {
        let external = list(&case["external_psks"])
            .iter()
            .map(|psk| (bytes(&psk["psk_id"]), Secret::from(bytes(&psk["psk"]))))
            .collect();
        Self { external, resumption: Vec::new() }
    }

    fn find(&self, source: &PskSource) -> Option<Secret> {
        match source {
            PskSource::External { psk_id } => {
                let mut known = self.external.iter();
                known.find(|(id, _)| id == psk_id).map(|(_, psk)| psk.clone())
            }
            PskSource::Resumption { usage, epoch, .. } => {
                assert_eq!(*usage, ResumptionUsage::Application);
                let mut known = self.resumption.iter();
                known.find(|(of, _)| of == epoch).map(|(_, psk)| psk.clone())
            }
        }
    }
}

fn join(case: &Value, psks: &Psks) -> Group {
    let message = MlsMessage::decode_exact(&bytes(&case["key_package"])).expect("a message");
    let MlsMessage::KeyPackage(package) = message else { panic!("a key package") };
    let key = |field: &str| HpkePrivateKey::try_from_bytes(&bytes(&case[field])).expect("a key");
    let keys = KeyPackageKeys { init: key("init_priv"), leaf: key("encryption_priv") };
    let signer = SignatureKey::try_from_seed(&bytes(&case["signature_priv"])).expect("a key");
    assert!(keys.init.matches(&package.init_key));
    assert!(keys.leaf.matches(&package.leaf_node.encryption_key));
    assert_eq!(signer.public(), package.leaf_node.signature_key);

    let message = MlsMessage::decode_exact(&bytes(&case["welcome"])).expect("a message");
    let MlsMessage::Welcome(welcome) = message else { panic!("a welcome") };
    let opened = OpenedWelcome::open(&welcome, &package, &keys, &|source| psks.find(source));
    let opened = opened.expect("a welcome for us");
    let info = opened.group_info();
    let tree: Option<RatchetTree> =
        info.extensions.parsed(ExtensionType::RATCHET_TREE).expect("a tree");
    let tree = tree.unwrap_or_else(|| {
        RatchetTree::decode_exact(&bytes(&case["ratchet_tree"])).expect("a tree")
    });
    let public = PublicGroup::from_info(info, tree).expect("a valid group");
    opened.join(public).expect("a group")
}

/// A message of the group, its wrapper checked and taken off.
fn unwrap(group: &mut Group, message: &Value) -> AuthenticatedContent {
    match MlsMessage::decode_exact(&bytes(message)).expect("a message") {
        MlsMessage::Public(message) => {
            group.verify_membership(&message).expect("a member's message");
            message.authenticated()
        }
        MlsMessage::Private(message) => group.decrypt_handshake(&message).expect("it opens"),
        other => panic!("unexpected {other:?}"),
    }
}

fn follow(file: &str) {
    for case in cases_of(file, &[3]) {
        let mut psks = Psks::of(&case);
        let mut group = join(&case, &psks);
        let mut saved = BTreeMap::new();
        let initial = bytes(&case["initial_epoch_authenticator"]);
        assert_eq!(group.epoch_authenticator().expose(), initial);
        for epoch in list(&case["epochs"]) {
            psks.resumption.push((group.public().epoch(), group.resumption_psk().clone()));
            let mut cache = ProposalCache::default();
            for proposal in list(&epoch["proposals"]) {
                let content = unwrap(&mut group, proposal);
                group.public().cache_proposal(&content, &mut cache).expect("a valid proposal");
            }
            let content = unwrap(&mut group, &epoch["commit"]);
            let verified = group.public().verify_commit_with(content, &cache);
            let staged = group.public().stage(verified.expect("a valid commit"));
            let staged = staged.expect("parent hashes that fit");
            let finished = group.finish_decrypted(staged, &|source| psks.find(source));
            group.merge(finished.expect("secrets that fit")).expect("the same epoch");
            let expected = bytes(&epoch["epoch_authenticator"]);
            assert_eq!(group.epoch_authenticator().expose(), expected);

            for (part, bytes) in group.take_changes() {
                match bytes {
                    Some(bytes) => drop(saved.insert(part, bytes)),
                    None => drop(saved.remove(&part)),
                }
            }
            let loaded = Group::load(saved.clone()).expect("saved parts");
            assert_eq!(loaded.epoch_authenticator().expose(), expected);
        }
    }
}

#[test]
fn passive_client_welcome() {
    follow("passive-client-welcome");
}

#[test]
fn passive_client_handling_commit() {
    follow("passive-client-handling-commit");
}
