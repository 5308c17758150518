//! The formats of entries, states and saved parts: golden files, and garbage for each decoder.

use std::collections::BTreeSet;

use super::handover::Place;
use super::*;
use crate::golden::{assert_golden_hex, feed_garbage, rng};
use crate::id::InboxId;
use crate::identity::{Certificate, DeviceClass, IdentityKey, KeyChain};
use crate::mls::codec::{Decode, Encode};
use crate::mls::framing::MlsMessage;
use crate::mls::key_package::KeyPackage;
use crate::mls::tree_math::LeafIndex;
use crate::seal::envelope::entry_id;

/// A device of an account of its own.
struct Person {
    account: AccountId,
    key: SignatureKey,
    certificate: Vec<u8>,
}

impl Person {
    fn new(n: u8) -> Self {
        let identity = IdentityKey::generate(&mut rng(n));
        let chain = KeyChain::begin(&identity);
        let key = SignatureKey::generate(&mut rng(n + 100));
        let class = DeviceClass::Person;
        let certificate = Certificate::issue(&identity, &chain, &key.public(), 1, &class);
        Self { account: chain.account_id(), key, certificate: certificate.unwrap() }
    }

    fn me(&self) -> Me<'_> {
        Me { account: self.account, device_key: &self.key, certificate: &self.certificate }
    }
}

/// Reads inner bytes as the next entry.
fn read(chat: &mut Conversation, inner: &[u8], own: Option<OwnEntry<'_>>) -> Reading {
    let kind = match Entry::decode(inner) {
        Ok(entry) => entry.kind(),
        Err(_) => EntryKind::Commit,
    };
    chat.read(LogItem {
        position: chat.position() + 1,
        id: entry_id(inner),
        kind,
        inner: Some(inner),
        own,
    })
}

/// Ann, who added Bob, and what came of it.
struct Pair {
    ann: Person,
    chat: Conversation,
    opening: State,
    package: Vec<u8>,
    founding: OwnCommit,
    message: Vec<u8>,
}

fn pair() -> Pair {
    let (ann, bob) = (Person::new(1), Person::new(2));
    let seed = Seed::from_key(Key32::from_bytes([3; 32]));
    let log = seed.log_keys().log;
    let id = seed.conversation_id();
    let context = ContextExtension::group(ann.account, "Meadow");
    let mut rng = rng(4);
    let founded = Conversation::found(&ann.me(), id, context, log, &mut rng);
    let (mut chat, opening) = founded.unwrap();
    let lifetime = Lifetime { not_before: 1_000, not_after: 2_000 };
    let inbox = InboxId::from_bytes([5; 32]);
    let package = new_key_package(&bob.me(), inbox, lifetime, Use::LastResort, &mut rng).bytes;
    let claimed = check_claimed(&package, bob.account, 1_500).unwrap();
    let founding = chat.commit(Change::add(vec![claimed]), &ann.me(), &mut rng);
    let founding = founding.unwrap();
    let expected = (KeyPackage::decode_exact(&package).unwrap(), inbox);
    assert_eq!(added(&founding.inner), [expected]);
    let own = OwnEntry::Commit(founding.pending.expose());
    let reading = read(&mut chat, &founding.inner, Some(own));
    assert!(matches!(reading, Reading::Commit(_)), "{reading:?}");
    let message = chat.seal_message(b"hello", &ann.me(), &mut rng).unwrap();
    Pair { ann, chat, opening, package, founding, message }
}

fn handover(pair: &Pair) -> Vec<u8> {
    let place = Place {
        group: pair.chat.id(),
        log: pair.chat.log(),
        epoch: 1,
        transcript: pair.chat.anchor().transcript,
        leaf: LeafIndex::new(0),
    };
    Entry::Handover(Handover::sign(place, &pair.ann.key)).encode()
}

fn closed_log(pair: &Pair) -> ClosedLog {
    ClosedLog {
        group: pair.chat.id(),
        log: pair.chat.log(),
        next: [7; 32],
        accounts: BTreeSet::from([pair.ann.account]),
        revoked: BTreeSet::from([[8; 32]]),
        rank: 1,
    }
}

/// A knock, its answer, and the key between them.
fn knock_and_answer(pair: &Pair) -> (Vec<u8>, Vec<u8>, KnockKey) {
    let (inner, key) = pair.chat.knock(&pair.ann.me(), &mut rng(6));
    let Ok(Entry::Knock(knock)) = Entry::decode(&inner) else {
        panic!("no knock");
    };
    let seed = Seed::from_key(Key32::from_bytes([9; 32]));
    let answer = closed_log(pair).answer(&knock, &seed, &[], &mut rng(7));
    (inner, answer.unwrap(), key)
}

#[test]
fn formats_are_what_they_were() {
    let mut pair = pair();
    let (knock, answer, key) = knock_and_answer(&pair);
    assert_golden_hex("entry_commit.hex", &pair.founding.inner);
    assert_golden_hex("entry_message.hex", &pair.message);
    assert_golden_hex("entry_handover.hex", &handover(&pair));
    assert_golden_hex("entry_knock.hex", &knock);
    assert_golden_hex("entry_answer.hex", &answer);
    assert_golden_hex("knock_key.hex", key.expose().expose());
    assert_golden_hex("closed_log.hex", &closed_log(&pair).to_bytes());
    assert_golden_hex("state.hex", &pair.opening.encode());
    assert_golden_hex("key_package.hex", &pair.package);
    for (part, bytes) in pair.chat.take_changes() {
        if part.kind >= 0x80 {
            let name = format!("conversation_part_{:02x}_{}.hex", part.kind, part.index);
            assert_golden_hex(&name, &bytes.unwrap());
        }
    }
}

#[test]
fn decoders_survive_garbage() {
    const MILLION: u32 = 1_000_000;
    let pair = pair();
    let (knock, answer, key) = knock_and_answer(&pair);
    let entries = [
        pair.founding.inner.clone(),
        pair.message.clone(),
        handover(&pair),
        knock,
        answer,
        vec![6, 1, 2, 3],
    ];
    for inner in &entries {
        assert_eq!(Entry::decode(inner).map(|entry| entry.encode()), Ok(inner.clone()));
        feed_garbage(MILLION / 6 + 1, inner, |input| {
            if let Ok(entry) = Entry::decode(input) {
                assert_eq!(entry.encode(), input);
            }
            drop(added(input));
        });
    }
    feed_garbage(MILLION, &closed_log(&pair).to_bytes(), |input| {
        drop(ClosedLog::decode_exact(input));
    });
    feed_garbage(MILLION, key.expose().expose(), |input| {
        drop(KnockKey::from_bytes(input));
    });
    feed_garbage(MILLION, &pair.chat.context().to_bytes(), |input| {
        if let Ok(context) = ContextExtension::decode_exact(input) {
            assert_eq!(context.to_bytes(), input);
        }
    });
    feed_garbage(20_000, &pair.package, |input| {
        drop(check_claimed(input, pair.ann.account, 1_500));
    });
    feed_garbage(MILLION, &pair.opening.encode(), |input| {
        if let Ok(state) = State::decode(input) {
            assert_eq!(state.encode(), input);
        }
    });
}

/// Whether two entries differ at most in the membership tag, which is no part of a verdict.
fn same_but_membership_tag(one: &[u8], other: &[u8]) -> bool {
    let [one, other] = [one, other].map(|inner| {
        let Ok(Entry::Commit(commit)) = Entry::decode(inner) else {
            panic!("no commit");
        };
        let Ok(MlsMessage::Public(mut message)) = MlsMessage::decode_exact(&commit.message) else {
            panic!("no public message");
        };
        message.membership_tag = None;
        (message, commit.tail)
    });
    one == other
}

#[test]
fn readers_survive_garbage() {
    let pair = pair();
    let log = pair.chat.log();
    let fold = || Conversation::fold(&pair.opening, log, OPENING).unwrap();
    let mut reader = fold();
    feed_garbage(20_000, &pair.opening.encode(), |input| {
        if let Ok(state) = State::decode(input) {
            drop(Conversation::fold(&state, log, OPENING));
        }
    });
    let mut counted = 0;
    for inner in [&pair.founding.inner, &pair.message, &handover(&pair)] {
        feed_garbage(3_000, inner, |input| {
            if let Reading::Commit(_) = read(&mut reader, input, None) {
                assert!(same_but_membership_tag(input, &pair.founding.inner));
                counted += 1;
                reader = fold();
            }
        });
    }
    assert!(counted > 0);
}

#[test]
fn saved_parts_survive_garbage() {
    let mut pair = pair();
    let parts = pair.chat.take_changes().into_iter();
    let parts: Vec<_> = parts.filter_map(|(id, bytes)| Some((id, bytes?))).collect();
    assert!(Conversation::load(parts.clone()).is_ok());
    let count = u32::try_from(1_000_000 / parts.len()).unwrap();
    for at in 0..parts.len() {
        feed_garbage(count, &parts[at].1, |input| {
            let mut parts = parts.clone();
            parts[at].1 = input.to_vec();
            drop(Conversation::load(parts));
        });
    }
}

#[test]
fn a_message_rewrites_few_bytes() {
    let mut pair = pair();
    drop(pair.chat.take_changes());
    let mut sizes = Vec::new();
    for n in 0..3_u8 {
        let me = pair.ann.me();
        let inner = pair.chat.seal_message(&[n], &me, &mut rng(n)).unwrap();
        read(&mut pair.chat, &inner, Some(OwnEntry::Message));
        let changes = pair.chat.take_changes();
        sizes.push(changes.iter().flat_map(|(_, bytes)| bytes).map(Vec::len).sum::<usize>());
    }
    assert!(sizes.iter().all(|size| *size < 1_000), "{sizes:?}");
}

#[test]
fn nothing_secret_is_printed() {
    let pair = pair();
    let (_, _, key) = knock_and_answer(&pair);
    assert!(format!("{key:?}").contains("HpkePrivateKey"));
    let text = format!("{:?}", pair.founding.pending);
    assert_eq!(text, "Secret(..)");
    let reading = Reading::Closed {
        by: pair.chat.author(),
        next_seed: pair.chat.successor_seed(),
        closed: Box::new(closed_log(&pair)),
    };
    let text = format!("{reading:?}");
    assert!(text.starts_with("Closed { by: Sender"), "{text}");
    assert!(text.ends_with(" .. }"), "{text}");
    let reading = Reading::Message {
        sender: pair.chat.author(),
        content: b"plaintext".to_vec(),
        view_alarm: false,
    };
    let text = format!("{reading:?}");
    assert!(text.ends_with("view_alarm: false, .. }"), "{text}");
    assert!(!format!("{:?}", pair.chat.context()).contains("Meadow"));
    assert!(!format!("{:?}", Change::title("Marsh")).contains("Marsh"));
    let own = OwnEntry::Commit(&[1, 2, 3]);
    assert_eq!(format!("{own:?}"), "Commit(..)");
}

#[test]
fn codes_are_stable_and_unlike() {
    let reasons = [
        SkipReason::Envelope,
        SkipReason::Malformed,
        SkipReason::WrongKind,
        SkipReason::Misplaced,
        SkipReason::ForbiddenProposal,
        SkipReason::Context,
        SkipReason::Certificate,
        SkipReason::Identity,
        SkipReason::DeviceTwice,
        SkipReason::TooMany,
        SkipReason::Revoked,
        SkipReason::NotAllowed,
        SkipReason::IncompleteRemoval,
        SkipReason::Assistant,
        SkipReason::GroupInfo,
        SkipReason::Handover,
    ];
    let codes: BTreeSet<_> = reasons.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes.len(), reasons.len());
    let errors = [
        Error::Malformed,
        Error::NotMember,
        Error::NotAdmitted,
        Error::Revoked,
        Error::Closed,
        Error::NeedsPath,
        Error::AlreadySo,
        Error::UnknownMember,
        Error::NotAllowed,
        Error::TooLong,
        Error::BadPackage,
        Error::BadState,
        Error::WelcomeMismatch,
    ];
    let codes: BTreeSet<_> = errors.iter().map(|error| error.code()).collect();
    assert_eq!(codes.len(), errors.len());
    assert_eq!(Error::Refused(SkipReason::TooMany).code(), "too_many");
}
