use corncrake_wire::{
    ErrorCode,
    account::{GetVault, LogInFinish, LogInStart, ReadInbox},
    opaque,
};

use crate::support::{Api, CHEAP, log_in, prepare_log_in, problem, record, rng, sign_up};

#[tokio::test]
async fn the_password_gives_a_session_vault_and_record() {
    let mut api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    for _ in 0..2 {
        let logged_in = log_in(&api, "bob", b"correct horse").await;
        assert_eq!(logged_in.account, bob.account);
        assert_eq!((logged_in.vault.version, logged_in.vault.bytes), (1, b"vault 1".to_vec()));
        assert_eq!(logged_in.record, record(1));
        let token = Some(&logged_in.session.token);
        assert!(api.call_as(token, &GetVault).await.is_ok());
        let read = ReadInbox { after: 0, limit: 10 };
        let refused = api.call_as(token, &read).await;
        assert_eq!(refused, Err(problem(ErrorCode::DeviceRequired)));
        api = api.restart().await;
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_end_alike() {
    let api = Api::start().await;
    sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    assert!(prepare_log_in(&api, "bob", b"wrong horse").await.is_none());
    assert!(prepare_log_in(&api, "eve", b"correct horse").await.is_none());
    let mut lengths = Vec::new();
    for name in ["bob", "eve"] {
        let (_, request) = opaque::log_in(b"guess", &mut rng()).unwrap();
        let start = LogInStart { name: name.to_owned(), origin: api.origin(), opaque: request };
        let started = api.call(&start).await.unwrap();
        lengths.push(started.opaque.len());
        let forged = LogInFinish { attempt: started.attempt, opaque: vec![7; 64] };
        assert_eq!(api.call(&forged).await, Err(problem(ErrorCode::LogInFailed)));
    }
    assert_eq!(lengths[0], lengths[1]);
    assert_eq!(api.rows().await, rows);
}

#[tokio::test]
async fn an_attempt_is_good_for_one_proof() {
    let api = Api::start().await;
    sign_up(&api, "bob", b"correct horse").await;
    let finish = prepare_log_in(&api, "bob", b"correct horse").await.unwrap();
    assert!(api.call(&finish).await.is_ok());
    assert_eq!(api.call(&finish).await, Err(problem(ErrorCode::LogInFailed)));
    let unknown = LogInFinish { attempt: [9; 16], ..finish };
    assert_eq!(api.call(&unknown).await, Err(problem(ErrorCode::LogInFailed)));
}

#[tokio::test]
async fn names_and_messages_that_are_none_are_refused() {
    let api = Api::start().await;
    let (client, request) = opaque::log_in(b"pw", &mut rng()).unwrap();
    let start =
        LogInStart { name: "Bob".to_owned(), origin: api.origin(), opaque: request.clone() };
    assert_eq!(api.call(&start).await, Err(problem(ErrorCode::InvalidName)));
    for opaque in [Vec::new(), request[1..].to_vec(), [&request[..], &[0]].concat()] {
        let start = LogInStart { name: "bob".to_owned(), origin: api.origin(), opaque };
        assert_eq!(api.call(&start).await, Err(problem(ErrorCode::Malformed)));
    }
    assert!(client.finish(&[0; 10], CHEAP, &mut rng()).is_err());
}
