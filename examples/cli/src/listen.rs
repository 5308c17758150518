//! `corncrake listen`: what happens, for people.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use crate::{
    failure::Failure,
    link::{Heard, Link},
    output, show, signals, tame,
    view::{Event, Happened},
};

/// How long a connection may be down before it is worth a line. It is, for a moment, whenever
/// another program takes the store over.
const AWAY: Duration = Duration::from_secs(3);

/// Shows events until interrupted.
pub(crate) async fn run(link: &mut Link, json: bool) -> Result<(), Failure> {
    link.listen();
    let mut signal = signals::end()?;
    let mut status = Status { online: None, tell_at: Some(Instant::now() + AWAY) };
    loop {
        let tell_at = status.tell_at.unwrap_or_else(Instant::now);
        let heard = tokio::select! {
            heard = link.next() => heard?,
            () = signal.comes() => return Ok(()),
            () = sleep_until(tell_at), if status.tell_at.is_some() && !json => {
                status = Status { online: Some(false), tell_at: None };
                if let Err(error) = output::line("* offline".to_owned()).await {
                    return output::ended("what happens", &error);
                }
                continue;
            }
        };
        let Heard::Event(event) = heard else { continue };
        let line = if json { Some(tame::json(&event)) } else { status.line(&event) };
        if let Some(line) = line
            && let Err(error) = output::line(line).await
        {
            return output::ended("what happens", &error);
        }
        link.shown(&event);
    }
}

/// The connection as it was told last.
struct Status {
    online: Option<bool>,
    /// When it is told that it is away.
    tell_at: Option<Instant>,
}

impl Status {
    /// The line that an event is worth.
    fn line(&mut self, event: &Value) -> Option<String> {
        let event: Event = serde_json::from_value(event.clone()).ok()?;
        match &event.what {
            Happened::Connection { connection } if connection == "online" => {
                self.tell_at = None;
                if self.online.replace(true) == Some(true) {
                    return None;
                }
            }
            Happened::Connection { connection }
                if !matches!(connection.as_str(), "signed_out" | "name_taken") =>
            {
                if self.online != Some(false) {
                    self.tell_at.get_or_insert_with(|| Instant::now() + AWAY);
                }
                return None;
            }
            Happened::Connection { .. } => self.tell_at = None,
            _ => {}
        }
        show::event_line(&event)
    }
}
