//! Standard output, where a reader that stands still holds up nobody but whoever writes.

use std::io::{self, Write};

use tokio::task::spawn_blocking;

use crate::failure::Failure;

/// Writes a line, on another thread if it may take long: this one serves other programs meanwhile.
pub(crate) async fn line(line: String) -> io::Result<()> {
    if takes_at_once(line.len() + 1) {
        return write(&line);
    }
    spawn_blocking(move || write(&line)).await?
}

/// What it means that a line, `what`, can't be written: whoever has closed the pipe has read enough.
pub(crate) fn ended(what: &str, error: &io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::no_output(what, error)),
    }
}

/// Writes a line, however long that takes.
pub(crate) fn write(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// Whether so many bytes can be written without waiting for a reader.
#[cfg(unix)]
fn takes_at_once(length: usize) -> bool {
    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        stdio::stdout,
    };

    /// What there is room for in a pipe that can be written to.
    const ROOM: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
    let output = stdout();
    let mut asked = [PollFd::new(&output, PollFlags::OUT)];
    length <= ROOM && poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready == 1)
}

#[cfg(not(unix))]
const fn takes_at_once(_: usize) -> bool {
    false
}
