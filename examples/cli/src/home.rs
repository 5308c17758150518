//! The folder of one device: its store, the store's key and the server's address.

use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use corncrake::{SqliteStore, StoreKey};
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
        let folder = given.or_else(|| env::home_dir().map(|home| home.join(".corncrake")));
        match folder {
            Some(folder) => Ok(Self { folder }),
            None => Err(Failure::home("there is no home folder: name one with --home")),
        }
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
        fs::write(self.folder.join(SERVER), format!("{server}\n"))
            .map_err(|error| self.unusable(SERVER, &error))
    }

    /// Opens the store of an account that is here.
    pub(crate) async fn open(&self) -> Result<SqliteStore, Failure> {
        if !self.folder.join(STORE).exists() {
            return Err(Failure::refused(
                "no_account",
                format!("{} holds no account: sign up or log in", self.folder.display()),
            ));
        }
        self.open_with(self.read_key()?).await
    }

    /// Opens the store, making folder, key and store where they are missing.
    pub(crate) async fn make(&self) -> Result<SqliteStore, Failure> {
        private::make_folder(&self.folder).map_err(|error| self.unusable("", &error))?;
        if !self.folder.join(KEY).exists() && !self.folder.join(STORE).exists() {
            self.make_key()?;
        }
        self.open_with(self.read_key()?).await
    }

    /// Where the key lies, for the note that says so.
    pub(crate) fn key_path(&self) -> PathBuf {
        self.folder.join(KEY)
    }

    async fn open_with(&self, key: StoreKey) -> Result<SqliteStore, Failure> {
        Ok(SqliteStore::open(&self.folder.join(STORE), key)
            .await
            .map_err(corncrake::Error::from)?)
    }

    fn make_key(&self) -> Result<(), Failure> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)
            .map_err(|_| Failure::home("the system gives no random bytes for the store's key"))?;
        let text = Zeroizing::new(hex::encode(*key));
        let mut file =
            private::create(&self.folder.join(KEY)).map_err(|error| self.unusable(KEY, &error))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| self.unusable(KEY, &error))
    }

    fn read_key(&self) -> Result<StoreKey, Failure> {
        let path = self.folder.join(KEY);
        let mut file = fs::File::open(&path).map_err(|error| self.unusable(KEY, &error))?;
        if private::is_exposed(&file).map_err(|error| self.unusable(KEY, &error))? {
            let path = path.display();
            return Err(Failure::home(format!("others can read {path}: chmod 600 it")));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(|error| self.unusable(KEY, &error))?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), &mut *key)
            .map_err(|_| Failure::home(format!("{} is no key", path.display())))?;
        Ok(StoreKey::from_bytes(*key))
    }

    fn unusable(&self, file: &str, error: &std::io::Error) -> Failure {
        Failure::home(format!("{}: {error}", self.folder.join(file).display()))
    }
}

/// Files that nobody else on the machine may read.
#[cfg(unix)]
mod private {
    use std::{
        fs::{DirBuilder, File, OpenOptions},
        io,
        os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    };

    use super::Path;

    pub(super) fn make_folder(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    pub(super) fn create(path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
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
        OpenOptions::new().write(true).create_new(true).open(path)
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
