use corncrake_wire::{
    ErrorCode, InboxId,
    account::{DeleteNotices, ReadInbox},
    limits,
    open::Deposit,
};

use crate::support::{Api, Person, deposit, problem, random, sign_up};

async fn read(api: &Api, person: &Person, after: u64) -> Vec<(u64, Vec<u8>)> {
    let read = ReadInbox { after, limit: 1000 };
    let inbox = api.call_as(Some(&person.session.token), &read).await.unwrap();
    inbox.notices.into_iter().map(|notice| (notice.position, notice.bytes)).collect()
}

#[tokio::test]
async fn notices_are_read_by_position_and_deleted_by_their_owner() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let eve = sign_up(&api, "eve", b"correct horse").await;
    for notice in [b"one", b"two", b"six"] {
        api.call(&deposit(bob.device.inbox, notice)).await.unwrap();
    }
    api.call(&deposit(bob.device.inbox, b"two")).await.unwrap();
    let all = vec![(1, b"one".to_vec()), (2, b"two".to_vec()), (3, b"six".to_vec())];
    assert_eq!(read(&api, &bob, 0).await, all, "a repeat changes nothing");
    assert_eq!(read(&api, &bob, 2).await, all[2..]);
    assert_eq!(read(&api, &eve, 0).await, []);
    let delete = DeleteNotices { up_to: 2 };
    api.call_as(Some(&eve.session.token), &delete).await.unwrap();
    assert_eq!(read(&api, &bob, 0).await, all);
    api.call_as(Some(&bob.session.token), &delete).await.unwrap();
    assert_eq!(read(&api, &bob, 0).await, all[2..]);
    let delete = DeleteNotices { up_to: u64::MAX };
    api.call_as(Some(&bob.session.token), &delete).await.unwrap();
    let api = api.restart().await;
    api.call(&deposit(bob.device.inbox, b"late")).await.unwrap();
    assert_eq!(read(&api, &bob, 3).await, [(4, b"late".to_vec())], "positions are never reused");
}

#[tokio::test]
async fn an_inbox_holds_a_thousand_notices() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let fill = (0..limits::INBOX).map(|n| {
        let notice = deposit(bob.device.inbox, &n.to_le_bytes());
        let api = &api;
        async move { api.call(&notice).await }
    });
    assert!(futures_util::future::join_all(fill).await.iter().all(Result::is_ok));
    let full = api.call(&deposit(bob.device.inbox, b"one too many")).await;
    assert_eq!(full, Err(problem(ErrorCode::InboxFull)));
    let known = api.call(&deposit(bob.device.inbox, &7usize.to_le_bytes())).await;
    assert_eq!(known, Ok(()), "a repeat needs no room");
    assert_eq!(read(&api, &bob, 0).await.len(), limits::PAGE_ENTRIES as usize);
    api.call_as(Some(&bob.session.token), &DeleteNotices { up_to: 1 }).await.unwrap();
    assert_eq!(api.call(&deposit(bob.device.inbox, b"one too many")).await, Ok(()));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_stored() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    let inbox = bob.device.inbox;
    let cases = [
        (ErrorCode::UnknownInbox, deposit(InboxId(random()), b"notice")),
        (ErrorCode::Malformed, deposit(inbox, b"")),
        (ErrorCode::TooLarge, deposit(inbox, &[0; limits::NOTICE + 1])),
        (
            ErrorCode::TooLarge,
            Deposit { admission: vec![0; limits::ADMISSION + 1], ..deposit(inbox, b"notice") },
        ),
    ];
    for (code, deposit) in cases {
        assert_eq!(api.call(&deposit).await, Err(problem(code)));
        assert_eq!(api.rows().await, rows);
    }
    assert_eq!(api.call(&deposit(inbox, &[0; limits::NOTICE])).await, Ok(()));
}
