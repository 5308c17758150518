//! What a message says: typed, versioned, open to kinds that come later; and what one line of text
//! may hold that people name things by.

use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::encoding::{self, EncodingError};
use crate::id::MessageId;

/// The longest text of one message, in bytes of UTF-8.
pub const MAX_TEXT: usize = 48 * 1024;

const VERSION: u8 = 1;
const KIND_TEXT: u32 = 1;
const KIND_NOT_REPEATED: u32 = 2;

/// One message as its sender wrote it; receivers name it by (account, id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Chosen with the intent to send and kept when the message is sealed again.
    pub id: MessageId,
    /// When its sender meant to send it, in seconds since 1970 by the sender's clock. The order of
    /// messages is the log's alone.
    pub time: u64,
    /// What it says.
    pub body: Body,
}

/// The body of a message.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// Plain text, at most [`MAX_TEXT`] bytes.
    Text(String),
    /// In the place of a message with this id that a server has lost: it is not said again, for
    /// others are there now than when it was said.
    NotRepeated,
    /// A kind that this version doesn't know; it survives a round trip unchanged.
    Unknown {
        /// The number of the kind.
        kind: u32,
        /// Its content, undecoded.
        bytes: Vec<u8>,
    },
}

/// The stored form: unknown kinds keep their bytes.
#[derive(Serialize, Deserialize)]
struct Encoded {
    id: MessageId,
    time: u64,
    kind: u32,
    bytes: Vec<u8>,
}

impl Message {
    /// A text message with a fresh random id; `now` is in seconds since 1970.
    pub fn text(text: impl Into<String>, now: u64, rng: &mut impl CryptoRng) -> Self {
        let mut id = [0; 16];
        rng.fill_bytes(&mut id);
        Self { id: MessageId::from_bytes(id), time: now, body: Body::Text(text.into()) }
    }

    /// Encodes the message for [`decode`](Self::decode).
    ///
    /// # Errors
    /// [`EncodingError::Malformed`] if the text is too long, or an unknown body bears the number
    /// of a known kind.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, EncodingError> {
        let (kind, bytes) = match &self.body {
            Body::Text(text) if text.len() <= MAX_TEXT => (KIND_TEXT, text.as_bytes()),
            Body::NotRepeated => (KIND_NOT_REPEATED, [].as_slice()),
            Body::Unknown { kind, bytes } if ![KIND_TEXT, KIND_NOT_REPEATED].contains(kind) => {
                (*kind, bytes.as_slice())
            }
            Body::Text(_) | Body::Unknown { .. } => return Err(EncodingError::Malformed),
        };
        let encoded = Encoded { id: self.id, time: self.time, kind, bytes: bytes.to_vec() };
        Ok(Zeroizing::new(encoding::encode(VERSION, &encoded)))
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// [`EncodingError`] for anything that [`encode`](Self::encode) would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let Encoded { id, time, kind, bytes } = encoding::decode(VERSION, bytes)?;
        let body = match kind {
            KIND_TEXT if bytes.len() > MAX_TEXT => return Err(EncodingError::Malformed),
            KIND_TEXT => {
                Body::Text(String::from_utf8(bytes).map_err(|_| EncodingError::Malformed)?)
            }
            KIND_NOT_REPEATED if bytes.is_empty() => Body::NotRepeated,
            KIND_NOT_REPEATED => return Err(EncodingError::Malformed),
            kind => Body::Unknown { kind, bytes },
        };
        Ok(Self { id, time, body })
    }
}

/// Whether `text` is one line that shows nothing but itself: no control characters, no line breaks,
/// nothing that turns the direction of what stands beside it. Titles have to be, or they could
/// imitate lines of others wherever they are shown.
pub fn is_one_line(text: &str) -> bool {
    let forbidden = |c: char| {
        c.is_control()
            || matches!(
                c,
                '\u{2028}' | '\u{2029}'
                    | '\u{061C}'
                    | '\u{200E}'
                    | '\u{200F}'
                    | '\u{202A}'..='\u{202E}'
                    | '\u{2066}'..='\u{2069}'
            )
    };
    !text.chars().any(forbidden)
}

/// Whether `text` can be the title of a group: one line that no other title looks like because of
/// blanks or invisible characters. So it neither begins nor ends with a blank, has no two in a row and
/// none but the ordinary one. What only changes the look of the character before it, as in many emoji,
/// stands behind one that is seen. It may not be empty; a group without a title has none.
pub fn is_title(text: &str) -> bool {
    let joins = |c: char| matches!(c, '\u{200C}' | '\u{200D}');
    let forbidden = |c: char| {
        c != ' ' && c.is_whitespace()
            || matches!(
                c,
                '\u{00AD}'
                    | '\u{034F}'
                    | '\u{115F}'
                    | '\u{1160}'
                    | '\u{17B4}'
                    | '\u{17B5}'
                    | '\u{180B}'..='\u{180F}'
                    | '\u{200B}'
                    | '\u{2060}'..='\u{206F}'
                    | '\u{2800}'
                    | '\u{3164}'
                    | '\u{FEFF}'
                    | '\u{FFA0}'
                    | '\u{FFF0}'..='\u{FFFB}'
                    | '\u{1BCA0}'..='\u{1BCA3}'
                    | '\u{1D173}'..='\u{1D17A}'
                    | '\u{E0000}'..='\u{E001F}'
                    | '\u{E0080}'..='\u{E00FF}'
                    | '\u{E01F0}'..='\u{E0FFF}'
            )
    };
    // Variation selectors, and the tags of which flags are made.
    let selects = |c: char| matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}');
    let tags = |c: char| matches!(c, '\u{E0020}'..='\u{E007F}');
    let mut before = ' ';
    let mut follows_nothing = |c: char| {
        let last = core::mem::replace(&mut before, c);
        let is_seen = last != ' ' && !joins(last) && !selects(last) && !tags(last);
        selects(c) && !is_seen || tags(c) && last != '\u{1F3F4}' && !tags(last)
    };
    let at_ends = |c: char| c == ' ' || joins(c);
    is_one_line(text)
        && !text.is_empty()
        && !text.contains("  ")
        && !text.chars().any(forbidden)
        && !text.chars().any(&mut follows_nothing)
        && !text.starts_with(at_ends)
        && !text.ends_with(at_ends)
}

impl core::fmt::Debug for Body {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(..)"),
            Self::NotRepeated => f.write_str("NotRepeated"),
            Self::Unknown { kind, bytes: _ } => write!(f, "Unknown {{ kind: {kind}, .. }}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::{assert_golden_hex, feed_garbage, rng};

    #[test]
    fn text_is_golden() {
        let message = Message::text("krek krek", 1_800_000_000, &mut rng(1));
        let bytes = message.encode().unwrap();
        assert_golden_hex("content_text.hex", &bytes);
        assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn what_is_not_repeated_is_golden() {
        let id = MessageId::from_bytes([9; 16]);
        let message = Message { id, time: 1_800_000_000, body: Body::NotRepeated };
        let bytes = message.encode().unwrap();
        assert_golden_hex("content_not_repeated.hex", &bytes);
        assert_eq!(Message::decode(&bytes), Ok(message));
        let encoded = Encoded { id, time: 0, kind: KIND_NOT_REPEATED, bytes: vec![0] };
        let decoded = Message::decode(&encoding::encode(VERSION, &encoded));
        assert_eq!(decoded, Err(EncodingError::Malformed));
    }

    #[test]
    fn unknown_kinds_survive_a_round_trip() {
        let body = Body::Unknown { kind: 70_000, bytes: vec![0xFF, 0, 1] };
        let message = Message { id: MessageId::from_bytes([9; 16]), time: 7, body };
        let bytes = message.encode().unwrap();
        let decoded = Message::decode(&bytes).unwrap();
        assert_eq!(decoded, message);
        assert_eq!(decoded.encode().unwrap(), bytes);
    }

    #[test]
    fn limits_and_bad_text_are_refused() {
        let longest = Message::text("x".repeat(MAX_TEXT), 0, &mut rng(1));
        assert_eq!(Message::decode(&longest.encode().unwrap()), Ok(longest));
        let longer = Message::text("x".repeat(MAX_TEXT + 1), 0, &mut rng(1));
        assert_eq!(longer.encode(), Err(EncodingError::Malformed));
        let id = MessageId::from_bytes([0; 16]);
        let disguised =
            Message { id, time: 0, body: Body::Unknown { kind: KIND_TEXT, bytes: vec![] } };
        assert_eq!(disguised.encode(), Err(EncodingError::Malformed));
        for bytes in [vec![0xFF], vec![b'x'; MAX_TEXT + 1]] {
            let bytes = encoding::encode(VERSION, &Encoded { id, time: 0, kind: KIND_TEXT, bytes });
            assert_eq!(Message::decode(&bytes), Err(EncodingError::Malformed));
        }
        let mut later = Message::text("", 0, &mut rng(1)).encode().unwrap();
        later[0] = 2;
        assert_eq!(Message::decode(&later), Err(EncodingError::UnsupportedVersion));
    }

    #[test]
    fn audit_srv_b9_a_line_holds_nothing_that_breaks_or_turns_it() {
        assert!(is_one_line("Hecke & Wiese \u{1F33F} שלום"));
        for code in ["\n", "\r", "\t", "\0", "\u{1b}[2J", "\u{7f}", "\u{85}", "\u{9b}"] {
            assert!(!is_one_line(&format!("a{code}b")), "{code:?}");
        }
        for code in ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'] {
            assert!(!is_one_line(&format!("a{code}b")), "{code:?}");
        }
        for code in ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}') {
            assert!(!is_one_line(&format!("a{code}b")), "{code:?}");
        }
    }

    #[test]
    fn no_two_titles_differ_in_blanks_alone() {
        for title in [
            "Plan",
            "Hecke & Wiese \u{1F33F}",
            "שלום",
            "\u{1F469}\u{200D}\u{1F33E}",
            "می\u{200C}خواهم",
        ] {
            assert!(is_title(title), "{title:?}");
        }
        for blank in
            ["", " ", "  ", "\u{A0}", "\u{3000}", "\u{200B}", "\u{200D}", "\u{FEFF}", "\u{2800}"]
        {
            for title in [blank.to_owned(), format!("Plan{blank} "), format!(" {blank}Plan")] {
                assert!(!is_title(&title), "{title:?}");
            }
            let inside = format!("Pl{blank}an");
            assert_eq!(is_title(&inside), matches!(blank, "" | " " | "\u{200D}"), "{inside:?}");
        }
    }

    #[test]
    fn audit_issue_7_al3_a_title_shows_something() {
        let england = "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}";
        for title in ["\u{2764}\u{FE0F}", "1\u{FE0F}\u{20E3}", "\u{845B}\u{E0100}", england] {
            assert!(is_title(title), "{title:?}");
            assert!(is_title(&format!("Plan {title} B")), "{title:?}");
        }
        for nothing in [
            '\u{FE00}',
            '\u{FE0F}',
            '\u{E0100}',
            '\u{E01EF}',
            '\u{E0067}',
            '\u{E007F}',
            '\u{E0001}',
            '\u{17B4}',
            '\u{206A}',
            '\u{FFF0}',
            '\u{1D173}',
            '\u{1BCA0}',
            '\u{E0FFF}',
        ] {
            for title in [
                nothing.to_string(),
                nothing.to_string().repeat(3),
                format!("{nothing}Plan"),
                format!("Plan {nothing}"),
                format!("Plan\u{200D}{nothing}"),
                format!("Plan{nothing}{nothing}"),
            ] {
                assert!(!is_title(&title), "{title:?}");
            }
        }
    }

    #[test]
    fn debug_shows_no_text() {
        let message = Message::text("a", 5, &mut rng(1));
        let message = Message { id: MessageId::from_bytes([1; 16]), ..message };
        let expected = "Message { id: MessageId(01010101..), time: 5, body: Text(..) }";
        assert_eq!(format!("{message:?}"), expected);
        let body = Body::Unknown { kind: 5, bytes: vec![1] };
        assert_eq!(format!("{body:?}"), "Unknown { kind: 5, .. }");
    }

    #[test]
    fn garbage_is_an_error_or_the_same_bytes() {
        let valid = Message::text("krek krek", 1_800_000_000, &mut rng(1)).encode().unwrap();
        feed_garbage(1_000_000, &valid, |bytes| {
            if let Ok(message) = Message::decode(bytes) {
                assert_eq!(*message.encode().unwrap(), bytes);
            }
        });
    }
}
