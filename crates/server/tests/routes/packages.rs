use corncrake_wire::{
    ErrorCode,
    account::{ListPackages, NewPackage, UploadPackages, WhatYouHold},
    limits,
};

use crate::support::{
    Api, SUITE, add_device, claim, last_resort, log_in, new_device, one_time, prepare_sign_up,
    problem, sign_up,
};

#[tokio::test]
async fn a_device_fills_up_and_counts_its_packages() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let token = Some(&bob.session.token);
    let count = ListPackages { suite: SUITE };
    let fifty: Vec<_> = (0..49u8).map(|n| one_time(&[n; 100])).collect();
    let upload = UploadPackages { packages: fifty, replace: false, claimed: Vec::new() };
    for _ in 0..2 {
        assert_eq!(api.call_as(token, &upload).await, Ok(()), "a repeat changes nothing");
        let counted = api.call_as(token, &count).await.unwrap();
        assert_eq!((counted.one_time.len(), counted.last_resort.is_some()), (50, true));
    }
    let more = UploadPackages {
        packages: vec![one_time(b"one more")],
        replace: false,
        claimed: Vec::new(),
    };
    let refused = api.call_as(token, &more).await;
    assert_eq!(refused, Err(problem(ErrorCode::TooManyPackages)));
    let counted = api.call_as(token, &count).await.unwrap();
    assert_eq!((counted.one_time.len(), counted.last_resort.is_some()), (50, true));
}

#[tokio::test]
async fn audit_srv_a4_packages_of_unknown_suites_are_refused() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let (mut finish, _) = prepare_sign_up(&api, "eve", b"correct horse").await;
    let rows = api.rows().await;
    let refused = problem(ErrorCode::UnsupportedSuite);
    for package in [one_time(b"another suite"), last_resort(b"another suite")] {
        for suite in [0, 1, 77, u16::MAX] {
            let packages = vec![one_time(b"good"), NewPackage { suite, ..package.clone() }];
            let upload = UploadPackages { packages, replace: true, claimed: Vec::new() };
            let answer = api.call_as(Some(&bob.session.token), &upload).await;
            assert_eq!(answer.as_ref(), Err(&refused), "{suite}");
        }
    }
    let (second, _) = new_device();
    let mut add = add_device(&bob.account, 2, &second);
    add.packages[0].suite = 77;
    let answer = api.call_as(Some(&bob.session.token), &add).await;
    assert_eq!(answer.err(), Some(problem(ErrorCode::UnsupportedSuite)));
    finish.packages[0].suite = 77;
    assert_eq!(api.call(&finish).await.err(), Some(refused));
    assert_eq!(api.rows().await, rows);
}

#[tokio::test]
async fn audit_srv_a4_a_device_holds_51_packages_whatever_it_uploads() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let token = Some(&bob.session.token);
    for round in 0..20u8 {
        let packages =
            (0..30u8).map(|n| NewPackage { last_resort: n % 10 == 0, ..one_time(&[round, n]) });
        let upload =
            UploadPackages { packages: packages.collect(), replace: false, claimed: Vec::new() };
        let _ = api.call_as(token, &upload).await;
    }
    let held = api.call_as(token, &WhatYouHold).await.unwrap().devices;
    assert!(held[0].packages <= 51, "{}", held[0].packages);
}

#[tokio::test]
async fn packages_that_do_not_fit_are_refused_and_not_stored() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    let cases = [
        (ErrorCode::Malformed, vec![one_time(b"good"), one_time(b"")]),
        (ErrorCode::TooLarge, vec![one_time(&[1; limits::KEY_PACKAGE + 1])]),
        (ErrorCode::Malformed, (0..103u8).map(|n| one_time(&[n])).collect()),
        (ErrorCode::TooManyPackages, (0..50u8).map(|n| one_time(&[n])).collect()),
    ];
    for (code, packages) in cases {
        let upload = UploadPackages { packages, replace: false, claimed: Vec::new() };
        let refused = api.call_as(Some(&bob.session.token), &upload).await;
        assert_eq!(refused, Err(problem(code)));
        assert_eq!(api.rows().await, rows);
    }
    let session = log_in(&api, "bob", b"correct horse").await.session;
    let upload =
        UploadPackages { packages: vec![one_time(b"good")], replace: false, claimed: Vec::new() };
    let refused = api.call_as(Some(&session.token), &upload).await;
    assert_eq!(refused, Err(problem(ErrorCode::DeviceRequired)));
}

#[tokio::test]
async fn a_new_package_of_last_resort_replaces_the_old_one() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    api.call(&claim(bob.account)).await.unwrap();
    let upload = UploadPackages {
        packages: vec![last_resort(b"renewed")],
        replace: false,
        claimed: Vec::new(),
    };
    api.call_as(Some(&bob.session.token), &upload).await.unwrap();
    let claimed = api.call(&claim(bob.account)).await.unwrap().packages;
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].last_resort, claimed[0].bytes.as_slice()), (true, &b"renewed"[..]));
}

#[tokio::test]
async fn each_package_is_claimed_once_then_the_last_resort() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let nineteen: Vec<_> = (0..19u8).map(|n| one_time(&[n; 50])).collect();
    let upload = UploadPackages { packages: nineteen, replace: false, claimed: Vec::new() };
    api.call_as(Some(&bob.session.token), &upload).await.unwrap();
    let (second, _) = new_device();
    api.call_as(Some(&bob.session.token), &add_device(&bob.account, 2, &second)).await.unwrap();

    let claims = (0..30).map(|_| async { api.call(&claim(bob.account)).await.unwrap().packages });
    let claims = futures_util::future::join_all(claims).await;
    let of = |device| {
        let mut packages: Vec<_> =
            claims.iter().flatten().filter(|p| p.device == device).cloned().collect();
        packages.sort_by(|a, b| a.bytes.cmp(&b.bytes));
        packages
    };
    let first: Vec<_> = of(bob.device.id);
    assert_eq!(first.len(), 30, "one of each device in each claim");
    assert_eq!(first.iter().filter(|p| p.last_resort).count(), 10);
    let mut once: Vec<_> = first.iter().filter(|p| !p.last_resort).map(|p| &p.bytes).collect();
    once.dedup();
    assert_eq!(once.len(), 20, "no package went to two");
    let second = of(second.id);
    assert_eq!(second.len(), 1, "without a last resort a device can run out");
}
