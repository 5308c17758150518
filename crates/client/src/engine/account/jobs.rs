//! Jobs on the open plane: several questions for one purpose, asked one after the other.

use std::collections::{BTreeMap, VecDeque};

use corncrake_wire::ErrorCode;

use super::Retry;
use crate::{
    engine::Step,
    error::{Error, Refusal},
    host::Moment,
    transport::TransportError,
};

/// How often a question is asked before who waits hears that the server is out of reach.
const TRIES: u32 = 3;
/// The same while the socket is up: what was lost on the way will get through.
const TRIES_ONLINE: u32 = 8;
/// Seconds that a job waits when the server asks it to; whoever began it hears of longer ones, and of
/// a full disk, which no wait of these mends.
const PATIENCE: u32 = 10;

/// Jobs under way, with questions `Q`, what was found so far `F`, and what it is for `T`.
#[derive(Debug)]
pub(super) struct Jobs<Q, F, T> {
    jobs: BTreeMap<u64, Job<Q, F, T>>,
    next: u64,
}

#[derive(Debug)]
struct Job<Q, F, T> {
    /// Questions without an answer; the first one is being asked.
    wanted: VecDeque<Q>,
    found: Vec<F>,
    /// Questions that were refused, where the others go on.
    left_out: Vec<(Q, Error)>,
    then: T,
    retry: Retry,
    /// Whether nobody waits for it any more.
    rests: bool,
}

/// What came of a job.
#[derive(Debug)]
pub(super) struct Ended<Q, F, T> {
    pub(super) then: T,
    pub(super) found: Vec<F>,
    pub(super) left_out: Vec<(Q, Error)>,
}

/// Whether a refusal is about the one who was asked for, and says nothing about others.
pub(super) const fn is_about_one(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused(Refusal::UnknownAccount | Refusal::NoKeyPackage) | Error::Untrue(_)
    )
}

impl<Q, F, T> Default for Jobs<Q, F, T> {
    fn default() -> Self {
        Self { jobs: BTreeMap::new(), next: 0 }
    }
}

impl<Q: Clone, F, T> Jobs<Q, F, T> {
    /// Whether something is asked for that somebody may wait for.
    pub(super) fn is_busy(&self) -> bool {
        self.jobs.values().any(|job| !job.rests)
    }

    pub(super) fn hurry(&mut self) {
        self.jobs.values_mut().for_each(|job| job.retry.hurry());
    }

    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.jobs.values().filter_map(|job| job.retry.wake_at()).min()
    }

    pub(super) fn begin(&mut self, wanted: Vec<Q>, then: T) {
        let wanted = wanted.into();
        let (found, left_out) = (Vec::new(), Vec::new());
        let (retry, rests) = (Retry::default(), false);
        let job = Job { wanted, found, left_out, then, retry, rests };
        self.jobs.insert(self.next, job);
        self.next += 1;
    }

    /// The jobs that want to ask something now.
    pub(super) fn due(&self, now: Moment) -> Vec<u64> {
        let due = self.jobs.iter().filter(|(_, job)| job.retry.is_due(now));
        due.map(|(number, _)| *number).collect()
    }

    /// The question of a job that has no answer yet.
    pub(super) fn question(&self, number: u64) -> Option<Q> {
        self.jobs.get(&number)?.wanted.front().cloned()
    }

    /// The same, and it leaves now.
    pub(super) fn ask(&mut self, number: u64) -> Option<Q> {
        self.jobs.get_mut(&number)?.retry.begin();
        self.question(number)
    }

    pub(super) fn answered(&mut self, number: u64, found: impl IntoIterator<Item = F>) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.wanted.pop_front();
            job.found.extend(found);
            job.retry = Retry::default();
        }
    }

    /// A question came to nothing: why the job ends, unless it is asked again.
    pub(super) fn failed(
        &mut self,
        number: u64,
        (error, is_online): (TransportError, bool),
        step: &mut Step<'_>,
    ) -> Option<Error> {
        let tries = if is_online { TRIES_ONLINE } else { TRIES };
        let retry = &mut self.jobs.get_mut(&number)?.retry;
        retry.failed(&error, step.moment, step.rng);
        match error {
            TransportError::Unreachable if retry.tries() < tries => None,
            TransportError::Refused(refusal)
                if refusal.retry_after.is_some_and(|seconds| seconds <= PATIENCE)
                    && refusal.code != ErrorCode::StorageFull
                    && retry.tries() < TRIES =>
            {
                None
            }
            TransportError::Refused(refusal) if refusal.code == ErrorCode::UnknownAccount => {
                Some(Refusal::UnknownAccount.into())
            }
            error => Some(error.into()),
        }
    }

    /// A question that failed is asked again after its pause, however often, and nobody waits.
    pub(super) fn rest(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.rests = true;
        }
    }

    /// What is still to be asked, and for what.
    pub(super) fn questions(&self) -> impl Iterator<Item = (&Q, &T)> {
        let jobs = self.jobs.values();
        jobs.flat_map(|job| job.wanted.iter().map(move |question| (question, &job.then)))
    }

    /// What a job is for.
    pub(super) fn purpose(&self, number: u64) -> Option<&T> {
        self.jobs.get(&number).map(|job| &job.then)
    }

    /// A question was refused, and the others go on without it.
    pub(super) fn leave_out(&mut self, number: u64, error: Error) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.left_out.extend(job.wanted.pop_front().map(|question| (question, error)));
            job.retry = Retry::default();
        }
    }

    /// Ends a job: what it was for, what it found, and what was left out.
    pub(super) fn end(&mut self, number: u64) -> Option<Ended<Q, F, T>> {
        let Job { then, found, left_out, .. } = self.jobs.remove(&number)?;
        Some(Ended { then, found, left_out })
    }
}
