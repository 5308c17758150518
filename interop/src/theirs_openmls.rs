//! OpenMLS on RustCrypto; it writes to its memory store with each call.

use openmls::prelude::{
    tls_codec::{Deserialize as _, Serialize as _},
    *,
};
use openmls::treesync::LeafNodeParameters;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

use crate::Peer;

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

pub(crate) struct Member {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    group: MlsGroup,
}

pub(crate) struct Newcomer {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
}

fn identity(provider: &OpenMlsRustCrypto) -> (CredentialWithKey, SignatureKeyPair) {
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap();
    signer.store(provider.storage()).unwrap();
    let credential = BasicCredential::new(signer.public().to_vec()).into();
    (CredentialWithKey { credential, signature_key: signer.public().into() }, signer)
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder().wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY).build()
}

fn message(bytes: &[u8]) -> MlsMessageIn {
    MlsMessageIn::tls_deserialize_exact(bytes).unwrap()
}

impl Peer for Member {
    type Newcomer = Newcomer;

    fn party(size: usize) -> [Self; 2] {
        let provider = OpenMlsRustCrypto::default();
        let (credential, signer) = identity(&provider);
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .build();
        let group = MlsGroup::new(&provider, &signer, &config, credential).unwrap();
        let mut founder = Self { provider, signer, group };
        let mut last = None;
        for _ in 1..size {
            let crypto = founder.provider.crypto();
            let info = founder.group.export_group_info(crypto, &founder.signer, true).unwrap();
            let info = info.tls_serialize_detached().unwrap();
            let MlsMessageBodyIn::GroupInfo(info) = message(&info).extract() else {
                panic!("a GroupInfo is a GroupInfo");
            };
            let provider = OpenMlsRustCrypto::default();
            let (credential, signer) = identity(&provider);
            let (group, commit) = MlsGroup::external_commit_builder()
                .with_config(join_config())
                .build_group(&provider, info, credential)
                .unwrap()
                .load_psks(provider.storage())
                .unwrap()
                .build(provider.rand(), provider.crypto(), &signer, |_| true)
                .unwrap()
                .finalize(&provider)
                .unwrap();
            founder.process(&commit.into_commit().tls_serialize_detached().unwrap());
            last = Some(Self { provider, signer, group });
        }
        [founder, last.unwrap()]
    }

    fn update(&mut self) -> Vec<u8> {
        let parameters = LeafNodeParameters::default();
        let bundle = self.group.self_update(&self.provider, &self.signer, parameters).unwrap();
        bundle.into_commit().tls_serialize_detached().unwrap()
    }

    fn merge(&mut self) {
        self.group.merge_pending_commit(&self.provider).unwrap();
    }

    fn process(&mut self, commit: &[u8]) {
        let commit = message(commit).try_into_protocol_message().unwrap();
        let processed = self.group.process_message(&self.provider, commit).unwrap();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            panic!("a commit is a commit");
        };
        self.group.merge_staged_commit(&self.provider, *staged).unwrap();
    }

    fn encrypt(&mut self, content: &[u8]) -> Vec<u8> {
        let message = self.group.create_message(&self.provider, &self.signer, content).unwrap();
        message.tls_serialize_detached().unwrap()
    }

    fn decrypt(&mut self, bytes: &[u8]) -> Vec<u8> {
        let sealed = message(bytes).try_into_protocol_message().unwrap();
        let processed = self.group.process_message(&self.provider, sealed).unwrap();
        let ProcessedMessageContent::ApplicationMessage(opened) = processed.into_content() else {
            panic!("a message is a message");
        };
        opened.into_bytes()
    }

    fn newcomer() -> (Newcomer, Vec<u8>) {
        let provider = OpenMlsRustCrypto::default();
        let (credential, signer) = identity(&provider);
        let bundle = KeyPackage::builder().build(SUITE, &provider, &signer, credential).unwrap();
        let package = bundle.key_package().tls_serialize_detached().unwrap();
        (Newcomer { provider, signer }, package)
    }

    fn add(&mut self, package: &[u8]) -> Vec<u8> {
        let package = KeyPackageIn::tls_deserialize_exact(package).unwrap();
        let package = package.validate(self.provider.crypto(), ProtocolVersion::Mls10).unwrap();
        let (commit, welcome, _) =
            self.group.add_members(&self.provider, &self.signer, &[package]).unwrap();
        commit.tls_serialize_detached().unwrap();
        welcome.tls_serialize_detached().unwrap()
    }

    fn tree_and_forget(&mut self) -> Vec<u8> {
        let before = self.group.export_ratchet_tree();
        let staged = self.group.pending_commit().unwrap();
        let tree = staged.export_ratchet_tree(self.provider.crypto(), before).unwrap().unwrap();
        self.group.clear_pending_commit(self.provider.storage()).unwrap();
        tree.tls_serialize_detached().unwrap()
    }

    fn join(newcomer: Newcomer, welcome: &[u8], tree: &[u8]) -> Self {
        let Newcomer { provider, signer } = newcomer;
        let MlsMessageBodyIn::Welcome(welcome) = message(welcome).extract() else {
            panic!("a Welcome is a Welcome");
        };
        let tree = RatchetTreeIn::tls_deserialize_exact(tree).unwrap();
        let group = StagedWelcome::new_from_welcome(&provider, &join_config(), welcome, Some(tree))
            .unwrap()
            .into_group(&provider)
            .unwrap();
        Self { provider, signer, group }
    }
}
