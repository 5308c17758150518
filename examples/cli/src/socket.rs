//! The socket in a home folder, over which the program that has the store serves the others.
//!
//! Only whoever has the store makes it or takes it away, so that what is left of a program that was
//! killed is replaced by the next one.

use std::{fmt::Debug, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};

/// How often whoever serves says that it does, if it has nothing else to say.
pub(crate) const ALIVE: Duration = Duration::from_secs(2);

/// A connection between two programs, or between two parts of one.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static> Stream for T {}

#[cfg(unix)]
pub(crate) use unix::{connect, listen, remove};

#[cfg(not(unix))]
pub(crate) use elsewhere::{connect, listen, remove};

#[cfg(unix)]
mod unix {
    use std::{
        env, fs,
        os::unix::fs::PermissionsExt,
        path::{Path, PathBuf},
    };

    use tokio::{
        net::{UnixListener, UnixStream},
        task::JoinHandle,
    };

    use super::Stream;

    const NAME: &str = "socket";
    /// The longest path that every system takes for a socket.
    const LONGEST: usize = 100;

    /// Where the socket is; below a long path it is named from inside the folder.
    fn path(folder: &Path) -> PathBuf {
        let path = folder.join(NAME);
        if path.as_os_str().len() > LONGEST && env::set_current_dir(folder).is_ok() {
            return NAME.into();
        }
        path
    }

    /// Takes connections until stopped; `None` where there can be no socket.
    pub(crate) fn listen(
        folder: &Path,
        serve: impl Fn(UnixStream) + Send + 'static,
    ) -> Option<JoinHandle<()>> {
        remove(folder);
        let path = path(folder);
        let listener = UnixListener::bind(&path).ok()?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).ok()?;
        Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream);
            }
        }))
    }

    /// Reaches the program that has the store, if one listens.
    pub(crate) async fn connect(folder: &Path) -> Option<impl Stream> {
        UnixStream::connect(path(folder)).await.ok()
    }

    /// Takes the socket away.
    pub(crate) fn remove(folder: &Path) {
        // Most of the time there is none.
        let _ = fs::remove_file(path(folder));
    }
}

/// Elsewhere the second program on a home folder hears that the store is in use.
#[cfg(not(unix))]
mod elsewhere {
    use std::path::Path;

    use tokio::{io::DuplexStream, task::JoinHandle};

    pub(crate) fn listen(_: &Path, _: impl Fn(DuplexStream)) -> Option<JoinHandle<()>> {
        None
    }

    pub(crate) async fn connect(_: &Path) -> Option<DuplexStream> {
        None
    }

    pub(crate) fn remove(_: &Path) {}
}
