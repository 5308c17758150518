//! What the measurements send, and how they count it.

use std::net::SocketAddr;

use corncrake_wire::{
    AccessToken, ClientFrame, EntryKind, OPEN_SOCKET, ServerFrame, decode, encode,
    log::{Append, AppendReply, NewEntry, Point},
};
use futures_util::{SinkExt, StreamExt};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// Connections that append.
pub(crate) const SENDERS: u32 = 64;
/// Bytes of a message.
pub(crate) const BODY: usize = 1024;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a place in a short list"
)]
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = ((values.len().saturating_sub(1)) as f64 * part).round() as usize;
    values.get(at).copied().unwrap_or_default()
}

pub(crate) async fn append(socket: &mut Socket, log: u32, body: Vec<u8>, opening: Option<Vec<u8>>) {
    append_all(socket, log, vec![NewEntry::new(body)], opening).await;
}

pub(crate) async fn append_all(
    socket: &mut Socket,
    log: u32,
    entries: Vec<NewEntry>,
    opening: Option<Vec<u8>>,
) {
    let (kind, admission) = (EntryKind::Message, Vec::new());
    let append =
        Append { token: token(log), kind, after: Point::START, entries, opening, admission };
    say(socket, &ClientFrame::Append { request: 1, append }).await;
    let reply = hear(socket).await;
    let ServerFrame::AppendReply { result: Ok(AppendReply::Stored { .. }), .. } = reply else {
        panic!("{reply:?}");
    };
}

pub(crate) async fn connect(address: SocketAddr) -> Socket {
    let url = format!("ws://{address}{OPEN_SOCKET}");
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let (mut socket, _) =
        tokio_tungstenite::connect_async_with_config(url, Some(config), true).await.unwrap();
    hear(&mut socket).await;
    socket
}

pub(crate) async fn say(socket: &mut Socket, frame: &ClientFrame) {
    socket.send(Message::Binary(encode(frame).into())).await.unwrap();
}

pub(crate) async fn hear(socket: &mut Socket) -> ServerFrame {
    loop {
        if let Message::Binary(bytes) = socket.next().await.unwrap().unwrap() {
            return decode(&bytes).unwrap();
        }
    }
}

pub(crate) fn token(log: u32) -> AccessToken {
    let mut bytes = [0; 32];
    if let Some(first) = bytes.first_chunk_mut() {
        *first = log.to_le_bytes();
    }
    AccessToken::new(bytes)
}

pub(crate) fn body(rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut bytes = vec![0; BODY];
    rng.fill_bytes(&mut bytes);
    bytes
}
