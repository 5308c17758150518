//! Jobs on the open plane: several questions for one purpose, many of them asked at once.

use std::collections::BTreeMap;

use corncrake_wire::ErrorCode;

use super::Retry;
use crate::{
    engine::Step,
    error::{Error, Refusal},
    host::Moment,
    transport::TransportError,
};

/// Questions of all jobs under way at once; a job that has none under way may ask one beyond that,
/// so that nobody waits for what somebody else asks.
const AT_ONCE: usize = 16;
/// How often in a row questions fail before who waits hears that the server is out of reach.
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

/// A question of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(super) job: u64,
    index: usize,
}

#[derive(Debug)]
struct Job<Q, F, T> {
    questions: Vec<(Q, Answer<F>)>,
    then: T,
    /// One for all questions: a server that refuses one of them would refuse the others.
    retry: Retry,
    /// When it ends with what is known by then.
    until: Option<Moment>,
    /// Why it was last held up.
    held_up: Option<Error>,
    /// Whether nobody waits for it any more.
    rests: bool,
}

#[derive(Debug)]
enum Answer<F> {
    /// Asked when it is time.
    Owed,
    UnderWay,
    Found(Vec<F>),
    /// It was refused, and the others go on.
    LeftOut(Error),
}

/// What came of a job, in the order of its questions.
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
        Error::Refused(Refusal::UnknownAccount | Refusal::NoKeyPackage)
            | Error::Untrue(_)
            | Error::NameChangedHands { .. }
    )
}

impl<Q, F, T> Default for Jobs<Q, F, T> {
    fn default() -> Self {
        Self { jobs: BTreeMap::new(), next: 0 }
    }
}

impl<Q, F, T> Job<Q, F, T> {
    fn under_way(&self) -> usize {
        self.questions.iter().filter(|(_, answer)| matches!(answer, Answer::UnderWay)).count()
    }

    fn first_owed(&self) -> Option<usize> {
        self.questions.iter().position(|(_, answer)| matches!(answer, Answer::Owed))
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
        let ends = self.jobs.values().filter_map(|job| job.until);
        self.that_may_ask().filter_map(|(_, job)| job.retry.wake_at()).chain(ends).min()
    }

    /// Begins a job, and gives its number; one without questions is done. From `until` on it asks
    /// no more: whoever waits for it has what was found by then.
    pub(super) fn begin(&mut self, wanted: Vec<Q>, until: Option<Moment>, then: T) -> u64 {
        let questions = wanted.into_iter().map(|question| (question, Answer::Owed)).collect();
        let (retry, held_up, rests) = Default::default();
        let job = Job { questions, then, retry, until, held_up, rests };
        let number = self.next;
        self.jobs.insert(number, job);
        self.next += 1;
        number
    }

    /// The jobs with something left to ask that needn't wait for answers first.
    fn that_may_ask(&self) -> impl Iterator<Item = (u64, &Job<Q, F, T>)> {
        let has_room = self.jobs.values().map(Job::under_way).sum::<usize>() < AT_ONCE;
        let jobs = self.jobs.iter().map(|(number, job)| (*number, job));
        jobs.filter(move |(_, job)| {
            job.first_owed().is_some() && (has_room || job.under_way() == 0)
        })
    }

    /// The next question that is due; it leaves now.
    pub(super) fn ask(&mut self, now: Moment) -> Option<(Ask, Q)> {
        let (number, job) = self.that_may_ask().find(|(_, job)| job.retry.is_due(now))?;
        let ask = Ask { job: number, index: job.first_owed()? };
        self.set(ask, Answer::UnderWay);
        Some((ask, self.question(ask)?))
    }

    /// A question that is under way.
    pub(super) fn question(&self, ask: Ask) -> Option<Q> {
        match self.jobs.get(&ask.job)?.questions.get(ask.index)? {
            (question, Answer::UnderWay) => Some(question.clone()),
            _ => None,
        }
    }

    fn set(&mut self, ask: Ask, to: Answer<F>) {
        let job = self.jobs.get_mut(&ask.job);
        if let Some((_, answer)) = job.and_then(|job| job.questions.get_mut(ask.index)) {
            *answer = to;
        }
    }

    pub(super) fn answered(&mut self, ask: Ask, found: impl IntoIterator<Item = F>) {
        self.set(ask, Answer::Found(found.into_iter().collect()));
        self.went_on(ask);
    }

    /// A question was refused, and the others go on without it.
    pub(super) fn leave_out(&mut self, ask: Ask, error: Error) {
        self.set(ask, Answer::LeftOut(error));
        self.went_on(ask);
    }

    /// A job whose time is over; what has no answer yet is left out of it.
    pub(super) fn overdue(&mut self, now: Moment) -> Option<u64> {
        let is_over = |job: &&mut Job<Q, F, T>| job.until.is_some_and(|until| until <= now);
        let (number, job) = self.jobs.iter_mut().find(|(_, job)| is_over(job))?;
        job.until = None;
        let why = job.held_up.clone().unwrap_or(Error::Offline);
        for (_, answer) in &mut job.questions {
            if matches!(answer, Answer::Owed | Answer::UnderWay) {
                *answer = Answer::LeftOut(why.clone());
            }
        }
        Some(*number)
    }

    fn went_on(&mut self, ask: Ask) {
        if let Some(job) = self.jobs.get_mut(&ask.job) {
            job.retry.went_on();
        }
    }

    /// A question came to nothing: why the job ends, unless it is asked again.
    pub(super) fn failed(
        &mut self,
        ask: Ask,
        (error, is_online): (TransportError, bool),
        step: &mut Step<'_>,
    ) -> Option<Error> {
        self.set(ask, Answer::Owed);
        // The server has answered: the other questions have nothing to wait for.
        if matches!(&error, TransportError::Refused(it) if it.code == ErrorCode::UnknownAccount) {
            return Some(Refusal::UnknownAccount.into());
        }
        let tries = if is_online { TRIES_ONLINE } else { TRIES };
        let job = self.jobs.get_mut(&ask.job)?;
        let held_up = error.clone().into();
        let retry = &mut job.retry;
        // What fails together failed once.
        if retry.is_due(step.moment) {
            retry.failed(&error, step.moment, step.rng);
        }
        let is_tried_again = match &error {
            TransportError::Unreachable => retry.tries() < tries,
            TransportError::Refused(refusal) => {
                refusal.retry_after.is_some_and(|seconds| seconds <= PATIENCE)
                    && refusal.code != ErrorCode::StorageFull
                    && retry.tries() < TRIES
            }
            TransportError::Malformed => false,
        };
        if !is_tried_again {
            return Some(held_up);
        }
        job.held_up = Some(held_up);
        None
    }

    /// Questions that failed are asked again after their pause, however often, and nobody waits.
    pub(super) fn rest(&mut self, number: u64) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.rests = true;
        }
    }

    /// What is still to be answered, and for what.
    pub(super) fn questions(&self) -> impl Iterator<Item = (&Q, &T)> {
        let is_open = |answer: &Answer<F>| matches!(answer, Answer::Owed | Answer::UnderWay);
        self.jobs.values().flat_map(move |job| {
            let open = job.questions.iter().filter(move |(_, answer)| is_open(answer));
            open.map(|(question, _)| (question, &job.then))
        })
    }

    /// What a job is for.
    pub(super) fn purpose(&self, number: u64) -> Option<&T> {
        self.jobs.get(&number).map(|job| &job.then)
    }

    /// Whether all questions of a job have their answers.
    pub(super) fn is_done(&self, number: u64) -> bool {
        let is_answered =
            |answer: &Answer<F>| matches!(answer, Answer::Found(_) | Answer::LeftOut(_));
        let job = self.jobs.get(&number);
        job.is_some_and(|job| job.questions.iter().all(|(_, answer)| is_answered(answer)))
    }

    /// Ends a job: what it was for, what it found, and what was left out.
    pub(super) fn end(&mut self, number: u64) -> Option<Ended<Q, F, T>> {
        let Job { questions, then, .. } = self.jobs.remove(&number)?;
        let (mut found, mut left_out) = (Vec::new(), Vec::new());
        for (question, answer) in questions {
            match answer {
                Answer::Found(more) => found.extend(more),
                Answer::LeftOut(error) => left_out.push((question, error)),
                Answer::Owed | Answer::UnderWay => {}
            }
        }
        Some(Ended { then, found, left_out })
    }
}
