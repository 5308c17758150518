//! What a person types or pipes in: read on a thread of its own, so that a signal ends the program
//! meanwhile.

use std::{
    io::{BufRead, Read, stdin},
    thread,
};

use corncrake::Refusal;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// No text or password is as long.
const LONGEST: u64 = 1024 * 1024;

/// Reads on a thread, which ends with the program where nobody waits for it any more; nothing if it
/// came to no end of its own.
pub(crate) async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (tell, done) = oneshot::channel();
    thread::spawn(move || drop(tell.send(read())));
    done.await.ok()
}

/// The first line of standard input; nothing if there is none, or no end of it.
pub(crate) async fn line() -> Option<Zeroizing<String>> {
    let read = || {
        let mut line = Zeroizing::new(String::new());
        stdin().lock().take(LONGEST).read_line(&mut line).map(|length| (line, length as u64))
    };
    let (line, length) = apart(read).await?.ok()?;
    let text = line.trim_end_matches(['\r', '\n']);
    (!text.is_empty() && length < LONGEST).then(|| text.to_owned().into())
}

/// A text that was typed, or all of standard input for `-`.
pub(crate) async fn text_of(typed: String) -> Result<String, Failure> {
    if typed != "-" {
        return Ok(typed);
    }
    apart(|| text_from(stdin())).await.unwrap_or_else(|| Err(no_text("it ended")))
}

/// All that is to be read, without the ends of lines behind it; more than a message may hold only so
/// far that it is refused as too long.
fn text_from(input: impl Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(LONGEST).read_to_end(&mut bytes);
    read.map_err(|error| no_text(&error.to_string()))?;
    if bytes.len() as u64 == LONGEST {
        return Err(corncrake::Error::from(Refusal::MessageTooLong).into());
    }
    let mut text = String::from_utf8(bytes).map_err(|error| no_text(&error.to_string()))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    if text.is_empty() { Err(no_text("it is empty")) } else { Ok(text) }
}

fn no_text(why: &str) -> Failure {
    Failure::refused("no_text", format!("standard input gives no text: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_issue_7_al3_an_empty_standard_input_gives_no_text() {
        for nothing in ["", "\n", "\r\n\r\n"] {
            assert_eq!(text_from(nothing.as_bytes()).unwrap_err().code, "no_text");
        }
        // What has no end isn't waited for.
        assert_eq!(text_from(std::io::repeat(b'a')).unwrap_err().code, "message_too_long");
        assert_eq!(text_from(&b"\xff"[..]).unwrap_err().code, "no_text");
        assert_eq!(text_from("one\ntwo\n".as_bytes()).unwrap(), "one\ntwo");
    }
}
