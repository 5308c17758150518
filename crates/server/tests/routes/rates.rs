use corncrake_server::Config;
use corncrake_wire::{AccountId, DeviceId};
use corncrake_wire::{
    CONTENT_TYPE, Call, ClientFrame, ErrorCode, OPEN_SOCKET, ServerFrame,
    account::{LogInFinish, LogInStart, LogInStarted, RenewStart},
    decode, encode,
    frames::{About, Subscription},
    log::{Point, Read},
    opaque,
    open::{Claim, Deposit},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    process::Process,
    support::{Api, CHEAP, Problem, claim, deposit, http, messages, rng, sign_up, token},
};

async fn limited(change: impl FnOnce(&mut Config)) -> Api {
    Api::start_with(|config| {
        config.limits.no_rate_limits = false;
        change(config);
    })
    .await
}

fn is_limited<T>(result: &Result<T, Problem>) -> bool {
    match result {
        Ok(_) => false,
        Err(problem) => {
            assert_eq!(problem.code, ErrorCode::RateLimited);
            assert!(problem.retry_after.is_some_and(|seconds| (1..=60).contains(&seconds)));
            true
        }
    }
}

#[tokio::test]
async fn requests_are_limited_per_address_as_the_proxy_names_it() {
    let api = limited(|config| {
        config.limits.requests_per_second = 1;
        config.limits.proxy_header = Some("x-forwarded-for".to_owned());
    })
    .await;
    let read = Read { token: token(1), after: 0, limit: 1, admission: Vec::new() };
    let from = |address: &str| {
        let headers = [
            ("content-type", CONTENT_TYPE.to_owned()),
            ("x-forwarded-for", format!("203.0.113.9, {address}")),
        ];
        let (api, body) = (&api, encode(&read));
        async move { api.raw(Read::PATH, &headers, body).await }
    };
    let mut passed = 0;
    let refused = loop {
        let result = from("198.51.100.1").await;
        match &result {
            Err(problem) if problem.code == ErrorCode::LogNotFound => passed += 1,
            _ => break result,
        }
    };
    assert!(is_limited(&refused));
    assert!((10..=13).contains(&passed), "{passed}");
    assert_eq!(from("198.51.100.2").await.unwrap_err().code, ErrorCode::LogNotFound);
    assert!(is_limited(&from("198.51.100.1").await));
}

#[tokio::test]
async fn attempts_at_accounts_are_limited() {
    let api = limited(|config| config.limits.attempts_per_minute = 12).await;
    let start = RenewStart { account: AccountId([1; 32]), device: DeviceId([2; 32]) };
    let mut passed = 0;
    while !is_limited(&api.call(&start).await) {
        passed += 1;
    }
    assert!((10..=12).contains(&passed), "{passed}");
}

#[tokio::test]
async fn appends_are_limited_per_log() {
    let api = limited(|config| config.limits.appends_per_second = 2).await;
    let mut passed = 0u8;
    while !is_limited(&api.append(&messages(&token(1), Point::START, &[&[passed]])).await) {
        passed += 1;
    }
    assert!((10..=12).contains(&passed), "one address has half of the log's rate: {passed}");
    assert!(api.append(&messages(&token(2), Point::START, &[b"elsewhere"])).await.is_ok());
    assert_eq!(api.read(&token(1), 0).await.unwrap().head, u64::from(passed));
}

#[tokio::test]
async fn frames_are_limited_and_say_when_to_come_back() {
    let api = limited(|config| config.limits.requests_per_second = 1).await;
    let mut socket = api.socket(OPEN_SOCKET).await;
    for request in 0..40 {
        let append = messages(&token(1), Point::START, &[&[request as u8]]);
        socket.say(&ClientFrame::Append { request, append }).await;
    }
    let mut refused = 0;
    for _ in 0..40 {
        let Some(ServerFrame::AppendReply { result, .. }) = socket.hear().await else {
            panic!("a reply");
        };
        if let Err(refusal) = result {
            assert_eq!(refusal.code, ErrorCode::RateLimited);
            assert!(refusal.retry_after.is_some());
            refused += 1;
        }
    }
    assert!(refused >= 25, "{refused}");
    let logs = vec![Subscription { id: 7, token: token(1), after: 0, running: None }];
    socket.say(&ClientFrame::Subscribe { logs }).await;
    let Some(ServerFrame::Refused { about, refusal }) = socket.hear().await else {
        panic!("a refusal");
    };
    assert_eq!((about, refusal.code), (About::Subscription(7), ErrorCode::RateLimited));
    // One who floods without asking for anything is cut off.
    let mut hung_up = false;
    for number in 0..50 {
        socket.say(&ClientFrame::Ping(number)).await;
        match socket.hear().await {
            Some(ServerFrame::Pong(_)) => {}
            Some(ServerFrame::Refused { about: About::Connection, refusal }) => {
                assert_eq!(refusal.code, ErrorCode::RateLimited);
                hung_up = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(hung_up);
}

#[tokio::test]
async fn connections_are_limited_and_sockets_count() {
    let api = limited(|config| config.limits.max_connections_per_address = 2).await;
    let first = api.socket(OPEN_SOCKET).await;
    let _second = api.socket(OPEN_SOCKET).await;
    let mut third = TcpStream::connect(api.address()).await.unwrap();
    third.write_all(b"GET /v1/info HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    third.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nretry-after: 10\r\n"));
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["code"], "too_many_connections");
    drop(first);
    // The place is free once the server has noticed.
    for _ in 0..100 {
        let info = format!("http://{}/v1/info", api.address());
        if http().get(info).send().await.is_ok_and(|response| response.status().is_success()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test]
async fn audit_srv_a12_every_request_costs_whatever_it_asks_for() {
    let paths = ["/v1/info", "/healthz", "/v1/account/get-vault", "/nowhere"];
    for path in paths {
        let api = limited(|config| config.limits.requests_per_second = 1).await;
        let headers =
            [("content-type", CONTENT_TYPE.to_owned()), ("corncrake-session", "ab".repeat(32))];
        let mut passed = 0;
        loop {
            let url = format!("http://{}{path}", api.address());
            let mut request = match path {
                "/v1/account/get-vault" => api.http.post(url).body(vec![1]),
                _ => api.http.get(url),
            };
            for (name, value) in &headers {
                request = request.header(*name, value);
            }
            let response = request.send().await.unwrap();
            if response.status() == 429 {
                // Whoever goes on has to connect anew.
                assert_eq!(response.headers()["connection"], "close");
                break;
            }
            passed += 1;
            assert!(passed < 100, "{path} is never refused");
        }
        assert!((9..=14).contains(&passed), "{path}: {passed}");
    }
}

#[tokio::test]
async fn audit_srv_a4_bytes_cost_wherever_they_go() {
    let api = limited(|config| config.limits.mib_per_minute = 1).await;
    let large = vec![7; 60 * 1024];
    let mut passed = 0u8;
    let refusal = loop {
        let mut entry = large.clone();
        entry[0] = passed;
        // Each to a log of its own.
        match api.append(&messages(&token(passed), Point::START, &[&entry])).await {
            Ok(_) => passed += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!((16..=18).contains(&passed), "{passed}");
    assert!(is_limited::<()>(&Err(refusal)));
    // On a socket it is the same bucket.
    let mut socket = api.socket(OPEN_SOCKET).await;
    let append = messages(&token(100), Point::START, &[&large]);
    socket.say(&ClientFrame::Append { request: 1, append }).await;
    match socket.hear().await {
        Some(ServerFrame::AppendReply { result: Err(refusal), .. }) => {
            assert_eq!(refusal.code, ErrorCode::RateLimited);
            assert!(refusal.retry_after.is_some_and(|seconds| seconds >= 1));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn audit_load_l1_nothing_is_read_for_a_while_after_a_long_append_that_is_refused() {
    let api = limited(|config| config.limits.mib_per_minute = 1).await;
    let mut socket = api.socket(OPEN_SOCKET).await;
    // The first frame of a connection is a short one.
    let logs = vec![Subscription { id: 7, token: token(2), after: 0, running: None }];
    socket.say(&ClientFrame::Subscribe { logs }).await;
    assert!(matches!(socket.hear().await, Some(ServerFrame::Entries { .. })));
    let entries: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 60_000]).collect();
    let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
    let mut refused = Vec::new();
    for request in 0..4 {
        let append = messages(&token(1), Point::START, &entries);
        socket.say(&ClientFrame::Append { request, append }).await;
        match socket.hear().await {
            Some(ServerFrame::AppendReply { result: Err(refusal), .. }) => {
                assert_eq!(refusal.code, ErrorCode::RateLimited);
                refused.push(std::time::Instant::now());
            }
            // The first of them fits.
            Some(_) => {}
            None => panic!("a reply"),
        }
    }
    assert!(refused.len() >= 2, "{}", refused.len());
    assert!(refused[1] - refused[0] >= std::time::Duration::from_secs(1));
}

#[tokio::test]
async fn audit_srv_a12_whoever_goes_on_after_refusals_is_closed() {
    let api = limited(|config| config.limits.requests_per_second = 1).await;
    let mut socket = api.socket(OPEN_SOCKET).await;
    let (mut refused, mut closed) = (0, false);
    for request in 0..400 {
        let append = messages(&token(1), Point::START, &[&[request as u8]]);
        socket.say(&ClientFrame::Append { request, append }).await;
        match socket.hear().await {
            Some(ServerFrame::AppendReply { result, .. }) => refused += u32::from(result.is_err()),
            Some(ServerFrame::Refused { about: About::Connection, refusal }) => {
                assert_eq!(refusal.code, ErrorCode::RateLimited);
                assert!(refusal.retry_after.is_some());
                closed = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(closed && refused < 200, "{refused}");
}

#[tokio::test]
async fn wrong_log_ins_are_limited_per_account_and_address() {
    let api = limited(|config| {
        config.limits.attempts_per_minute = 0;
        config.limits.proxy_header = Some("x-forwarded-for".to_owned());
    })
    .await;
    sign_up(&api, "bob", b"correct horse").await;
    sign_up(&api, "eve", b"correct horse").await;
    let log_in = async |name: &str, address: &str, password: &[u8]| {
        let headers =
            [("content-type", CONTENT_TYPE.to_owned()), ("x-forwarded-for", address.to_owned())];
        let (client, request) = opaque::log_in(password, &mut rng()).unwrap();
        let start = LogInStart { name: name.to_owned(), origin: api.origin(), opaque: request };
        let body = api.raw(LogInStart::PATH, &headers, encode(&start)).await?;
        let LogInStarted { attempt, opaque } = decode(&body).unwrap();
        let Ok((opaque, _)) = client.finish(&opaque, CHEAP, &mut rng()) else {
            return Ok(false);
        };
        let finish = LogInFinish { attempt, opaque };
        api.raw(LogInFinish::PATH, &headers, encode(&finish)).await.map(|_| true)
    };
    let (stranger, owner) = ("198.51.100.1", "198.51.100.2");
    // Right ones don't count, however many there are.
    for _ in 0..15 {
        assert_eq!(log_in("bob", stranger, b"correct horse").await, Ok(true));
    }
    for _ in 0..10 {
        assert_eq!(log_in("bob", stranger, b"wrong horse").await, Ok(false));
    }
    assert!(is_limited(&log_in("bob", stranger, b"wrong horse").await));
    assert!(is_limited(&log_in("bob", stranger, b"correct horse").await), "a guess more");
    // The owner elsewhere, and others at the same address, are not locked out.
    assert_eq!(log_in("bob", owner, b"correct horse").await, Ok(true));
    assert_eq!(log_in("eve", stranger, b"correct horse").await, Ok(true));
    // A name that nobody has is limited like any other.
    let mut tries = 0;
    while log_in("nobody", stranger, b"guess").await == Ok(false) {
        tries += 1;
    }
    assert_eq!(tries, 10);
}

#[tokio::test]
async fn audit_srv_a12_sockets_are_counted_by_the_address_that_the_proxy_names() {
    let api = limited(|config| {
        config.limits.max_connections_per_address = 2;
        config.limits.proxy_header = Some("x-forwarded-for".to_owned());
    })
    .await;
    let connect = async |address: &'static str| {
        let mut stream = TcpStream::connect(api.address()).await.unwrap();
        let head = format!(
            "GET {OPEN_SOCKET} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nx-forwarded-for: {address}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        (String::from_utf8_lossy(&answer).into_owned(), stream)
    };
    let first = connect("198.51.100.1").await;
    let second = connect("198.51.100.1").await;
    let third = connect("198.51.100.1").await;
    let elsewhere = connect("198.51.100.2").await;
    let all = [first.0, second.0, third.0, elsewhere.0];
    assert_eq!(all, ["HTTP/1.1 101", "HTTP/1.1 101", "HTTP/1.1 503", "HTTP/1.1 101"]);
}

#[tokio::test]
async fn one_address_does_not_use_up_what_strangers_write_to() {
    let api =
        limited(|config| config.limits.proxy_header = Some("x-forwarded-for".to_owned())).await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let from = |address: &'static str, path: &'static str, body: Vec<u8>| {
        let headers =
            [("content-type", CONTENT_TYPE.to_owned()), ("x-forwarded-for", address.to_owned())];
        let api = &api;
        async move { api.raw(path, &headers, body).await.map(drop) }
    };
    let claim = encode(&claim(bob.account));
    let mut passed = 0;
    let refused = loop {
        match from("198.51.100.1", Claim::PATH, claim.clone()).await {
            Ok(()) => passed += 1,
            refused => break refused,
        }
    };
    assert_eq!(passed, 30);
    assert!(refused.is_err_and(|refused| refused.code == ErrorCode::RateLimited));
    assert_eq!(from("198.51.100.2", Claim::PATH, claim).await, Ok(()));

    let notice = |n: u8| encode(&deposit(bob.device.inbox, &[n; 9]));
    for n in 0..20 {
        assert_eq!(from("198.51.100.1", Deposit::PATH, notice(n)).await, Ok(()));
    }
    let refused = from("198.51.100.1", Deposit::PATH, notice(20)).await;
    assert!(refused.is_err_and(|refused| refused.code == ErrorCode::TooManyNotices));
    assert_eq!(from("198.51.100.2", Deposit::PATH, notice(21)).await, Ok(()));
}

#[tokio::test]
async fn a_proxy_that_names_no_client_is_in_the_log_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("told");
    let log = std::fs::File::create(&path).unwrap();
    let more = ["--proxy-header", "x-forwarded-for"];
    let process = Process::start_telling(folder.path(), &more, None, log.into());
    let api = Api::at(process.address, folder);
    let ask = async |proxied: Option<&str>| {
        let content = ("content-type", CONTENT_TYPE.to_owned());
        let proxied = proxied.map(|value| ("x-forwarded-for", value.to_owned()));
        let headers: Vec<_> = [content].into_iter().chain(proxied).collect();
        let read = Read { token: token(1), after: 0, limit: 1, admission: Vec::new() };
        api.raw(Read::PATH, &headers, encode(&read)).await.unwrap_err();
    };
    for address in ["198.51.100.7", "198.51.100.7:5678", "203.0.113.9, [2001:db8::1]:5678"] {
        ask(Some(address)).await;
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    for _ in 0..3 {
        ask(None).await;
        ask(Some("unknown")).await;
    }
    drop(process);
    let told = std::fs::read_to_string(&path).unwrap();
    let warnings: Vec<_> = told.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!((warnings.len(), told.lines().count()), (2, 2), "{told}");
    assert!(warnings[0].contains("x-forwarded-for") && warnings[1].contains("unknown"), "{told}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_may_open_few_files_answers_although_many_idle_connections_are_open() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start_with_files(folder.path(), 160);
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(process.address).await.unwrap());
    }
    let ask = async {
        let mut stream = TcpStream::connect(process.address).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let within = std::time::Duration::from_secs(10);
    let answer = tokio::time::timeout(within, ask).await.expect("an answer, not silence");
    assert_eq!(&answer.unwrap(), b"HTTP/1.1 503");
}
