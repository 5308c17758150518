//! A conversation from its founding on, everybody honest.

use corncrake_core::conversation::{Change, EntryKind, Kind, Outcome, Reading, Role, Use};

use crate::lab::{Device, Log, Person, everybody_talks};

/// A group of the first device's making, everybody added by the founding commit.
pub(crate) fn group_of(kind: Kind, devices: &mut [&mut Device]) -> Log {
    let (founder, others) = devices.split_first_mut().unwrap();
    let mut log = founder.found(kind);
    let packages: Vec<_> = others.iter_mut().map(|other| other.package(Use::Once)).collect();
    let claimed = packages.iter().map(|package| package.claimed.clone()).collect();
    let change = Change { fresh_path: true, ..Change::add(claimed) };
    let position = founder.make(&mut log, change);
    for (other, package) in others.iter_mut().zip(&packages) {
        other.join(&log, position, package);
    }
    log
}

/// Whoever may hands over; everybody goes on in the next log.
pub(crate) fn hand_over(log: &mut Log, by: &mut Device, others: &mut [&mut Device]) -> Log {
    by.read(log);
    let handover = by.chat().handover(&by.me()).expect("a handover that is due");
    log.append(EntryKind::Commit, handover);
    let state = by.chat().state().encode();
    let readings = by.read(log);
    let Some(Reading::Closed { next_seed: Some(seed), .. }) = readings.last() else {
        panic!("{readings:?}");
    };
    let next = Log::new(log.conversation, seed.log_keys().log, state);
    by.chat_mut().continue_in(next.id);
    by.save();
    for other in others {
        let readings = other.read(log);
        let Some(Reading::Closed { next_seed: Some(theirs), closed, .. }) = readings.last() else {
            panic!("{readings:?}");
        };
        assert_eq!(theirs, seed);
        assert!(closed.fits_next(seed));
        other.chat_mut().continue_in(next.id);
        assert_eq!(other.chat_mut().check_state(0, &next.states[&0]), Some(true));
        other.save();
    }
    next
}

#[test]
fn two_people_talk() {
    let (mut ann, mut bob) = (Person::new(1).device(), Person::new(2).device());
    let mut log = group_of(Kind::Direct, &mut [&mut ann, &mut bob]);
    everybody_talks(&mut log, &mut [&mut ann, &mut bob]);
    assert_eq!(ann.heard.len(), 1);
    assert_eq!(bob.heard.len(), 1);
}

#[test]
fn a_group_adds_removes_hands_over_and_lets_back_in() {
    let (mut ann, mut bob) = (Person::new(1).device(), Person::new(2).device());
    let (mut cem, mut dora) = (Person::new(3).device(), Person::new(4).device());
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem]);
    everybody_talks(&mut log, &mut [&mut ann, &mut bob, &mut cem]);

    let package = dora.package(Use::Once);
    let position = ann.make(&mut log, Change::add(vec![package.claimed.clone()]));
    dora.join(&log, position, &package);
    everybody_talks(&mut log, &mut [&mut ann, &mut bob, &mut cem, &mut dora]);

    ann.make(&mut log, Change::remove(cem.account));
    assert!(ann.chat().handover_due());
    assert!(ann.chat().handover(&ann.me()).is_none(), "its author may not");
    let readings = cem.read(&log);
    let Some(Reading::Commit(report)) = readings.last() else { panic!("{readings:?}") };
    assert_eq!(report.outcome, Outcome::RemovedMe);
    everybody_talks(&mut log, &mut [&mut ann, &mut bob, &mut dora]);
    cem.read(&log);
    let mut next = hand_over(&mut log, &mut bob, &mut [&mut ann, &mut dora]);
    let readings = cem.read(&log);
    assert!(matches!(readings.last(), Some(Reading::Closed { next_seed: None, .. })));
    everybody_talks(&mut next, &mut [&mut ann, &mut bob, &mut dora]);

    let package = cem.package(Use::Once);
    let position = ann.make(&mut next, Change::add(vec![package.claimed.clone()]));
    cem.join(&next, position, &package);
    everybody_talks(&mut next, &mut [&mut ann, &mut bob, &mut cem, &mut dora]);
}

#[test]
fn a_second_device_lets_itself_in_and_a_lost_one_comes_back() {
    let mut person = Person::new(1);
    let (mut ann, mut phone) = (person.device(), person.device());
    let mut bob = Person::new(2).device();
    let mut log = group_of(Kind::Direct, &mut [&mut ann, &mut bob]);
    phone.fold_at(&log, 1);
    phone.come_in(&mut log);
    everybody_talks(&mut log, &mut [&mut ann, &mut bob, &mut phone]);
    // A store is lost: the same key comes in again, and its old leaf goes.
    bob.fold_at(&log, 1);
    bob.come_in(&mut log);
    assert!(!bob.chat().handover_due());
    everybody_talks(&mut log, &mut [&mut ann, &mut bob, &mut phone]);
    // A device is removed for ever, and the other side hands over.
    let change = Change { revoke_devices: vec![phone.id()], ..Change::default() };
    ann.make(&mut log, change);
    phone.read(&log);
    assert!(phone.chat().rejoin(&phone.me(), None, &mut phone.rng.clone()).is_err());
    let mut next = hand_over(&mut log, &mut bob, &mut [&mut ann]);
    everybody_talks(&mut next, &mut [&mut ann, &mut bob]);
}

#[test]
fn whoever_leaves_is_removed_by_another() {
    let (mut ann, mut bob) = (Person::new(1).device(), Person::new(2).device());
    let mut cem = Person::new(3).device();
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem]);
    ann.make(&mut log, Change::leave());
    bob.read(&log);
    cem.read(&log);
    assert_eq!(bob.chat().leaving_accounts().collect::<Vec<_>>(), [ann.account]);
    bob.make(&mut log, Change::default());
    let mut next = hand_over(&mut log, &mut cem, &mut [&mut bob]);
    everybody_talks(&mut next, &mut [&mut bob, &mut cem]);
    assert!(!bob.chat().has_account(ann.account));
    // The owner is gone, so that everybody is one.
    assert_eq!(bob.chat().context().role(cem.account), Role::Owner);
    bob.make(&mut next, Change::title("Marsh"));
    cem.read(&next);
    assert_eq!(cem.chat().context().title, "Marsh");
}

#[test]
fn audit_issue_7_gh1_whoever_gives_a_role_where_no_owner_is_left_stays_one() {
    for role in [Role::Admin, Role::Owner, Role::Member] {
        let (mut ann, mut bob) = (Person::new(1).device(), Person::new(2).device());
        let mut cem = Person::new(3).device();
        let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob, &mut cem]);
        ann.make(&mut log, Change::leave());
        bob.read(&log);
        cem.read(&log);
        bob.make(&mut log, Change::default());
        let mut next = hand_over(&mut log, &mut cem, &mut [&mut bob]);
        bob.make(&mut next, Change::role(cem.account, role));
        cem.read(&next);
        let context = cem.chat().context();
        assert_eq!((context.role(bob.account), context.role(cem.account)), (Role::Owner, role));
    }
}

#[test]
fn the_log_decides_between_two_commits() {
    let (mut ann, mut bob) = (Person::new(1).device(), Person::new(2).device());
    let mut log = group_of(Kind::Group, &mut [&mut ann, &mut bob]);
    for _ in 0..10 {
        let (first, second) = (ann.commit(Change::fresh_path()), bob.commit(Change::fresh_path()));
        log.append_commit(&first, None);
        log.append_commit(&second, None);
        let readings = bob.read(&log);
        assert!(matches!(readings[..], [.., Reading::Commit(_), Reading::Skipped(_)]));
        everybody_talks(&mut log, &mut [&mut ann, &mut bob]);
    }
}

#[test]
fn a_package_of_last_resort_owes_a_fresh_path() {
    let (mut ann, mut bob) = (Person::new(1).device(), Person::new(2).device());
    let mut log = ann.found(Kind::Direct);
    let package = bob.package(Use::LastResort);
    let position = ann.make(&mut log, Change::add(vec![package.claimed.clone()]));
    bob.join(&log, position, &package);
    assert!(bob.chat().needs_path());
    let mut rng = bob.rng.clone();
    let key = bob.key.clone();
    let me = corncrake_core::conversation::Me {
        account: bob.account,
        device_key: &key,
        certificate: &bob.certificate.clone(),
    };
    assert!(bob.chat_mut().seal_message(b"no", &me, &mut rng).is_err());
    bob.make(&mut log, Change::fresh_path());
    everybody_talks(&mut log, &mut [&mut ann, &mut bob]);
}

#[test]
fn a_message_sealed_again_is_shown_once() {
    let (mut ann, mut bob) = (Person::new(1).device(), Person::new(2).device());
    let mut log = group_of(Kind::Direct, &mut [&mut ann, &mut bob]);
    let position = ann.say(&mut log, "once");
    let (kind, inner) = log.entry(position);
    let again = inner.to_vec();
    log.append(kind, again);
    ann.read(&log);
    let readings = bob.read(&log);
    assert!(matches!(readings[..], [Reading::Message { .. }, Reading::Unreadable { .. }]));
    assert_eq!(bob.heard, ["once"]);
}
