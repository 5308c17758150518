//! RFC 9420 §16.12: a committer who spoils the path secrets of some of the others. All honest members
//! end in one group, can talk, and can remove him (attacks A1 to A3, B1).

use corncrake_core::conversation::{Change, EntryKind, Kind, Outcome, Reading, Role};
use corncrake_core::mls::proposal::Proposal;
use corncrake_core::mls::tree_math::LeafIndex;

use crate::lab::{Device, Log, Person, everybody_talks};
use crate::life::{group_of, hand_over};
use crate::mal::{Flaw, Forgery, forge, public_group};

/// A group in which everybody has committed once and the device at `mal` is an admin.
fn full_group(size: usize, mal: usize) -> (Vec<Device>, Log) {
    let people = (0..size as u64).map(|n| Person::new(100 + n).device());
    let mut devices: Vec<_> = people.collect();
    let mut log = {
        let mut all: Vec<_> = devices.iter_mut().collect();
        group_of(Kind::Group, &mut all)
    };
    for device in &mut devices {
        device.read(&log);
        device.make(&mut log, Change::fresh_path());
    }
    let account = devices[mal].account;
    devices[0].read(&log);
    devices[0].make(&mut log, Change::role(account, Role::Admin));
    for device in &mut devices {
        device.read(&log);
    }
    (devices, log)
}

/// Appends a forged commit and lets everybody read it; the victims come back one after the other.
/// Returns who they were.
fn attack(devices: &mut [Device], log: &mut Log, mal: usize, forgery: Forgery<'_>) -> Vec<usize> {
    let forged = forge(&mut devices[mal], forgery);
    devices[mal].expect_commit(&forged.inner, &forged.pending);
    log.append(EntryKind::Commit, forged.inner);
    let mut victims = Vec::new();
    let mut untrue = None;
    for (index, device) in devices.iter_mut().enumerate() {
        match device.read(log).pop() {
            Some(Reading::Commit(report)) => match report.outcome {
                Outcome::LockedOut(_) => victims.push(index),
                Outcome::Finished { tail_true: false } if index != mal => untrue = Some(index),
                Outcome::Finished { .. } | Outcome::Outside | Outcome::RemovedMe => {}
            },
            reading => panic!("the commit counts for everybody: {reading:?}"),
        }
    }
    if let Some(index) = untrue {
        devices[index].make(log, Change::fresh_path());
    }
    for index in &victims {
        devices[*index].come_in(log);
    }
    victims
}

/// The victims' group is one, talks, removes Mal and goes on.
fn recover(mut devices: Vec<Device>, mut log: Log, mal: usize) {
    let mut all: Vec<_> = devices.iter_mut().collect();
    all.iter_mut().for_each(|device| drop(device.read(&log)));
    let (one, other) = (all.len() - 1, 0);
    let anchor = all[0].chat().anchor();
    assert!(all.iter().all(|device| device.chat().is_member()));
    assert!(all.iter().all(|device| device.chat().anchor() == anchor));
    assert!(all.iter().all(|device| device.chat().tail_is_true() == Some(true)));
    for speaker in [one, other] {
        all[speaker].say(&mut log, "all here");
        all.iter_mut().for_each(|device| drop(device.read(&log)));
    }
    assert!(all.iter().enumerate().all(|(index, device)| {
        device.heard.len() == 2 - usize::from(index == one) - usize::from(index == other)
    }));

    let mal = all.remove(mal);
    let (ann, others) = all.split_first_mut().unwrap();
    ann.make(&mut log, Change::remove(mal.account));
    mal.read(&log);
    assert!(!mal.chat().is_member());
    let mut next = match others.split_first_mut() {
        None => hand_over(&mut log, ann, &mut []),
        Some((bob, rest)) => {
            let mut rest: Vec<&mut Device> = rest.iter_mut().map(|device| &mut **device).collect();
            rest.push(ann);
            hand_over(&mut log, bob, &mut rest)
        }
    };
    all[0].say(&mut next, "without him");
    all.iter_mut().for_each(|device| drop(device.read(&next)));
    assert!(all.iter().skip(1).all(|device| device.heard.last().unwrap() == "without him"));
}

fn path_length(device: &Device) -> usize {
    let group = public_group(device);
    let own = device.me().device_key.public();
    let (leaf, _) = group.leaves().find(|(_, leaf)| leaf.signature_key == own).unwrap();
    group.tree().view().filtered_direct_path(leaf).len()
}

#[test]
fn garbage_for_any_subset_of_subtrees_never_splits_the_group() {
    for size in 2..=9 {
        let mal = size / 2;
        let (mut devices, log) = full_group(size, mal);
        let subtrees = path_length(&devices[mal]);
        for subset in 0..1_usize << subtrees {
            let mut fork: Vec<_> = devices.iter_mut().map(Device::fork).collect();
            let mut log = log.clone();
            let garbage = |node: usize| subset >> node & 1 == 1;
            let forgery = Forgery { garbage: &garbage, ..Forgery::default() };
            let victims = attack(&mut fork, &mut log, mal, forgery);
            assert_eq!(victims.is_empty(), subset == 0);
            assert!(!victims.contains(&mal));
            if subset + 1 == 1 << subtrees {
                assert_eq!(victims.len(), size - 1);
            }
            recover(fork, log, mal);
        }
    }
}

#[test]
fn garbage_in_a_removal_never_splits_the_group() {
    for size in 3..=9 {
        let mal = size / 2;
        let (mut devices, log) = full_group(size, mal);
        let xia = size - 1;
        let subtrees = path_length(&devices[mal]);
        for subset in 1..1_usize << subtrees {
            let mut fork: Vec<_> = devices.iter_mut().map(Device::fork).collect();
            let mut log = log.clone();
            let forgery = Forgery {
                proposals: vec![Proposal::Remove(LeafIndex::new(u32::try_from(xia).unwrap()))],
                garbage: &|node| subset >> node & 1 == 1,
                ..Forgery::default()
            };
            attack(&mut fork, &mut log, mal, forgery);
            let gone = fork.pop().unwrap();
            assert!(!gone.chat().is_member());
            assert!(fork[0].chat().handover_due());
            recover(fork, log, mal);
        }
    }
}

#[test]
fn garbage_for_everybody_three_times_in_a_row() {
    let (mut devices, mut log) = full_group(5, 2);
    for _ in 0..3 {
        let forgery = Forgery { garbage: &|_| true, ..Forgery::default() };
        assert_eq!(attack(&mut devices, &mut log, 2, forgery).len(), 4);
        for device in &mut devices {
            device.read(&log);
        }
    }
    recover(devices, log, 2);
}

#[test]
fn false_tails_and_bad_tags_never_split_the_group() {
    for flaw in [Flaw::ExternalPub, Flaw::Next, Flaw::ConfirmationTag, Flaw::MembershipTag] {
        for garbage in [false, true] {
            let (mut devices, mut log) = full_group(4, 1);
            let forgery =
                Forgery { garbage: &|node| garbage && node == 0, flaw, ..Forgery::default() };
            let victims = attack(&mut devices, &mut log, 1, forgery);
            let expected = match flaw {
                // Nobody can finish it, its author included.
                Flaw::ConfirmationTag => 4,
                Flaw::MembershipTag => 3,
                _ => usize::from(garbage),
            };
            assert_eq!(victims.len(), expected, "{flaw:?}");
            recover(devices, log, 1);
        }
    }
}

#[test]
fn victims_of_a_false_external_pub_who_come_back_first_lock_out_the_others_once() {
    let (mut devices, mut log) = full_group(4, 1);
    let forgery =
        Forgery { garbage: &|node| node == 0, flaw: Flaw::ExternalPub, ..Forgery::default() };
    let forged = forge(&mut devices[1], forgery);
    log.append(EntryKind::Commit, forged.inner);
    for device in &mut devices {
        device.read(&log);
    }
    assert!(!devices[0].chat().is_member());
    for device in &mut devices {
        device.read(&log);
        if !device.chat().is_member() {
            device.come_in(&mut log);
        }
    }
    assert!(log.head() > 6);
    recover(devices, log, 1);
}

#[test]
fn a_removal_with_garbage_for_all_leaves_the_log_open() {
    let (mut devices, mut log) = full_group(4, 1);
    let forgery = Forgery {
        proposals: vec![Proposal::Remove(LeafIndex::new(3))],
        garbage: &|_| true,
        ..Forgery::default()
    };
    attack(&mut devices, &mut log, 1, forgery);
    let _xia = devices.pop();
    // Somebody else hands over in the log in which everybody came back.
    let (ann, rest) = devices.split_first_mut().unwrap();
    let mut rest: Vec<_> = rest.iter_mut().collect();
    for device in &mut rest {
        device.read(&log);
    }
    let mut next = hand_over(&mut log, ann, &mut rest);
    let mut all = vec![ann];
    all.extend(rest);
    everybody_talks(&mut next, &mut all);
}
