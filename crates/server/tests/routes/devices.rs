use corncrake_wire::{
    AccountId, DeviceId, ErrorCode,
    account::{
        AddDevice, GetVault, ListPackages, NewDevice, Renew, RenewStart, ReplaceRecord,
        ReplaceVault, RestoreDevice, Session, Vault, WhatYouHold,
    },
    limits,
    open::{By, SignedRecord},
    session::{Replacement, renewal},
};
use ed25519_dalek::{Signer, SigningKey};

use crate::support::{
    Api, Problem, SUITE, add_device, found, log_in, look_up, new_device, one_time, problem, random,
    record, sign, sign_up, signed,
};

async fn renew(
    api: &Api,
    account: AccountId,
    device: &NewDevice,
    key: &SigningKey,
) -> Result<Session, Problem> {
    let nonce = api.call(&RenewStart { account, device: device.id }).await?.nonce;
    let signature = key.sign(&renewal(&api.origin(), &account, &device.id, &nonce));
    let signature = signature.to_bytes().to_vec();
    api.call(&Renew { account, device: device.id, nonce, signature }).await
}

#[tokio::test]
async fn a_second_device_joins_and_may_say_so_twice() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let logged_in = log_in(&api, "bob", b"correct horse").await;
    let (device, _) = new_device();
    let add = add_device(&bob.account, 2, &device);
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let session = api.call_as(Some(&logged_in.session.token), &add).await.unwrap();
        let count = ListPackages { suite: SUITE };
        let count = api.call_as(Some(&session.token), &count).await.unwrap();
        assert_eq!((count.one_time.len(), count.last_resort.is_some()), (1, false));
        tokens.push(session.token);
    }
    assert_ne!(tokens[0], tokens[1]);
    let held = api.call_as(Some(&bob.session.token), &WhatYouHold).await.unwrap();
    assert_eq!(held.devices.len(), 2);
    assert_eq!(api.call(&look_up(By::Id(bob.account))).await, Ok(found("bob", 2)));
}

#[tokio::test]
async fn a_record_is_replaced_by_its_next_version_only() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let token = Some(&bob.session.token);
    let replace = |version, bytes: &[u8]| {
        let record = SignedRecord { version, bytes: bytes.to_vec() };
        let replacement = Replacement { record: Some(&record), ..Replacement::of(&bob.account) };
        ReplaceRecord { signature: sign(&bob.account, &replacement), record }
    };
    let conflict = Err(problem(ErrorCode::VersionConflict));
    assert_eq!(api.call_as(token, &replace(3, b"far")).await, conflict);
    assert_eq!(api.call_as(token, &replace(1, b"other")).await, conflict);
    assert_eq!(api.call_as(token, &replace(0, b"zero")).await, conflict);
    assert_eq!(api.call_as(token, &replace(u64::MAX, b"most")).await, conflict);
    for _ in 0..2 {
        assert_eq!(api.call_as(token, &replace(2, b"two")).await, Ok(()));
    }
    assert_eq!(api.call_as(token, &replace(2, b"else")).await, conflict);
    let huge = replace(3, &vec![0; limits::RECORD + 1]);
    assert_eq!(api.call_as(token, &huge).await, Err(problem(ErrorCode::TooLarge)));
    assert_eq!(api.call(&look_up(By::Name("bob".to_owned()))).await.unwrap().record.bytes, b"two");
}

#[tokio::test]
async fn a_refused_device_leaves_nothing_behind() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let eve = sign_up(&api, "eve", b"correct horse").await;
    let token = Some(&bob.session.token);
    let rows = api.rows().await;
    let (device, _) = new_device();
    let good = add_device(&bob.account, 2, &device);
    let cases = [
        (ErrorCode::VersionConflict, AddDevice { record: record(3), ..good.clone() }),
        (ErrorCode::UnknownDevice, AddDevice { drop: Some(DeviceId(random())), ..good.clone() }),
        (ErrorCode::UnknownDevice, AddDevice { drop: Some(eve.device.id), ..good.clone() }),
        (ErrorCode::IdTaken, add_device(&bob.account, 2, &eve.device)),
        (
            ErrorCode::TooManyPackages,
            AddDevice { packages: (0..=50u8).map(|n| one_time(&[n])).collect(), ..good.clone() },
        ),
        (
            ErrorCode::TooLarge,
            AddDevice { packages: vec![one_time(&[0; limits::KEY_PACKAGE + 1])], ..good.clone() },
        ),
    ];
    for (code, add) in cases {
        let add = signed(&bob.account, add);
        assert_eq!(api.call_as(token, &add).await, Err(problem(code)));
        assert_eq!(api.rows().await, rows);
        assert_eq!(api.call(&look_up(By::Id(bob.account))).await, Ok(found("bob", 1)));
    }
    // The same id with another key is another device.
    let (mut impostor, _) = new_device();
    impostor.id = bob.device.id;
    let refused = api.call_as(token, &add_device(&bob.account, 2, &impostor)).await;
    assert_eq!(refused, Err(problem(ErrorCode::IdTaken)));
    assert!(api.call_as(token, &good).await.is_ok());
}

#[tokio::test]
async fn the_eleventh_device_needs_the_place_of_another() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let token = Some(&bob.session.token);
    let mut sessions = Vec::new();
    let mut devices = Vec::new();
    for version in 2..=10 {
        let (device, _) = new_device();
        sessions
            .push(api.call_as(token, &add_device(&bob.account, version, &device)).await.unwrap());
        devices.push(device);
    }
    let (device, _) = new_device();
    let mut add = add_device(&bob.account, 11, &device);
    assert_eq!(api.call_as(token, &add).await, Err(problem(ErrorCode::TooManyDevices)));
    add = signed(&bob.account, AddDevice { drop: Some(devices[0].id), ..add });
    assert!(api.call_as(token, &add).await.is_ok());
    let dropped = api.call_as(Some(&sessions[0].token), &GetVault).await;
    assert_eq!(dropped, Err(problem(ErrorCode::SessionRequired)));
    assert!(api.call_as(Some(&sessions[1].token), &GetVault).await.is_ok());
}

/// A session token opens one's own things for 30 days; it must not be enough to destroy them.
#[tokio::test]
async fn audit_srv_a7_a_session_alone_replaces_nothing() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let eve = sign_up(&api, "eve", b"correct horse").await;
    let token = Some(&bob.session.token);
    let refused = Err(problem(ErrorCode::SignatureRefused));
    let (device, _) = new_device();
    let vault = Vault { version: 2, bytes: b"garbage".to_vec() };
    let good = add_device(&bob.account, 2, &device);
    // No signature, one of another account, and true ones of other contents.
    let replacement = Replacement { vault: Some(&vault), ..Replacement::of(&bob.account) };
    let by_eve = sign(&eve.account, &replacement);
    let for_eve = sign(&bob.account, &Replacement { account: &eve.account, ..replacement });
    for signature in [Vec::new(), vec![0; 64], by_eve, for_eve, good.signature.clone()] {
        let replace = ReplaceVault { vault: vault.clone(), signature: signature.clone() };
        assert_eq!(api.call_as(token, &replace).await, refused);
        let replace = ReplaceRecord { record: record(2), signature };
        assert_eq!(api.call_as(token, &replace).await, refused);
    }
    let (other, _) = new_device();
    for changed in [
        AddDevice { signature: Vec::new(), ..good.clone() },
        AddDevice { drop: Some(bob.device.id), ..good.clone() },
        AddDevice { device: other, ..good.clone() },
        AddDevice { record: record(3), ..good.clone() },
    ] {
        assert_eq!(api.call_as(token, &changed).await.map(drop), refused);
    }
    let vault = api.call_as(token, &GetVault).await.unwrap();
    assert_eq!((vault.version, vault.bytes), (1, b"vault 1".to_vec()));
    assert_eq!(api.call_as(token, &WhatYouHold).await.unwrap().devices.len(), 1);
    assert!(api.call_as(token, &good).await.is_ok());
    // What was signed once doesn't bring an old state back.
    let newer = add_device(&bob.account, 3, &device);
    assert!(api.call_as(token, &newer).await.is_ok());
    let replayed = api.call_as(token, &good).await.map(drop);
    assert_eq!(replayed, Err(problem(ErrorCode::VersionConflict)));
}

/// A backup that was restored has lost records and devices.
#[tokio::test]
async fn audit_srv_a10_a_restored_server_takes_the_newest_record_and_its_device_again() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let (second, key) = new_device();
    let newest =
        AddDevice { drop: Some(DeviceId(random())), ..add_device(&bob.account, 4, &second) };
    let newest = signed(&bob.account, newest);
    let restore =
        |add: &AddDevice| RestoreDevice { account: bob.account, add: add.clone(), least: 0 };
    let (stranger, _) = new_device();
    let forged = AddDevice { device: stranger, ..newest.clone() };
    let refused = api.call(&restore(&forged)).await;
    assert_eq!(refused, Err(problem(ErrorCode::SignatureRefused)));
    let unknown = RestoreDevice { account: AccountId(random()), ..restore(&newest) };
    assert_eq!(api.call(&unknown).await, Err(problem(ErrorCode::UnknownAccount)));
    let early = RestoreDevice { least: 3, ..restore(&newest) };
    assert_eq!(api.call(&early).await, Err(problem(ErrorCode::VersionGap)));
    assert_eq!(api.call(&look_up(By::Id(bob.account))).await, Ok(found("bob", 1)));
    for _ in 0..2 {
        assert_eq!(api.call(&restore(&newest)).await, Ok(()), "a repeat changes nothing");
    }
    assert_eq!(api.call(&look_up(By::Id(bob.account))).await, Ok(found("bob", 4)));
    assert!(renew(&api, bob.account, &second, &key).await.is_ok());
    // A device that a newer record has dropped does not come back by an older one.
    let (third, third_key) = new_device();
    let removed = add_device(&bob.account, 3, &third);
    let refused = api.call(&restore(&removed)).await;
    assert_eq!(refused, Err(problem(ErrorCode::VersionConflict)));
    let unknown = renew(&api, bob.account, &third, &third_key).await;
    assert_eq!(unknown.map(drop), Err(problem(ErrorCode::UnknownDevice)));
    let lost = renew(&api, AccountId(random()), &third, &third_key).await;
    assert_eq!(lost.map(drop), Err(problem(ErrorCode::UnknownAccount)));
}
