//! Whether a writer can write, and if not, why.

use corncrake_wire::{ErrorCode, Refusal};
use tokio::sync::watch;

/// Whether a writer can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It can.
    Ready,
    /// The disk is full, or nearly.
    Full,
    /// The database can't be written right now.
    Failing,
    /// The writer has ended and will not come back.
    Dead,
}

impl Condition {
    /// What a caller is told whose request could not be stored.
    pub(crate) const fn refusal(self) -> Refusal {
        let code = match self {
            Self::Full => ErrorCode::StorageFull,
            Self::Ready | Self::Failing | Self::Dead => ErrorCode::Unavailable,
        };
        Refusal { code, retry_after: Some(5) }
    }

    /// The reason's name, for operators.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Full => "storage_full",
            Self::Failing => "storage_failing",
            Self::Dead => "writer_ended",
        }
    }
}

/// The condition of one writer, as it changes.
#[derive(Clone, Debug)]
pub(crate) struct Health(watch::Sender<Condition>);

impl Health {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Condition::Ready))
    }

    pub(crate) fn now(&self) -> Condition {
        *self.0.borrow()
    }

    /// Notes a condition; the dead stay dead.
    pub(crate) fn set(&self, condition: Condition) {
        self.0.send_if_modified(|now| {
            let changes = *now != condition && *now != Condition::Dead;
            if changes {
                *now = condition;
            }
            changes
        });
    }

    /// Waits until the writer has ended for good.
    pub(crate) async fn dead(&self) {
        drop(self.0.subscribe().wait_for(|condition| *condition == Condition::Dead).await);
    }
}
