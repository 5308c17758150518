//! Mal does whatever he likes, at random moments, while the others live and the network fails:
//! whatever he does alone, the honest end in one group.

use corncrake::{Chat, Standing};
use corncrake_core::{
    conversation::{Change, Entry},
    seal::envelope::Seed,
};
use corncrake_wire::log::NewEntry;

use crate::{
    attacks_groups::Meadow,
    attacks_handover::{handover, removal},
    chance::Chance,
    check::Mood,
    craft::{Craft, Spoil},
    device::Device,
    mal::{Seat, wire_kind},
    network::Faults,
    seeds::{first_failure, number},
};

#[test]
fn whatever_mal_does_the_honest_stay_together() {
    let start = number("WORLD_START", 0);
    let seeds = number("WORLD_ATTACKS", 150);
    let failed = first_failure(start..start + seeds, |seed| {
        let _ = attacked_walk(seed);
    });
    assert_eq!(failed, None, "replay with WORLD_START=<seed> WORLD_ATTACKS=1");
}

#[test]
fn an_attacked_walk_replays_exactly() {
    for seed in 0..3 {
        assert!(attacked_walk(seed) == attacked_walk(seed), "seed {seed}");
    }
}

/// One walk with Mal in the group; gives its trace.
fn attacked_walk(seed: u64) -> String {
    let mut chance = Chance::new(seed, "attacked walk");
    let mut meadow =
        if chance.hit(500) { Meadow::with_mal_in_charge(seed) } else { Meadow::new(seed) };
    let honest = [meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone()];
    meadow.world.set_faults(if chance.hit(700) { Faults::MIXED } else { Faults::NONE });
    for step in 0..chance.between(6, 20) {
        if chance.hit(450) {
            strike(&mut meadow, &mut chance);
        } else {
            live(&meadow, &honest, &mut chance, step);
        }
        let pause = *chance.pick(&[1, 300, 4000, 90_000]);
        meadow.world.pass(pause);
    }
    meadow.world.settle();
    let standings: Vec<_> = honest
        .iter()
        .map(|device| (device.label(), device.info(meadow.chat).unwrap().standing))
        .collect();
    for (label, standing) in &standings {
        let fine = matches!(standing, Standing::Member | Standing::Removed | Standing::Left);
        assert!(fine, "{label} ends as {standing:?}");
    }
    meadow.world.agree(meadow.chat, Mood::Attacked);
    assert!(honest.iter().all(|device| device.chats().len() == 1), "a chat that Mal made up");
    meadow.world.trace()
}

/// What honest people do.
fn live(meadow: &Meadow, honest: &[Device], chance: &mut Chance, step: u64) {
    let device = chance.pick(honest);
    let chat = meadow.chat;
    match chance.below(10) {
        0..5 if device.runs() => {
            device.begin_say(chat, &format!("{} says {step}", device.label()));
        }
        5 if device.runs() => {
            let title = format!("meadow {step}");
            device.begin_in(chat, format!("rename to {title}"), async move |chat: Chat| {
                chat.rename(&title).await
            });
        }
        6 => device.crasher().count(Some(chance.below(10))),
        7 => honest.iter().filter(|device| !device.runs()).for_each(Device::start),
        8 => device.set_cut(true),
        _ => device.set_cut(false),
    }
}

/// What Mal does.
fn strike(meadow: &mut Meadow, chance: &mut Chance) {
    let Meadow { seat, mal, .. } = meadow;
    seat.read(mal);
    let exists = meadow.world.server().borrow().logs.contains_key(&seat.log());
    if !exists || !seat.conversation.has_account(mal.account) || seat.conversation.closed() {
        return;
    }
    if !seat.conversation.is_member() {
        seat.rejoin(mal);
        return;
    }
    match chance.below(14) {
        0..7 => {
            let bad = bad_commit(chance);
            meadow.strike(bad);
        }
        7 => {
            let inner = handover(mal, seat);
            seat.append(mal, &inner);
            seat.read(mal);
        }
        8 => {
            let others: Vec<_> = seat
                .conversation
                .members()
                .iter()
                .map(|member| member.account)
                .filter(|account| *account != mal.account)
                .collect();
            if others.len() > 2 {
                let account = *chance.pick(&others);
                let proposals = removal(seat, account);
                let spoil =
                    *chance.pick(&[Spoil::Nobody, Spoil::All, Spoil::Node(0), Spoil::Node(1)]);
                meadow.strike(Craft { proposals, spoil, ..Craft::default() });
            }
        }
        9 => {
            // A commit that counts, with rubbish for a state beside it.
            let commit = seat.make(mal, Change::fresh_path());
            seat.append_with(mal, &commit.inner, None, Some(&[1, 2, 3]), None);
            seat.read(mal);
        }
        10 => {
            let seed = Seed::random(mal.chance.rng());
            let with = ["ann", "bob", "cem"];
            Seat::found_direct(mal, seed, chance.pick::<&str>(&with));
        }
        11 => seat.repeat(mal),
        12 if seat.conversation.tail_is_true() == Some(true) => seat.say(mal, "one of you"),
        _ => {
            let kind = if chance.hit(500) { 1 } else { 2 };
            let inner = [kind].into_iter().chain(chance.bytes::<40>()).collect::<Vec<u8>>();
            let sealed = seat.sealed(mal, &inner);
            let kind = Entry::decode(&inner)
                .map_or(corncrake_core::conversation::EntryKind::Message, |entry| entry.kind());
            seat.append_sealed(mal, wire_kind(kind), NewEntry::new(sealed), None);
        }
    }
}

/// A self-update that is wrong in one way.
fn bad_commit(chance: &mut Chance) -> Craft {
    let node = usize::try_from(chance.below(2)).unwrap();
    let spoil = *chance.pick(&[Spoil::All, Spoil::Node(node), Spoil::AllBut(node)]);
    match chance.below(7) {
        0..3 => Craft { spoil, ..Craft::default() },
        3 => Craft { false_external_pub: true, ..Craft::default() },
        4 => Craft { false_next: true, ..Craft::default() },
        5 => Craft { bad_confirmation_tag: true, ..Craft::default() },
        _ => Craft { bad_membership_tag: true, ..Craft::default() },
    }
}
