//! A stream that ends when the other side takes nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::{
    Origin,
    budget::{Budget, Share},
    serve::SEND_BUFFER,
};

/// How long the other side may take nothing. The kernel's buffer has to empty by a third before
/// anything more is taken, so whoever takes a byte now and then makes no progress.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same if the budget has nothing left for the kernel's buffer.
const IMPATIENCE: Duration = Duration::from_secs(5);

/// A TCP stream. While its send buffer is full, the buffer counts in the budget.
#[derive(Debug)]
pub(crate) struct Paced {
    stream: TcpStream,
    budget: Budget,
    /// The address that the stream counts for, unless it is a proxy's.
    from: Option<Origin>,
    blocked: Option<Blocked>,
}

#[derive(Debug)]
struct Blocked {
    end: Pin<Box<Sleep>>,
    _share: Option<Share>,
}

impl Paced {
    pub(crate) const fn new(stream: TcpStream, budget: Budget, from: Option<Origin>) -> Self {
        Self { stream, budget, from, blocked: None }
    }

    fn paced(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), cx) {
            self.blocked = None;
            return Poll::Ready(written);
        }
        let (budget, from) = (&self.budget, self.from);
        let blocked = self.blocked.get_or_insert_with(|| {
            let amount = SEND_BUFFER as usize;
            let share = match from {
                Some(from) => budget.take(from, amount),
                None => budget.take_unnamed(amount),
            };
            let time = if share.is_some() { PATIENCE } else { IMPATIENCE };
            Blocked { end: Box::pin(sleep(time)), _share: share }
        });
        ready!(blocked.end.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.paced(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.paced(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncWriteExt,
        net::TcpListener,
        time::{Instant, timeout},
    };

    use super::*;

    /// A stream whose other side reads nothing, written to until that ends it.
    async fn fill(budget: &Budget) -> (Duration, io::ErrorKind) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other_side = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let mut stream = Paced::new(stream, budget.clone(), Some(Origin::of(peer.ip())));
        let begun = Instant::now();
        let end = timeout(3 * PATIENCE, async {
            loop {
                if let Err(error) = stream.write_all(&[0; 64 * 1024]).await {
                    break error.kind();
                }
            }
        });
        let end = end.await.expect("an end");
        drop(other_side);
        (begun.elapsed(), end)
    }

    #[tokio::test(start_paused = true)]
    async fn audit_srv_a3_a_reply_that_nobody_reads_ends_and_its_buffer_counts() {
        let budget = Budget::new(10 * SEND_BUFFER as usize, 2 * SEND_BUFFER as usize);
        let (took, end) = fill(&budget).await;
        assert_eq!(end, io::ErrorKind::TimedOut);
        assert!(took >= PATIENCE && took < 2 * PATIENCE, "{took:?}");
        // When the budget has no room for the kernel's buffer, it ends sooner.
        let all = budget.take_unnamed(10 * SEND_BUFFER as usize);
        let (took, end) = fill(&budget).await;
        assert_eq!(end, io::ErrorKind::TimedOut);
        assert!(took >= IMPATIENCE && took < PATIENCE, "{took:?}");
        drop(all);
        // Everything was given back.
        let all = timeout(Duration::from_secs(1), budget.wait(Origin::of([1, 1, 1, 1].into()), 1));
        assert!(all.await.is_ok());
        assert!(budget.take_unnamed(10 * SEND_BUFFER as usize).is_some());
    }
}
