//! What all requests share.

use std::sync::{Arc, atomic::AtomicU64};

use corncrake_wire::{
    AccountId, DeviceId, ErrorCode,
    opaque::{LogInState, ServerSecret},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::{
    Config, Error, Origin, account_store::AccountStore, attempts::Attempts, believed::Believed,
    budget::Budget, clock::Clock, database::Database, disk::Disk, extract::ProxyDoubts,
    folder::Folder, inboxes::Watchers, logs::LogStore, rates::Rates, retention, seed_mark,
};

/// What all requests share.
#[derive(Debug)]
pub struct State {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    /// The account plane's storage.
    pub(crate) accounts: AccountStore,
    /// The open plane's storage.
    pub(crate) logs: LogStore,
    pub(crate) secret: ServerSecret,
    pub(crate) watchers: Watchers,
    pub(crate) log_ins: Attempts<[u8; 16], LogIn>,
    pub(crate) renewals: Attempts<[u8; 32], (AccountId, DeviceId)>,
    pub(crate) rates: Rates,
    /// Bytes under way of all connections.
    pub(crate) budget: Budget,
    /// Places for sockets, by the address that a proxy names.
    pub(crate) sockets: Budget,
    pub(crate) proxy_doubts: ProxyDoubts,
    /// The turn to decode something large.
    pub(crate) decoding: Semaphore,
    pub(crate) connections: AtomicU64,
    /// Origins under which renewals are signed.
    pub(crate) origins: Vec<String>,
    /// Turns true when the server stops.
    pub(crate) stopping: watch::Sender<bool>,
    _folder: Folder,
}

/// A log-in under way.
#[derive(Debug)]
pub(crate) struct LogIn {
    pub(crate) state: LogInState,
    /// The account, unless nobody has the name.
    pub(crate) account: Option<(i64, AccountId)>,
    /// The name, and the address that it was counted for.
    pub(crate) counted: (String, Origin),
}

impl State {
    /// Waits until a writer has ended for good, after which nothing can be stored.
    pub(crate) async fn writer_ended(&self) {
        tokio::select! {
            () = self.accounts.health().dead() => {}
            () = self.logs.health().dead() => {}
        }
    }

    /// Refuses a client that sees this server under an origin for which it would accept no renewal
    /// of a session: better now than in weeks.
    pub(crate) fn check_origin(&self, seen: &str) -> Result<(), ErrorCode> {
        if self.origins.iter().any(|ours| ours == seen) {
            return Ok(());
        }
        let seen: String = seen.chars().take(256).collect();
        tracing::warn!(?seen, "a client uses an origin that is not ours: add it with --origin");
        Err(ErrorCode::UnknownOrigin)
    }

    /// Waits until the server stops.
    pub(crate) async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        drop(stopping.wait_for(|stopping| *stopping).await);
    }

    /// Opens the databases and starts their writers, which end when the state is gone.
    ///
    /// # Errors
    /// When the data folder can't be used, or another server uses it.
    pub async fn open(
        config: Config,
        origins: Vec<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<Self>, [JoinHandle<()>; 2]), Error> {
        let folder = Folder::open(&config.data)?;
        folder.refuse_half_restored()?;
        let disk = Disk::new(folder.path(), config.min_free, config.limits.stored_bytes());
        disk.release_reserve();
        let databases = [Database::accounts(folder.path()), Database::logs(folder.path())];
        let [of_accounts, of_logs] = databases.clone();
        let [accounts_path, logs_path] = databases.each_ref().map(Database::path);
        // Before the writers have their connections.
        for database in &databases {
            database.prepare().await.map_err(|error| error.about(database.path()))?;
        }
        let believed = Believed::open(folder.path());
        if let Some(time) = believed.newest() {
            clock.believe(time);
        }
        let count = seed_mark::accounts(&databases[0]).await?;
        let secret = folder.secret(count)?;
        for database in &databases {
            let remembered = seed_mark::remember(database, &secret.expose_bytes(), count).await;
            remembered.map_err(|error| error.about(database.path()))?;
        }
        let (accounts, writes_accounts) =
            AccountStore::open(of_accounts, disk.clone(), clock.now())
                .await
                .map_err(|error| error.about(accounts_path))?;
        let log_bytes = config.limits.log_bytes();
        let (logs, writes_logs) =
            LogStore::open(of_logs, disk.clone(), Arc::clone(&clock), log_bytes)
                .await
                .map_err(|error| error.about(logs_path))?;
        disk.fill_reserve();
        let state = Self {
            rates: Rates::new(&config.limits),
            budget: config.limits.memory(),
            sockets: config.limits.places(),
            config,
            clock,
            accounts,
            logs,
            secret,
            watchers: Watchers::default(),
            log_ins: Attempts::new(),
            renewals: Attempts::new(),
            proxy_doubts: ProxyDoubts::default(),
            decoding: Semaphore::new(1),
            connections: AtomicU64::new(0),
            origins,
            stopping: watch::Sender::new(false),
            _folder: folder,
        };
        let state = Arc::new(state);
        tokio::spawn(retention::run(Arc::downgrade(&state), believed));
        Ok((state, [writes_accounts, writes_logs]))
    }
}
