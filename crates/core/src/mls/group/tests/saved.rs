//! What is saved, and what is not.

use super::*;
use crate::golden::{assert_golden, assert_golden_hex};

#[test]
fn a_used_message_key_is_gone_from_what_is_saved() {
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let mut members = party(2, &mut rng);
    let (signer, ann) = &mut members[0];
    let message = private(&ann.encrypt(b"secret", b"", signer, &mut rng).unwrap());
    let mut store: std::collections::BTreeMap<_, _> = image(&members[1].1).into_iter().collect();
    members[1].1.decrypt(&message).unwrap();
    store.extend(members[1].1.take_changes());
    let saved = store.into_iter().filter_map(|(id, bytes)| Some((id, bytes?)));
    let mut restored = Group::load(saved).unwrap();
    assert_eq!(restored.decrypt(&message), Err(Error::Decryption));
    assert_eq!(image(&restored), image(&members[1].1));
}

#[test]
fn a_message_writes_one_small_part() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let mut members = party(9, &mut rng);
    let (signer, ann) = &mut members[0];
    ann.encrypt(b"first", b"", signer, &mut rng).unwrap();
    // Four levels: the root goes, four siblings come, and the ratchet.
    assert_eq!(ann.take_changes().len(), 6);
    ann.encrypt(b"second", b"", signer, &mut rng).unwrap();
    let changes = ann.take_changes();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].1.as_ref().unwrap().len() < 100);
}

#[test]
fn saved_parts_that_do_not_fit_are_refused() {
    let mut rng = ChaCha20Rng::seed_from_u64(12);
    let members = party(3, &mut rng);
    let parts = |group: &Group| -> Vec<_> {
        image(group).into_iter().filter_map(|(id, bytes)| Some((id, bytes?))).collect()
    };
    let (ann, bob) = (parts(&members[0].1), parts(&members[1].1));
    assert!(Group::load(ann.clone()).is_ok());
    for left_out in 0..ann.len() {
        let some = ann.iter().enumerate().filter(|(at, _)| *at != left_out);
        let loaded = Group::load(some.map(|(_, part)| part.clone()));
        // Without a secret of the secret tree there is a group that can't hear everybody.
        assert!(loaded.is_ok() == (ann[left_out].0.kind == 0x11));
    }
    for at in 0..ann.len() {
        let mut parts = ann.clone();
        parts[at].1[0] ^= 1;
        assert_eq!(Group::load(parts).err(), Some(Error::CorruptState), "version");
        let mut parts = ann.clone();
        parts[at].1.push(0);
        assert_eq!(Group::load(parts).err(), Some(Error::CorruptState), "length");
    }
    // Another member's keys fit the same tree; those of another group don't.
    let other = parts_of_another_group(&mut rng);
    assert!(Group::load(bob).is_ok());
    let mixed = ann.iter().map(|(id, bytes)| {
        let epoch = id.kind == 0x10;
        (*id, if epoch { other.clone() } else { bytes.clone() })
    });
    assert_eq!(Group::load(mixed).err(), Some(Error::CorruptState));
}

fn parts_of_another_group(rng: &mut ChaCha20Rng) -> Vec<u8> {
    let parts = image(&party(3, rng)[0].1);
    parts.into_iter().find(|(id, _)| id.kind == 0x10).unwrap().1.unwrap()
}

#[test]
fn debug_output_shows_no_secret() {
    let mut rng = ChaCha20Rng::seed_from_u64(13);
    let mut members = party(2, &mut rng);
    let (signer, ann) = &mut members[0];
    let message = private(&ann.encrypt(b"hello", b"", signer, &mut rng).unwrap());
    let received = members[1].1.decrypt(&message).unwrap();
    let shown = format!("{received:?}");
    assert_eq!(shown, "Received { sender: leaf 0, generation: 0, .. }");
    assert!(format!("{:?}", members[0].1.secrets).contains("init: Secret(..)"));
    let key = format!("{:?}", members[0].1.keys.leaf());
    assert!(key.starts_with("HpkePrivateKey(HpkePublicKey("));
}

#[test]
fn saved_parts_are_golden() {
    let mut rng = ChaCha20Rng::seed_from_u64(14);
    let mut members = party(3, &mut rng);
    let (signer, ann) = &mut members[0];
    ann.encrypt(b"hello", b"", signer, &mut rng).unwrap();
    let parts = image(ann).into_iter().filter_map(|(id, bytes)| {
        let bytes = hex::encode(bytes?);
        Some(format!("{:02x} {} {bytes}\n", id.kind, id.index))
    });
    assert_golden("group_parts.txt", parts.collect::<String>().as_bytes());
    let (_, package, _) = package(7, &mut rng);
    let plan = CommitPlan { adds: vec![package], ..CommitPlan::default() };
    let pending = ann.commit(plan, signer, &mut rng).unwrap();
    assert_golden_hex("pending_commit.hex", &pending.to_bytes());
}
