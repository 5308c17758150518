//! Makes text of others harmless on a terminal.
//!
//! Whatever came from outside (messages, titles, names, codes, a server's errors) passes through
//! here before it is printed. Nothing in it can move the cursor, change the direction of writing,
//! hide behind something invisible, or begin a line: a line of ours is recognised by how it begins,
//! and columns of ours are separated by two blanks, which a tamed name never contains.

use std::fmt::Write as _;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// What the second and later lines of a message begin with; no other line begins so.
pub(crate) const CONTINUED: &str = "      | ";
/// How many marks may stand above and below one letter.
const MARKS: usize = 4;
/// What stands for a blank after another one.
const BLANK: char = '·';
/// What replaces a character that must not be shown.
const REPLACED: char = '\u{fffd}';

/// A name, title or code: one line without repeated blanks.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in characters(text, Joiners::Replaced) {
        match c {
            '\n' => line.push(REPLACED),
            ' ' if line.is_empty() || line.ends_with(' ') => {}
            c => line.push(c),
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// A message: its lines after the first begin with [`CONTINUED`], and of blanks in a row all but the
/// first are shown as [`BLANK`], apart from what its later lines are indented by. A terminal breaks
/// long lines where it likes: whatever it begins a row with then has no columns as ours have.
pub(crate) fn text(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\t', "    ");
    let mut indents = false;
    let mut last = ' ';
    for c in characters(&text, Joiners::Kept) {
        indents &= c == ' ';
        tamed.push(if c == ' ' && last == ' ' && !indents { BLANK } else { c });
        if c == '\n' {
            tamed.push_str(CONTINUED);
            indents = true;
        }
        last = c;
    }
    tamed
}

/// JSON with every character escaped that a terminal could stumble over; its value is the same.
pub(crate) fn json(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        // Outside strings JSON has ASCII only, and in strings the control characters of ASCII but
        // one are escaped already.
        if is_ascii_text(c) || !(is_wild(c) || is_mark(c)) {
            tamed.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(tamed, "\\u{unit:04x}");
            }
        }
    }
    tamed
}

/// What becomes of the invisible characters that join letters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joiners {
    /// In names: two that look the same should be the same.
    Replaced,
    /// In messages, between letters that are not ASCII: Persian and many emoji need them.
    Kept,
}

/// The characters of a text, with wild ones replaced and blanks of all kinds made plain.
fn characters(text: &str, joiners: Joiners) -> impl Iterator<Item = char> {
    let mut marks = 0;
    let mut last = ' ';
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        let c = rest.next()?;
        marks = if is_mark(c) { marks + 1 } else { 0 };
        let joins = joiners == Joiners::Kept
            && matches!(c, '\u{200c}' | '\u{200d}')
            && joinable(last)
            && rest.peek().is_some_and(|next| joinable(*next));
        last = c;
        Some(match c {
            '\n' => '\n',
            '\t' => ' ',
            _ if marks > MARKS || is_wild(c) && !joins => REPLACED,
            c if c.is_whitespace() => ' ',
            c => c,
        })
    })
}

const fn is_ascii_text(c: char) -> bool {
    c.is_ascii() && !c.is_ascii_control()
}

/// Letters and signs that an invisible joiner may stand between.
fn joinable(c: char) -> bool {
    !c.is_ascii() && !is_wild(c) && !c.is_whitespace()
}

fn is_mark(c: char) -> bool {
    matches!(c.general_category(), GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark)
}

/// Whether a character commands a terminal, turns writing round, or cannot be seen.
fn is_wild(c: char) -> bool {
    use GeneralCategory as Category;
    matches!(
        c.general_category(),
        Category::Control
            | Category::Format
            | Category::LineSeparator
            | Category::ParagraphSeparator
            | Category::PrivateUse
    ) || matches!(
        c,
        // Letters and marks without a shape, and places kept free for more of them.
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2065}' | '\u{2800}'
            | '\u{3164}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that nobody sees and that change what others see.
    const WILD: &str = "\u{0}\u{7}\u{8}\u{b}\u{c}\u{1b}\u{7f}\u{85}\u{9b}\u{ad}\u{61c}\u{180e}\
        \u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\
        \u{202e}\u{2060}\u{2064}\u{2066}\u{2067}\u{2068}\u{2069}\u{206f}\u{3164}\u{feff}\u{fff9}\
        \u{fffa}\u{fffb}\u{e000}\u{e0001}\u{e0020}\u{e007f}\u{e0100}";

    #[test]
    fn audit_prog_h7_wild_characters_are_replaced_by_a_visible_one() {
        for c in WILD.chars() {
            let (wild, tame) = (format!("a{c}b"), format!("a{REPLACED}b"));
            assert_eq!(text(&wild), tame, "{c:?}");
            assert_eq!(line(&wild), tame, "{c:?}");
            assert!(json(&wild.clone().into()).is_ascii(), "{c:?}");
        }
    }

    #[test]
    fn audit_prog_h7_a_message_cannot_begin_a_line() {
        for broken in ["hi\n2  bob: mine", "hi\r\n2  bob: mine", "hi\r2  bob: mine"] {
            assert_eq!(text(broken), format!("hi\n{CONTINUED}2 ·bob: mine"));
        }
        for broken in ["hi\u{2028}2  bob", "hi\u{2029}2  bob", "hi\u{85}2  bob", "hi\u{b}2  bob"] {
            assert_eq!(text(broken), format!("hi{REPLACED}2 ·bob"));
        }
        assert_eq!(
            text("fn x() {\r\n\ty;\r\n}"),
            format!("fn x() {{\n{CONTINUED}    y;\n{CONTINUED}}}")
        );
    }

    #[test]
    fn audit_prog_h7_blanks_in_a_row_make_no_columns() {
        assert_eq!(text("ok    5  2026"), "ok ···5 ·2026");
        assert_eq!(text("a\u{3000}\u{2003}\tb"), "a ·····b");
        assert_eq!(text("  two\n  three  four"), format!("··two\n{CONTINUED}  three ·four"));
        assert_eq!(text("one two \n\n three"), format!("one two \n{CONTINUED}\n{CONTINUED} three"));
    }

    #[test]
    fn audit_prog_h7_a_title_is_one_line_without_columns() {
        let title = "X  (ann, bob)\ndeadbeef \u{a0}\u{3000} bank  (bank, bob)\t";
        assert_eq!(line(title), format!("X (ann, bob){REPLACED}deadbeef bank (bank, bob)"));
        assert_eq!(line("\r\n\n"), "\u{fffd}".repeat(3));
        assert_eq!(line("  #Trip "), "#Trip");
    }

    #[test]
    fn audit_prog_h7_marks_do_not_pile_up() {
        let tower = format!("e{}", "\u{301}".repeat(200));
        let tamed = text(&tower);
        assert_eq!(tamed.matches('\u{301}').count(), MARKS);
        assert_eq!(tamed.matches(REPLACED).count(), 200 - MARKS);
        let selectors = format!("\u{2764}{}", "\u{fe0f}".repeat(50));
        assert_eq!(line(&selectors).matches('\u{fe0f}').count(), MARKS);
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for kept in [
            "naïve café",
            "Ὀδυσσεύς",
            "שלום",
            "می\u{200c}خواهم",
            "👨\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}",
        ] {
            assert_eq!(text(kept), kept);
        }
        assert_eq!(line("Καλημέρα 日本 🐦"), "Καλημέρα 日本 🐦");
    }

    #[test]
    fn json_keeps_its_value() {
        let value =
            serde_json::json!({"text": format!("a\"\\\n{WILD}ü日🐦 e\u{301}"), "number": 1.5});
        let tamed = json(&value);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&tamed).unwrap(), value);
        assert!(tamed.contains("ü日🐦") && !tamed.contains('\u{202e}'));
    }
}
