//! A world: devices, the server, the network and the clock between them, all grown from one seed.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use corncrake::{Client, Error, store::MemoryStore};

use corncrake_wire::LogId;

use crate::{
    chance::Chance,
    device::Device,
    executor::Executor,
    host::Late,
    network::{Faults, Network, Touched},
    server::Server,
    trace::Trace,
};

/// How long a world may take to come to rest, in virtual milliseconds.
const REST: u64 = 4 * 24 * 3600 * 1000;
/// One round of waiting for it.
const ROUND: u64 = 5 * 60 * 1000;

/// The world of one test.
pub(crate) struct World {
    seed: u64,
    executor: Executor,
    trace: Trace,
    network: Network,
    server: Rc<RefCell<Server>>,
    devices: RefCell<Vec<Device>>,
    chance: RefCell<Chance>,
    quiet: Cell<bool>,
    late: Cell<Late>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let executor = Executor::new(seed);
        let trace = Trace::new(executor.clone());
        let network = Network::new(seed, executor.clone(), trace.clone());
        Self {
            seed,
            server: Rc::new(RefCell::new(Server::new(seed))),
            network,
            devices: RefCell::default(),
            chance: RefCell::new(Chance::new(seed, "world")),
            quiet: Cell::new(false),
            late: Cell::new(Late::Nothing),
            executor,
            trace,
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    pub(crate) fn server(&self) -> Rc<RefCell<Server>> {
        self.server.clone()
    }

    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.network.set_faults(faults);
    }

    /// Tells everybody who watches a log that there is something new in it.
    pub(crate) fn announce(&self, server: &Rc<RefCell<Server>>, log: LogId) {
        self.network.announce(server, Touched::Log(log));
    }

    /// Notes something that the scenario does itself.
    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        self.trace.note("world", what);
    }

    /// What happened so far.
    pub(crate) fn trace(&self) -> String {
        self.trace.text()
    }

    /// Fails without printing the trace, for checks that expect a failure.
    pub(crate) fn keep_quiet(&self) {
        self.quiet.set(true);
    }

    /// Plants a fault into all devices to come.
    pub(crate) fn plant_late(&self, late: Late) {
        self.late.set(late);
    }

    /// All devices that are not lost.
    pub(crate) fn devices(&self) -> Vec<Device> {
        let devices = self.devices.borrow();
        devices.iter().filter(|device| !device.is_lost()).cloned().collect()
    }

    /// Whether a group may hold leaves that nobody stands behind any more.
    pub(crate) fn has_lost_devices(&self) -> bool {
        self.devices.borrow().iter().any(Device::is_lost)
    }

    /// A new device of `name`, running, without an account.
    pub(crate) fn device(&self, name: &str) -> Device {
        let device = self.stopped_device(name);
        device.start();
        device
    }

    /// A machine with `store` of a device of `name`.
    pub(crate) fn device_over(&self, name: &str, store: MemoryStore) -> Device {
        let device = self.stopped_device(name);
        device.start_over(store);
        device
    }

    fn stopped_device(&self, name: &str) -> Device {
        let number = self.devices.borrow().iter().filter(|d| d.name() == name).count() + 1;
        let seed = self.chance.borrow_mut().below(u64::MAX);
        let label = format!("{name}.{number}");
        let chance = Chance::new(seed, "device");
        let device = Device::new(name, label, &self.network, self.server.clone(), chance);
        device.set_late(self.late.get());
        self.devices.borrow_mut().push(device.clone());
        device
    }

    /// A person with a first device.
    pub(crate) fn sign_up(&self, name: &str) -> Device {
        let device = self.device(name);
        until_online(|| self.try_sign_up(&device));
        device
    }

    pub(crate) fn try_sign_up(&self, device: &Device) -> Result<(), Error> {
        let (name, password) = (device.name().to_owned(), device.password());
        device.call("sign up", async move |client: Client| {
            client.create_account(&name, &password).await
        })
    }

    /// One more device of a person.
    pub(crate) fn log_in(&self, name: &str) -> Device {
        let device = self.device(name);
        until_online(|| self.try_log_in(&device));
        device
    }

    pub(crate) fn try_log_in(&self, device: &Device) -> Result<(), Error> {
        let (name, password) = (device.name().to_owned(), device.password());
        device.call("log in", async move |client: Client| {
            client.enter_account(&name, &password).await
        })
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, millis: u64) {
        self.executor.run_until(self.executor.now() + millis, || false);
    }

    /// Runs until `done` holds.
    pub(crate) fn until(&self, what: &str, done: impl FnMut() -> bool) {
        let limit = self.executor.now() + REST;
        assert!(self.executor.run_until(limit, done), "it never came to be that {what}");
    }

    /// Ends all faults, starts what is down, and runs until nobody owes anything.
    pub(crate) fn settle(&self) {
        self.note("— from here on all is well —");
        self.network.heal();
        let devices = self.devices();
        devices.iter().for_each(|device| device.crasher().disarm());
        devices.iter().filter(|device| !device.runs()).for_each(Device::start);
        let limit = self.executor.now() + REST;
        loop {
            let begun = self.executor.now();
            let before = self.fingerprint();
            let calls: Vec<_> = devices
                .iter()
                .map(|device| {
                    device.begin("settle", async move |client: Client| client.settle().await)
                })
                .collect();
            let settled = || calls.iter().all(crate::executor::Task::is_done);
            self.executor.run_until(self.executor.now() + ROUND, settled);
            let settled = settled();
            if !self.has_lost_devices() {
                self.network.check_wait("everybody", "settle", begun);
            }
            self.pass(ROUND);
            if settled && before == self.fingerprint() {
                self.network.calm_down();
                return;
            }
            let owing = devices.iter().zip(&calls).filter(|(_, call)| !call.is_done());
            let owing: Vec<&str> = owing.map(|(device, _)| device.label()).collect();
            assert!(
                self.executor.now() < limit,
                "the world does not come to rest; {owing:?} still owe something"
            );
        }
    }

    /// Changes whenever something happens that anybody can see.
    fn fingerprint(&self) -> (u64, usize) {
        let server = self.server.borrow();
        let entries = server.logs.values().map(|log| log.head()).sum();
        let events = self.devices().iter().map(|device| device.told().events.len()).sum();
        (entries, events)
    }
}

/// Does as people do: tries again when the server was out of reach.
pub(crate) fn until_online<T>(mut call: impl FnMut() -> Result<T, Error>) -> T {
    for _ in 0..20 {
        match call() {
            Err(Error::Offline) => {}
            other => return other.unwrap(),
        }
    }
    panic!("the network is too bad");
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.quiet.get() {
            eprintln!("{}\nseed {}", self.trace.text(), self.seed);
        }
        self.executor.clear();
        self.network.close();
    }
}
