//! One table of TOML to a service or a mount, with errors that tell where; pure.

use super::Service;
use super::chunks::Chunk;
use super::raw::File;
use super::table::Located;
use crate::mount::Mount;

/// Reads a table; keys that nobody knows are passed over, and each becomes one of `errors`.
///
/// # Errors
/// What is wrong with the table as a whole.
pub(super) fn read(
    chunk: &Chunk<'_>,
    errors: &mut Vec<Located>,
) -> Result<(Vec<Service>, Vec<Mount>), Located> {
    if let Some(offset) = chunk.text.find(char::REPLACEMENT_CHARACTER) {
        return Err(Located {
            line: line_at(chunk, offset),
            message: "a byte that is no UTF-8".to_owned(),
        });
    }
    let file: File = match toml::from_str(chunk.text) {
        Ok(file) => file,
        Err(error) => without_unknown_keys(chunk, &error, errors)?,
    };
    let services = file.service.into_iter().map(|raw| {
        raw.checked().map_err(|message| Located {
            line: chunk.line,
            message,
        })
    });
    let mounts = file.mount.into_iter().map(Mount::from).collect();
    Ok((services.collect::<Result<_, _>>()?, mounts))
}

/// The table without the keys that nobody knows, each of which becomes an error of its own; or what else is wrong.
fn without_unknown_keys(
    chunk: &Chunk<'_>,
    first: &toml::de::Error,
    errors: &mut Vec<Located>,
) -> Result<File, Located> {
    let Ok(mut table) = toml::from_str::<toml::Table>(chunk.text) else {
        return Err(located(chunk, first));
    };
    let known = errors.len();
    loop {
        let error = match table.clone().try_into() {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        let Some(line) = remove_unknown(&error, &mut table).map(|key| line_of(chunk, &key)) else {
            return Err(if errors.len() == known {
                located(chunk, first)
            } else {
                let (line, message) = (chunk.line, one_line(error.message()));
                Located { line, message }
            });
        };
        let message = one_line(error.message());
        errors.push(Located { line, message });
    }
}

/// Takes the key that an error calls unknown out of its table; `None` if the error is another.
fn remove_unknown(error: &toml::de::Error, table: &mut toml::Table) -> Option<String> {
    let key = error.message().strip_prefix("unknown field `")?;
    let key = key.split('`').next()?;
    for array in ["service", "mount"] {
        let entries = table.get_mut(array).and_then(toml::Value::as_array_mut);
        let mut entries = entries
            .into_iter()
            .flatten()
            .filter_map(toml::Value::as_table_mut);
        if entries.any(|entry| entry.remove(key).is_some()) {
            return Some(key.to_owned());
        }
    }
    None
}

/// The line on which a key stands, or the table's first.
fn line_of(chunk: &Chunk<'_>, key: &str) -> usize {
    let starts = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
    };
    let offset = chunk.text.lines().position(starts).unwrap_or(0);
    chunk.line.saturating_add(offset)
}

fn line_at(chunk: &Chunk<'_>, offset: usize) -> usize {
    let before = chunk.text.get(..offset).unwrap_or_default();
    chunk.line.saturating_add(before.matches('\n').count())
}

fn located(chunk: &Chunk<'_>, error: &toml::de::Error) -> Located {
    let offset = error
        .span()
        .map_or(0, |span| span.start)
        .min(chunk.text.len());
    let before = chunk.text.get(..offset).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let content = chunk
        .text
        .get(start..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default();
    let message = match error.message() {
        "invalid type: map, expected a sequence" => {
            "two brackets begin a table: `[[service]]`, `[[mount]]`"
        }
        message => message,
    };
    let key = content.split_once('=').map(|(key, _)| key.trim());
    let message = match key.filter(|key| !message.contains(&format!("`{key}`"))) {
        Some(key) => format!("key `{key}`: {message}"),
        None => message.to_owned(),
    };
    Located {
        line: line_at(chunk, offset),
        message: one_line(&message),
    }
}

fn one_line(message: &str) -> String {
    message.replace('\n', " ")
}
