//! A seeded executor on one thread, and the clock that only it moves.
//!
//! Which of the ready tasks runs next is drawn; when none is ready, the clock jumps to the next
//! timer. Nothing here knows the time of day, so that a seed replays exactly.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::chance::Chance;

/// Polls without any progress of the clock after which a world is taken to run in a circle.
const CIRCLE: u64 = 400_000;

type Ready = Arc<Mutex<Vec<Arc<TaskWaker>>>>;

/// The executor; clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct Executor(Rc<Inner>);

struct Inner {
    tasks: RefCell<BTreeMap<u64, Option<Running>>>,
    ready: Ready,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    now: Cell<u64>,
    next_id: Cell<u64>,
    polls: Cell<u64>,
    chance: RefCell<Chance>,
}

struct Running {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    ready: Ready,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            let ready = self.ready.clone();
            ready.lock().unwrap().push(self);
        }
    }
}

/// A spawned task; dropping the handle lets it run on.
pub(crate) struct Task<T> {
    id: u64,
    result: Rc<RefCell<Option<T>>>,
}

impl<T> Task<T> {
    /// Whether the task has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.result.borrow().is_some()
    }

    /// What the task gave, once.
    pub(crate) fn take(&self) -> Option<T> {
        self.result.borrow_mut().take()
    }

    /// The task's number, for [`Executor::cancel`].
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Executor {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(Inner {
            tasks: RefCell::default(),
            ready: Ready::default(),
            timers: RefCell::default(),
            // Some time in 2026, so that lifetimes have room on both sides.
            now: Cell::new(1_780_000_000_000),
            next_id: Cell::new(0),
            polls: Cell::new(0),
            chance: RefCell::new(Chance::new(seed, "executor")),
        }))
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.0.now.get()
    }

    /// Runs `future` beside everything else.
    pub(crate) fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        let id = self.fresh_id();
        let result = Rc::new(RefCell::new(None));
        let slot = result.clone();
        let future = Box::pin(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        let waker =
            Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: self.0.ready.clone() });
        waker.clone().wake();
        self.0.tasks.borrow_mut().insert(id, Some(Running { future, waker }));
        Task { id, result }
    }

    /// Drops a task where it stands, even from within itself.
    pub(crate) fn cancel(&self, id: u64) {
        let task = self.0.tasks.borrow_mut().remove(&id);
        drop(task);
    }

    /// Drops all tasks, at the end of a world.
    pub(crate) fn clear(&self) {
        let tasks = self.0.tasks.take();
        drop(tasks);
        self.0.ready.lock().unwrap().clear();
    }

    /// Waits until the clock shows `until`.
    pub(crate) fn sleep_until(&self, until: u64) -> Sleep {
        Sleep { executor: self.clone(), key: (until, self.fresh_id()) }
    }

    /// Waits so many milliseconds.
    pub(crate) fn sleep(&self, millis: u64) -> Sleep {
        self.sleep_until(self.now() + millis)
    }

    /// Runs until `done` holds (true), or until nothing can happen before `limit` (false; the
    /// clock then shows `limit`).
    pub(crate) fn run_until(&self, limit: u64, mut done: impl FnMut() -> bool) -> bool {
        loop {
            if done() {
                return true;
            }
            if let Some(waker) = self.next_ready() {
                self.poll(&waker);
            } else if !self.advance(limit) {
                self.0.now.set(limit.max(self.now()));
                return false;
            }
        }
    }

    fn fresh_id(&self) -> u64 {
        self.0.next_id.set(self.0.next_id.get() + 1);
        self.0.next_id.get()
    }

    fn next_ready(&self) -> Option<Arc<TaskWaker>> {
        let mut ready = self.0.ready.lock().unwrap();
        if ready.is_empty() {
            return None;
        }
        let at = self.0.chance.borrow_mut().below(ready.len() as u64);
        Some(ready.swap_remove(usize::try_from(at).unwrap()))
    }

    fn poll(&self, waker: &Arc<TaskWaker>) {
        self.0.polls.set(self.0.polls.get() + 1);
        assert!(self.0.polls.get() < CIRCLE, "the world runs in a circle: the clock stands still");
        waker.queued.store(false, Ordering::Relaxed);
        let running = self.0.tasks.borrow_mut().get_mut(&waker.id).and_then(Option::take);
        let Some(mut running) = running else { return };
        let own = Waker::from(running.waker.clone());
        let outcome = running.future.as_mut().poll(&mut Context::from_waker(&own));
        let mut tasks = self.0.tasks.borrow_mut();
        if outcome.is_ready() {
            tasks.remove(&waker.id);
        } else if let Some(slot) = tasks.get_mut(&waker.id) {
            *slot = Some(running);
            return;
        }
        drop(tasks);
        drop(running);
    }

    /// Moves the clock to the next timer that is due by `limit`, and wakes whom it concerns.
    fn advance(&self, limit: u64) -> bool {
        let mut timers = self.0.timers.borrow_mut();
        let Some(&(at, _)) = timers.keys().next() else {
            return false;
        };
        if at > limit {
            return false;
        }
        self.0.now.set(at.max(self.now()));
        self.0.polls.set(0);
        let later = timers.split_off(&(at + 1, 0));
        let due = std::mem::replace(&mut *timers, later);
        drop(timers);
        due.into_values().for_each(Waker::wake);
        true
    }
}

/// A wait; dropping it ends it.
pub(crate) struct Sleep {
    executor: Executor,
    key: (u64, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.key.0 {
            return Poll::Ready(());
        }
        self.executor.0.timers.borrow_mut().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.executor.0.timers.borrow_mut().remove(&self.key);
        drop(waker);
    }
}

#[test]
fn waits_end_in_order_of_the_clock_and_cancelled_tasks_never_run() {
    let executor = Executor::new(1);
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut tasks = Vec::new();
    for wait in [30, 10, 20] {
        let (inner, seen) = (executor.clone(), seen.clone());
        tasks.push(executor.spawn(async move {
            inner.sleep(wait).await;
            seen.borrow_mut().push(wait);
        }));
    }
    let start = executor.now();
    assert!(executor.run_until(start + 15, || seen.borrow().len() == 1));
    executor.cancel(tasks[2].id());
    assert!(!executor.run_until(start + 100, || false));
    assert_eq!((seen.borrow().as_slice(), executor.now()), (&[10, 30][..], start + 100));
    assert!(tasks[0].is_done() && !tasks[2].is_done());
}

#[test]
fn the_seed_draws_the_order_of_tasks_and_replays_it() {
    let order = |seed| {
        let executor = Executor::new(seed);
        let seen = Rc::new(RefCell::new(Vec::new()));
        for number in 0..8 {
            let seen = seen.clone();
            executor.spawn(async move { seen.borrow_mut().push(number) });
        }
        executor.run_until(executor.now(), || false);
        seen.take()
    };
    assert_eq!(order(7), order(7));
    assert!((0..9).any(|seed| order(seed) != order(9)));
}
