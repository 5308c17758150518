use corncrake_wire::account::WhatYouHold;

use crate::support::{Api, deposit, log_in, sign_up};

#[tokio::test]
async fn the_owner_learns_what_the_server_holds() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    sign_up(&api, "eve", b"correct horse").await;
    log_in(&api, "bob", b"correct horse").await;
    api.call(&deposit(bob.device.inbox, b"notice")).await.unwrap();
    let held = api.call_as(Some(&bob.session.token), &WhatYouHold).await.unwrap();
    let today = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 86_400;
    assert_eq!(held.name, "bob");
    assert_eq!(u64::from(held.signed_up_day), today - today % 7, "rounded down to a week");
    assert_eq!(held.record, (1, "record 1".len() as u64));
    assert_eq!(held.vault, (1, "vault 1".len() as u64));
    assert_eq!(held.sessions, 2);
    assert_eq!(held.devices.len(), 1);
    let device = &held.devices[0];
    assert_eq!((device.device, device.packages, device.notices), (bob.device.id, 2, 1));
}
