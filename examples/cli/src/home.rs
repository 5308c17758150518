//! The folder of one device: its store, the store's key and the server's address.

use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    path::{self, Path, PathBuf},
};

use corncrake::{Client, Error, Refusal, SqliteStore, StoreKey, store::StoreError};
use zeroize::Zeroizing;

use crate::failure::Failure;

const STORE: &str = "store.db";
const KEY: &str = "store.key";
const SERVER: &str = "server";

/// A device's folder.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
}

impl Home {
    /// The folder that was given, or the one in the home folder.
    pub(crate) fn locate(given: Option<PathBuf>) -> Result<Self, Failure> {
        let named = env::var_os("CORNCRAKE_HOME").filter(|named| !named.is_empty());
        let folder = given
            .or_else(|| named.map(PathBuf::from))
            .or_else(|| env::home_dir().map(|home| home.join(".corncrake")));
        match folder.map(path::absolute) {
            Some(Ok(folder)) => Ok(Self { folder }),
            Some(Err(error)) => Err(Failure::home(format!("the home folder has no path: {error}"))),
            None => Err(Failure::home("there is no home folder: name one with --home")),
        }
    }

    /// The folder's path, which is absolute.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server that was given, or the one of last time.
    pub(crate) fn server(&self, given: Option<String>) -> Result<String, Failure> {
        if let Some(server) = given {
            return Ok(server);
        }
        match fs::read_to_string(self.folder.join(SERVER)) {
            Ok(server) => Ok(server.trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::refused(
                "no_server",
                "name the server with --server or CORNCRAKE_SERVER, such as https://chat.example",
            )),
            Err(error) => Err(self.unusable(SERVER, &error)),
        }
    }

    /// Keeps the server's address for the next time.
    pub(crate) fn remember_server(&self, server: &str) -> Result<(), Failure> {
        self.write(SERVER, format!("{server}\n").as_bytes())
    }

    /// Refuses if an account is here already, before anything is asked for a new one.
    pub(crate) async fn check_free(&self, server: &str) -> Result<(), Failure> {
        if !self.has_store()? {
            return Ok(());
        }
        let taken = Err(Error::from(Refusal::AlreadyHasAccount).into());
        let opened = match self.open().await {
            Ok(store) => Client::open(server, store).await,
            Err(failure) if failure.code == "store_in_use" => return taken,
            Err(failure) => return Err(failure),
        };
        match opened {
            Ok(client) => {
                client.close().await?;
                taken
            }
            Err(Error::Refused(Refusal::NoAccount)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a store is here; an error if the folder can't be looked into, or is none.
    fn has_store(&self) -> Result<bool, Failure> {
        let path = self.folder.join(STORE);
        path.try_exists().map_err(|error| self.unusable("", &error))
    }

    /// Opens the store of an account that is here.
    pub(crate) async fn open(&self) -> Result<SqliteStore, Failure> {
        if !self.has_store()? {
            return Err(Failure::refused(
                "no_account",
                format!("{} holds no account: sign up or log in", self.folder.display()),
            ));
        }
        self.check_folder()?;
        self.open_with(self.read_key()?).await
    }

    /// Opens the store, making folder, key and store where they are missing.
    pub(crate) async fn make(&self) -> Result<SqliteStore, Failure> {
        private::make_folder(&self.folder).map_err(|error| self.unusable("", &error))?;
        self.check_folder()?;
        // A key without a store has sealed nothing: one that was cut short is made anew.
        let fresh = !self.has_store()?;
        let key = match self.read_key() {
            Err(_) if fresh => {
                self.make_key()?;
                self.read_key()?
            }
            key => key?,
        };
        self.open_with(key).await
    }

    /// Refuses a folder in which everybody may put other files in the place of these.
    fn check_folder(&self) -> Result<(), Failure> {
        if private::is_open(&self.folder).map_err(|error| self.unusable("", &error))? {
            let path = self.folder.display();
            return Err(Failure::home(format!("everybody can write into {path}: chmod o-w it")));
        }
        Ok(())
    }

    /// Where the key lies, for the note that says so.
    pub(crate) fn key_path(&self) -> PathBuf {
        self.folder.join(KEY)
    }

    async fn open_with(&self, key: StoreKey) -> Result<SqliteStore, Failure> {
        let path = self.folder.join(STORE);
        match SqliteStore::open(&path, key).await {
            Err(StoreError::Unavailable) => {
                let advice = "look at its permissions, the length and the letters of its path, and how \
                              many files may be open";
                let path = path.display();
                Err(Failure::home(format!("{path} can't be read or written: {advice}")))
            }
            opened => Ok(opened.map_err(Error::from)?),
        }
    }

    fn make_key(&self) -> Result<(), Failure> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)
            .map_err(|_| Failure::home("the system gives no random bytes for the store's key"))?;
        let text = Zeroizing::new(hex::encode(*key));
        self.write(KEY, text.as_bytes())
    }

    /// Writes a file whole or not at all: under another name first, which then becomes its own.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let (new, path) = (self.folder.join(format!("{name}.new")), self.folder.join(name));
        let written = private::create(&new)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&new, &path))
            .and_then(|()| private::sync_folder(&self.folder));
        written.map_err(|error| self.unusable(name, &error))
    }

    fn read_key(&self) -> Result<StoreKey, Failure> {
        let path = self.folder.join(KEY);
        let mut file = fs::File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::home(no_key(&path)),
            _ => self.unusable(KEY, &error),
        })?;
        if private::is_exposed(&file).map_err(|error| self.unusable(KEY, &error))? {
            let path = path.display();
            return Err(Failure::home(format!("others can read {path}: chmod 600 it")));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => Failure::home(no_key(&path)),
            _ => self.unusable(KEY, &error),
        })?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), &mut *key).map_err(|_| Failure::home(no_key(&path)))?;
        Ok(StoreKey::from_bytes(*key))
    }

    fn unusable(&self, file: &str, error: &std::io::Error) -> Failure {
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return Error::Store(StoreError::Full).into();
        }
        Failure::home(format!("{}: {error}", self.folder.join(file).display()))
    }
}

fn no_key(path: &Path) -> String {
    format!(
        "{} is missing or damaged, and without it the store beside it can't be read: put back a \
         copy of the key, or take another home folder and log in anew",
        path.display()
    )
}

/// Files that nobody else on the machine may read.
#[cfg(unix)]
mod private {
    use std::{
        fs::{self, DirBuilder, File, OpenOptions},
        io,
        os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    };

    use super::Path;

    pub(super) fn make_folder(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    pub(super) fn create(path: &Path) -> io::Result<File> {
        // What an earlier try has left may have other permissions.
        let _ = fs::remove_file(path);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    pub(super) fn is_open(folder: &Path) -> io::Result<bool> {
        Ok(fs::metadata(folder)?.permissions().mode() & 0o002 != 0)
    }

    pub(super) fn is_exposed(file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
    }
}

/// Where the system has no such bits, the folder's own protection has to do.
#[cfg(not(unix))]
mod private {
    use std::{
        fs::{self, File, OpenOptions},
        io,
    };

    use super::Path;

    pub(super) fn make_folder(path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    pub(super) fn create(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn is_open(_: &Path) -> io::Result<bool> {
        Ok(false)
    }

    pub(super) fn is_exposed(_: &File) -> io::Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_key_is_private_and_an_exposed_one_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path().join("ann"))).unwrap();
        private::make_folder(&home.folder).unwrap();
        home.make_key().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&home.folder), 0o700);
        assert_eq!(mode(&home.key_path()), 0o600);
        assert!(home.read_key().is_ok());
        fs::set_permissions(home.key_path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(home.read_key().unwrap_err().code, "home_unusable");
    }

    #[tokio::test]
    async fn audit_prog_m5_a_key_cut_short_is_made_anew_unless_it_sealed_something() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path().to_owned())).unwrap();
        fs::write(home.folder.join("store.key.new"), "cut").unwrap();
        private::create(&home.key_path()).unwrap();
        drop(home.make().await.unwrap());
        let key = fs::read(home.key_path()).unwrap();
        assert_eq!(key.len(), 64);
        assert!(!home.folder.join("store.key.new").exists());
        drop(private::create(&home.key_path()).unwrap());
        let refused = home.make().await.unwrap_err();
        assert_eq!(refused.code, "home_unusable");
        assert!(refused.message.contains("put back a copy"), "{}", refused.message);
        assert!(fs::read(home.key_path()).unwrap().is_empty(), "it is not replaced");
    }

    #[tokio::test]
    async fn audit_issue_7_al3_a_file_is_no_home() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "text").unwrap();
        let home = Home::locate(Some(path)).unwrap();
        for refused in [
            home.open().await.map(drop),
            home.make().await.map(drop),
            home.check_free("http://one").await,
        ] {
            assert_eq!(refused.unwrap_err().code, "home_unusable");
        }
        let nothing = Home::locate(Some(folder.path().join("nothing"))).unwrap();
        assert_eq!(nothing.open().await.unwrap_err().code, "no_account");
        assert!(nothing.check_free("http://one").await.is_ok());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn audit_issue_7_qm6_a_folder_that_everybody_may_write_into_is_no_home() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let allow = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode));
        let home = Home::locate(Some(folder.path().to_owned())).unwrap();
        allow(0o777).unwrap();
        assert_eq!(home.make().await.unwrap_err().code, "home_unusable");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written there");
        allow(0o755).unwrap();
        drop(home.make().await.unwrap());
        allow(0o757).unwrap();
        let refused = home.open().await.unwrap_err();
        assert!(refused.message.contains("chmod o-w"), "{}", refused.message);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn audit_issue_7_qm2_a_path_that_sqlite_does_not_take_is_named() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"h\xff"));
        let refused = Home::locate(Some(odd)).unwrap().make().await.unwrap_err();
        assert_eq!(refused.code, "home_unusable");
        assert!(refused.message.contains("store.db"), "{}", refused.message);
    }

    #[test]
    fn audit_issue_7_bf9_a_full_disk_is_called_that() {
        let home = Home::locate(Some("somewhere".into())).unwrap();
        let code = |kind: ErrorKind| home.unusable(SERVER, &kind.into()).code;
        assert_eq!(code(ErrorKind::StorageFull), "store_full");
        assert_eq!(code(ErrorKind::QuotaExceeded), "store_full");
        assert_eq!(code(ErrorKind::PermissionDenied), "home_unusable");
    }

    #[test]
    fn the_server_is_remembered_and_a_given_one_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path().to_owned())).unwrap();
        assert_eq!(home.server(None).unwrap_err().code, "no_server");
        home.remember_server("http://one").unwrap();
        assert_eq!(home.server(None).unwrap(), "http://one");
        assert_eq!(home.server(Some("http://two".to_owned())).unwrap(), "http://two");
    }
}
