//! Names and passwords that are refused.

use super::{PASSWORD, assert_sound, rig::Device, server, signed_up};
use crate::error::Refusal;

#[test]
fn bad_names_and_weak_passwords_never_leave() {
    let server = server();
    let mut device = Device::new(1, &server);
    let refused = device.sign_up("a b", PASSWORD);
    assert_eq!(refused, Some(Err(Refusal::BadUsername.into())));
    for weak in ["", "password1", "ann-ann-ann"] {
        let refused = device.sign_up("ann", weak);
        assert_eq!(refused, Some(Err(Refusal::WeakPassword.into())), "{weak}");
    }
    assert_eq!(device.requests, 0);
    let refused = device.log_in("ann", PASSWORD);
    assert_eq!(refused, Some(Err(Refusal::WrongPassword.into())));
}

#[test]
fn a_name_is_taken_once() {
    let server = server();
    let _ann = signed_up(1, "ann", &server);
    let mut other = Device::new(2, &server);
    let taken = Some(Err(Refusal::UsernameTaken.into()));
    assert_eq!(other.sign_up("ann", "another long unguessable one"), taken);
    // With the right password too: whoever signs up wants an account of his own.
    assert_eq!(other.sign_up("Ann", PASSWORD), taken);
    assert_eq!(other.sign_up("ben", PASSWORD), Some(Ok(())));
    assert_sound(&other);
}
