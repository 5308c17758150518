//! The check on the checker: bugs that are planted from outside are found within 500 seeds.

use corncrake::{Role, Standing};

use crate::{
    attacks_groups::Meadow,
    attacks_handover::{handover, removal},
    check::Mood,
    craft::{Craft, Spoil, craft},
    host::Late,
    mal::Mal,
    prompt::talk,
    seeds::{first_failure, walk},
    world::World,
};

/// Numbers of the client's tables: what the group's secrets lie in, and the events.
const PARTS: u8 = 8;
const EVENTS: u8 = 14;

/// Whether a scenario runs with the bug.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bug {
    Planted,
    Absent,
}

/// Fails unless a walk in a world with the bug fails within 500 seeds.
fn is_found(bug: &str, plant: impl Fn(&World) + Sync) {
    is_found_in(bug, |seed, bug| {
        let world = World::new(seed);
        world.keep_quiet();
        if bug == Bug::Planted {
            plant(&world);
        }
        walk(&world, seed);
    });
}

/// Fails unless `scenario` fails within 500 seeds, and that because of the bug.
fn is_found_in(bug: &str, scenario: impl Fn(u64, Bug) + Sync) {
    let found = first_failure(0..500, |seed| scenario(seed, Bug::Planted));
    let seed = found.unwrap_or_else(|| panic!("500 seeds don't find this bug: {bug}"));
    scenario(seed, Bug::Absent);
}

#[test]
fn events_and_answers_that_leave_before_their_batch_are_found() {
    is_found("event before batch", |world| world.plant_late(Late::BatchesWith(EVENTS)));
}

#[test]
fn a_ratchet_that_is_saved_after_the_send_is_found() {
    is_found("ratchet saved after send", |world| world.plant_late(Late::Rows(PARTS)));
}

#[test]
fn ignored_conflicts_are_found() {
    is_found("conflict ignored", |world| world.network().ignore_conflicts());
}

#[test]
fn ids_looked_up_after_the_newest_commit_are_found() {
    is_found("id looked up after `after`", |world| {
        world.server().borrow_mut().looks_up_late = true;
    });
}

/// Mal removes Cem with garbage for all and confirms that himself. Devices with the bug see a
/// handover that counts: Zoe's, who never acts by herself, in place of Mal's.
fn own_confirmation(seed: u64, bug: Bug) {
    let world = World::new(seed);
    world.keep_quiet();
    let [ann, bob, _cem] = ["ann", "bob", "cem"].map(|name| world.sign_up(name));
    let [mut mal, zoe] = ["mal", "zoe"].map(|name| Mal::sign_up(&world, name));
    let chat = ann.create_group("meadow", &["bob", "cem", "mal", "zoe"]);
    world.settle();
    ann.set_role(chat, "mal", Role::Admin).unwrap();
    world.settle();
    let mut seat = mal.sit();
    let account = mal.account_of("cem");
    let proposals = removal(&seat, account);
    let garbage = Craft { proposals, spoil: Spoil::All, ..Craft::default() };
    let crafted = craft(&mut mal, &mut seat, garbage);
    seat.strike(&mut mal, &crafted);
    let position = world.server().borrow().logs[&seat.log()].head() + 1;
    let own = handover(&mal, &seat);
    let as_seen = seat.sealed(&mut mal, &handover(&zoe, &seat));
    if bug == Bug::Planted {
        let its_log = seat.log();
        world.network().set_plant(Some(Box::new(move |_, log, entry| {
            if log == its_log && entry.position == position {
                entry.bytes.clone_from(&as_seen);
            }
        })));
    }
    seat.append(&mut mal, &own);
    world.settle();
    for device in [&ann, &bob] {
        assert_eq!(device.info(chat).unwrap().standing, Standing::Member);
    }
    world.agree(chat, Mood::Attacked);
}

#[test]
fn a_handover_by_the_removals_author_that_counts_is_found() {
    is_found_in("handover by the removal's own author", own_confirmation);
}

/// Mal's path secrets are garbage for some, who, with the bug, skip the commit as if it were none.
fn lockout(seed: u64, bug: Bug) {
    let mut meadow = Meadow::new(seed);
    meadow.world.keep_quiet();
    let victims = meadow.victims(seed % 2);
    let position = meadow.world.server().borrow().logs[&meadow.seat.log()].head() + 1;
    if bug == Bug::Planted {
        let its_log = meadow.seat.log();
        let blind: Vec<String> = victims.iter().map(|device| device.label().to_owned()).collect();
        meadow.world.network().set_plant(Some(Box::new(move |who, log, entry| {
            let is_blind = blind.iter().any(|label| label == who);
            if is_blind && log == its_log && entry.position == position {
                entry.bytes.fill(0);
            }
        })));
    }
    let spoil = Spoil::Node(usize::try_from(seed % 2).unwrap());
    meadow.strike(Craft { spoil, ..Craft::default() });
    let (ann, bob, cem) = (meadow.ann.clone(), meadow.bob.clone(), meadow.cem.clone());
    meadow.heals(&[&ann, &bob, &cem]);
}

#[test]
fn a_locked_out_member_who_skips_is_found() {
    is_found_in("locked-out member skips", lockout);
}

/// People who talk in a world with the bug, if it is planted.
fn talk_with(seed: u64, bug: Bug, plant: impl Fn(&World)) {
    let world = World::new(seed);
    world.keep_quiet();
    if bug == Bug::Planted {
        plant(&world);
    }
    talk(&world, seed);
}

#[test]
fn audit_srv_a0_a_server_that_forgets_pushes_while_it_reads_is_found() {
    is_found_in("a push is dropped while an empty page is read", |seed, bug| {
        talk_with(seed, bug, |world| world.network().forget_pushes());
    });
}

#[test]
fn audit_srv_a1_a_pause_after_each_answer_is_found() {
    is_found_in("a pause after an answer that came before its push", |seed, bug| {
        talk_with(seed, bug, |world| world.network().pause_after_answers());
    });
}
