//! The server's half of RFC 6455, as far as frames need it: binary messages, pings and an end.
//!
//! It is here and not in a library because of memory: a message takes its share of the budget
//! before it is received, in a buffer of its own that goes with it; what is sent is never held
//! back beyond [`OUTPUT`]; and both buffers are given back once they are empty, so that a
//! connection is as small after traffic as it was before.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use corncrake_wire::{ErrorCode, Refusal, limits};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    Origin,
    budget::{BUSY, Budget, Share},
    extract::is_too_slow,
};

/// What is read at once, and kept unread at most.
const INPUT: usize = 4 * 1024;
/// What is collected before it is written.
pub(super) const OUTPUT: usize = 16 * 1024;
/// What a message costs beside its bytes, while it is under way.
const MESSAGE: usize = 512;
/// A write that takes longer keeps from reading, which isn't the other side's pace.
const MOMENT: Duration = Duration::from_secs(1);
/// The longest payload of a ping, pong or close.
const CONTROL: usize = 125;

/// What came from the other side.
#[derive(Debug)]
pub(super) enum Event {
    /// A binary message, with its share.
    Message(Vec<u8>, Share),
    /// A ping or a pong.
    Life,
    /// The end, asked for or not.
    Gone,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct WebSocket {
    io: TokioIo<Upgraded>,
    budget: Budget,
    from: Origin,
    /// Bytes that belong to no payload yet.
    input: BytesMut,
    output: BytesMut,
    /// The frame whose payload is being received.
    frame: Option<Frame>,
    /// The message so far, of one frame or several.
    message: Option<(Vec<u8>, Share)>,
    control: Vec<u8>,
    /// When the unfinished message began, and how much of it has come.
    unfinished: Option<(Instant, u64)>,
    /// The longest message that is taken.
    pub(super) longest: usize,
    /// When anything was heard.
    pub(super) heard: Instant,
}

/// A frame whose header has come.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    is_last: bool,
    mask: [u8; 4],
    length: usize,
    received: usize,
}

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl WebSocket {
    pub(super) fn new(io: Upgraded, budget: Budget, from: Origin) -> Self {
        Self {
            io: TokioIo::new(io),
            budget,
            from,
            input: BytesMut::new(),
            output: BytesMut::new(),
            frame: None,
            message: None,
            control: Vec::new(),
            unfinished: None,
            longest: limits::FIRST_FRAME,
            heard: Instant::now(),
        }
    }

    /// Waits for what comes next. May be dropped while it waits.
    ///
    /// # Errors
    /// Why the connection must end.
    pub(super) async fn next(&mut self) -> Result<Event, Refusal> {
        loop {
            if self.frame.is_none() && !self.take_header().await? {
                if !self.read().await {
                    return Ok(Event::Gone);
                }
                continue;
            }
            if !self.take_payload().await {
                return Ok(Event::Gone);
            }
            if let Some(event) = self.end_frame() {
                return Ok(event);
            }
        }
    }

    /// Notes that the other side isn't waited for right now, so that its pace isn't judged.
    pub(super) fn rest(&mut self) {
        if let Some((began, received)) = &mut self.unfinished {
            (*began, *received) = (Instant::now(), 0);
        }
    }

    /// Whether an unfinished message comes too slowly.
    pub(super) fn is_too_slow(&self) -> bool {
        self.unfinished.is_some_and(|(began, received)| is_too_slow(began, received))
    }

    /// Reads into `input`; false at the end.
    async fn read(&mut self) -> bool {
        self.input.reserve(INPUT);
        let read = self.io.read_buf(&mut (&mut self.input).limit(INPUT)).await;
        self.note(*read.as_ref().unwrap_or(&0));
        read.is_ok_and(|read| read > 0)
    }

    fn note(&mut self, received: usize) {
        self.heard = Instant::now();
        let (_, so_far) = self.unfinished.get_or_insert((self.heard, 0));
        *so_far += received as u64;
    }

    /// Takes a frame's header off `input`, and the frame's share of the budget; false if there
    /// is no whole header.
    async fn take_header(&mut self) -> Result<bool, Refusal> {
        let Some((frame, header)) = Frame::parse(&self.input)? else {
            return Ok(false);
        };
        match frame.opcode {
            CLOSE | PING | PONG if frame.is_last && frame.length <= CONTROL => {}
            BINARY if self.message.is_none() => self.begin(&frame).await?,
            CONTINUATION if self.message.is_some() => self.begin(&frame).await?,
            _ => return Err(ErrorCode::Malformed.into()),
        }
        self.input.advance(header);
        self.frame = Some(frame);
        Ok(true)
    }

    async fn begin(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let so_far = self.message.as_ref().map_or(0, |(message, _)| message.len());
        if frame.length > self.longest.saturating_sub(so_far) {
            return Err(ErrorCode::TooLarge.into());
        }
        let share = self.budget.wait(self.from, frame.length + MESSAGE).await;
        let share = share.ok_or(BUSY)?;
        if let Some((message, so_far)) = &mut self.message {
            message.reserve_exact(frame.length);
            so_far.join(share);
        } else {
            self.message = Some((Vec::with_capacity(frame.length), share));
        }
        Ok(())
    }

    /// Receives the payload of the frame at hand; false at the end.
    async fn take_payload(&mut self) -> bool {
        while let Some(frame) = &mut self.frame
            && frame.received < frame.length
        {
            let to = match &mut self.message {
                Some((message, _)) if frame.opcode < CLOSE => message,
                _ => &mut self.control,
            };
            let old = to.len();
            let missing = frame.length - frame.received;
            let received = if self.input.is_empty() {
                let read = self.io.read_buf(&mut to.limit(missing)).await.unwrap_or(0);
                if read == 0 {
                    return false;
                }
                read
            } else {
                let at_hand = self.input.split_to(missing.min(self.input.len()));
                to.extend_from_slice(&at_hand);
                at_hand.len()
            };
            let fresh = to.get_mut(old..).unwrap_or_default();
            let mask = frame.mask.iter().cycle().skip(frame.received % 4);
            fresh.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
            frame.received += received;
            self.note(received);
        }
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        true
    }

    /// What a whole frame means. A pong is put where the next flush takes it along: what waits
    /// here may be dropped, and half a frame must not be.
    fn end_frame(&mut self) -> Option<Event> {
        let frame = self.frame.take()?;
        if self.message.is_none() || frame.is_last && frame.opcode < CLOSE {
            self.unfinished = (!self.input.is_empty()).then_some((self.heard, 0));
        }
        match frame.opcode {
            PING => {
                let payload = std::mem::take(&mut self.control);
                self.put_header(PONG, payload.len());
                self.output.extend_from_slice(&payload);
                Some(Event::Life)
            }
            PONG => {
                self.control = Vec::new();
                Some(Event::Life)
            }
            CLOSE => Some(Event::Gone),
            _ if !frame.is_last => None,
            _ => self.message.take().map(|(message, share)| Event::Message(message, share)),
        }
    }

    fn put_header(&mut self, opcode: u8, length: usize) {
        self.output.put_u8(0x80 | opcode);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => self.output.put_u8(short),
            (_, Ok(medium)) => {
                self.output.put_u8(126);
                self.output.put_u16(medium);
            }
            _ => {
                self.output.put_u8(127);
                self.output.put_u64(length as u64);
            }
        }
    }

    /// Sends a message, which may stay here until [`flush`](Self::flush); false if the other
    /// side doesn't take it.
    pub(super) async fn feed(&mut self, message: Vec<u8>) -> bool {
        if !self.output.is_empty()
            && self.output.len() + message.len() > OUTPUT
            && !self.flush().await
        {
            return false;
        }
        self.put_header(BINARY, message.len());
        if message.len() <= OUTPUT {
            self.output.extend_from_slice(&message);
            return true;
        }
        self.flush().await && self.write(Bytes::from(message)).await
    }

    /// Writes what is held back.
    pub(super) async fn flush(&mut self) -> bool {
        if self.output.is_empty() {
            return true;
        }
        let output = std::mem::take(&mut self.output);
        self.write(output.freeze()).await
    }

    /// The stream itself ends a write that makes no progress.
    async fn write(&mut self, mut bytes: Bytes) -> bool {
        let begun = Instant::now();
        while bytes.has_remaining() {
            if !self.io.write_buf(&mut bytes).await.is_ok_and(|written| written > 0) {
                return false;
            }
        }
        if begun.elapsed() > MOMENT {
            self.rest();
        }
        self.io.flush().await.is_ok()
    }

    /// Says that this is the end, and reads on for a moment: closing with bytes unread would
    /// take back what was sent last.
    pub(super) async fn close(&mut self) {
        const LEFT: usize = 16 * 1024 * 1024;
        self.put_header(CLOSE, 0);
        if !self.flush().await || self.io.shutdown().await.is_err() {
            return;
        }
        let mut left = LEFT;
        let mut waste = BytesMut::with_capacity(INPUT);
        while let Ok(read @ 1..) = self.io.read_buf(&mut waste).await
            && left > read
        {
            left -= read;
            waste.clear();
        }
    }
}

impl Frame {
    /// The header at the beginning of `input`, with its length.
    fn parse(mut input: &[u8]) -> Result<Option<(Self, usize)>, ErrorCode> {
        let whole = input.len();
        let Some(&[first, second]) = input.first_chunk() else {
            return Ok(None);
        };
        // No extensions were agreed on, and clients mask.
        if first & 0x70 != 0 || second & 0x80 == 0 {
            return Err(ErrorCode::Malformed);
        }
        input.advance(2);
        let length = match second & 0x7f {
            126 => input.try_get_u16().map(u64::from),
            127 => input.try_get_u64(),
            short => Ok(u64::from(short)),
        };
        let (Ok(length), Ok(mask)) = (length, input.try_get_u32()) else {
            return Ok(None);
        };
        let frame = Self {
            opcode: first & 0x0f,
            is_last: first & 0x80 != 0,
            mask: mask.to_be_bytes(),
            length: usize::try_from(length).map_err(|_| ErrorCode::TooLarge)?,
            received: 0,
        };
        Ok(Some((frame, whole - input.len())))
    }
}
