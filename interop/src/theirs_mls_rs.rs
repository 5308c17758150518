//! mls-rs on RustCrypto and on AWS-LC; it keeps its state in memory until it is told to write.

use mls_rs::{
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, ExtensionList, Group, MlsMessage,
    client_builder::{BaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules},
    group::{ExportedTree, ReceivedMessage},
    identity::{
        SigningIdentity,
        basic::{BasicCredential, BasicIdentityProvider},
    },
    mls_rules::{CommitOptions, DefaultMlsRules},
};
use mls_rs_crypto_awslc::AwsLcCryptoProvider;
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

use crate::Peer;

const SUITE: CipherSuite = CipherSuite::CURVE25519_CHACHA;

type Config<C> = WithMlsRules<
    DefaultMlsRules,
    WithCryptoProvider<C, WithIdentityProvider<BasicIdentityProvider, BaseConfig>>,
>;

pub(crate) struct Member<C: CryptoProvider + Clone + Default> {
    group: Group<Config<C>>,
    tree: Option<ExportedTree<'static>>,
}

pub(crate) type RustCrypto = Member<RustCryptoProvider>;
pub(crate) type AwsLc = Member<AwsLcCryptoProvider>;

fn client<C: CryptoProvider + Clone + Default>() -> Client<Config<C>> {
    let crypto = C::default();
    let suite = crypto.cipher_suite_provider(SUITE).unwrap();
    let Ok((secret, public)) = suite.signature_key_generate() else {
        panic!("a signature key");
    };
    let credential = BasicCredential::new(public.to_vec()).into_credential();
    let options = CommitOptions::new().with_ratchet_tree_extension(false).with_path_required(true);
    Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(crypto)
        .mls_rules(DefaultMlsRules::new().with_commit_options(options))
        .signing_identity(SigningIdentity::new(credential, public), secret, SUITE)
        .build()
}

impl<C: CryptoProvider + Clone + Default> Peer for Member<C> {
    type Newcomer = Client<Config<C>>;

    fn party(size: usize) -> [Self; 2] {
        let none = ExtensionList::default;
        let group = client::<C>().create_group(none(), none(), None).unwrap();
        let mut founder = Self { group, tree: None };
        let mut last = None;
        for _ in 1..size {
            let info = founder.group.group_info_message_allowing_ext_commit(true).unwrap();
            let (group, commit) = client::<C>().commit_external(info).unwrap();
            founder.process(&commit.to_bytes().unwrap());
            last = Some(Self { group, tree: None });
        }
        [founder, last.unwrap()]
    }

    fn update(&mut self) -> Vec<u8> {
        self.group.commit(Vec::new()).unwrap().commit_message.to_bytes().unwrap()
    }

    fn merge(&mut self) {
        self.group.apply_pending_commit().unwrap();
    }

    fn process(&mut self, commit: &[u8]) {
        let commit = MlsMessage::from_bytes(commit).unwrap();
        self.group.process_incoming_message(commit).unwrap();
    }

    fn encrypt(&mut self, content: &[u8]) -> Vec<u8> {
        let sealed = self.group.encrypt_application_message(content, Vec::new()).unwrap();
        sealed.to_bytes().unwrap()
    }

    fn decrypt(&mut self, message: &[u8]) -> Vec<u8> {
        let sealed = MlsMessage::from_bytes(message).unwrap();
        let ReceivedMessage::ApplicationMessage(opened) =
            self.group.process_incoming_message(sealed).unwrap()
        else {
            panic!("a message is a message");
        };
        opened.data().to_vec()
    }

    fn newcomer() -> (Client<Config<C>>, Vec<u8>) {
        let client = client::<C>();
        let none = ExtensionList::default;
        let package = client.generate_key_package_message(none(), none(), None).unwrap();
        (client, package.to_bytes().unwrap())
    }

    fn add(&mut self, package: &[u8]) -> Vec<u8> {
        let package = MlsMessage::from_bytes(package).unwrap();
        let output = self.group.commit_builder().add_member(package).unwrap().build().unwrap();
        output.commit_message.to_bytes().unwrap();
        let welcome = output.welcome_messages[0].to_bytes().unwrap();
        self.tree = output.ratchet_tree;
        welcome
    }

    fn tree_and_forget(&mut self) -> Vec<u8> {
        self.group.clear_pending_commit();
        self.tree.take().unwrap().to_bytes().unwrap()
    }

    fn join(newcomer: Client<Config<C>>, welcome: &[u8], tree: &[u8]) -> Self {
        let welcome = MlsMessage::from_bytes(welcome).unwrap();
        let tree = ExportedTree::from_bytes(tree).unwrap();
        let (group, _) = newcomer.join_group(Some(tree), &welcome, None).unwrap();
        Self { group, tree: None }
    }
}
