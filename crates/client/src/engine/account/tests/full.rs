//! A server whose disk is full, and a device that has no memory for a password.

use corncrake_wire::opaque::Stretch;

use super::{
    PASSWORD, assert_sound,
    rig::{Device, Fault},
    server, signed_up, wire_device,
};
use crate::{command::Command, error::Refusal};

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

#[test]
fn audit_issue_7_qm4_where_a_password_cannot_be_stretched_nobody_is_blamed_and_nothing_is_lost() {
    let server = server();
    let none = Stretch::without_memory();
    let no_memory = Some(Err(Refusal::NoMemory.into()));
    let mut ann = Device::new(1, &server);
    let enough = core::mem::replace(&mut ann.state.settings.stretch, none);
    assert_eq!(ann.sign_up("ann", PASSWORD), no_memory);
    ann.state.settings.stretch = enough;
    // The account is made, and its device doesn't hear of it.
    ann.fault = Fault::CrashAfter(ann.requests + 1);
    assert_eq!(ann.sign_up("ann", PASSWORD), None);
    let mut ann = ann.reopen(3);
    ann.state.settings.stretch = none;
    assert_eq!(ann.sign_up("ann", PASSWORD), no_memory);
    ann.state.settings.stretch = enough;
    assert_eq!(ann.sign_up("ann", PASSWORD), Some(Ok(())));
    assert_sound(&ann);
    let mut second = Device::new(2, &server);
    second.state.settings.stretch = none;
    assert_eq!(second.log_in("ann", PASSWORD), no_memory);
    second.state.settings.stretch = enough;
    assert_eq!(second.log_in("ann", PASSWORD), Some(Ok(())));
}
