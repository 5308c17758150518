//! Handovers, knocks and answers (attacks B2 to B5, B7, B9), and views that differ (D1).

use corncrake_core::conversation::{
    Change, ClosedLog, Entry, EntryKind, Kind, KnockKey, LogItem, Reading,
};
use corncrake_core::mls::codec::{Decode, Encode};
use corncrake_core::seal::envelope::{Seed, entry_id};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::lab::{Device, Log, Person, everybody_talks};
use crate::life::{group_of, hand_over};

fn people<const N: usize>() -> [Device; N] {
    core::array::from_fn(|n| Person::new(n as u64 + 1).device())
}

/// What somebody's handover bytes come to at the end of a log.
fn outcome(reader: &mut Device, log: &Log, inner: Vec<u8>) -> &'static str {
    let mut log = log.clone();
    log.append(EntryKind::Commit, inner);
    let mut reader = reader.fork();
    match reader.read(&log).pop() {
        Some(Reading::Closed { .. }) => "closes",
        Some(Reading::Skipped(reason)) => reason.code(),
        reading => panic!("{reading:?}"),
    }
}

/// The handover that `by` would sign for `like`'s place, whether it may or not.
fn handover_of(by: &Device, like: &Device) -> Vec<u8> {
    let template = like.chat().handover(&like.me()).unwrap();
    // type byte, group id, log id, epoch, transcript hash, leaf index, signature
    let end = 1 + 32 + 32 + 8 + 32;
    let members = by.chat().members();
    let devices = members.iter().flat_map(|member| &member.devices);
    let leaf = devices.clone().find(|device| device.device == by.id()).unwrap().leaf;
    let mut place = template[1..end].to_vec();
    place.extend_from_slice(&leaf.to_be_bytes());
    let signature = by.key.sign_with_label("corncrake handover", &place);
    let mut inner = vec![3];
    inner.extend_from_slice(&place);
    signature.encode(&mut inner);
    inner
}

#[test]
fn only_another_account_that_stays_closes_a_log() {
    let [mut ann, mut bob, mut cem, mut dora] = people();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem, &mut dora]);
    ann.make(&mut log, Change::remove(dora.account));
    for device in [&mut bob, &mut cem, &mut dora] {
        device.read(&log);
    }
    let honest = bob.chat().handover(&bob.me()).unwrap();
    assert_eq!(outcome(&mut cem, &log, honest.clone()), "closes");
    assert_eq!(outcome(&mut dora, &log, honest.clone()), "closes");
    // B2: the removal's own author.
    assert_eq!(outcome(&mut cem, &log, handover_of(&ann, &bob)), "bad_handover");
    // Every field is bound.
    for position in 1..honest.len() {
        if position % 7 == 1 || position > 100 {
            let mut bent = honest.clone();
            bent[position] ^= 1;
            assert_ne!(outcome(&mut cem, &log, bent), "closes", "byte {position}");
        }
    }
    // An old handover does not close a later epoch.
    let mut later = log.clone();
    ann.fork().make(&mut later, Change::fresh_path());
    let mut bob_later = bob.fork();
    bob_later.read(&later);
    assert_eq!(outcome(&mut bob_later, &later, honest), "bad_handover");
}

#[test]
fn nothing_counts_after_the_end_but_knocks_and_answers() {
    let [mut ann, mut bob, mut cem] = people();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem]);
    let late = ann.commit(Change::title("late"));
    ann.make(&mut log, Change::remove(cem.account));
    let next = hand_over(&mut log, &mut bob, &mut [&mut ann]);
    assert_ne!(next.id, log.id);
    cem.read(&log);
    assert!(cem.chat().closed());
    log.append(EntryKind::Commit, late.inner);
    log.append(EntryKind::Message, vec![2, 0]);
    let (knock, _) = cem.chat().knock(&cem.me(), &mut ChaCha20Rng::seed_from_u64(1));
    log.append(EntryKind::Message, knock);
    let readings = cem.read(&log);
    assert!(matches!(readings[..], [Reading::Ignored, Reading::Ignored, Reading::Knock(_)]));
}

#[test]
fn reading_past_the_end_of_a_log_raises_no_alarm() {
    let [mut ann, mut bob, mut cem] = people();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem]);
    ann.make(&mut log, Change::remove(cem.account));
    bob.read(&log);
    let handover = bob.chat().handover(&bob.me()).unwrap();
    log.append(EntryKind::Commit, handover);
    let Some(Reading::Closed { next_seed: Some(seed), .. }) = bob.read(&log).pop() else {
        panic!("closed");
    };
    cem.read(&log);
    let (knock, _) = cem.chat().knock(&cem.me(), &mut ChaCha20Rng::seed_from_u64(1));
    log.append(EntryKind::Message, knock);
    ann.read(&log);
    let next = seed.log_keys().log;
    let mut next = Log::new(log.conversation, next, bob.chat().state().encode());
    for device in [&mut ann, &mut bob] {
        device.chat_mut().continue_in(next.id);
        device.save();
    }
    everybody_talks(&mut next, &mut [&mut ann, &mut bob]);
}

/// Reads the last entry of a closed log as those who keep it in mind do.
fn knock_in(log: &Log) -> corncrake_core::conversation::Knock {
    let (kind, inner) = log.entry(log.head());
    match ClosedLog::read(kind, inner) {
        Some(Entry::Knock(knock)) => knock,
        entry => panic!("{entry:?}"),
    }
}

#[test]
fn a_member_who_missed_two_handovers_knocks_and_comes_back() {
    let [mut ann, mut bob, mut cem, mut dora, mut eve] = people();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem, &mut dora, &mut eve]);
    // Cem only folds, as if locked out, while Dora and then Eve are removed.
    cem.fold_at(&log, 0);
    cem.read(&log);
    ann.make(&mut log, Change::remove(dora.account));
    let (closed, seed) = close(&mut log, &mut bob, &mut ann, &mut eve);
    let mut second = Log::new(log.conversation, seed.log_keys().log, ann.chat().state().encode());
    dora.read(&log);
    ann.make(&mut second, Change::remove(eve.account));
    bob.read(&second);
    let handover = bob.chat().handover(&bob.me()).unwrap();
    second.append(EntryKind::Commit, handover);
    let Some(Reading::Closed { next_seed: Some(third_seed), closed: second_closed, .. }) =
        bob.read(&second).pop()
    else {
        panic!("closed");
    };

    // Cem reads to the end of the first log, holds no seed, and knocks.
    cem.read(&log);
    assert!(cem.chat().closed() && cem.chat().successor_seed().is_none());
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let (knock, key) = cem.chat().knock(&cem.me(), &mut rng);
    log.append(EntryKind::Message, knock);
    let knock = knock_in(&log);
    let chain = [(*second_closed, third_seed.clone())];
    let answer = closed.answer(&knock, &seed, &chain, &mut rng).unwrap();
    let Entry::Answer(answer) = Entry::decode(&answer).unwrap() else {
        panic!("an answer");
    };
    let seeds = key.open(&answer);
    assert_eq!(seeds, [seed.clone(), third_seed]);
    assert!(cem.chat().fits_next(&seeds[0]));
    // B3: a seed of somebody's own does not fit.
    assert!(!cem.chat().fits_next(&Seed::random(&mut rng)));
    let saved = KnockKey::from_bytes(key.expose().expose()).unwrap();
    assert_eq!(saved.open(&answer).len(), 2);

    // Dora was removed before the end of the first log, Eve before the end of the second.
    let (knock, _) = dora.chat().knock(&dora.me(), &mut rng);
    log.append(EntryKind::Message, knock);
    assert!(!closed.may_be_answered(&knock_in(&log)));
    assert!(closed.answer(&knock_in(&log), &seed, &[], &mut rng).is_none());
    let (knock, key) = eve.chat().knock(&eve.me(), &mut rng);
    log.append(EntryKind::Message, knock);
    let answer = closed.answer(&knock_in(&log), &seed, &chain, &mut rng).unwrap();
    let Entry::Answer(answer) = Entry::decode(&answer).unwrap() else {
        panic!("an answer");
    };
    assert_eq!(key.open(&answer), [seed]);
    // An answer to another knock opens nothing.
    assert!(saved.open(&answer).is_empty());
    // What is kept of a closed log survives its store.
    let kept = ClosedLog::decode_exact(&closed.to_bytes()).unwrap();
    assert_eq!(kept, closed);
}

/// Bob closes the log; he, Ann and Eve go on in the next one.
fn close(log: &mut Log, bob: &mut Device, ann: &mut Device, eve: &mut Device) -> (ClosedLog, Seed) {
    bob.read(log);
    let handover = bob.chat().handover(&bob.me()).unwrap();
    log.append(EntryKind::Commit, handover);
    let mut kept = None;
    for device in [ann, bob, eve] {
        let Some(Reading::Closed { next_seed: Some(seed), closed, .. }) = device.read(log).pop()
        else {
            panic!("closed");
        };
        if device.chat().closed() {
            let next = seed.log_keys().log;
            // Eve still has to knock at the first log later on.
            if device.account != Person::new(5).device().account {
                device.chat_mut().continue_in(next);
                device.save();
            }
        }
        kept = Some((*closed, seed));
    }
    kept.unwrap()
}

#[test]
fn a_knock_with_a_certificate_or_key_of_another_is_not_answered() {
    let [mut ann, mut bob, mut cem] = people();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem]);
    ann.make(&mut log, Change::remove(cem.account));
    bob.read(&log);
    let handover = bob.chat().handover(&bob.me()).unwrap();
    log.append(EntryKind::Commit, handover);
    let Some(Reading::Closed { next_seed: Some(seed), closed, .. }) = bob.read(&log).pop() else {
        panic!("closed");
    };
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    cem.read(&log);
    let mut disguised = cem.me();
    disguised.certificate = &ann.certificate;
    disguised.account = ann.account;
    let (inner, _) = cem.chat().knock(&disguised, &mut rng);
    log.append(EntryKind::Message, inner);
    assert!(closed.answer(&knock_in(&log), &seed, &[], &mut rng).is_none());
    let (inner, _) = ann.chat().knock(&ann.me(), &mut rng);
    log.append(EntryKind::Message, inner.clone());
    assert!(closed.may_be_answered(&knock_in(&log)));
    // The same knock under another log.
    let mut elsewhere = closed.clone();
    elsewhere.log = corncrake_core::id::LogId::from_bytes([1; 32]);
    assert!(!elsewhere.may_be_answered(&knock_in(&log)));
    let mut bent = inner;
    let end = bent.len() - 1;
    bent[end] ^= 1;
    log.append(EntryKind::Message, bent);
    assert!(!closed.may_be_answered(&knock_in(&log)));
}

#[test]
fn handing_over_after_every_commit_moves_the_group_and_loses_nobody() {
    let [mut ann, mut bob, mut mal] = people();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut mal]);
    for _ in 0..5 {
        ann.make(&mut log, Change::fresh_path());
        mal.read(&log);
        bob.read(&log);
        assert!(mal.chat().handover(&mal.me()).is_none(), "none is due");
        // B9: he signs one all the same.
        let mut template = bob.fork();
        let mut copy = log.clone();
        let change = Change::remove(mal.account);
        let mut ann_elsewhere = ann.fork();
        ann_elsewhere.make(&mut copy, change);
        template.read(&copy);
        let due = template.chat().handover(&template.me()).unwrap();
        let anchor = mal.chat().anchor();
        let mut place = due[1..65].to_vec();
        anchor.epoch.encode(&mut place);
        anchor.transcript.encode(&mut place);
        2_u32.encode(&mut place);
        let signature = mal.key.sign_with_label("corncrake handover", &place);
        let mut inner = [&[3], place.as_slice()].concat();
        signature.encode(&mut inner);
        log.append(EntryKind::Commit, inner);
        let mut next = None;
        for device in [&mut ann, &mut bob, &mut mal] {
            let Some(Reading::Closed { next_seed: Some(seed), .. }) = device.read(&log).pop()
            else {
                panic!("closed");
            };
            device.chat_mut().continue_in(seed.log_keys().log);
            device.save();
            next = Some(seed.log_keys().log);
        }
        log = Log::new(log.conversation, next.unwrap(), ann.chat().state().encode());
        everybody_talks(&mut log, &mut [&mut ann, &mut bob, &mut mal]);
    }
}

#[test]
fn a_new_device_comes_in_by_the_state_that_opens_a_log() {
    let mut person = Person::new(1);
    let mut ann = person.device();
    let [_, mut bob, mut cem] = people();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem]);
    ann.make(&mut log, Change::remove(cem.account));
    let mut next = hand_over(&mut log, &mut bob, &mut [&mut ann]);
    // B5: a false opening state is seen by members, and a true one laid beside a commit.
    let truth = next.states[&0].clone();
    let mut lie = truth;
    let end = lie.len() - 1;
    lie[end] ^= 1;
    let mut doubter = bob.fork();
    assert_eq!(doubter.chat_mut().check_state(0, &lie), Some(false));
    ann.make(&mut next, Change::fresh_path());
    let mut phone = person.device();
    phone.fold_at(&next, 1);
    let anchor = ann.chat().anchor();
    assert_eq!(phone.chat().anchor(), anchor);
    phone.come_in(&mut next);
    everybody_talks(&mut next, &mut [&mut ann, &mut bob, &mut phone]);
}

#[test]
fn members_who_are_shown_different_orders_notice() {
    let [mut ann, mut bob, mut cem] = people();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem]);
    everybody_talks(&mut log, &mut [&mut ann, &mut bob, &mut cem]);
    let mut swapped = log.clone();
    let one = ann.say(&mut log, "one");
    ann.read(&log);
    let two = cem.say(&mut log, "two");
    for position in [two, one] {
        let (kind, inner) = log.entry(position);
        swapped.append(kind, inner.to_vec());
    }
    cem.read(&log);
    ann.read(&log);
    bob.read(&swapped);
    let third = ann.say(&mut log, "three");
    let (kind, inner) = log.entry(third);
    swapped.append(kind, inner.to_vec());
    let Some(Reading::Message { view_alarm, .. }) = cem.read(&log).pop() else {
        panic!("heard");
    };
    assert!(!view_alarm);
    let Some(Reading::Message { view_alarm, .. }) = bob.read(&swapped).pop() else {
        panic!("heard");
    };
    assert!(view_alarm);
}

#[test]
fn an_old_store_is_recognised_by_what_its_leaf_said_since() {
    let [mut ann, mut bob] = people();
    let mut log = group_of(Kind::Direct, &mut [&mut ann, &mut bob]);
    let mut backup = ann.fork();
    ann.say(&mut log, "after the backup");
    let readings = backup.read(&log);
    let Some(Reading::Unreadable { cause, .. }) = readings.last() else {
        panic!("{readings:?}");
    };
    assert_eq!(cause.code(), "unknown_own_entry");
    backup.chat_mut().step_out();
    assert!(!backup.chat().is_member());
    assert!(backup.store.keys().any(|part| part.kind == 0x10));
    backup.save();
    assert!(!backup.store.keys().any(|part| part.kind == 0x10), "its secrets are gone");
    backup.come_in(&mut log);
    everybody_talks(&mut log, &mut [&mut backup, &mut bob]);
    ann.read(&log);
    assert!(!ann.chat().is_member());
    // A message that only claims to be ours proves nothing.
    let said = bob.say(&mut log, "mine");
    let (_, inner) = log.entry(said);
    let mut inner = inner.to_vec();
    let end = inner.len() - 1;
    inner[end] ^= 1;
    let item = LogItem {
        position: backup.chat().position() + 1,
        id: entry_id(&inner),
        kind: EntryKind::Message,
        inner: Some(&inner),
        own: None,
    };
    let Reading::Unreadable { cause, .. } = backup.chat_mut().read(item) else {
        panic!("unreadable");
    };
    assert_eq!(cause.code(), "undecryptable");
}
