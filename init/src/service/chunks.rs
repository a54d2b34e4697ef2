//! Cuts a text into its tables, so that a broken one costs nothing but itself; pure.

/// One table with what belongs to it, or what stands before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Line where it starts, from 1.
    pub line: usize,
    /// Its lines.
    pub text: &'a str,
}

/// Tables that are arrays, and that others belong to: `[service.env]`.
const ARRAYS: [&str; 2] = ["service", "mount"];

impl Chunk<'_> {
    /// Whether it is a table of services or mounts.
    pub fn is_ours(&self) -> bool {
        self.text.lines().next().is_some_and(begins_array)
    }
}

/// Cuts `text` at the head of each table; together, the chunks are the text.
///
/// A line of a text of several lines is no head, whatever it looks like, but for `[[service]]` and `[[mount]]`: where
/// the end of such a text was forgotten, the next table stands for it.
pub fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut starts = vec![(1, 0)];
    let mut offset: usize = 0;
    let mut inside = Inside::Table;
    for (line, content) in (1..).zip(text.split_inclusive('\n')) {
        let is_head = begins_array(content) || (inside == Inside::Table && begins_table(content));
        if is_head {
            inside = Inside::Table;
            if offset > 0 {
                starts.push((line, offset));
            }
        }
        inside = inside.after(content);
        offset = offset.saturating_add(content.len());
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|(_, offset)| *offset)
        .chain([text.len()]);
    let pairs = starts.iter().zip(ends);
    pairs
        .filter_map(|((line, start), end)| {
            Some(Chunk {
                line: *line,
                text: text.get(*start..end)?,
            })
        })
        .collect()
}

/// `[[service]]` or `[[mount]]`.
fn begins_array(line: &str) -> bool {
    let inner = line
        .trim_start()
        .strip_prefix("[[")
        .and_then(|rest| rest.split_once("]]"));
    inner.is_some_and(|(name, _)| ARRAYS.contains(&name.trim()))
}

/// A head that is not of a table inside one of ours.
fn begins_table(line: &str) -> bool {
    let Some(name) = line.trim_start().strip_prefix('[') else {
        return false;
    };
    let first = name.split(['.', ']']).next().unwrap_or_default().trim();
    !(ARRAYS.contains(&first) && name.contains('.'))
}

/// What a line ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// Keys and values.
    Table,
    /// A text between `'''`.
    Literal,
    /// A text between `"""`.
    Basic,
}

impl Inside {
    /// What the line ends in that begins in `self`.
    fn after(self, line: &str) -> Self {
        let mut inside = self;
        let mut rest = line;
        while !rest.is_empty() {
            let length;
            (inside, length) = inside.step(rest);
            rest = rest.get(length..).unwrap_or_default();
        }
        inside
    }

    /// What comes after the next piece of `rest`, and its length in bytes, which is never 0.
    fn step(self, rest: &str) -> (Self, usize) {
        let one = rest.chars().next().map_or(1, char::len_utf8);
        match self {
            Self::Table if rest.starts_with("'''") => (Self::Literal, 3),
            Self::Table if rest.starts_with("\"\"\"") => (Self::Basic, 3),
            Self::Table if rest.starts_with('#') => (Self::Table, rest.len()),
            Self::Table if rest.starts_with(['\'', '"']) => (Self::Table, quoted(rest)),
            Self::Literal if rest.starts_with("'''") => (Self::Table, 3),
            Self::Basic if rest.starts_with("\"\"\"") => (Self::Table, 3),
            Self::Basic if rest.starts_with('\\') => {
                let next = rest.chars().nth(1).map_or(0, char::len_utf8);
                (Self::Basic, one.saturating_add(next))
            }
            Self::Table | Self::Literal | Self::Basic => (self, one),
        }
    }
}

/// The length of the text in quotes that `rest` begins with; up to the line's end if it has none.
fn quoted(rest: &str) -> usize {
    let quote = rest.chars().next().unwrap_or('"');
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return at.saturating_add(1);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[usize]) {
        let found = chunks(text);
        assert_eq!(
            found.iter().map(|chunk| chunk.line).collect::<Vec<_>>(),
            want,
            "{text}"
        );
        assert_eq!(
            found.iter().map(|chunk| chunk.text).collect::<String>(),
            text
        );
    }

    #[test]
    fn a_text_is_cut_at_its_tables() {
        check("", &[1]);
        check(
            "[[service]]\na = 1\n[service.env]\nX = 'y'\n[[mount]]\n[other]\nb = 2\n[[service]]",
            &[1, 5, 6, 8],
        );
        check("# first\n[[ service ]] # a\n\n[[file]]\n", &[1, 2, 4]);
        check("[services]\n[service]\n", &[1, 2]);
    }

    #[test]
    fn a_script_may_look_like_tables() {
        check(
            "[[service]]\nx = '''\n[ -f /a ] && b\n[[ -f /a ]]\n'''\n[[service]]\n",
            &[1, 6],
        );
        check(
            "[[service]]\nx = \"\"\"\n[ a\\\"\"\" ]\n[b]\n\"\"\"\n[c]\n",
            &[1, 6],
        );
        check("[[service]]\nx = 'it''s' # '''\n[c]\n", &[1, 3]);
        check("[[service]]\nx = \"a \\\" ''' \" \n[c]\n", &[1, 3]);
    }

    #[test]
    fn a_text_without_an_end_costs_its_own_table_alone() {
        check(
            "[[service]]\nx = '''\n[a]\n[[service]]\n[b]\n[[mount]]",
            &[1, 4, 5, 6],
        );
    }

    #[test]
    fn nonsense_is_cut_somewhere() {
        let mut state = 7_u32;
        for _ in 0..2000 {
            let text: String = (0..60)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ['[', ']', '\'', '"', '\\', '\n', 'ä', '#', '.', 's']
                        [(state >> 24) as usize % 10]
                })
                .collect();
            assert_eq!(
                chunks(&text)
                    .iter()
                    .map(|chunk| chunk.text)
                    .collect::<String>(),
                text
            );
        }
    }
}
