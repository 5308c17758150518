//! Files about messages.

use corncrake_core::crypto::Secret;
use corncrake_core::crypto::hpke::HpkePrivateKey;
use corncrake_core::crypto::signature::{SignatureKey, SignaturePublicKey};
use corncrake_core::mls::Error;
use corncrake_core::mls::codec::{Decode, Encode, Reader};
use corncrake_core::mls::commit::Commit;
use corncrake_core::mls::extension::Extensions;
use corncrake_core::mls::framing::{
    Content, FramedContent, FramedContentAuthData, MlsMessage, PrivateMessage, PublicMessage,
    Sender, WireFormat,
};
use corncrake_core::mls::group_info::GroupContext;
use corncrake_core::mls::key_schedule::JoinerSecret;
use corncrake_core::mls::proposal::Proposal;
use corncrake_core::mls::secret_tree::{RatchetKind, SecretTree};
use corncrake_core::mls::tree::RatchetTree;
use corncrake_core::mls::tree_math::{LeafIndex, TreeSize};
use corncrake_core::mls::welcome::GroupSecrets;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;

use crate::load::{OURS, SAME_CURVES, bytes, cases, cases_of, digest, hidden, number};

#[test]
fn deserialization() {
    for case in cases("deserialization") {
        let header = bytes(&case["vlbytes_header"]);
        let mut reader = Reader::new(&header);
        assert_eq!(reader.varint().map(|len| len as u64), Ok(number(&case["length"])));
        assert!(reader.is_empty());
    }
}

#[test]
fn messages() {
    for case in cases("messages") {
        // These cases name no suite. Those of suites whose keys and hashes have other lengths than
        // ours are none of our messages: the types hold what our suites have.
        let suite = bytes(&case["mls_key_package"])[7];
        if !SAME_CURVES.contains(&suite.into()) {
            assert!(MlsMessage::decode_exact(&bytes(&case["mls_key_package"])).is_err());
            continue;
        }
        for field in [
            "mls_welcome",
            "mls_group_info",
            "mls_key_package",
            "public_message_application",
            "public_message_proposal",
            "public_message_commit",
            "private_message",
        ] {
            survives::<MlsMessage>(&bytes(&case[field]), &[]);
        }
        survives::<RatchetTree>(&bytes(&case["ratchet_tree"]), &[]);
        survives::<GroupSecrets>(&bytes(&case["group_secrets"]), &[]);
        survives::<Commit>(&bytes(&case["commit"]), &[]);
        for (number, field) in [
            (1, "add_proposal"),
            (2, "update_proposal"),
            (3, "remove_proposal"),
            (4, "pre_shared_key_proposal"),
            (5, "re_init_proposal"),
            (6, "external_init_proposal"),
            (7, "group_context_extensions_proposal"),
        ] {
            survives::<Proposal>(&bytes(&case[field]), &[0, number]);
        }
    }
}

/// Decodes `head` and `bytes` as one value, which must encode to the same again.
fn survives<T: Encode + Decode>(bytes: &[u8], head: &[u8]) {
    let bytes = [head, bytes].concat();
    assert_eq!(T::decode_exact(&bytes).unwrap().to_bytes(), bytes);
}

/// The keys of a message-protection case, all of it sent by leaf 1 of 2.
struct Protection {
    context: GroupContext,
    encryption_secret: Secret,
    sender_data_secret: Secret,
    membership_key: Secret,
    signer: SignatureKey,
    public: SignaturePublicKey,
}

const SENDER: LeafIndex = LeafIndex::new(1);

impl Protection {
    fn new(case: &Value) -> Self {
        Self {
            context: GroupContext {
                cipher_suite: number(&case["cipher_suite"]).try_into().unwrap(),
                group_id: bytes(&case["group_id"]),
                epoch: number(&case["epoch"]),
                tree_hash: digest(&case["tree_hash"]),
                confirmed_transcript_hash: bytes(&case["confirmed_transcript_hash"]),
                extensions: Extensions::default(),
            },
            encryption_secret: hidden(&case["encryption_secret"]),
            sender_data_secret: hidden(&case["sender_data_secret"]),
            membership_key: hidden(&case["membership_key"]),
            signer: SignatureKey::try_from_seed(&bytes(&case["signature_priv"])).unwrap(),
            public: SignaturePublicKey::from_bytes(
                bytes(&case["signature_pub"]).try_into().unwrap(),
            ),
        }
    }

    fn content(&self, content: Content) -> FramedContent {
        FramedContent {
            group_id: self.context.group_id.clone(),
            epoch: self.context.epoch,
            sender: Sender::Member(SENDER),
            authenticated_data: Vec::new(),
            content,
        }
    }

    fn auth(&self, content: &FramedContent, format: WireFormat) -> FramedContentAuthData {
        let commit = matches!(content.content, Content::Commit(_));
        FramedContentAuthData {
            signature: content.sign(format, &self.context, &self.signer),
            confirmation_tag: commit.then(Default::default),
        }
    }

    fn check_public(&self, message: &PublicMessage, expected: &Content) {
        message.verify_membership_tag(&self.membership_key, &self.context).unwrap();
        message.authenticated().verify_signature(&self.context, &self.public).unwrap();
        assert_eq!(&message.content.content, expected);
        let mut forged = message.clone();
        forged.content.authenticated_data.push(1);
        let refused = forged.verify_membership_tag(&self.membership_key, &self.context);
        assert_eq!(refused, Err(Error::InvalidMembershipTag));
        let refused = forged.authenticated().verify_signature(&self.context, &self.public);
        assert_eq!(refused, Err(Error::InvalidSignature));
    }

    fn check_private(&self, message: &PrivateMessage, expected: &Content) {
        let sender_data = message.sender_data(&self.sender_data_secret).unwrap();
        assert_eq!(sender_data.leaf_index, SENDER);
        let step = self.tree().key(SENDER, kind(expected), sender_data.generation).unwrap();
        let opened = message.open(sender_data, &step.key).unwrap();
        opened.verify_signature(&self.context, &self.public).unwrap();
        assert_eq!(&opened.content.content, expected);
        let mut forged = message.clone();
        forged.authenticated_data.push(1);
        assert_eq!(forged.open(sender_data, &step.key), Err(Error::Decryption));
    }

    fn tree(&self) -> SecretTree {
        let size = TreeSize::holding(SENDER).unwrap();
        SecretTree::new(size, self.encryption_secret.clone())
    }
}

fn kind(content: &Content) -> RatchetKind {
    match content {
        Content::Application(_) => RatchetKind::Application,
        Content::Proposal(_) | Content::Commit(_) => RatchetKind::Handshake,
    }
}

fn public(bytes: &[u8]) -> PublicMessage {
    match MlsMessage::decode_exact(bytes).unwrap() {
        MlsMessage::Public(message) => *message,
        other => panic!("not a public message: {other:?}"),
    }
}

fn private(bytes: &[u8]) -> PrivateMessage {
    match MlsMessage::decode_exact(bytes).unwrap() {
        MlsMessage::Private(message) => message,
        other => panic!("not a private message: {other:?}"),
    }
}

#[test]
fn message_protection() {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    for case in cases_of("message-protection", OURS) {
        let keys = Protection::new(&case);
        let proposal =
            Content::Proposal(Proposal::decode_exact(&bytes(&case["proposal"])).unwrap());
        let commit =
            Content::Commit(Box::new(Commit::decode_exact(&bytes(&case["commit"])).unwrap()));
        let application = Content::Application(bytes(&case["application"]));
        keys.check_public(&public(&bytes(&case["proposal_pub"])), &proposal);
        keys.check_public(&public(&bytes(&case["commit_pub"])), &commit);
        keys.check_private(&private(&bytes(&case["proposal_priv"])), &proposal);
        keys.check_private(&private(&bytes(&case["commit_priv"])), &commit);
        keys.check_private(&private(&bytes(&case["application_priv"])), &application);

        for raw in [proposal, commit, application] {
            let content = keys.content(raw.clone());
            let auth = keys.auth(&content, WireFormat::PublicMessage);
            let protected =
                PublicMessage::protect(content.clone(), auth, &keys.membership_key, &keys.context);
            match &raw {
                Content::Application(_) => assert_eq!(protected, Err(Error::Unsupported)),
                _ => keys.check_public(&protected.unwrap(), &raw),
            }
            let auth = keys.auth(&content, WireFormat::PrivateMessage);
            let step = keys.tree().next_key(SENDER, kind(&raw)).unwrap();
            let secret = &keys.sender_data_secret;
            let message =
                PrivateMessage::protect(&content, &auth, &step.key, secret, &mut rng).unwrap();
            keys.check_private(&message, &raw);
        }
    }
}

#[test]
fn welcome() {
    for case in cases_of("welcome", OURS) {
        let MlsMessage::KeyPackage(package) =
            MlsMessage::decode_exact(&bytes(&case["key_package"])).unwrap()
        else {
            panic!("not a key package")
        };
        let MlsMessage::Welcome(welcome) =
            MlsMessage::decode_exact(&bytes(&case["welcome"])).unwrap()
        else {
            panic!("not a welcome")
        };
        let init = HpkePrivateKey::try_from_bytes(&bytes(&case["init_priv"])).unwrap();
        let secrets = welcome.open_secrets(&package, &init).unwrap();
        let member = JoinerSecret(secrets.joiner_secret).member(&Secret::zeros(32));
        let info = welcome.open_info(&member).unwrap();
        let signer = SignaturePublicKey::from_bytes(bytes(&case["signer_pub"]).try_into().unwrap());
        info.verify(&signer).unwrap();
        let new = member.epoch(&info.context.to_bytes()).unwrap();
        new.secrets.verify_confirmation_tag(&info.context, &info.confirmation_tag).unwrap();
    }
}
