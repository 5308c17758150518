//! A server that lies in the password protocol (scenario D5): whatever it says, the device sends
//! nothing that only the right password gives, has no account, and is let in once it hears the
//! truth.

use core::mem;

use corncrake_wire::opaque::{ServerSecret, Stretch, register};

use super::{PASSWORD, assert_sound, rig::Device, rng, server, signed_up};
use crate::error::Refusal;

/// Tries to log in and hears that the password is wrong; gives how many calls were made.
fn refused(device: &mut Device, name: &str) -> usize {
    let before = device.requests;
    assert_eq!(device.log_in(name, PASSWORD), Some(Err(Refusal::WrongPassword.into())));
    assert!(device.state.account.me().is_none());
    device.requests - before
}

#[test]
fn d5_a_log_in_under_other_parameters_ends_before_its_proof() {
    let server = server();
    let _first = signed_up(1, "ann", &server);
    let mut device = Device::new(2, &server);

    let other = ServerSecret::new(&mut rng(3));
    let secret = mem::replace(&mut server.borrow_mut().secret, other);
    assert_eq!(refused(&mut device, "ann"), 1);
    server.borrow_mut().secret = secret;

    let length = {
        let mut rng = rng(4);
        let server = server.borrow();
        let (_, request) = corncrake_wire::opaque::log_in(PASSWORD.as_bytes(), &mut rng).unwrap();
        let record = Some(server.accounts["ann"].opaque.as_slice());
        server.secret.log_in_reply("ann", record, &request, &mut rng).unwrap().0.len()
    };
    for byte in 0..length {
        server.borrow_mut().spoils = Some(byte);
        assert_eq!(refused(&mut device, "ann"), 1, "byte {byte}");
    }

    server.borrow_mut().spoils = None;
    assert_eq!(device.log_in("ann", PASSWORD), Some(Ok(())));
    assert_sound(&device);
}

#[test]
fn d5_a_known_name_made_unknown_and_back() {
    let server = server();
    let first = signed_up(1, "ann", &server);
    let mut device = Device::new(2, &server);

    let account = server.borrow_mut().accounts.remove("ann").unwrap();
    assert_eq!(refused(&mut device, "ann"), 1);

    server.borrow_mut().accounts.insert("ann".to_owned(), account);
    assert_eq!(device.log_in("ann", PASSWORD), Some(Ok(())));
    let id = |device: &Device| device.state.account.me().unwrap().account;
    assert_eq!(id(&device), id(&first));
}

#[test]
fn d5_an_unknown_name_made_known() {
    let server = server();
    let _first = signed_up(1, "ann", &server);
    let mut device = Device::new(2, &server);

    // The server registers the name itself, with its guess of the password.
    let (client, request) = register(b"a guess", &mut rng(3)).unwrap();
    let reply = server.borrow().secret.registration_reply("bob", &request).unwrap();
    let cheap = Stretch::with(|input, output| output.copy_from_slice(input));
    let (opaque, _) = client.finish(&reply, cheap, &mut rng(3)).unwrap();
    let mut account = server.borrow().accounts["ann"].clone();
    account.opaque = opaque;
    server.borrow_mut().accounts.insert("bob".to_owned(), account);
    assert_eq!(refused(&mut device, "bob"), 1);
    // So it can keep the name from being taken, and no more.
    let taken = Some(Err(Refusal::UsernameTaken.into()));
    assert_eq!(device.sign_up("bob", PASSWORD), taken);

    server.borrow_mut().accounts.remove("bob");
    assert_eq!(device.sign_up("bob", PASSWORD), Some(Ok(())));
    assert_sound(&device);
}
