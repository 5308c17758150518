//! A server whose clock is wrong for a while.

use corncrake_core::mls::{codec::Decode, key_package::KeyPackage};
use corncrake_wire::account::NewPackage;

use super::{rig::Device, server, signed_up, wire_device};

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

fn has_keys(device: &Device, package: &NewPackage) -> bool {
    let reference = KeyPackage::decode_exact(&package.bytes).unwrap().reference();
    device.state.account.package(reference.as_bytes()).is_some()
}

#[test]
fn audit_issue_7_bf5_a_server_whose_clock_is_wrong_for_a_moment_makes_no_keys_go() {
    let server = server();
    let mut bob = signed_up(2, "bob", &server);
    bob.run();
    let id = wire_device(bob.state.account.me().unwrap().device);
    let claimed = server.borrow_mut().devices.get_mut(&id).unwrap().packages.remove(0);
    bob.run_for(DAY + DAY / 2);

    server.borrow_mut().ahead = 400 * 24 * 3600;
    let mut bob = bob.reopen(3);
    bob.run_for(MINUTE);
    assert!(has_keys(&bob, &claimed), "its Welcome may be on the way");
    server.borrow_mut().ahead = 0;
    bob.run_for(MINUTE);
    let mut bob = bob.reopen(4);
    bob.run_for(MINUTE);
    assert!(has_keys(&bob, &claimed));
    // The week is over by the right clock, and by one that stays ahead.
    bob.run_for(5 * DAY);
    assert!(has_keys(&bob, &claimed));
    server.borrow_mut().ahead = 400 * 24 * 3600;
    let mut bob = bob.reopen(5);
    // It is asked often, and the rig runs a few hundred turns at once.
    (0..12).for_each(|_| bob.run_for(60 * MINUTE));
    assert!(has_keys(&bob, &claimed));
    (0..18).for_each(|_| bob.run_for(60 * MINUTE));
    assert!(!has_keys(&bob, &claimed));
}
