//! Paths that die without a word, and others that are only slow.

use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

const SOON: Duration = Duration::from_secs(2);

/// A transport that would notice nothing for a long time if nobody waited.
fn transport(script: &Script) -> HttpTransport {
    script.transport_with(|pace| {
        pace.silence_before_ping = Duration::from_secs(20);
        pace.silence_before_end = Duration::from_secs(20);
    })
}

fn stored() -> AppendReply {
    AppendReply::Stored { positions: vec![1], head: 1 }
}

#[tokio::test]
async fn audit_issue_7_bf4_where_an_answer_is_late_a_dead_path_is_noticed() {
    let mut script = Script::start().await;
    let transport = transport(&script);
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    let serve = async {
        assert!(matches!(socket.next().await, Some(ClientFrame::Append { .. })));
        assert_eq!(socket.next().await, Some(ClientFrame::Ping(0)), "is anybody there?");
    };
    let (answer, ()) = timeout(SOON, async { tokio::join!(transport.open(append(100)), serve) })
        .await
        .expect("it is noticed soon");
    assert_eq!(answer, Err(TransportError::Unreachable));
    assert_eq!(pushed(&transport).await, "Open down");

    // A request has connections of its own, and all of them are given up with the socket.
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    let answer = timeout(SOON, transport.open(read())).await.expect("it is noticed soon");
    assert_eq!(answer, Err(TransportError::Unreachable));
    assert_eq!(socket.next().await, Some(ClientFrame::Ping(0)));
    assert_eq!(pushed(&transport).await, "Open down");
}

/// Somebody in the place of the server pings without end, and reads nothing of the answers.
#[tokio::test]
async fn audit_issue_7_qm3_pings_do_not_fill_the_memory() {
    const PINGS: usize = 60_000;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mut client =
        WebSocketStream::from_raw_socket(near, Role::Client, Some(line::config())).await;
    let (mut to_client, mut from_client) =
        WebSocketStream::from_raw_socket(far, Role::Server, None).await.split();
    let following = tokio::spawn(async move { while client.next().await.is_some() {} });
    for _ in 0..PINGS {
        to_client.feed(Message::Ping(vec![0; 125].into())).await.unwrap();
    }
    to_client.flush().await.unwrap();
    let mut answers = 0;
    while let Ok(Some(Ok(message))) = timeout(SOON, from_client.next()).await {
        answers += usize::from(message.is_pong());
    }
    assert!(answers > 0 && answers < PINGS * 3 / 4, "{answers}");
    following.abort();
}

#[tokio::test]
async fn audit_issue_7_bf4_a_server_that_is_slow_but_there_is_waited_for() {
    let mut script = Script::start().await;
    let transport = transport(&script);
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    let serve = async {
        let Some(ClientFrame::Append { request, .. }) = socket.next().await else { panic!() };
        for _ in 0..4 {
            assert_eq!(socket.next().await, Some(ClientFrame::Ping(0)));
            sleep(Duration::from_millis(200)).await;
            socket.send(ServerFrame::Pong(0)).await;
        }
        socket.send(ServerFrame::AppendReply { request, result: Ok(stored()) }).await;
    };
    let (answer, ()) = tokio::join!(transport.open(append(100)), serve);
    assert_eq!(answer, Ok(OpenReply::Append(stored())));

    // The same for a request.
    let reply = ReadReply { entries: Vec::new(), head: 5 };
    let serve = async {
        let request = script.requests.recv().await.unwrap();
        for _ in 0..4 {
            assert_eq!(socket.next().await, Some(ClientFrame::Ping(0)));
            socket.send(ServerFrame::Pong(0)).await;
        }
        request.answer.send(("200 OK", OpenReply::Read(reply.clone()).encode())).unwrap();
    };
    let (answer, ()) = tokio::join!(transport.open(read()), serve);
    assert_eq!(answer, Ok(OpenReply::Read(reply.clone())));
}

#[tokio::test]
async fn audit_issue_7_bf4_a_long_frame_on_a_slow_line_is_a_sign_of_life() {
    let mut script = Script::start().await;
    let transport = script.transport();
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    transport.watch(token(1), 0, None);
    assert_eq!(socket.next().await, Some(subscribe(0, 1, 0)));
    let bytes = corncrake_wire::encode(&entries(0, 1..=8));
    let length = u8::try_from(bytes.len()).unwrap();
    assert!(length < 126);
    // A binary message (RFC 6455, section 5.2), a few bytes at a time: far longer than patience.
    let frame = [&[0x82, length][..], &bytes].concat();
    for part in frame.chunks(frame.len().div_ceil(12)) {
        socket.stream.get_mut().write_all(part).await.unwrap();
        sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(pushed(&transport).await, "log 1: [1, 2, 3, 4, 5, 6, 7, 8] of 8");
}

#[tokio::test]
async fn audit_issue_7_bf4_what_is_large_gives_signs_of_life_time() {
    let mut script = Script::start().await;
    let transport = transport(&script);
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    let begun = Instant::now();
    let serve = async {
        let request = script.requests.recv().await.unwrap();
        assert_eq!(socket.next().await, Some(ClientFrame::Ping(0)));
        sleep(Duration::from_millis(1500)).await;
        socket.send(ServerFrame::Pong(0)).await;
        request.answer.send(("200 OK", OpenReply::Append(stored()).encode())).unwrap();
    };
    let (answer, ()) = tokio::join!(transport.open(append(SOCKET_APPEND)), serve);
    assert_eq!(answer, Ok(OpenReply::Append(stored())));
    assert!(begun.elapsed() > Duration::from_millis(1500));

    // And over the socket: what was sent may still be on the way.
    let serve = async {
        let Some(ClientFrame::Append { request, .. }) = socket.next().await else { panic!() };
        sleep(Duration::from_millis(1500)).await;
        socket.send(ServerFrame::AppendReply { request, result: Ok(stored()) }).await;
    };
    let (answer, ()) = tokio::join!(transport.open(append(SOCKET_APPEND / 4)), serve);
    assert_eq!(answer, Ok(OpenReply::Append(stored())));
}

#[tokio::test]
async fn audit_issue_7_d4_a_sign_of_life_comes_after_what_came_before_it() {
    let mut script = Script::start().await;
    let transport = transport(&script);
    let mut socket = script.socket(OPEN_SOCKET).await;
    assert_eq!(pushed(&transport).await, "Open up");
    transport.watch(token(1), 0, None);
    assert_eq!(socket.next().await, Some(subscribe(0, 1, 0)));
    // The greeting has come just now: nobody is asked.
    transport.ask_for_life();
    assert_eq!(pushed(&transport).await, "Open alive");

    sleep(Duration::from_millis(150)).await;
    transport.ask_for_life();
    transport.ask_for_life();
    assert_eq!(socket.next().await, Some(ClientFrame::Ping(0)));
    socket.send(entries(0, 1..=2)).await;
    socket.send(ServerFrame::Pong(0)).await;
    assert_eq!(pushed(&transport).await, "log 1: [1, 2] of 2");
    assert_eq!(pushed(&transport).await, "Open alive");

    // The account plane's socket is asked likewise, once its session has been accepted.
    transport.watch_inbox(session(1), 0);
    let mut inbox = script.socket(ACCOUNT_SOCKET).await;
    assert!(matches!(inbox.next().await, Some(ClientFrame::Authenticate { .. })));
    inbox.send(notices(1..=1)).await;
    assert_eq!(pushed(&transport).await, "Account up");
    assert_eq!(pushed(&transport).await, "[1]");
    sleep(Duration::from_millis(150)).await;
    transport.ask_for_life();
    assert_eq!(inbox.next().await, Some(ClientFrame::Ping(0)));
    inbox.send(ServerFrame::Pong(0)).await;
    assert_eq!(pushed(&transport).await, "Account alive");
    // The other plane's path has died.
    let down = timeout(SOON, pushed(&transport)).await;
    assert_eq!(down.expect("it is noticed soon"), "Open down");
}
