//! A Rust file as tidy sees it: code apart from comments, literals and its inline test module; pure.
//!
//! This is a lexer and no parser: it knows where a string or a comment begins and ends, which is all that the
//! rules ask, and it never needs to follow the language.

/// A string literal of the production part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Literal {
    /// Line, from 1.
    pub(crate) line: usize,
    /// What stands between the quotes, escapes untouched.
    pub(crate) text: String,
}

/// A Rust file, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The lines outside the inline test module with comments and literals blanked, from line 1 on.
    pub(crate) code: Vec<String>,
    /// String literals outside the inline test module.
    pub(crate) literals: Vec<Literal>,
    /// The inner documentation (`//!`), one string, line breaks kept.
    pub(crate) module_doc: String,
    /// Names of modules under `#[cfg(test)]`.
    pub(crate) test_modules: Vec<String>,
    /// Physical lines outside the inline test module, comments and blanks included.
    pub(crate) production_lines: usize,
}

impl Source {
    /// Takes `text` apart.
    pub(crate) fn read(text: &str) -> Self {
        let (masked, literals) = mask(text);
        let lines: Vec<&str> = masked.lines().collect();
        let tests = test_modules(&lines);
        let in_tests = |line: usize| {
            tests
                .iter()
                .any(|module| (module.first..=module.last).contains(&line))
        };
        Self {
            production_lines: (1..=lines.len()).filter(|line| !in_tests(*line)).count(),
            code: lines
                .iter()
                .enumerate()
                .map(|(index, line)| {
                    if in_tests(index + 1) {
                        String::new()
                    } else {
                        (*line).to_owned()
                    }
                })
                .collect(),
            literals: literals
                .into_iter()
                .filter(|literal| !in_tests(literal.line))
                .collect(),
            module_doc: module_doc(text),
            test_modules: tests.into_iter().map(|module| module.name).collect(),
        }
    }
}

fn module_doc(text: &str) -> String {
    text.lines()
        .skip_while(|line| line.trim().is_empty() || line.starts_with("#!"))
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("\n")
}

struct TestModule {
    name: String,
    first: usize,
    last: usize,
}

/// Finds modules under `#[cfg(test)]`; lines count from 1.
fn test_modules(lines: &[&str]) -> Vec<TestModule> {
    let mut found = Vec::new();
    let mut index = 0;
    while let Some(line) = lines.get(index) {
        let first = index + 1;
        index += 1;
        if line.trim() != "#[cfg(test)]" {
            continue;
        }
        // Other attributes, such as an `expect`, may stand between.
        while lines
            .get(index)
            .is_some_and(|line| line.trim_start().starts_with("#["))
        {
            index += 1;
        }
        let Some(name) = lines.get(index).and_then(|line| module_name(line)) else {
            continue;
        };
        let length = block_length(lines.get(index..).unwrap_or_default());
        index += length;
        found.push(TestModule {
            name,
            first,
            last: index,
        });
    }
    found
}

fn module_name(line: &str) -> Option<String> {
    let rest = line
        .trim()
        .strip_prefix("pub(crate) ")
        .unwrap_or(line.trim());
    let name = rest.strip_prefix("mod ")?;
    Some(name.trim_end_matches([' ', '{', ';', '}']).to_owned())
}

/// Lines of the item that begins in the first line: up to its closing brace or its semicolon.
fn block_length(lines: &[&str]) -> usize {
    let mut depth = 0_usize;
    for (index, line) in lines.iter().enumerate() {
        for character in line.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let ends = line.trim_end().ends_with(['}', ';']);
        if depth == 0 && ends {
            return index + 1;
        }
    }
    lines.len()
}

/// Blanks comments and the inside of literals, keeping line breaks; also returns the string literals.
fn mask(text: &str) -> (String, Vec<Literal>) {
    let mut masked = String::with_capacity(text.len());
    let mut literals = Vec::new();
    let mut rest = text;
    let mut line = 1;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let piece = piece(rest, first, previous);
        let (taken, after) = rest.split_at(piece.length);
        if let Some((open, close)) = piece.string {
            let inside = taken
                .get(open..taken.len().saturating_sub(close))
                .unwrap_or_default();
            literals.push(Literal {
                line,
                text: inside.to_owned(),
            });
        }
        match piece.blank {
            true => masked.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            false => masked.push_str(taken),
        }
        line += taken.matches('\n').count();
        previous = taken.chars().next_back().unwrap_or(' ');
        rest = after;
    }
    (masked, literals)
}

/// What stands at the head of the rest of the file.
struct Piece {
    /// Bytes.
    length: usize,
    /// Whether it is to be blanked.
    blank: bool,
    /// For a string: bytes of its opening and its closing.
    string: Option<(usize, usize)>,
}

fn piece(rest: &str, first: char, previous: char) -> Piece {
    let blank = |length| Piece {
        length,
        blank: true,
        string: None,
    };
    if rest.starts_with("//") {
        return blank(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return blank(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    let word_goes_on = previous.is_alphanumeric() || previous == '_';
    if !word_goes_on && let Some((open, close)) = raw_string(rest) {
        let length = rest
            .get(open..)
            .and_then(|inside| inside.find(&close))
            .map_or(rest.len(), |end| open + end + close.len());
        return Piece {
            length,
            blank: true,
            string: Some((open, close.len())),
        };
    }
    match first {
        '"' => Piece {
            length: quoted(rest, '"'),
            blank: true,
            string: Some((1, 1)),
        },
        '\'' if is_character(rest) => blank(quoted(rest, '\'')),
        _ => Piece {
            length: first.len_utf8(),
            blank: false,
            string: None,
        },
    }
}

/// The length of `r##"` and the closing that belongs to it, if `rest` begins a raw string.
fn raw_string(rest: &str) -> Option<(usize, String)> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        rest.starts_with(&format!("{prefix}\"")) || rest.starts_with(&format!("{prefix}#"))
    })?;
    let hashes = rest
        .get(prefix.len()..)?
        .chars()
        .take_while(|c| *c == '#')
        .count();
    let open = prefix.len() + hashes + 1;
    let is_string = rest.get(..open)?.ends_with('"');
    is_string.then(|| (open, format!("\"{}", "#".repeat(hashes))))
}

/// Whether the quote begins a character and not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut inside = rest.chars().skip(1);
    match inside.next() {
        Some('\\') => true,
        Some(_) => inside.next() == Some('\''),
        None => false,
    }
}

/// Length of the literal in quotes that `rest` begins with.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + quote.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_literals(text: &str, want: &[(usize, &str)]) {
        let source = Source::read(text);
        let got: Vec<_> = source
            .literals
            .iter()
            .map(|literal| (literal.line, literal.text.as_str()))
            .collect();
        assert_eq!(got, want);
    }

    #[test]
    fn literals_are_found_and_comments_are_not() {
        check_literals("let a = \"/run/x\"; // \"/run/y\"\n", &[(1, "/run/x")]);
        check_literals(
            "/* \"no\" */ f(b\"one\", \"a\\\"b\")",
            &[(1, "one"), (1, "a\\\"b")],
        );
        check_literals("let c = '\"';\nlet d: &'a str = \"x\";", &[(2, "x")]);
        check_literals("let c = '\\'';\n\n\"\"", &[(3, "")]);
        check_literals("let raw = r#\"a\"b\"#; \"c\"", &[(1, "a\"b"), (1, "c")]);
        check_literals("two(\"a\\\n   b\", \"c\")", &[(1, "a\\\n   b"), (2, "c")]);
    }

    #[test]
    fn the_inline_test_module_is_left_out() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() { \"}\"; }\n}\nfn c() {}\n";
        let source = Source::read(text);
        assert_eq!(source.production_lines, 3);
        assert_eq!(source.test_modules, ["tests"]);
        assert!(source.literals.is_empty());
        assert!(source.code.iter().all(|line| !line.contains("fn b")));
    }

    #[test]
    fn a_test_module_in_a_file_of_its_own_ends_at_the_semicolon() {
        let source = Source::read("#[cfg(test)]\n#[expect(x)]\nmod checks;\nfn a() {}\n");
        assert_eq!(source.production_lines, 1);
        assert_eq!(source.test_modules, ["checks"]);
    }

    #[test]
    fn module_documentation_is_what_stands_at_the_top() {
        assert_eq!(
            Source::read("//! One; pure.\n//! Two.\n\n//! Not.\n").module_doc,
            "One; pure.\nTwo."
        );
        assert_eq!(Source::read("#![no_std]\n\n//! One.\n").module_doc, "One.");
        assert_eq!(Source::read("use a;\n//! Late.\n").module_doc, "");
    }
}
