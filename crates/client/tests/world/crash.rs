//! Where a device may die: before and after every batch and every request.

use std::{
    cell::{Cell, RefCell},
    future::pending,
};

use crate::network::Network;

/// Counts the points at which a device may die, and lets it die at one of them.
pub(crate) struct Crasher {
    name: String,
    network: Network,
    engine: Cell<Option<u64>>,
    life: Cell<u64>,
    passed: Cell<u64>,
    fatal: Cell<Option<u64>>,
    /// What happens at the fatal point in place of the device's death.
    instead: RefCell<Option<Box<dyn Fn()>>>,
}

impl Crasher {
    pub(crate) fn new(name: &str, network: &Network) -> Self {
        Self {
            name: name.to_owned(),
            network: network.clone(),
            engine: Cell::new(None),
            life: Cell::new(0),
            passed: Cell::new(0),
            fatal: Cell::new(None),
            instead: RefCell::default(),
        }
    }

    /// The task that dies.
    pub(crate) fn set_engine(&self, task: u64) {
        self.engine.set(Some(task));
    }

    /// How often the device has died.
    pub(crate) fn life(&self) -> u64 {
        self.life.get()
    }

    /// Whether the engine runs.
    pub(crate) fn runs(&self) -> bool {
        self.engine.get().is_some()
    }

    /// Starts to count; the device dies at point `fatal` (from 0), if it gets there.
    pub(crate) fn count(&self, fatal: Option<u64>) {
        self.passed.set(0);
        self.fatal.set(fatal);
    }

    /// At the fatal point, does this in place of dying.
    pub(crate) fn do_instead(&self, what: impl Fn() + 'static) {
        *self.instead.borrow_mut() = Some(Box::new(what));
    }

    /// No point is fatal any more.
    pub(crate) fn disarm(&self) {
        self.fatal.set(None);
    }

    /// How many points were passed since.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.get()
    }

    /// A point is reached; where it is fatal, this never returns.
    pub(crate) async fn point(&self, what: &'static str) {
        let number = self.passed.replace(self.passed.get() + 1);
        if self.fatal.get() == Some(number) {
            self.fatal.set(None);
            self.network.disturb();
            match self.instead.borrow().as_ref() {
                Some(instead) => instead(),
                None => self.die(what),
            }
            if !self.runs() {
                pending::<()>().await;
            }
        }
    }

    /// Ends the engine where it stands; whoever waits for the device waits longer.
    pub(crate) fn die(&self, what: &str) {
        self.network.disturb();
        self.end(what);
    }

    /// Ends the engine where it stands, to start again at once.
    pub(crate) fn end(&self, what: &str) {
        if let Some(task) = self.engine.take() {
            self.life.set(self.life.get() + 1);
            self.network.trace().note(&self.name, format!("✝ {what}"));
            self.network.executor().cancel(task);
        }
    }
}
