//! Files about derivations.

use corncrake_core::crypto::hpke::{
    self, HpkeCiphertext, HpkePrivateKey, HpkePublicKey, decrypt_with_label,
};
use corncrake_core::crypto::signature::{SignatureKey, SignaturePublicKey};
use corncrake_core::crypto::{Secret, kdf};
use corncrake_core::mls::codec::{Decode, Encode};
use corncrake_core::mls::extension::Extensions;
use corncrake_core::mls::framing::private::sender_data_key;
use corncrake_core::mls::framing::{AuthenticatedContent, Content};
use corncrake_core::mls::group_info::GroupContext;
use corncrake_core::mls::key_schedule::JoinerSecret;
use corncrake_core::mls::psk::{PreSharedKeyId, PskSource, psk_secret as chain};
use corncrake_core::mls::secret_tree::{RatchetKind, SecretTree};
use corncrake_core::mls::transcript;
use corncrake_core::mls::tree_math::{LeafIndex, TreeSize};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::Value;

use crate::load::{
    OURS, SAME_CURVES, SAME_HASH, bytes, cases_of, digest, hidden, list, number, text,
};

#[test]
fn crypto_basics() {
    for case in cases_of("crypto-basics", OURS) {
        let it = &case["ref_hash"];
        assert_eq!(kdf::ref_hash(text(&it["label"]), &bytes(&it["value"])), digest(&it["out"]));
        let it = &case["expand_with_label"];
        let (secret, context) = (hidden(&it["secret"]), bytes(&it["context"]));
        let out =
            kdf::expand_with_label(&secret, text(&it["label"]), &context, length(it)).unwrap();
        assert_eq!(out, hidden(&it["out"]));
        let it = &case["derive_secret"];
        let out = kdf::derive_secret(&hidden(&it["secret"]), text(&it["label"])).unwrap();
        assert_eq!(out, hidden(&it["out"]));
        let it = &case["derive_tree_secret"];
        let generation = number(&it["generation"]).try_into().unwrap();
        let secret = hidden(&it["secret"]);
        let out = kdf::derive_tree_secret(&secret, text(&it["label"]), generation, length(it));
        assert_eq!(out.unwrap(), hidden(&it["out"]));
        sign_with_label(&case["sign_with_label"]);
        encrypt_with_label(&case["encrypt_with_label"]);
    }
}

fn length(case: &Value) -> usize {
    number(&case["length"]).try_into().unwrap()
}

fn sign_with_label(it: &Value) {
    let key = SignatureKey::try_from_seed(&bytes(&it["priv"])).unwrap();
    let public = SignaturePublicKey::from_bytes(bytes(&it["pub"]).try_into().unwrap());
    assert_eq!(key.public(), public);
    let (content, signature) = (bytes(&it["content"]), bytes(&it["signature"]));
    public.verify_with_label(text(&it["label"]), &content, &signature).unwrap();
    assert_eq!(key.sign_with_label(text(&it["label"]), &content), signature);
    assert!(public.verify_with_label("other", &content, &signature).is_err());
}

fn encrypt_with_label(it: &Value) {
    let private = HpkePrivateKey::try_from_bytes(&bytes(&it["priv"])).unwrap();
    let public = HpkePublicKey::from_bytes(bytes(&it["pub"]));
    assert!(private.matches(&public));
    let (label, context) = (text(&it["label"]), bytes(&it["context"]));
    let sealed = HpkeCiphertext {
        kem_output: bytes(&it["kem_output"]),
        ciphertext: bytes(&it["ciphertext"]),
    };
    let plaintext = hidden(&it["plaintext"]);
    assert_eq!(decrypt_with_label(&private, label, &context, &sealed).unwrap(), plaintext);
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let ours =
        hpke::encrypt_with_label(&public, label, &context, plaintext.expose(), &mut rng).unwrap();
    assert_eq!(decrypt_with_label(&private, label, &context, &ours).unwrap(), plaintext);
    assert!(decrypt_with_label(&private, label, b"other", &ours).is_err());
}

#[test]
fn secret_tree() {
    for case in cases_of("secret-tree", OURS) {
        let it = &case["sender_data"];
        let secret = hidden(&it["sender_data_secret"]);
        let (key, nonce) = sender_data_key(&secret, &bytes(&it["ciphertext"])).unwrap();
        assert_eq!(key, hidden(&it["key"]));
        assert_eq!(nonce.as_slice(), bytes(&it["nonce"]));

        let leaves = list(&case["leaves"]);
        let last = LeafIndex::new(u32::try_from(leaves.len()).unwrap() - 1);
        let size = TreeSize::holding(last).unwrap();
        let mut tree = SecretTree::new(size, hidden(&case["encryption_secret"]));
        for (index, generations) in leaves.iter().enumerate() {
            let leaf = LeafIndex::new(index.try_into().unwrap());
            for it in generations.as_array().unwrap() {
                for (kind, name) in [
                    (RatchetKind::Handshake, "handshake"),
                    (RatchetKind::Application, "application"),
                ] {
                    let generation = it["generation"].as_u64().unwrap().try_into().unwrap();
                    let step = tree.key(leaf, kind, generation).unwrap();
                    let hex = |part: &str| it[format!("{name}_{part}")].as_str().unwrap();
                    assert_eq!(hex::encode(step.key.key.expose()), hex("key"));
                    assert_eq!(hex::encode(step.key.nonce), hex("nonce"));
                    tree.advance(step);
                }
            }
        }
    }
}

#[test]
fn key_schedule() {
    for case in cases_of("key-schedule", SAME_CURVES) {
        let mut init = hidden(&case["initial_init_secret"]);
        for (epoch, it) in (0..).zip(list(&case["epochs"])) {
            let context = GroupContext {
                cipher_suite: number(&case["cipher_suite"]).try_into().unwrap(),
                group_id: bytes(&case["group_id"]),
                epoch,
                tree_hash: digest(&it["tree_hash"]),
                confirmed_transcript_hash: bytes(&it["confirmed_transcript_hash"]),
                extensions: Extensions::default(),
            };
            let encoded = context.to_bytes();
            assert_eq!(encoded, bytes(&it["group_context"]));
            assert_eq!(GroupContext::decode_exact(&encoded), Ok(context));
            let joiner =
                JoinerSecret::derive(&init, &hidden(&it["commit_secret"]), &encoded).unwrap();
            assert_eq!(joiner.0, hidden(&it["joiner_secret"]));
            let member = joiner.member(&hidden(&it["psk_secret"]));
            assert_eq!(member.welcome().unwrap(), hidden(&it["welcome_secret"]));
            let new = member.epoch(&encoded).unwrap();
            assert_eq!(new.encryption, hidden(&it["encryption_secret"]));
            let secrets = new.secrets;
            assert_eq!(secrets.init, hidden(&it["init_secret"]));
            assert_eq!(secrets.sender_data, hidden(&it["sender_data_secret"]));
            assert_eq!(secrets.exporter, hidden(&it["exporter_secret"]));
            assert_eq!(secrets.authenticator, hidden(&it["epoch_authenticator"]));
            assert_eq!(secrets.external, hidden(&it["external_secret"]));
            assert_eq!(secrets.confirmation, hidden(&it["confirmation_key"]));
            assert_eq!(secrets.membership, hidden(&it["membership_key"]));
            assert_eq!(secrets.resumption, hidden(&it["resumption_psk"]));
            let external = secrets.external_key().unwrap().public();
            assert_eq!(external.as_bytes(), bytes(&it["external_pub"]));
            let exporter = &it["exporter"];
            let context = bytes(&exporter["context"]);
            let out = secrets.export(text(&exporter["label"]), &context, length(exporter)).unwrap();
            assert_eq!(out, hidden(&exporter["secret"]));
            init = secrets.init;
        }
    }
}

#[test]
fn psk_secret() {
    for case in cases_of("psk_secret", SAME_HASH) {
        let psks: Vec<(PreSharedKeyId, Secret)> = list(&case["psks"])
            .iter()
            .map(|it| {
                let source = PskSource::External { psk_id: bytes(&it["psk_id"]) };
                (PreSharedKeyId { source, nonce: bytes(&it["psk_nonce"]) }, hidden(&it["psk"]))
            })
            .collect();
        assert_eq!(chain(&psks).unwrap(), hidden(&case["psk_secret"]));
    }
}

#[test]
fn transcript_hashes() {
    for case in cases_of("transcript-hashes", SAME_CURVES) {
        let message =
            AuthenticatedContent::decode_exact(&bytes(&case["authenticated_content"])).unwrap();
        assert!(matches!(message.content.content, Content::Commit(_)));
        let confirmed = transcript::confirmed(
            &bytes(&case["interim_transcript_hash_before"]),
            message.wire_format,
            &message.content,
            &message.auth.signature,
        );
        assert_eq!(confirmed, digest(&case["confirmed_transcript_hash_after"]));
        let tag = message.auth.confirmation_tag.unwrap();
        let key = hidden(&case["confirmation_key"]);
        assert!(kdf::mac_matches(&key, &[confirmed.as_bytes()], tag.as_bytes()));
        let interim = transcript::interim(confirmed.as_bytes(), &tag);
        assert_eq!(interim, digest(&case["interim_transcript_hash_after"]));
    }
}
