use std::time::Duration;

use corncrake_wire::{
    ACCOUNT_SOCKET, AccessToken, ClientFrame, ErrorCode, OPEN_SOCKET, Refusal, SESSION_HEADER,
    ServerFrame, SessionToken,
    account::{AddDevice, LogOut, NewDevice, RestoreDevice},
    encode,
    frames::{About, Subscription, heads_digest},
    limits,
    log::{AppendReply, LogEntry, Point, RUNNING_START},
};
use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{
    Message,
    client::IntoClientRequest,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::support::{
    Api, Socket, add_device, answer, at, commit, deposit, log_in, messages, new_device, problem,
    random, sign_up, signed, stored, token,
};

fn subscribe(id: u32, token: &AccessToken, after: u64) -> ClientFrame {
    let logs = vec![Subscription { id, token: token.clone(), after, running: None }];
    ClientFrame::Subscribe { logs }
}

impl Socket {
    async fn entries(&mut self, id: u32) -> (Vec<LogEntry>, u64) {
        match self.hear().await {
            Some(ServerFrame::Entries { id: got, entries, head, .. }) if got == id => {
                (entries, head)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn reply(&mut self, request: u32) -> Result<AppendReply, Refusal> {
        match self.hear().await {
            Some(ServerFrame::AppendReply { request: got, result }) if got == request => result,
            other => panic!("{other:?}"),
        }
    }

    async fn notices(&mut self) -> Vec<(u64, Vec<u8>)> {
        match self.hear().await {
            Some(ServerFrame::Notices { notices }) => {
                notices.into_iter().map(|notice| (notice.position, notice.bytes)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Hears why the server hangs up, and that it does.
    async fn refused(mut self) -> ErrorCode {
        let code = match self.hear().await {
            Some(ServerFrame::Refused { about: About::Connection, refusal }) => refusal.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(self.hear().await, None);
        code
    }
}

#[tokio::test]
async fn a_log_is_followed_from_before_its_beginning() {
    let api = Api::start().await;
    let log = token(1);
    let mut socket = api.socket(OPEN_SOCKET).await;
    socket.say(&subscribe(5, &log, 0)).await;
    assert_eq!(socket.entries(5).await, (Vec::new(), 0));
    let mut founding = commit(&log, Point::START, b"c1");
    founding.entries[0].state = Some(b"state".to_vec());
    api.append(&founding).await.unwrap();
    let (entries, head) = socket.entries(5).await;
    assert_eq!((entries.len(), head), (1, 1));
    assert!(entries[0].has_state && !entries[0].has_welcome);
    api.append(&messages(&log, at(1, b"c1"), &[b"m2", b"m3"])).await.unwrap();
    let (entries, head) = socket.entries(5).await;
    assert_eq!((entries.len(), entries[0].position, head), (2, 2, 3));
    api.append(&messages(&log, at(1, b"c1"), &[b"m2", b"m3"])).await.unwrap();
    assert!(socket.is_quiet().await, "a retry is no news");
    socket.say(&ClientFrame::Unsubscribe { ids: vec![5] }).await;
    socket.say(&ClientFrame::Ping(1)).await;
    assert_eq!(socket.hear().await, Some(ServerFrame::Pong(1)));
    api.append(&messages(&log, at(1, b"c1"), &[b"m4"])).await.unwrap();
    assert!(socket.is_quiet().await);
}

#[tokio::test]
async fn a_subscription_replaces_one_of_its_name_and_may_stand_past_the_head() {
    let api = Api::start().await;
    let mut socket = api.socket(OPEN_SOCKET).await;
    socket.say(&subscribe(1, &token(1), 0)).await;
    assert_eq!(socket.entries(1).await, (Vec::new(), 0));
    socket.say(&subscribe(1, &token(2), 3)).await;
    assert_eq!(socket.entries(1).await, (Vec::new(), 0));
    api.append(&messages(&token(1), Point::START, &[b"unheard"])).await.unwrap();
    api.append(&messages(&token(2), Point::START, &[b"m1", b"m2"])).await.unwrap();
    assert!(socket.is_quiet().await, "nothing stands after position 3 yet");
    api.append(&messages(&token(2), Point::START, &[b"m3", b"m4", b"m5"])).await.unwrap();
    let (entries, head) = socket.entries(1).await;
    let positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
    assert_eq!((positions, head), (vec![4, 5], 5));
}

#[tokio::test]
async fn appends_by_frame_do_what_appends_by_request_do() {
    let api = Api::start().await;
    let log = token(1);
    let mut socket = api.socket(OPEN_SOCKET).await;
    let mut append = async |request, append| {
        socket.say(&ClientFrame::Append { request, append }).await;
        socket.reply(request).await
    };
    assert_eq!(append(1, commit(&log, Point::START, b"c1")).await, Ok(stored(&[1], 1)));
    assert_eq!(append(2, commit(&log, Point::START, b"c1")).await, Ok(stored(&[1], 1)));
    let Ok(AppendReply::Conflict { newest_commit, missing, .. }) =
        append(3, messages(&log, Point::START, &[b"late"])).await
    else {
        panic!("a conflict");
    };
    assert_eq!((newest_commit, missing.len()), (at(1, b"c1"), 1));
    let rows = api.rows().await;
    let refused = append(4, messages(&log, at(1, b"c1"), &[])).await;
    assert_eq!(refused, Err(ErrorCode::BadBatch.into()));
    let too_large = messages(&log, at(1, b"c1"), &[&vec![0; limits::MESSAGE + 1]]);
    assert_eq!(append(5, too_large).await, Err(ErrorCode::TooLarge.into()));
    let mut unopened = messages(&token(2), Point::START, &[b"m1"]);
    unopened.opening = None;
    assert_eq!(append(6, unopened).await, Err(ErrorCode::OpeningMissing.into()));
    assert_eq!(api.rows().await, rows);
}

#[tokio::test]
async fn catching_up_and_live_entries_meet_without_gap_or_double() {
    let api = Api::start().await;
    let log = token(1);
    let body = |n: u64| [&n.to_le_bytes()[..], &[0; 1000]].concat();
    let send = async |from: u64, to: u64| {
        for n in from..=to {
            api.append(&messages(&log, Point::START, &[&body(n)])).await.unwrap();
        }
    };
    send(1, 700).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(api.socket(OPEN_SOCKET).await);
    }
    let follow = sockets.into_iter().enumerate().map(|(n, mut socket)| {
        let log = &log;
        async move {
            let mut next = 200 * n as u64 + 1;
            socket.say(&subscribe(1, log, next - 1)).await;
            while next <= 1000 {
                for entry in socket.entries(1).await.0 {
                    assert_eq!(entry.position, next);
                    assert_eq!(entry.bytes[..8], next.to_le_bytes());
                    next += 1;
                }
            }
        }
    });
    tokio::join!(send(701, 1000), futures_util::future::join_all(follow));
}

#[tokio::test]
async fn a_follower_who_does_not_listen_loses_nothing() {
    let api = Api::start().await;
    let log = token(1);
    let mut slow = api.socket(OPEN_SOCKET).await;
    slow.say(&subscribe(1, &log, 0)).await;
    let mut fast = api.socket(OPEN_SOCKET).await;
    let body = vec![7; 60_000];
    for request in 0..1200u32 {
        let body = [&request.to_le_bytes()[..], &body].concat();
        fast.say(&ClientFrame::Append { request, append: messages(&log, Point::START, &[&body]) })
            .await;
        if request >= 32 {
            assert!(fast.reply(request - 32).await.is_ok());
        }
    }
    let mut next = 1;
    while next <= 1200 {
        for entry in slow.entries(1).await.0 {
            assert_eq!(entry.position, next);
            next += 1;
        }
    }
}

#[tokio::test]
async fn frames_of_the_open_plane_that_do_not_belong_end_the_connection() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let rows = api.rows().await;
    let good = encode(&ClientFrame::Append {
        request: 1,
        append: messages(&token(1), Point::START, &[b"m"]),
    });
    let mut bad = vec![
        (ErrorCode::Malformed, Message::text("hello")),
        (ErrorCode::Malformed, Message::binary(Vec::new())),
        (ErrorCode::Malformed, Message::binary([&good[..], &[0]].concat())),
        (ErrorCode::Malformed, Message::binary([&[9], &good[1..]].concat())),
        (ErrorCode::TooLarge, Message::binary(vec![1; limits::FRAME + 1])),
    ];
    let session = ClientFrame::Authenticate { session: bob.session.token.clone(), after: 0 };
    bad.push((ErrorCode::CredentialsRefused, Message::binary(encode(&session))));
    for frame in [
        encode(&subscribe(1, &token(1), 0)),
        encode(&ClientFrame::Unsubscribe { ids: vec![300] }),
        encode(&ClientFrame::Ping(300)),
        encode(&ClientFrame::Pong(300)),
        good,
    ] {
        for cut in (0..frame.len()).step_by(7) {
            bad.push((ErrorCode::Malformed, Message::binary(frame[..cut].to_vec())));
        }
    }
    for (code, message) in bad {
        let mut socket = api.socket(OPEN_SOCKET).await;
        socket.0.send(message).await.unwrap();
        assert_eq!(socket.refused().await, code);
    }
    assert_eq!(api.rows().await, rows);
}

#[tokio::test]
async fn a_connection_follows_so_many_logs_and_no_more() {
    let api = Api::start().await;
    let mut socket = api.socket(OPEN_SOCKET).await;
    for id in 0..limits::SUBSCRIPTIONS as u32 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&id.to_le_bytes());
        socket.say(&subscribe(id, &AccessToken::new(bytes), 0)).await;
        assert_eq!(socket.entries(id).await, (Vec::new(), 0));
    }
    socket.say(&subscribe(9999, &token(1), 0)).await;
    let refusal = ErrorCode::TooManySubscriptions.into();
    let about = About::Subscription(9999);
    assert_eq!(socket.hear().await, Some(ServerFrame::Refused { about, refusal }));
    socket.say(&subscribe(7, &token(1), 0)).await;
    assert_eq!(socket.entries(7).await, (Vec::new(), 0), "replacing needs no room");
}

#[tokio::test]
async fn the_open_socket_refuses_credentials_and_what_is_no_upgrade() {
    let api = Api::start().await;
    for (name, value) in [(SESSION_HEADER, "abc"), ("authorization", "Bearer abc")] {
        let url = format!("ws://{}{OPEN_SOCKET}", api.address());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let refused = tokio_tungstenite::connect_async(request).await.unwrap_err();
        let tokio_tungstenite::tungstenite::Error::Http(response) = refused else {
            panic!("{refused}");
        };
        assert_eq!(response.status(), 400);
        let body = String::from_utf8(response.into_body().unwrap()).unwrap();
        assert!(body.contains("\"credentials_refused\""), "{body}");
    }
    for path in [OPEN_SOCKET, ACCOUNT_SOCKET] {
        let url = format!("http://{}{path}", api.address());
        let plain = answer(api.http.get(url).send().await.unwrap()).await;
        assert_eq!(plain, Err(problem(ErrorCode::Malformed)));
    }
}

fn authenticate(session: &SessionToken, after: u64) -> ClientFrame {
    ClientFrame::Authenticate { session: session.clone(), after }
}

#[tokio::test]
async fn notices_come_as_they_are_deposited() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let eve = sign_up(&api, "eve", b"correct horse").await;
    let mut socket = api.socket(ACCOUNT_SOCKET).await;
    socket.say(&authenticate(&bob.session.token, 0)).await;
    assert_eq!(socket.notices().await, []);
    api.call(&deposit(bob.device.inbox, b"one")).await.unwrap();
    assert_eq!(socket.notices().await, [(1, b"one".to_vec())]);
    api.call(&deposit(eve.device.inbox, b"for eve")).await.unwrap();
    api.call(&deposit(bob.device.inbox, b"one")).await.unwrap();
    assert!(socket.is_quiet().await);
    let mut second = api.socket(ACCOUNT_SOCKET).await;
    second.say(&authenticate(&bob.session.token, 1)).await;
    assert_eq!(second.notices().await, []);
    api.call(&deposit(bob.device.inbox, b"two")).await.unwrap();
    assert_eq!(socket.notices().await, [(2, b"two".to_vec())]);
    assert_eq!(second.notices().await, [(2, b"two".to_vec())]);
    second.say(&ClientFrame::Ping(9)).await;
    assert_eq!(second.hear().await, Some(ServerFrame::Pong(9)));
    let mut late = api.socket(ACCOUNT_SOCKET).await;
    late.say(&authenticate(&bob.session.token, 0)).await;
    assert_eq!(late.notices().await.len(), 2);
}

/// Sessions that expire are found within 20 s; those that somebody ends are over at once.
#[tokio::test]
async fn who_logs_out_or_is_dropped_hears_it_at_once() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let mut devices = Vec::new();
    for version in 2..=4 {
        let (device, _) = new_device();
        let add = add_device(&bob.account, version, &device);
        let session = api.call_as(Some(&bob.session.token), &add).await.unwrap();
        let mut socket = api.socket(ACCOUNT_SOCKET).await;
        socket.say(&authenticate(&session.token, 0)).await;
        assert_eq!(socket.notices().await, []);
        devices.push((device, session, socket));
    }
    let [(dropped, _, hears), (lost, _, hears_too), (_, out, hears_last)] =
        devices.try_into().unwrap_or_else(|_| panic!("three"));
    let in_place_of = |device: &NewDevice, version| {
        let add = add_device(&bob.account, version, &new_device().0);
        signed(&bob.account, AddDevice { drop: Some(device.id), ..add })
    };
    let at_once = async |socket: Socket| {
        let code = timeout(Duration::from_secs(10), socket.refused()).await;
        assert_eq!(code.expect("at once"), ErrorCode::SessionRequired);
    };
    let add = in_place_of(&dropped, 5);
    api.call_as(Some(&bob.session.token), &add).await.unwrap();
    at_once(hears).await;
    let restore = RestoreDevice { account: bob.account, add: in_place_of(&lost, 7), least: 0 };
    api.call(&restore).await.unwrap();
    at_once(hears_too).await;
    api.call_as(Some(&out.token), &LogOut).await.unwrap();
    at_once(hears_last).await;
}

#[tokio::test]
async fn frames_of_the_account_plane_that_do_not_belong_end_the_connection() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let deviceless = log_in(&api, "bob", b"correct horse").await.session.token;
    let gone = sign_up(&api, "eve", b"correct horse").await.session.token;
    api.call_as(Some(&gone), &LogOut).await.unwrap();
    let rows = api.rows().await;
    let good = encode(&authenticate(&bob.session.token, 0));
    let append =
        ClientFrame::Append { request: 1, append: messages(&token(1), Point::START, &[b"m"]) };
    let first = [
        (ErrorCode::SessionRequired, authenticate(&SessionToken::new(random()), 0)),
        (ErrorCode::SessionRequired, authenticate(&gone, 0)),
        (ErrorCode::DeviceRequired, authenticate(&deviceless, 0)),
        (ErrorCode::SessionRequired, subscribe(1, &token(1), 0)),
        (ErrorCode::SessionRequired, append.clone()),
        (ErrorCode::SessionRequired, ClientFrame::Ping(1)),
    ];
    for (code, frame) in first {
        let mut socket = api.socket(ACCOUNT_SOCKET).await;
        socket.say(&frame).await;
        assert_eq!(socket.refused().await, code, "{frame:?}");
    }
    let mut bad = vec![
        (ErrorCode::Malformed, Message::text("hello")),
        (ErrorCode::TooLarge, Message::binary(vec![1; limits::FRAME + 1])),
    ];
    bad.extend(
        (0..good.len()).map(|cut| (ErrorCode::Malformed, Message::binary(good[..cut].to_vec()))),
    );
    for (code, message) in bad {
        let mut socket = api.socket(ACCOUNT_SOCKET).await;
        socket.0.send(message.clone()).await.unwrap();
        assert_eq!(socket.refused().await, code);
        let mut socket = api.socket(ACCOUNT_SOCKET).await;
        socket.say(&authenticate(&bob.session.token, 0)).await;
        assert_eq!(socket.notices().await, []);
        socket.0.send(message).await.unwrap();
        assert_eq!(socket.refused().await, code);
    }
    for frame in [append, subscribe(1, &token(1), 0), authenticate(&bob.session.token, 0)] {
        let mut socket = api.socket(ACCOUNT_SOCKET).await;
        socket.say(&authenticate(&bob.session.token, 0)).await;
        assert_eq!(socket.notices().await, []);
        socket.say(&frame).await;
        assert_eq!(socket.refused().await, ErrorCode::FrameRefused, "{frame:?}");
    }
    assert_eq!(api.rows().await, rows);
}

#[tokio::test]
async fn a_server_that_stops_says_so_and_frees_its_folder() {
    let api = Api::start().await;
    let bob = sign_up(&api, "bob", b"correct horse").await;
    let open = api.socket(OPEN_SOCKET).await;
    let mut account = api.socket(ACCOUNT_SOCKET).await;
    account.say(&authenticate(&bob.session.token, 0)).await;
    assert_eq!(account.notices().await, []);
    let (api, open, account) = tokio::join!(api.restart(), open.refused(), account.refused());
    assert_eq!((open, account), (ErrorCode::Unavailable, ErrorCode::Unavailable));
    timeout(Duration::from_secs(5), api.socket(OPEN_SOCKET)).await.unwrap();
}

#[tokio::test]
async fn audit_srv_a3_a_long_message_needs_a_token_first() {
    let api = Api::start().await;
    let long = messages(&token(1), Point::START, &[&[1; 60_000], &[2; 60_000]]);
    let append = ClientFrame::Append { request: 1, append: long };
    let mut stranger = api.socket(OPEN_SOCKET).await;
    stranger.say(&append).await;
    let Some(ServerFrame::Refused { about: About::Connection, refusal }) = stranger.hear().await
    else {
        panic!("a refusal");
    };
    assert_eq!(refusal.code, ErrorCode::TooLarge);
    let mut known = api.socket(OPEN_SOCKET).await;
    known.say(&subscribe(1, &token(1), 0)).await;
    known.hear().await.unwrap();
    known.say(&append).await;
    // The push of the same entries may come before the answer.
    let mut heard = known.hear().await;
    while let Some(ServerFrame::Entries { .. }) = heard {
        heard = known.hear().await;
    }
    assert!(matches!(heard, Some(ServerFrame::AppendReply { result: Ok(_), .. })));
}

#[tokio::test]
async fn messages_may_come_in_pieces_with_pings_between_them() {
    let api = Api::start().await;
    let mut socket = api.socket(OPEN_SOCKET).await;
    let bytes = encode(&ClientFrame::Ping(77));
    let piece = |at: std::ops::Range<usize>, code, is_last| {
        Message::Frame(Frame::message(bytes[at].to_vec(), OpCode::Data(code), is_last))
    };
    let middle = bytes.len() / 2;
    socket.0.send(piece(0..1, Data::Binary, false)).await.unwrap();
    socket.0.send(Message::Ping(vec![1, 2, 3].into())).await.unwrap();
    socket.0.send(piece(1..middle, Data::Continue, false)).await.unwrap();
    socket.0.send(piece(middle..bytes.len(), Data::Continue, true)).await.unwrap();
    let pong = socket.0.next().await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong(vec![1, 2, 3].into()));
    assert_eq!(socket.hear().await, Some(ServerFrame::Pong(77)));
    // A piece of nothing is no message.
    socket.0.send(piece(0..1, Data::Continue, true)).await.unwrap();
    let Some(ServerFrame::Refused { about: About::Connection, refusal }) = socket.hear().await
    else {
        panic!("a refusal");
    };
    assert_eq!(refusal.code, ErrorCode::Malformed);
}

#[tokio::test]
async fn one_frame_follows_many_logs_and_tells_which_are_others_than_they_were() {
    let api = Api::start().await;
    let [same, other, short, new] = [1, 2, 3, 4].map(token);
    for log in [&same, &other, &short] {
        api.append(&messages(log, Point::START, &[b"m1", b"m2"])).await.unwrap();
    }
    let mut running = RUNNING_START;
    for (position, bytes) in [(1, b"m1"), (2, b"m2")] {
        running = corncrake_wire::log::running(running, position, &at(position, bytes).id);
    }
    let follow = |id, token: &AccessToken, after, running| Subscription {
        id,
        token: token.clone(),
        after,
        running,
    };
    let logs = vec![
        follow(1, &same, 2, Some(running)),
        follow(2, &other, 2, Some([9; 32])),
        follow(3, &short, 3, Some(running)),
        follow(4, &new, 0, Some(RUNNING_START)),
        follow(5, &same, 2, None),
    ];
    let mut socket = api.socket(OPEN_SOCKET).await;
    socket.say(&ClientFrame::Subscribe { logs }).await;
    let mut heard = std::collections::BTreeMap::new();
    for _ in 0..5 {
        let frame = socket.hear().await.unwrap();
        let id = match &frame {
            ServerFrame::Entries { id, .. } | ServerFrame::Differs { id, .. } => *id,
            other => panic!("{other:?}"),
        };
        heard.insert(id, frame);
    }
    let nothing =
        |id, head, running| ServerFrame::Entries { id, entries: Vec::new(), head, running };
    let expected = [
        nothing(1, 2, None),
        ServerFrame::Differs { id: 2, head: 2 },
        ServerFrame::Differs { id: 3, head: 2 },
        nothing(4, 0, None),
        nothing(5, 2, Some(running)),
    ];
    assert_eq!(heard.into_values().collect::<Vec<_>>(), expected);
    // What differs is no longer followed, and costs the connection nothing.
    api.append(&messages(&other, Point::START, &[b"m3"])).await.unwrap();
    api.append(&messages(&new, Point::START, &[b"m1"])).await.unwrap();
    assert_eq!(socket.entries(4).await.1, 1);
}

#[tokio::test]
async fn audit_srv_b3_a_check_of_heads_is_answered_behind_what_is_under_way() {
    let api = Api::start().await;
    let [one, two] = [1, 2].map(token);
    let mut socket = api.socket(OPEN_SOCKET).await;
    for (id, log) in [(1, &one), (2, &two)] {
        api.append(&messages(log, Point::START, &[b"m1"])).await.unwrap();
        socket.say(&subscribe(id, log, 0)).await;
        assert_eq!(socket.entries(id).await.1, 1);
    }
    let check = |heads: [u64; 2]| {
        let logs = [&one, &two].map(AccessToken::log_id);
        ClientFrame::CheckHeads { digest: heads_digest(logs.into_iter().zip(heads)) }
    };
    socket.say(&check([1, 1])).await;
    assert_eq!(socket.hear().await, Some(ServerFrame::Heads { heads: Vec::new() }));
    socket.say(&check([1, 0])).await;
    let Some(ServerFrame::Heads { mut heads }) = socket.hear().await else { panic!("heads") };
    heads.sort_unstable();
    assert_eq!(heads, [(1, 1), (2, 1)]);
    api.append(&messages(&two, Point::START, &[b"m2"])).await.unwrap();
    socket.say(&check([1, 2])).await;
    assert_eq!(socket.entries(2).await.1, 2, "entries come first");
    assert_eq!(socket.hear().await, Some(ServerFrame::Heads { heads: Vec::new() }));
    // So do pages that are only just asked for.
    for _ in 0..10 {
        let mut socket = api.socket(OPEN_SOCKET).await;
        let asked = [(1, &one), (2, &two)].map(|(id, log)| subscribe(id, log, 0));
        for frame in asked.into_iter().chain([check([1, 2])]) {
            socket.0.feed(Message::Binary(encode(&frame).into())).await.unwrap();
        }
        socket.0.flush().await.unwrap();
        for _ in 0..2 {
            assert!(matches!(socket.hear().await, Some(ServerFrame::Entries { .. })));
        }
        assert_eq!(socket.hear().await, Some(ServerFrame::Heads { heads: Vec::new() }));
    }
}
