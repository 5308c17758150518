//! Requests that wait for a writer: a lane for each address, which take turns.
//!
//! A lane that was empty goes first, so that a light sender waits for one commit of a heavy one
//! and no more; a commit that left old lanes unserved is followed by one that begins with them, so
//! that nobody starves.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// Bytes of one commit, unless its first job is larger: whoever comes while it is under way waits
/// for all of it.
const COMMIT_BYTES: usize = 256 * 1024;
/// Jobs of one commit.
const COMMIT_JOBS: usize = 512;
/// Bytes that wait in one lane, unless there is only one job.
const LANE_BYTES: usize = 64 * 1024 * 1024;
/// Jobs that wait in one lane.
const LANE_JOBS: usize = 8192;

/// Jobs of type `J` from addresses of type `A`.
#[derive(Debug)]
pub(super) struct Queue<A, J> {
    lanes: Mutex<Lanes<A, J>>,
    filled: Notify,
}

#[derive(Debug)]
struct Lanes<A, J> {
    lanes: HashMap<A, Lane<J>>,
    /// Addresses whose lane was empty before.
    fresh: VecDeque<A>,
    /// Addresses that had a turn and have more.
    old: VecDeque<A>,
    /// Whether the last commit had no room for `old`.
    old_first: bool,
    closed: bool,
}

#[derive(Debug)]
struct Lane<J> {
    jobs: VecDeque<(usize, J)>,
    bytes: usize,
}

impl<A: Copy + Eq + std::hash::Hash, J> Queue<A, J> {
    pub(super) fn new() -> Self {
        let lanes = Lanes {
            lanes: HashMap::new(),
            fresh: VecDeque::new(),
            old: VecDeque::new(),
            old_first: false,
            closed: false,
        };
        Self { lanes: Mutex::new(lanes), filled: Notify::new() }
    }

    /// Adds a job of so many bytes; gives it back if its lane is full or the queue closed.
    pub(super) fn push(&self, from: A, bytes: usize, job: J) -> Result<(), J> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(job);
        }
        let lane = lanes.lanes.entry(from).or_insert_with(Lane::new);
        let is_empty = lane.jobs.is_empty();
        if !is_empty && (lane.jobs.len() >= LANE_JOBS || lane.bytes + bytes > LANE_BYTES) {
            return Err(job);
        }
        lane.jobs.push_back((bytes, job));
        lane.bytes += bytes;
        if is_empty {
            lanes.fresh.push_back(from);
        }
        drop(lanes);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for jobs and takes what goes into one commit. `None` when the queue was closed and
    /// all is done.
    pub(super) async fn take(&self) -> Option<Vec<J>> {
        loop {
            {
                let mut lanes = self.lock();
                let jobs = lanes.pick();
                if !jobs.is_empty() {
                    return Some(jobs);
                }
                if lanes.closed {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Takes everything out, of all but one address.
    pub(super) fn drain_all_but(&self, spared: A) -> Vec<J> {
        let mut lanes = self.lock();
        let mut drained = Vec::new();
        for (from, lane) in &mut lanes.lanes {
            if *from != spared {
                drained.extend(lane.jobs.drain(..).map(|(_, job)| job));
            }
        }
        lanes.lanes.retain(|_, lane| !lane.jobs.is_empty());
        lanes.fresh.retain(|from| *from == spared);
        lanes.old.retain(|from| *from == spared);
        drained
    }

    /// Takes everything out.
    pub(super) fn drain_all(&self) -> Vec<J> {
        let mut lanes = self.lock();
        lanes.fresh.clear();
        lanes.old.clear();
        lanes.lanes.drain().flat_map(|(_, lane)| lane.jobs).map(|(_, job)| job).collect()
    }

    /// Lets no more jobs in.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Lanes<A, J>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Lane<J> {
    fn new() -> Self {
        Self { jobs: VecDeque::new(), bytes: 0 }
    }
}

impl<A: Copy + Eq + std::hash::Hash, J> Lanes<A, J> {
    /// One job of each lane in turn, until a commit is full.
    fn pick(&mut self) -> Vec<J> {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        let (had_old, mut old_served) = (!self.old.is_empty(), false);
        while jobs.len() < COMMIT_JOBS {
            let from_old = self.old_first && !old_served || self.fresh.is_empty();
            let line =
                if from_old && !self.old.is_empty() { &mut self.old } else { &mut self.fresh };
            let Some(from) = line.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&from) else { continue };
            let fits = |length: usize| jobs.is_empty() || bytes + length <= COMMIT_BYTES;
            if lane.jobs.front().is_some_and(|(length, _)| !fits(*length)) {
                line.push_front(from);
                break;
            }
            old_served |= from_old;
            if let Some((length, job)) = lane.jobs.pop_front() {
                bytes += length;
                lane.bytes -= length;
                jobs.push(job);
            }
            if lane.jobs.is_empty() {
                self.lanes.remove(&from);
            } else {
                self.old.push_back(from);
            }
        }
        self.old_first = had_old && !old_served;
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn take(queue: &Queue<u8, u32>) -> Vec<u32> {
        queue.lock().pick()
    }

    #[test]
    fn audit_load_l1_a_light_sender_waits_for_one_commit_of_a_flood() {
        let queue = Queue::new();
        for job in 0..15 {
            queue.push(1, 4 * MIB, job).unwrap();
        }
        assert_eq!(take(&queue), [0], "a commit is one job when that is large");
        for round in 0..5 {
            // Comes while the flood's commit is under way, and is in the next.
            queue.push(2, 1024, 100 + round).unwrap();
            assert_eq!(take(&queue), [100 + round]);
            assert_eq!(take(&queue).len(), 1, "and the flood isn't starved");
        }
    }

    #[test]
    fn audit_load_l1_lanes_take_turns_and_a_commit_is_bounded_in_bytes() {
        let queue = Queue::new();
        for job in 0..100 {
            queue.push(1, 64 * 1024, job).unwrap();
        }
        for job in 200..203 {
            queue.push(2, 64 * 1024, job).unwrap();
        }
        let jobs = take(&queue);
        assert_eq!(jobs.len(), 4, "a quarter of a mebibyte");
        assert_eq!(&jobs[..4], &[0, 200, 1, 201]);
    }

    #[test]
    fn audit_load_l1_a_lane_is_bounded_in_bytes() {
        let queue = Queue::new();
        let pushed = (0..100).take_while(|job| queue.push(1, 4 * MIB, *job).is_ok()).count();
        assert_eq!(pushed, 16);
        assert!(queue.push(2, 4 * MIB, 1).is_ok(), "another lane has room");
        queue.close();
        assert!(queue.push(3, 1, 1).is_err());
    }
}
