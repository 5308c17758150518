//! Every call, with everything that can be wrong about a request. Nothing is ever stored.

use std::collections::BTreeSet;

use corncrake_wire::{
    AccountId, AccountRequest, CONTENT_TYPE, Call, ErrorCode, INFO_PATH, NoticeId, OpenRequest,
    SESSION_HEADER, SessionToken,
    account::{
        AddDevice, DeleteNotices, GetVault, ListPackages, LogInFinish, LogInStart, LogOut,
        ReadInbox, Renew, RenewStart, ReplaceRecord, ReplaceVault, RestoreDevice, SignUpStart,
        UploadPackages, Vault, WhatYouHold,
    },
    limits,
    log::{Append, Beside, Part, Point, Read, States},
    open::By,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Api, SUITE, add_device, answer, claim, deposit, look_up, messages, new_device, one_time,
    prepare_sign_up, problem, record, sign_up, token,
};

/// A good request of every call of the open plane.
fn open_requests() -> Vec<OpenRequest> {
    let (device, _) = new_device();
    let token = token(1);
    let admission = Vec::new();
    vec![
        messages(&token, Point::START, &[b"one"]).into(),
        Read { token: token.clone(), after: 0, limit: 1, admission: admission.clone() }.into(),
        Beside {
            token: token.clone(),
            position: 0,
            part: Part::State,
            admission: admission.clone(),
        }
        .into(),
        States { token, at_most: 1, start: 0, admission }.into(),
        look_up(By::Name("bob".to_owned())).into(),
        claim(AccountId([1; 32])).into(),
        deposit(device.inbox, b"notice").into(),
    ]
}

/// A good request of every call of the account plane, and whether it needs a session.
async fn account_requests(api: &Api) -> Vec<(AccountRequest, bool)> {
    let (sign_up, _) = prepare_sign_up(api, "carol", b"correct horse").await;
    let (device, _) = new_device();
    let (account, id) = (sign_up.account, device.id);
    let packages = vec![one_time(b"package")];
    let add: AddDevice = add_device(&account, 2, &device);
    let restore = RestoreDevice { account, add: add.clone(), least: 0 };
    vec![
        (
            SignUpStart { name: "carol".to_owned(), origin: api.origin(), opaque: vec![1; 32] }
                .into(),
            false,
        ),
        (sign_up.into(), false),
        (
            LogInStart { name: "carol".to_owned(), origin: api.origin(), opaque: vec![1; 96] }
                .into(),
            false,
        ),
        (LogInFinish { attempt: [1; 16], opaque: vec![1; 64] }.into(), false),
        (RenewStart { account, device: id }.into(), false),
        (Renew { account, device: id, nonce: [1; 32], signature: vec![1; 64] }.into(), false),
        (add.into(), true),
        (LogOut.into(), true),
        (GetVault.into(), true),
        (
            ReplaceVault { vault: Vault { version: 2, bytes: vec![1] }, signature: vec![1; 64] }
                .into(),
            true,
        ),
        (ReplaceRecord { record: record(2), signature: vec![1; 64] }.into(), true),
        (UploadPackages { packages, replace: false, claimed: Vec::new() }.into(), true),
        (ListPackages { suite: SUITE }.into(), true),
        (ReadInbox { after: 0, limit: 1 }.into(), true),
        (DeleteNotices { up_to: 1, newest: NoticeId([0; 32]) }.into(), true),
        (WhatYouHold.into(), true),
        (restore.into(), false),
    ]
}

/// Every call: path, body of a good request, whether it needs a session.
async fn every_call(api: &Api) -> Vec<(&'static str, Vec<u8>, bool)> {
    let open = open_requests();
    let account = account_requests(api).await;
    let mut calls: Vec<_> = open.iter().map(|r| (r.path(), r.encode(), false)).collect();
    calls.extend(account.iter().map(|(r, session)| (r.path(), r.encode(), *session)));
    let covered: BTreeSet<_> = calls.iter().map(|(path, ..)| *path).collect();
    let all: BTreeSet<_> =
        OpenRequest::PATHS.iter().chain(AccountRequest::PATHS).copied().collect();
    assert_eq!(covered, all, "a call without a test");
    calls
}

fn ours(session: Option<&SessionToken>) -> Vec<(&'static str, String)> {
    let mut headers = vec![("content-type", CONTENT_TYPE.to_owned())];
    headers.extend(session.map(|token| (SESSION_HEADER, token.to_header())));
    headers
}

#[tokio::test]
async fn malformed_and_truncated_bodies_are_refused_by_every_call() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    for (path, good, needs_session) in every_call(&api).await {
        let headers = ours(needs_session.then_some(&bob.session.token));
        let mut bad = vec![Vec::new(), vec![2], b"\x01\xff\xff\xff\xff\xff\xff".to_vec()];
        bad.push([&good[..], &[0]].concat());
        bad.push([&[2], &good[1..]].concat());
        bad.push(b"{\"json\": true}".to_vec());
        for cut in 0..good.len() {
            bad.push(good[..cut].to_vec());
        }
        for body in bad {
            let result = api.raw(path, &headers, body.clone()).await;
            assert_eq!(result, Err(problem(ErrorCode::Malformed)), "{path} {body:02x?}");
        }
        let result = api.raw(path, &headers[1..], good.clone()).await;
        assert_eq!(result, Err(problem(ErrorCode::UnsupportedMediaType)), "{path}");
        for content_type in ["application/json", "text/plain", ""] {
            let mut headers = headers.clone();
            headers[0].1 = content_type.to_owned();
            let result = api.raw(path, &headers, good.clone()).await;
            assert_eq!(result, Err(problem(ErrorCode::UnsupportedMediaType)), "{path}");
        }
        assert_eq!(api.rows().await, rows, "{path} stored something");
    }
}

#[tokio::test]
async fn oversized_bodies_are_refused_by_every_call_before_they_come() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    for (path, _, _) in every_call(&api).await {
        let limit = if path == Append::PATH { limits::APPEND_BODY } else { limits::BODY };
        for length in [limit as u64 + 1, 1 << 40, u64::MAX] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {CONTENT_TYPE}\r\n\
                 {}content-length: {length}\r\nconnection: close\r\n\r\n",
                session_line(path, &bob.session.token),
            );
            let answer = talk(&api, head.as_bytes()).await;
            assert!(answer.contains("\"too_large\"") || length == u64::MAX, "{path} {answer}");
            assert!(answer.starts_with("HTTP/1.1 4"), "{path} {answer}");
        }
    }
    assert_eq!(api.rows().await, rows);
}

#[tokio::test]
async fn a_body_of_unknown_length_must_be_small() {
    let api = Api::start().await;
    let mut request = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\ncontent-type: {CONTENT_TYPE}\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        Append::PATH,
    )
    .into_bytes();
    for _ in 0..17 {
        request.extend_from_slice(b"10000\r\n");
        request.extend_from_slice(&[1; 0x10000]);
        request.extend_from_slice(b"\r\n");
    }
    let answer = talk(&api, &request).await;
    assert!(answer.contains("\"too_large\""), "{answer}");
}

fn session_line(path: &str, token: &SessionToken) -> String {
    match path.starts_with("/v1/account/") {
        true => format!("{SESSION_HEADER}: {}\r\n", token.to_header()),
        false => String::new(),
    }
}

/// Writes bytes and reads the answer, as far as the server lets us.
async fn talk(api: &Api, request: &[u8]) -> String {
    let stream = TcpStream::connect(api.address()).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let (_, answer) = tokio::join!(to.write_all(request), async {
        let mut answer = Vec::new();
        while from.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
        answer
    });
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn calls_that_need_a_session_are_refused_without_one() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    let calls = every_call(&api).await;
    let required = Err(problem(ErrorCode::SessionRequired));
    for (path, good, _) in calls.iter().filter(|(.., needs_session)| *needs_session) {
        assert_eq!(api.raw(path, &ours(None), good.clone()).await, required, "{path}");
        let unknown = SessionToken::new([9; 32]);
        assert_eq!(api.raw(path, &ours(Some(&unknown)), good.clone()).await, required, "{path}");
        for garbage in ["", "zz", &bob.session.token.to_header().to_uppercase(), &"0".repeat(65)] {
            let mut headers = ours(None);
            headers.push((SESSION_HEADER, garbage.to_owned()));
            assert_eq!(api.raw(path, &headers, good.clone()).await, required, "{path}");
        }
        // Who is not let in isn't told whether the body was any good.
        assert_eq!(api.raw(path, &ours(None), vec![7]).await, required, "{path}");
        let mut bearer = ours(None);
        bearer.push(("authorization", format!("Bearer {}", bob.session.token.to_header())));
        assert_eq!(api.raw(path, &bearer, good.clone()).await, required, "{path}");
    }
    assert_eq!(api.rows().await, rows);
}

#[tokio::test]
async fn open_calls_refuse_credentials() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    let refused = Err(problem(ErrorCode::CredentialsRefused));
    for request in open_requests() {
        let credentials = [
            (SESSION_HEADER, bob.session.token.to_header()),
            (SESSION_HEADER, String::new()),
            ("authorization", "Bearer abc".to_owned()),
            ("authorization", "Basic abc".to_owned()),
            ("cookie", "session=abc".to_owned()),
        ];
        for credential in credentials {
            let headers = [ours(None), vec![credential]].concat();
            let result = api.raw(request.path(), &headers, request.encode()).await;
            assert_eq!(result, refused, "{}", request.path());
        }
    }
    assert_eq!(api.rows().await, rows);
    let token = ("authorization", "PrivateToken token=\"abc\"".to_owned());
    let look_up = OpenRequest::from(look_up(By::Id(bob.account)));
    let headers = [ours(None), vec![token]].concat();
    assert!(api.raw(look_up.path(), &headers, look_up.encode()).await.is_ok());
}

#[tokio::test]
async fn unknown_routes_and_other_methods_are_problems_too() {
    let api = Api::start().await;
    for path in ["/", "/v1", "/v1/open/nothing", "/v1/account/", "/v1/open/append/"] {
        let result = api.raw(path, &ours(None), Vec::new()).await;
        assert_eq!(result, Err(problem(ErrorCode::UnknownRoute)), "{path}");
    }
    for path in OpenRequest::PATHS.iter().chain(AccountRequest::PATHS) {
        let url = format!("http://{}{path}", api.address());
        let result = answer(api.http.get(&url).send().await.unwrap()).await;
        assert_eq!(result, Err(problem(ErrorCode::MethodNotAllowed)), "{path}");
        let result = answer(api.http.delete(&url).send().await.unwrap()).await;
        assert_eq!(result, Err(problem(ErrorCode::MethodNotAllowed)), "{path}");
    }
    let result = api.raw(INFO_PATH, &ours(None), Vec::new()).await;
    assert_eq!(result, Err(problem(ErrorCode::MethodNotAllowed)));
}
