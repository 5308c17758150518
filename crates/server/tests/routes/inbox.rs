use corncrake_wire::{
    ErrorCode, InboxId, NoticeId, PackageId,
    account::{DeleteNotices, ReadInbox, UploadPackages},
    limits,
    open::Deposit,
};

use crate::support::{
    Api, Person, claim, deposit, deposit_for, one_time, problem, random, sign_up,
};

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
    let delete = |up_to, notice: &[u8]| DeleteNotices { up_to, newest: NoticeId::of(notice) };
    // A server that was restored has given the position to another notice than the device read.
    for (up_to, notice) in [(2, &b"another"[..]), (3, &all[1].1), (u64::MAX, &all[2].1)] {
        let delete = delete(up_to, notice);
        api.call_as(Some(&bob.session.token), &delete).await.unwrap();
        assert_eq!(read(&api, &bob, 0).await, all);
    }
    let last = delete(3, &all[2].1);
    let delete = delete(2, &all[1].1);
    api.call_as(Some(&eve.session.token), &delete).await.unwrap();
    assert_eq!(read(&api, &bob, 0).await, all);
    api.call_as(Some(&bob.session.token), &delete).await.unwrap();
    assert_eq!(read(&api, &bob, 0).await, all[2..]);
    api.call_as(Some(&bob.session.token), &last).await.unwrap();
    let api = api.restart().await;
    api.call(&deposit(bob.device.inbox, b"late")).await.unwrap();
    assert_eq!(read(&api, &bob, 3).await, [(4, b"late".to_vec())], "positions are never reused");
}

#[tokio::test]
async fn an_inbox_holds_a_thousand_notices() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let package = |n: usize| PackageId::of(&n.to_le_bytes());
    for number in 0..3 {
        let claimed = (0..100).map(|n| package(100 * number + n)).collect();
        let upload = UploadPackages { packages: Vec::new(), replace: false, claimed };
        api.call_as(Some(&bob.session.token), &upload).await.unwrap();
    }
    let notice = |n: usize| deposit_for(package(n / 4), bob.device.inbox, &n.to_le_bytes());
    let fill = (0..limits::INBOX).map(|n| {
        let (api, notice) = (&api, notice(n));
        async move { api.call(&notice).await }
    });
    assert!(futures_util::future::join_all(fill).await.iter().all(Result::is_ok));
    let full = api.call(&notice(limits::INBOX)).await;
    assert_eq!(full, Err(problem(ErrorCode::InboxFull)));
    let known = api.call(&notice(7)).await;
    assert_eq!(known, Ok(()), "a repeat needs no room");
    assert_eq!(read(&api, &bob, 0).await.len(), limits::PAGE_ENTRIES as usize);
    let first = DeleteNotices { up_to: 1, newest: NoticeId::of(&read(&api, &bob, 0).await[0].1) };
    api.call_as(Some(&bob.session.token), &first).await.unwrap();
    assert_eq!(api.call(&notice(limits::INBOX)).await, Ok(()));
}

#[tokio::test]
async fn audit_srv_a8_a_key_package_takes_four_notices_whether_held_or_claimed() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let package = PackageId::of(b"package 1");
    let notice = |n: u8| deposit_for(package, bob.device.inbox, &[n; 9]);
    api.call(&notice(1)).await.unwrap();
    assert_eq!(api.call(&claim(bob.account)).await.unwrap().packages[0].bytes, b"package 1");
    for n in 2..=4 {
        api.call(&notice(n)).await.unwrap();
    }
    let refused = Err(problem(ErrorCode::TooManyNotices));
    assert_eq!(api.call(&notice(5)).await, refused);
    assert_eq!(api.call(&notice(4)).await, Ok(()), "a repeat needs no room");
    let (up_to, newest) = read(&api, &bob, 0).await.pop().unwrap();
    let delete = DeleteNotices { up_to, newest: NoticeId::of(&newest) };
    api.call_as(Some(&bob.session.token), &delete).await.unwrap();
    assert_eq!(api.call(&notice(6)).await, refused, "also when the inbox is empty");
    let api = api.restart().await;
    assert_eq!(api.call(&notice(6)).await, refused, "and after a restart");
    // The package of last resort still takes some.
    api.call(&deposit(bob.device.inbox, b"by last resort")).await.unwrap();
}

#[tokio::test]
async fn audit_prog_m6_nobody_fills_an_inbox_by_one_package_of_last_resort() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let notice = |n: u32| deposit(bob.device.inbox, &n.to_le_bytes());
    for n in 0..limits::NOTICES_A_DAY {
        api.call(&notice(n)).await.unwrap();
    }
    let refused = api.call(&notice(limits::NOTICES_A_DAY)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooManyNotices);
    assert!(refused.retry_after.is_some_and(|seconds| (1..=3600).contains(&seconds)));
    let other = deposit_for(PackageId::of(b"package 1"), bob.device.inbox, b"a friend's");
    api.call(&other).await.unwrap();
}

#[tokio::test]
async fn audit_prog_m6_a_notice_names_a_package_of_the_inbox_owner() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let eve = sign_up(&api, "eve", b"correct horse").await;
    let mine = UploadPackages {
        packages: vec![one_time(b"eve's own")],
        replace: false,
        claimed: Vec::new(),
    };
    api.call_as(Some(&eve.session.token), &mine).await.unwrap();
    let rows = api.rows().await;
    for package in [b"eve's own".as_slice(), b"made up"] {
        let notice = deposit_for(PackageId::of(package), bob.device.inbox, b"notice");
        assert_eq!(api.call(&notice).await, Err(problem(ErrorCode::UnknownPackage)));
    }
    assert_eq!(api.rows().await, rows);
    // A server that was restored learns again what it handed out.
    let claimed = vec![PackageId::of(b"made up")];
    let upload = UploadPackages { packages: Vec::new(), replace: true, claimed };
    api.call_as(Some(&bob.session.token), &upload).await.unwrap();
    let notice = deposit_for(PackageId::of(b"made up"), bob.device.inbox, b"notice");
    assert_eq!(api.call(&notice).await, Ok(()));
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
