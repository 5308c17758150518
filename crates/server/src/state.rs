//! What all requests share.

use std::{
    fs::File,
    sync::{Arc, atomic::AtomicU64},
};

use corncrake_wire::{
    AccountId, DeviceId,
    opaque::{LogInState, ServerSecret},
};
use sqlx::SqlitePool;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::{
    Config, Error,
    attempts::Attempts,
    budget::Budget,
    clock::Clock,
    database::Database,
    inboxes::Watchers,
    logs::{Appender, Live, Memory},
    rates::Rates,
    writer::Writer,
};

/// Bodies of more than a megabyte that are in memory at once.
const BIG_BODIES: usize = 4;

/// Bytes that all connections have under way together.
const UNDER_WAY: usize = 96 * 1024 * 1024;

/// What all requests share.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) writer: Writer,
    pub(crate) readers: SqlitePool,
    pub(crate) secret: ServerSecret,
    pub(crate) instance: [u8; 16],
    pub(crate) memory: Arc<Memory>,
    pub(crate) live: Arc<Live>,
    pub(crate) watchers: Watchers,
    pub(crate) log_ins: Attempts<[u8; 16], LogIn>,
    pub(crate) renewals: Attempts<[u8; 32], (AccountId, DeviceId)>,
    pub(crate) rates: Rates,
    /// Bytes under way of all connections.
    pub(crate) budget: Budget,
    pub(crate) big_bodies: Arc<Semaphore>,
    pub(crate) connections: AtomicU64,
    /// Origins under which renewals are signed.
    pub(crate) origins: Vec<String>,
    /// Turns true when the server stops.
    pub(crate) stopping: watch::Sender<bool>,
    _lock: File,
}

/// A log-in under way.
#[derive(Debug)]
pub(crate) struct LogIn {
    pub(crate) state: LogInState,
    /// The account, unless nobody has the name.
    pub(crate) account: Option<(i64, AccountId)>,
}

impl State {
    /// Waits until the server stops.
    pub(crate) async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        drop(stopping.wait_for(|stopping| *stopping).await);
    }

    /// Opens the database and starts the writer, which ends when the state is gone.
    ///
    /// # Errors
    /// When the data folder can't be used, or another server uses it.
    pub async fn open(
        config: Config,
        origins: Vec<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, JoinHandle<()>), Error> {
        let Database { mut writer, readers, instance, secret, lock } =
            Database::open(&config.data).await?;
        let memory = Arc::<Memory>::default();
        let live = Arc::<Live>::default();
        let appender =
            Appender::open(&mut writer, Arc::clone(&memory), Arc::clone(&live), Arc::clone(&clock))
                .await?;
        let (writer, task) = Writer::start(writer, appender);
        let state = Self {
            rates: Rates::new(&config.limits),
            budget: Budget::new(UNDER_WAY, UNDER_WAY / 4),
            config,
            clock,
            writer,
            readers,
            secret,
            instance,
            memory,
            live,
            watchers: Watchers::default(),
            log_ins: Attempts::new(),
            renewals: Attempts::new(),
            big_bodies: Arc::new(Semaphore::new(BIG_BODIES)),
            connections: AtomicU64::new(0),
            origins,
            stopping: watch::Sender::new(false),
            _lock: lock,
        };
        Ok((Arc::new(state), task))
    }
}
