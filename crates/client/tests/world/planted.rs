//! The check on the checker: bugs that are planted from outside are found within 500 seeds.

use crate::{
    host::Late,
    seeds::{first_failure, walk},
    server::Plant,
    world::World,
};

/// Numbers of the client's tables: what the group's secrets lie in, and the events.
const PARTS: u8 = 8;
const EVENTS: u8 = 14;

/// Fails unless a walk in a world with the bug fails within 500 seeds.
fn is_found(bug: &str, plant: impl Fn(&World) + Sync) {
    let found = first_failure(0..500, |seed| {
        let world = World::new(seed);
        world.keep_quiet();
        plant(&world);
        walk(&world, seed);
    });
    assert!(found.is_some(), "500 seeds don't find this bug: {bug}");
}

#[test]
fn events_and_answers_that_leave_before_their_batch_are_found() {
    is_found("event before batch", |world| {
        world.plant_late(Late::BatchesWith(EVENTS))
    });
}

#[test]
fn a_ratchet_that_is_saved_after_the_send_is_found() {
    is_found("ratchet saved after send", |world| {
        world.plant_late(Late::Rows(PARTS))
    });
}

#[test]
fn ignored_conflicts_are_found() {
    is_found("conflict ignored", |world| {
        world.server().borrow_mut().plant = Plant::IgnoreConflicts;
    });
}

#[test]
fn ids_looked_up_after_the_newest_commit_are_found() {
    is_found("id looked up after `after`", |world| {
        world.server().borrow_mut().plant = Plant::LookUpLate;
    });
}
