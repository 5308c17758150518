//! The native host: an engine on a thread of its own, over SQLite and HTTP.

use core::{cell::RefCell, time::Duration};
use std::{
    panic, thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::{
    runtime::Builder,
    sync::oneshot,
    task::{LocalSet, spawn_blocking},
    time::sleep,
};
use url::Url;
use zeroize::Zeroizing;

use crate::{
    client::Client,
    error::{Error, Refusal},
    host::{Host, Moment, Settings, Timestamp},
    store::{SqliteStore, StoreError},
    transport::http::HttpTransport,
};

/// A computer's own store, network, clock and randomness.
#[derive(Debug)]
struct NativeHost {
    store: SqliteStore,
    origin: String,
    transport: HttpTransport,
    random: RefCell<ChaCha20Rng>,
    started: Instant,
    settings: Settings,
}

impl Host for NativeHost {
    type Store = SqliteStore;
    type Transport = HttpTransport;
    type Random = ChaCha20Rng;

    fn store(&self) -> &SqliteStore {
        &self.store
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn transport(&self) -> &HttpTransport {
        &self.transport
    }

    fn random(&self) -> ChaCha20Rng {
        ChaCha20Rng::from_rng(&mut *self.random.borrow_mut())
    }

    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::default().after(since)
    }

    fn moment(&self) -> Moment {
        // A year ahead, so that there are moments before the start.
        Moment::default().after(Duration::from_hours(365 * 24) + self.started.elapsed())
    }

    async fn sleep_until(&self, until: Moment) {
        loop {
            let left = until.since(self.moment());
            if left == Duration::ZERO {
                return;
            }
            sleep(left).await;
        }
    }

    async fn run_slow<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        match spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => panic::resume_unwind(panic),
                Err(_) => core::future::pending().await,
            },
        }
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Natively, a client's engine runs on a thread of its own, which ends with [`Client::close`] or
/// when the last handle is dropped. The handle works under any async runtime.
impl Client {
    /// Makes a new account on `server`, such as `https://chat.example`, with this device as its
    /// first.
    ///
    /// # Errors
    /// `bad_server_address`, errors of the store, and those of [`Client::create_account`].
    pub async fn sign_up(
        server: &str,
        store: SqliteStore,
        name: &str,
        password: &str,
    ) -> Result<Self, Error> {
        let client = Self::on_a_thread(server, store).await?;
        client.create_account(name, password).await?;
        Ok(client)
    }

    /// Makes this device one more of an account on `server`; its chats follow by themselves.
    ///
    /// # Errors
    /// `bad_server_address`, errors of the store, and those of [`Client::enter_account`].
    pub async fn log_in(
        server: &str,
        store: SqliteStore,
        name: &str,
        password: &str,
    ) -> Result<Self, Error> {
        let client = Self::on_a_thread(server, store).await?;
        client.enter_account(name, password).await?;
        Ok(client)
    }

    /// Makes this device one more of an account on `server`, in the place of `device`:
    /// its id, or the first digits of it.
    ///
    /// # Errors
    /// `bad_server_address`, errors of the store, and those of [`Client::enter_account_for`].
    pub async fn log_in_for(
        server: &str,
        store: SqliteStore,
        name: &str,
        password: &str,
        device: &str,
    ) -> Result<Self, Error> {
        let client = Self::on_a_thread(server, store).await?;
        client.enter_account_for(name, password, device).await?;
        Ok(client)
    }

    /// Opens the account that `store` holds; `server` is the one it was made with. This works
    /// without a network.
    ///
    /// # Errors
    /// `no_account`, `bad_server_address`, errors of the store.
    pub async fn open(server: &str, store: SqliteStore) -> Result<Self, Error> {
        let client = Self::on_a_thread(server, store).await?;
        if client.is_ready().await? {
            return Ok(client);
        }
        client.close().await?;
        Err(Refusal::NoAccount.into())
    }

    /// Starts an engine, and waits until it has read its store.
    async fn on_a_thread(server: &str, store: SqliteStore) -> Result<Self, Error> {
        let origin = origin(server)?;
        let server = server.to_owned();
        let (started, start) = oneshot::channel();
        let (ended, end) = oneshot::channel();
        thread::Builder::new()
            .name("corncrake".to_owned())
            .spawn(move || drop(ended.send(drive(&server, origin, store, started))))
            .map_err(|_| StoreError::Unavailable)?;
        let Ok(client) = start.await else {
            return Err(failure(end.await));
        };
        client.is_ready().await.map(|_| client)
    }
}

/// Runs an engine to its end on this thread.
fn drive(
    server: &str,
    origin: String,
    store: SqliteStore,
    started: oneshot::Sender<Client>,
) -> Result<(), Error> {
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|_| StoreError::Unavailable)?;
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|_| StoreError::Unavailable)?;
    let random = RefCell::new(ChaCha20Rng::from_seed(*seed));
    LocalSet::new().block_on(&runtime, async {
        let transport = HttpTransport::new(server).map_err(|_| Refusal::BadServerAddress)?;
        let (started_at, settings) = (Instant::now(), Settings::default());
        let host = NativeHost { store, origin, transport, random, started: started_at, settings };
        let (client, engine) = Client::start(host);
        drop(started.send(client));
        engine.await
    })
}

/// Why an engine ended before it answered anything.
fn failure(end: Result<Result<(), Error>, oneshot::error::RecvError>) -> Error {
    end.ok().and_then(Result::err).unwrap_or(Error::Closed)
}

/// The origin of a server's address, in the form that servers know themselves by. A server may live
/// below a path of its host; whatever else an address can have would have to be left out, and
/// whoever typed it meant something by it.
fn origin(server: &str) -> Result<String, Error> {
    let url = Url::parse(server).map_err(|_| Refusal::BadServerAddress)?;
    let is_plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    match url.scheme() {
        "http" | "https" if url.has_host() && is_plain => Ok(url.origin().ascii_serialization()),
        _ => Err(Refusal::BadServerAddress.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store as _;

    use corncrake_core::{derive::Key32, seal::local::StoreKey};

    async fn store(path: &std::path::Path) -> Result<SqliteStore, StoreError> {
        SqliteStore::open(path, StoreKey::new(&Key32::from_bytes([1; 32]))).await
    }

    #[tokio::test]
    async fn audit_srv_b2_a_store_can_be_opened_again_when_close_has_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        for _ in 0..100 {
            let opened = store(&path).await.expect("it was closed");
            let client = Client::on_a_thread("http://127.0.0.1:9", opened).await.unwrap();
            client.close().await.unwrap();
        }
    }

    #[tokio::test]
    async fn audit_prog_h6_the_store_is_closed_when_all_handles_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let opened = store(&path).await.unwrap();
        drop(Client::on_a_thread("http://127.0.0.1:9", opened).await.unwrap());
        for _ in 0..200 {
            match store(&path).await {
                Ok(_) => return,
                Err(error) => assert_eq!(error, StoreError::InUse),
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("the store stays open");
    }

    #[tokio::test]
    async fn audit_prog_m4_every_handle_tells_why_the_engine_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        store(&path).await.unwrap().close().await.unwrap();
        let opened = store(&path).await.unwrap();
        let client = Client::on_a_thread("http://127.0.0.1:9", opened).await.unwrap();
        let other = client.clone();
        client.close().await.unwrap();
        assert_eq!(other.chats().await.unwrap_err().code(), "closed");
        let wrong = SqliteStore::open(&path, StoreKey::new(&Key32::from_bytes([2; 32])));
        let ended = Client::on_a_thread("http://127.0.0.1:9", wrong.await.unwrap()).await;
        assert_eq!(ended.unwrap_err().code(), "store_wrong_key");
    }

    #[test]
    fn an_origin_has_one_form() {
        for address in
            ["https://Chat.Example", "https://chat.example:443/", "https://chat.example/x"]
        {
            assert_eq!(origin(address).unwrap(), "https://chat.example");
        }
        assert_eq!(origin("http://127.0.0.1:8787").unwrap(), "http://127.0.0.1:8787");
        for address in ["", "chat.example", "ftp://chat.example", "https://", "file:///x"] {
            assert_eq!(origin(address).unwrap_err().code(), "bad_server_address");
        }
    }

    #[test]
    fn audit_issue_7_an_address_has_no_query_fragment_or_password() {
        for rest in ["x?y", "?y", "?", "#z", "x#"] {
            let address = format!("http://chat.example/{rest}");
            assert_eq!(origin(&address).unwrap_err().code(), "bad_server_address", "{address}");
        }
        for address in ["http://ann@chat.example", "http://ann:pw@chat.example/"] {
            assert_eq!(origin(address).unwrap_err().code(), "bad_server_address", "{address}");
        }
    }
}
