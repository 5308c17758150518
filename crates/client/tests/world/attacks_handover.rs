//! Attacks on removals and handovers (B1–B10).

use corncrake::{Chat, Client, Standing};
use corncrake_core::{
    conversation::{Answer, Entry, EntryKind as CoreKind, Reading, SkipReason},
    id::AccountId,
    mls::{
        codec::{Encode, put_bytes},
        proposal::Proposal,
    },
    seal::envelope::Seed,
};
use corncrake_wire::log::{EntryKind, NewEntry};

use crate::{
    attacks_groups::Meadow,
    check::Mood,
    craft::{Craft, Spoil, craft, leaf_of, leaves_of, set_context},
    device::Device,
    mal::{Mal, Seat},
    network::Faults,
    world::World,
};

/// The proposals that remove an account as the rules want it.
pub(crate) fn removal(seat: &Seat, account: AccountId) -> Vec<Proposal> {
    let mut context = seat.conversation.context().clone();
    let changed = context.roles.remove(&account).is_some() | context.leaving.remove(&account);
    let mut proposals: Vec<_> =
        leaves_of(seat, account).into_iter().map(Proposal::Remove).collect();
    if changed {
        proposals.insert(0, set_context(seat, &context));
    }
    proposals
}

/// A handover of the newest commit, signed by Mal, whether he may or not.
pub(crate) fn handover(mal: &Mal, seat: &Seat) -> Vec<u8> {
    let anchor = seat.conversation.anchor();
    let mut place = Vec::new();
    place.extend_from_slice(seat.conversation.id().as_bytes());
    place.extend_from_slice(seat.log().as_bytes());
    anchor.epoch.encode(&mut place);
    place.extend_from_slice(&anchor.transcript);
    leaf_of(seat, &mal.device_key).get().encode(&mut place);
    let signature = mal.device_key.sign_with_label("corncrake handover", &place);
    let mut inner = vec![3];
    inner.extend_from_slice(&place);
    put_bytes(&mut inner, &signature);
    inner
}

/// Runs until the log that the seat is in was closed; gives whether it was.
fn runs_until_closed(meadow: &mut Meadow) {
    let log = meadow.seat.log();
    let server = meadow.world.server();
    let (mal, seat) = (&meadow.mal, &mut meadow.seat);
    let mut seen = 0;
    meadow.world.until("the log is handed over", || {
        let head = server.borrow().logs[&log].head();
        if head > seen {
            seen = head;
            seat.read(mal);
        }
        seat.log() != log || seat.conversation.closed()
    });
}

#[test]
fn b1_a_removal_with_garbage_for_all() {
    for seed in 0..4 {
        let mut meadow = Meadow::with_mal_in_charge(seed);
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        let account = meadow.mal.account_of("cem");
        let proposals = removal(&meadow.seat, account);
        meadow.strike(Craft { proposals, spoil: Spoil::All, ..Craft::default() });
        meadow.heals(&[&ann, &bob]);
        assert_eq!(cem.info(meadow.chat).unwrap().standing, Standing::Removed);
        ann.remove(meadow.chat, "mal").unwrap();
        meadow.heals(&[&ann, &bob]);
    }
}

#[test]
fn b2_he_confirms_his_own_removal() {
    let mut meadow = Meadow::with_mal_in_charge(0);
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    let account = meadow.mal.account_of("cem");
    let proposals = removal(&meadow.seat, account);
    meadow.strike(Craft { proposals, spoil: Spoil::All, ..Craft::default() });
    let own = handover(&meadow.mal, &meadow.seat);
    meadow.seat.append(&mut meadow.mal, &own);
    meadow.seat.read(&meadow.mal);
    let (_, reading) = meadow.seat.readings.last().unwrap();
    assert!(matches!(reading, Reading::Skipped(SkipReason::Handover)), "{reading:?}");
    meadow.heals(&[&ann, &bob]);
    assert_eq!(cem.info(meadow.chat).unwrap().standing, Standing::Removed);
}

#[test]
fn b2_he_hands_over_what_he_did_not_finish() {
    for seed in 0..4 {
        let mut meadow = Meadow::new(seed);
        meadow.promote("bob");
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        let log = meadow.seat.log();
        let head = meadow.world.server().borrow().logs[&log].newest_commit;
        let removes = bob.begin_remove(meadow.chat, "cem");
        let server = meadow.world.server();
        meadow
            .world
            .until("bob's removal stands", || server.borrow().logs[&log].newest_commit != head);
        meadow.seat.read(&meadow.mal);
        let at_once = handover(&meadow.mal, &meadow.seat);
        meadow.seat.append(&mut meadow.mal, &at_once);
        bob.wait(&removes, "remove").unwrap();
        meadow.heals(&[&ann, &bob]);
        assert_eq!(cem.info(meadow.chat).unwrap().standing, Standing::Removed);
    }
}

#[test]
fn b3_a_false_answer_to_a_knock() {
    // Ann is locked out at Mal's removal of Xia; Bob and Cem finish, and one of them hands over.
    let world = World::new(3);
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    world.sign_up("xia");
    let mut mal = Mal::sign_up(&world, "mal");
    let chat = bob.create_group("meadow", &["ann", "cem", "xia", "mal"]);
    world.settle();
    bob.set_role(chat, "mal", corncrake::Role::Admin).unwrap();
    world.settle();
    let mut seat = mal.sit();
    let account = mal.account_of("xia");
    let proposals = removal(&seat, account);
    ann.set_cut(true);
    // Whom the garbage hits depends on where the leaves are: whoever it is must come back.
    let garbage = Craft { proposals, spoil: Spoil::Node(0), ..Craft::default() };
    let crafted = craft(&mut mal, &mut seat, garbage);
    let old = Seed::from_key(corncrake_core::derive::Key32::from_bytes(*seat.seed.expose()));
    seat.strike(&mut mal, &crafted);
    world.pass(60_000);
    ann.set_cut(false);
    // Mal answers every knock in the old log with a seed of his own.
    let keys = old.log_keys();
    let log = corncrake_wire::LogId(*keys.log.as_bytes());
    let mut answered = 0;
    for _ in 0..600 {
        world.pass(1000);
        let entries = world.server().borrow().logs[&log].page(answered, usize::MAX);
        for entry in entries {
            answered = entry.position;
            let kind = crate::mal::core_kind(entry.kind);
            let Ok(inner) = keys.envelope.open(keys.log, kind, &entry.bytes) else {
                continue;
            };
            if let Ok(Entry::Knock(knock)) = Entry::decode(&inner) {
                let false_seed = Seed::random(mal.chance.rng());
                let answer = Answer::seal(&knock, &[false_seed], mal.chance.rng()).unwrap();
                let rng = mal.chance.rng();
                let sealed = keys.envelope.seal(keys.log, CoreKind::Message, &answer, rng);
                let entry = NewEntry::new(sealed.unwrap());
                Seat::append_to(&mal, &old, EntryKind::Message, entry);
                mal.note("answers a knock with a false seed");
            }
        }
    }
    world.settle();
    for device in [&ann, &bob, &cem] {
        assert_eq!(device.info(chat).unwrap().standing, Standing::Member, "{}", device.label());
    }
    world.agree(chat, Mood::Attacked);
}

#[test]
fn b4_a_removed_member_lets_the_others_in() {
    // Leaves: Ann 0, Bob 1, Cem 2, Mal 3, Xia 4. Mal's removal of Xia opens only for Cem, who
    // hands over; Mal removes Cem in the next log.
    let world = World::new(4);
    let [ann, bob, cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    world.sign_up("xia");
    let mut mal = Mal::sign_up(&world, "mal");
    let chat = ann.create_group("meadow", &["bob", "cem", "mal", "xia"]);
    world.settle();
    ann.set_role(chat, "mal", corncrake::Role::Admin).unwrap();
    world.settle();
    let seat = mal.sit();
    let mut meadow = Meadow { world, ann, bob, cem, mal, seat, chat };
    let account = meadow.mal.account_of("xia");
    let proposals = removal(&meadow.seat, account);
    // Ann and Bob can't come back before the log is closed.
    meadow.ann.set_cut(true);
    meadow.bob.set_cut(true);
    let crafted = craft(
        &mut meadow.mal,
        &mut meadow.seat,
        Craft { proposals, spoil: Spoil::AllBut(0), ..Craft::default() },
    );
    meadow.seat.strike(&mut meadow.mal, &crafted);
    runs_until_closed(&mut meadow);
    let server = meadow.world.server();
    let log = meadow.seat.log();
    meadow.world.until("the next log exists", || server.borrow().logs.contains_key(&log));
    let account = meadow.mal.account_of("cem");
    meadow.seat.read(&meadow.mal);
    let proposals = removal(&meadow.seat, account);
    meadow.strike(Craft { proposals, ..Craft::default() });
    meadow.ann.set_cut(false);
    meadow.bob.set_cut(false);
    meadow.world.settle();
    for device in [&meadow.ann, &meadow.bob] {
        let standing = device.info(meadow.chat).unwrap().standing;
        assert_eq!(standing, Standing::Member, "{}", device.label());
    }
    assert_eq!(meadow.cem.info(meadow.chat).unwrap().standing, Standing::Removed);
    meadow.world.agree(meadow.chat, Mood::Attacked);
}

#[test]
fn b5_a_false_opening_state_in_the_next_log() {
    for seed in 0..3 {
        let mut meadow = Meadow::new(seed);
        let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
        ann.begin_remove(meadow.chat, "cem");
        runs_until_closed(&mut meadow);
        // Mal is first there: a message, and rubbish for a state.
        let rng = meadow.mal.chance.rng();
        let keys = meadow.seat.seed.log_keys();
        let kind = CoreKind::Message;
        let entry = keys.envelope.seal(keys.log, kind, &[2, 0, 1], rng).unwrap();
        let rubbish = vec![0x77; 300];
        let entry = NewEntry::new(entry);
        meadow.seat.append_sealed(&meadow.mal, EntryKind::Message, entry, Some(rubbish));
        meadow.heals(&[&ann, &bob]);
        let second = meadow.world.log_in("ann");
        meadow.heals(&[&ann, &bob, &second]);
        assert_eq!(cem.info(meadow.chat).unwrap().standing, Standing::Removed);
    }
}

#[test]
fn b6_the_next_log_is_created_twice_or_by_one_who_dies() {
    for seed in 0..12 {
        let world = World::new(seed);
        let [ann, bob, _cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
        let dee = world.sign_up("dee");
        let chat = ann.create_group("meadow", &["bob", "cem", "dee"]);
        world.settle();
        world.set_faults(Faults { delay: 3000, ..Faults::NONE });
        ann.begin_say(chat, "before");
        let removes = ann.begin_remove(chat, "cem");
        bob.begin_say(chat, "at the same time");
        dee.begin_say(chat, "me too");
        if seed % 2 == 1 {
            bob.crasher().count(Some(seed));
            dee.crasher().count(Some(seed + 3));
        }
        ann.wait(&removes, "remove").unwrap();
        world.settle();
        world.agree(chat, Mood::Honest);
        assert_eq!(world.members_of(chat).len(), 3);
    }
}

#[test]
fn b7_a_removed_member_replays_and_knocks() {
    let mut meadow = Meadow::new(7);
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    let old = meadow.seat.seed.clone();
    meadow.seat.say(&mut meadow.mal, "once");
    let message = meadow.seat.own_message();
    meadow.world.settle();
    ann.remove(meadow.chat, "mal").unwrap();
    meadow.world.settle();
    meadow.seat.read(&meadow.mal);
    let keys = old.log_keys();
    let (knock, key) = meadow.seat.knock(&mut meadow.mal);
    for inner in [message, vec![1, 2, 3], knock] {
        let kind = Entry::decode(&inner).map_or(CoreKind::Commit, |entry| entry.kind());
        let rng = meadow.mal.chance.rng();
        let sealed = keys.envelope.seal(keys.log, kind, &inner, rng).unwrap();
        let entry = NewEntry::new(sealed);
        Seat::append_to(&meadow.mal, &old, crate::mal::wire_kind(kind), entry);
    }
    meadow.heals(&[&ann, &bob, &cem]);
    let log = corncrake_wire::LogId(*keys.log.as_bytes());
    let entries = meadow.world.server().borrow().logs[&log].page(0, usize::MAX);
    for entry in entries {
        let kind = crate::mal::core_kind(entry.kind);
        let Ok(inner) = keys.envelope.open(keys.log, kind, &entry.bytes) else {
            continue;
        };
        if let Ok(Entry::Answer(answer)) = Entry::decode(&inner) {
            assert!(key.open(&answer).is_empty(), "somebody answered a removed member");
        }
    }
    let texts = crate::flows::texts(&ann, meadow.chat);
    assert_eq!(texts.iter().filter(|text| *text == "once").count(), 1);
}

#[test]
fn b8_five_weeks_away_and_three_closed_logs() {
    for seed in 0..3 {
        let world = World::new(seed);
        let [ann, bob, _, _, _] =
            ["ann", "bob", "cem", "dee", "eve"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob", "cem", "dee", "eve"]);
        let fay = world.sign_up("fay");
        ann.add(chat, "fay").unwrap();
        world.settle();
        bob.set_cut(true);
        for name in ["cem", "dee", "eve"] {
            ann.remove(chat, name).unwrap();
            world.pass(12 * 24 * 3_600_000);
            ann.say(chat, &format!("{name} is gone"));
            fay.say(chat, "yes");
            world.pass(60_000);
        }
        bob.set_cut(false);
        world.settle();
        assert_eq!(bob.info(chat).unwrap().standing, Standing::Member);
        assert!(crate::flows::texts(&bob, chat).contains(&"eve is gone".to_owned()));
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn b9_a_handover_after_every_commit() {
    let mut meadow = Meadow::new(9);
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    for round in 0..4 {
        ann.rename(meadow.chat, &format!("meadow {round}")).unwrap();
        meadow.seat.read(&meadow.mal);
        let undue = handover(&meadow.mal, &meadow.seat);
        meadow.seat.append(&mut meadow.mal, &undue);
        meadow.seat.read(&meadow.mal);
        bob.say(meadow.chat, &format!("round {round}"));
        meadow.world.settle();
        meadow.seat.read(&meadow.mal);
    }
    meadow.heals(&[&ann, &bob, &cem]);
    assert_eq!(cem.info(meadow.chat).unwrap().title, "meadow 3");
}

#[test]
fn a_knock_at_a_log_that_was_closed_long_ago_is_answered_within_a_day_or_so() {
    for seed in 0..4 {
        let mut meadow = Meadow::new(seed);
        let (ann, bob) = (meadow.ann.clone(), meadow.bob.clone());
        let old = meadow.seat.seed.clone();
        let (knock, key) = meadow.seat.knock(&mut meadow.mal);
        ann.remove(meadow.chat, "cem").unwrap();
        meadow.world.settle();
        let hour = 3_600_000;
        [&ann, &bob].into_iter().for_each(Device::crash);
        meadow.world.pass(100 * 24 * hour);
        [&ann, &bob].into_iter().for_each(Device::start);
        meadow.world.pass(hour);
        let keys = old.log_keys();
        let sealed =
            keys.envelope.seal(keys.log, CoreKind::Message, &knock, meadow.mal.chance.rng());
        Seat::append_to(&meadow.mal, &old, EntryKind::Message, NewEntry::new(sealed.unwrap()));
        let server = meadow.world.server();
        let log = corncrake_wire::LogId(*keys.log.as_bytes());
        let answers = || {
            let entries = server.borrow().logs[&log].page(0, usize::MAX);
            let opened = entries.into_iter().filter_map(|entry| {
                let kind = crate::mal::core_kind(entry.kind);
                keys.envelope.open(keys.log, kind, &entry.bytes).ok()
            });
            let seeds = opened.filter_map(|inner| match Entry::decode(&inner) {
                Ok(Entry::Answer(answer)) => Some(key.open(&answer).len()),
                _ => None,
            });
            seeds.filter(|&seeds| seeds > 0).count()
        };
        let start = meadow.world.executor().now();
        meadow.world.until("somebody answers", || answers() > 0);
        assert!(meadow.world.executor().now() - start < 37 * hour);
        meadow.world.pass(hour);
        assert_eq!(answers(), 1, "once is enough");
        meadow.heals(&[&ann, &bob]);
    }
}

#[test]
fn adds_wait_for_a_due_handover_for_one_hour() {
    for seed in 0..4 {
        let world = World::new(seed);
        let [ann, bob, _cem, _eve] = ["ann", "bob", "cem", "eve"].map(|name| world.sign_up(name));
        let chat = ann.create_group("meadow", &["bob", "cem"]);
        let second = world.log_in("ann");
        world.settle();
        // Only Bob may hand over.
        bob.set_cut(true);
        ann.remove(chat, "cem").unwrap();
        let is_in = |name: &str| {
            let members = second.info(chat).unwrap().members;
            members.iter().any(|member| member.name.as_deref() == Some(name))
        };
        ann.begin_add(chat, "eve");
        // Neither commits nor a restart begin the hour anew.
        for minutes in [20, 40] {
            world.pass(20 * 60_000);
            second.rename(chat, &format!("{minutes} minutes after")).unwrap();
        }
        world.pass(10 * 60_000);
        ann.restart();
        world.pass(5 * 60_000);
        assert!(!is_in("cem") && !is_in("eve"), "she was added while a handover was due");
        world.pass(7 * 60_000);
        assert!(is_in("eve"), "an hour has passed");
        bob.set_cut(false);
        world.settle();
        world.agree(chat, Mood::Honest);
    }
}

#[test]
fn b10_a_device_goes_while_the_other_side_is_away() {
    for seed in 0..3 {
        let world = World::new(seed);
        let [ann, bob] = ["ann", "bob"].map(|name| world.sign_up(name));
        let chat = ann.start_chat(&["bob"]);
        world.settle();
        let second = world.log_in("ann");
        world.settle();
        let id = second.call("account", async move |client: Client| client.account().await);
        let device = id.unwrap().device;
        bob.set_cut(true);
        let revoke = async move |chat: Chat| chat.revoke_device(device).await;
        ann.call_in(chat, "revoke the second device", revoke).unwrap();
        second.lose();
        ann.say(chat, "only my first device");
        world.pass(7 * 24 * 3_600_000);
        bob.set_cut(false);
        world.settle();
        assert!(crate::flows::texts(&bob, chat).contains(&"only my first device".to_owned()));
        world.agree(chat, Mood::Honest);
        let members = bob.info(chat).unwrap().members;
        assert!(members.iter().all(|member| member.devices == 1), "{members:?}");
    }
}
