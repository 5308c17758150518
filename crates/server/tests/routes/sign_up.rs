use corncrake_wire::{
    AccountId, ErrorCode,
    account::{GetVault, LogInStart, NewPackage, SignUpFinish, SignUpStart},
    limits,
    open::{By, LookUp},
};

use crate::support::{Api, found, one_time, prepare_sign_up, problem, random, sign_up};

#[tokio::test]
async fn one_transaction_makes_account_device_packages_and_session() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let vault = api.call_as(Some(&bob.session.token), &GetVault).await.unwrap();
    assert_eq!((vault.version, vault.bytes), (1, b"vault 1".to_vec()));
    let by_name = LookUp { by: By::Name("bob".to_owned()), admission: Vec::new() };
    assert_eq!(api.call(&by_name).await.unwrap(), found("bob", 1));
}

#[tokio::test]
async fn a_name_an_account_a_device_and_an_inbox_are_taken_once() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    let (again, _) = prepare_sign_up(&api, "bob", b"other").await;
    assert_eq!(api.call(&again).await, Err(problem(ErrorCode::UsernameTaken)));
    // The same account once more is told so, and not that somebody has its name.
    let same = SignUpFinish { account: bob.account, ..again };
    assert_eq!(api.call(&same).await, Err(problem(ErrorCode::IdTaken)));
    let (mut eve, _) = prepare_sign_up(&api, "eve", b"other").await;
    let fresh = eve.clone();
    eve.account = bob.account;
    assert_eq!(api.call(&eve).await, Err(problem(ErrorCode::IdTaken)));
    eve = fresh.clone();
    eve.device.id = bob.device.id;
    assert_eq!(api.call(&eve).await, Err(problem(ErrorCode::IdTaken)));
    eve = fresh.clone();
    eve.device.inbox = bob.device.inbox;
    assert_eq!(api.call(&eve).await, Err(problem(ErrorCode::IdTaken)));
    assert_eq!(api.rows().await, rows, "a refused sign-up leaves nothing behind");
    assert!(api.call(&fresh).await.is_ok());
}

#[tokio::test]
async fn of_two_who_race_for_a_name_one_gets_it() {
    let api = Api::start().await;
    for round in 0..10 {
        let name = format!("racer{round}");
        let (first, _) = prepare_sign_up(&api, &name, b"one").await;
        let (second, _) = prepare_sign_up(&api, &name, b"two").await;
        let (one, two) = tokio::join!(api.call(&first), api.call(&second));
        let winner = if one.is_ok() { &first } else { &second };
        let lost = if one.is_ok() { two } else { one };
        assert_eq!(lost, Err(problem(ErrorCode::UsernameTaken)));
        let by_id = |account| LookUp { by: By::Id(account), admission: Vec::new() };
        assert!(api.call(&by_id(winner.account)).await.is_ok());
        let loser = if winner.account == first.account { &second } else { &first };
        let nobody = api.call(&by_id(loser.account)).await;
        assert_eq!(nobody, Err(problem(ErrorCode::UnknownAccount)));
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_stored() {
    let api = Api::start().await;
    let rows = api.rows().await;
    for name in ["", "ab", "Bob", "bob smith", "böb", &"x".repeat(33)] {
        let start =
            SignUpStart { name: name.to_owned(), origin: api.origin(), opaque: vec![0; 32] };
        assert_eq!(api.call(&start).await, Err(problem(ErrorCode::InvalidName)), "{name}");
    }
    let start =
        SignUpStart { name: "bob".to_owned(), origin: api.origin(), opaque: vec![0xff; 32] };
    assert_eq!(api.call(&start).await, Err(problem(ErrorCode::Malformed)));

    let (good, _) = prepare_sign_up(&api, "bob", b"correct horse").await;
    let mut bad = good.clone();
    bad.name = "Bob".to_owned();
    assert_eq!(api.call(&bad).await, Err(problem(ErrorCode::InvalidName)));
    bad = good.clone();
    bad.opaque.push(0);
    assert_eq!(api.call(&bad).await, Err(problem(ErrorCode::Malformed)));
    bad = good.clone();
    bad.vault = vec![0; limits::VAULT + 1];
    assert_eq!(api.call(&bad).await, Err(problem(ErrorCode::TooLarge)));
    bad = good.clone();
    bad.record.bytes = vec![0; limits::RECORD + 1];
    assert_eq!(api.call(&bad).await, Err(problem(ErrorCode::TooLarge)));
    bad = good.clone();
    bad.record.version = 2;
    assert_eq!(api.call(&bad).await, Err(problem(ErrorCode::VersionConflict)));
    bad = good.clone();
    bad.packages = vec![one_time(&[0; limits::KEY_PACKAGE + 1])];
    assert_eq!(api.call(&bad).await, Err(problem(ErrorCode::TooLarge)));
    bad = good.clone();
    bad.packages = (0..=50u8).map(|n| one_time(&[n])).collect();
    assert_eq!(api.call(&bad).await, Err(problem(ErrorCode::TooManyPackages)));
    bad = good.clone();
    bad.packages = vec![NewPackage { bytes: Vec::new(), ..one_time(b"") }];
    assert_eq!(api.call(&bad).await, Err(problem(ErrorCode::Malformed)));
    assert_eq!(api.rows().await, rows);

    bad = good.clone();
    bad.account = AccountId(random());
    assert!(api.call(&bad).await.is_ok(), "the server believes any account id");
}

/// A server behind a proxy that was not told its public address would accept the account and
/// refuse, weeks later, each renewal of its sessions.
#[tokio::test]
async fn audit_srv_a11_an_origin_that_is_not_ours_is_refused_at_once() {
    let api = Api::start().await;
    sign_up(&api, "bob", b"correct horse").await;
    let unknown = Err(problem(ErrorCode::UnknownOrigin));
    let long = "http://".repeat(1000);
    for origin in ["", "https://chat.example", &api.origin().to_uppercase(), &long] {
        let (name, origin) = ("eve".to_owned(), origin.to_owned());
        let start = SignUpStart { name, origin: origin.clone(), opaque: vec![0; 32] };
        assert_eq!(api.call(&start).await.map(drop), unknown, "{origin:.40}");
        let start = LogInStart { name: "bob".to_owned(), origin, opaque: vec![0; 96] };
        assert_eq!(api.call(&start).await.map(drop), unknown);
    }
    let api =
        Api::start_with(|config| config.origin = vec!["https://chat.example/".to_owned()]).await;
    let start = |origin: &str| SignUpStart {
        name: "eve".to_owned(),
        origin: origin.to_owned(),
        opaque: vec![1; 32],
    };
    let known = api.call(&start("https://chat.example")).await.map(drop);
    assert_ne!(known, unknown);
    let listening = format!("http://{}", api.address());
    assert_eq!(api.call(&start(&listening)).await.map(drop), unknown);
}
