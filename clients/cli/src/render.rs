//! Output: tables for people, JSON for programs. JSON uses the API's field names; a list is one object a line.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::failure::Failure;
use crate::terminal;

/// How a command prints.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: one object a line
    Json,
}

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).expect("build.rs wrote valid descriptors"))
}

/// Names of a message's fields.
#[cfg(test)]
pub fn fields_of<M: Name>() -> Vec<String> {
    let message =
        pool().get_message_by_name(&M::full_name()).expect("every message stands in the descriptors");
    message.fields().map(|field| field.name().to_owned()).collect()
}

/// The message as JSON, every field present, names as in `proto/`, 64-bit numbers as numbers.
pub fn json<M: Message + Name>(message: &M) -> serde_json::Value {
    let descriptor =
        pool().get_message_by_name(&M::full_name()).expect("every message stands in the descriptors");
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).expect("a message has its own descriptor's fields");
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(false)
        .skip_default_fields(false);
    dynamic.serialize_with_options(serde_json::value::Serializer, &options).expect("a message is valid JSON")
}

/// Prints one line to standard output.
///
/// # Errors
/// The output is closed or full; a closed pipe ends the program quietly, as `head` expects.
pub fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    finish(
        out.write_all(text.as_ref().as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush()),
    )
}

/// As [`line`], of text that others chose: on a terminal without control characters but tabs and ends of lines.
///
/// # Errors
/// As [`line`].
pub fn text(text: &str) -> Result<(), Failure> {
    if !std::io::stdout().is_terminal() {
        return line(text);
    }
    let kept = |c: char| matches!(c, '\t' | '\n') || !c.is_control();
    line(text.chars().map(|c| if kept(c) { c } else { '\u{fffd}' }).collect::<String>())
}

/// Prints messages as JSON, one a line.
///
/// # Errors
/// As [`line`].
pub fn json_lines<'m, M: Message + Name + 'm>(
    messages: impl IntoIterator<Item = &'m M>,
) -> Result<(), Failure> {
    messages.into_iter().try_for_each(|message| line(json(message).to_string()))
}

/// Prints a message as indented JSON.
///
/// # Errors
/// As [`line`].
pub fn json_pretty<M: Message + Name>(message: &M) -> Result<(), Failure> {
    line(format!("{:#}", json(message)))
}

/// Writes bytes of a container, exactly, and at once.
///
/// # Errors
/// As [`line`].
pub fn bytes(data: &[u8], is_stderr: bool) -> Result<(), Failure> {
    if is_stderr {
        let mut err = std::io::stderr().lock();
        finish(err.write_all(data).and_then(|()| err.flush()))
    } else {
        let mut out = std::io::stdout().lock();
        finish(out.write_all(data).and_then(|()| out.flush()))
    }
}

fn finish(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            terminal::restore();
            std::process::exit(128 + 13)
        }
        Err(error) => Err(Failure::output(&error)),
        Ok(()) => Ok(()),
    }
}

/// A table without control characters: columns as wide as their widest cell, three spaces between, nothing behind the
/// last.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .chain([header[column].chars().count()])
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    let mut push = |cells: Vec<&str>| {
        let mut row = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            row.push_str(cell);
            row.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 3));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    push(header.to_vec());
    for row in &rows {
        push(row.iter().map(String::as_str).collect());
    }
    text.pop();
    text
}

/// The first 12 digits of an id, with the algorithm of a digest left out.
pub fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// The text cut to `width` characters, the last of them `…` if it was longer.
pub fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Text of a container or registry without control characters, so that it cannot drive the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1::types;

    #[test]
    fn columns_line_up() {
        let text =
            table(&["A", "LONG"], &[vec!["wide cell".into(), "x".into()], vec!["y".into(), String::new()]]);
        assert_eq!(text, "A           LONG\nwide cell   x\ny");
    }

    #[test]
    fn a_cell_cannot_drive_the_terminal() {
        assert_eq!(table(&["A"], &[vec!["x\u{1b}[2J\ny".into()]]), "A\nx\u{fffd}[2J\u{fffd}y");
    }

    #[test]
    fn json_has_the_names_of_the_api() {
        let container = types::Container {
            host_pid: 7,
            state: types::container::State::Running.into(),
            ..Default::default()
        };
        let value = json(&container);
        assert_eq!(value["host_pid"], 7);
        assert_eq!(value["state"], "STATE_RUNNING");
        assert_eq!(value["name"], "");
    }

    #[test]
    fn ids_are_shortened_and_text_is_cut() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(shorten("abcdef", 4), "abc…");
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
