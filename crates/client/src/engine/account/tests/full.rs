//! A server whose disk is full.

use super::{server, signed_up, wire_device};
use crate::command::Command;

#[test]
fn audit_issue_7_bf8_what_a_full_server_does_not_store_keeps_nobody_from_reading() {
    let server = server();
    let mut bob = signed_up(2, "bob", &server);
    bob.run();
    let id = wire_device(bob.state.account.me().unwrap().device);
    server.borrow_mut().devices.get_mut(&id).unwrap().packages.remove(0);
    server.borrow_mut().is_full = true;
    let mut bob = bob.reopen(3);
    bob.run_for(1_000);
    assert_eq!(bob.ask(Command::CaughtUp), Some(Ok(())));
    assert_eq!(bob.ask(Command::Settle), None, "it is still owed");
    server.borrow_mut().is_full = false;
    bob.run_for(10_000);
    assert_eq!(bob.ask(Command::Settle), Some(Ok(())));
}
