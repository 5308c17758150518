//! The lines that wait for a program to read them: so many, and so long together, that one that
//! stands still costs no more memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

/// How many lines may wait.
const LINES: usize = 256;
/// How many bytes of events may wait; a longer one is taken while nothing else waits.
pub(crate) const BYTES: usize = 1 << 20;

/// Where lines are put.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    lines: mpsc::Sender<String>,
    bytes: Arc<AtomicUsize>,
}

/// Where they are taken.
#[derive(Debug)]
pub(crate) struct Waiting {
    lines: mpsc::Receiver<String>,
    bytes: Arc<AtomicUsize>,
}

/// A queue and its other end.
pub(crate) fn queue() -> (Queue, Waiting) {
    let (sender, receiver) = mpsc::channel(LINES);
    let bytes = Arc::<AtomicUsize>::default();
    (Queue { lines: sender, bytes: Arc::clone(&bytes) }, Waiting { lines: receiver, bytes })
}

impl Queue {
    /// Puts a line in once there is a place for it: one that is owed, such as an answer.
    pub(crate) async fn put(&self, line: String) {
        // Nobody is left to read where there is no place.
        if let Ok(place) = self.lines.reserve().await {
            self.bytes.fetch_add(line.len(), Ordering::Relaxed);
            place.send(line);
        }
    }

    /// Puts a line in if there is room for it.
    pub(crate) fn try_put(&self, line: &str) -> bool {
        let waiting = self.bytes.load(Ordering::Relaxed);
        if waiting > 0 && waiting.saturating_add(line.len()) > BYTES {
            return false;
        }
        match self.lines.try_reserve() {
            Ok(place) => {
                self.bytes.fetch_add(line.len(), Ordering::Relaxed);
                place.send(line.to_owned());
                true
            }
            Err(_) => false,
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.capacity() == self.lines.max_capacity()
    }
}

impl Waiting {
    /// Takes the next line, once there is one; `None` at the end.
    pub(crate) async fn take(&mut self) -> Option<String> {
        let line = self.lines.recv().await?;
        self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
        Some(line)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn audit_issue_7_bf2_lines_wait_up_to_a_number_and_a_length() {
        let (queue, mut waiting) = queue();
        let long = "x".repeat(2 * BYTES);
        assert!(queue.try_put(&long), "one alone has room, however long");
        assert!(!queue.try_put("y"));
        assert_eq!(waiting.take().await.map(|line| line.len()), Some(long.len()));
        assert!(queue.is_empty() && waiting.is_empty());
        assert_eq!((0..).take_while(|_| queue.try_put("y")).count(), LINES);
        assert!(!queue.is_empty());
        for _ in 0..LINES {
            waiting.take().await;
        }
        let half = "x".repeat(BYTES / 2);
        assert_eq!((0..).take_while(|_| queue.try_put(&half)).count(), 2);
        drop(waiting);
        queue.put(String::new()).await;
        assert!(!queue.try_put("y"));
    }
}
