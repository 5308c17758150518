//! Scenarios of the client in a world of its own: many devices, a memory server, virtual time,
//! seeded randomness, a network that fails and devices that crash (architecture §5).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints its trace"
)]

mod attacks_direct;
mod attacks_groups;
mod attacks_handover;
mod attacks_joining;
mod attacks_random;
mod attacks_server;
mod attacks_vault;
mod basis;
mod chance;
mod check;
mod clocks;
mod craft;
mod crash;
mod crashes;
mod damage;
mod device;
mod devices;
mod duels;
mod events;
mod executor;
mod expired;
mod flows;
mod groups;
mod host;
mod key_notices;
mod link;
mod lost_absent;
mod lost_accounts;
mod lost_again;
mod lost_changes;
mod lost_chats;
mod lost_entries;
mod lost_logs;
mod lost_members;
mod mal;
mod names;
mod network;
mod planted;
mod prompt;
mod renewed_keys;
mod seeds;
mod server;
mod start;
mod strangers;
mod trace;
mod world;
