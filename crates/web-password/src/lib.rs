//! The web password: made into a hash where the image is built, checked where web runs; pure.
//!
//! Both sides share this crate so that they cannot disagree on the format, which is a PHC string of Argon2id
//! (RFC 9106) and so can be made by other tools too (`argon2 SALT -id -e`).
//! Reading the file, remembering who has shown the right password and slowing down guesses is web's work.
//!
//! Argon2id rather than PBKDF2 or scrypt: a Cortex-A53 without SHA extensions needs over a second for the PBKDF2
//! rounds that are recommended today, while what Argon2id costs is memory, of which a 512 MB board can spare
//! some megabytes for a moment; scrypt ties time to memory with one knob, and is no smaller once linked.

use std::fmt;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc};
use argon2::{Algorithm, Argon2, Params, Version};

/// Bytes of a salt; it must differ from device to device and need not be secret.
pub const SALT_LENGTH: usize = 16;

/// Longest password, in bytes.
pub const MAX_PASSWORD: usize = 256;

/// Most memory that checking a password may take, in KiB: more would endanger a board with 512 MB.
const MAX_MEMORY_KIB: u32 = 32 * 1024;
/// Most passes over that memory.
const MAX_PASSES: u32 = 16;
/// Most lanes; they are computed one after the other.
const MAX_LANES: u32 = 4;

/// How much work one guess costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// For a password that a person chose: 7 MiB and five passes, the smallest memory that OWASP still recommends.
    Chosen,
    /// For a password of at least 100 random bits, which nobody guesses whatever a guess costs: 1 MiB, one pass.
    Random,
}

impl Cost {
    fn params(self) -> Result<Params, argon2::Error> {
        match self {
            Self::Chosen => Params::new(7 * 1024, 5, 1, None),
            Self::Random => Params::new(1024, 1, 1, None),
        }
    }
}

/// Why a password was not made into a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashError {
    /// An empty password would let everybody in.
    Empty,
    /// It has more than [`MAX_PASSWORD`] bytes.
    TooLong,
    /// It holds a control character, which no browser can send.
    ControlCharacter,
    /// The hash function refused; the text says why.
    Refused(String),
}

impl fmt::Display for HashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the password is empty"),
            Self::TooLong => write!(f, "the password is longer than {MAX_PASSWORD} bytes"),
            Self::ControlCharacter => f.write_str("the password holds a control character"),
            Self::Refused(why) => write!(f, "hash the password: {why}"),
        }
    }
}

impl std::error::Error for HashError {}

/// The PHC string of `password`, without a line break; same arguments, same string.
///
/// # Errors
/// A password that is empty, too long or cannot be typed into a browser.
pub fn hash(password: &str, salt: &[u8; SALT_LENGTH], cost: Cost) -> Result<String, HashError> {
    if password.is_empty() {
        return Err(HashError::Empty);
    }
    if password.len() > MAX_PASSWORD {
        return Err(HashError::TooLong);
    }
    if password.chars().any(char::is_control) {
        return Err(HashError::ControlCharacter);
    }
    let params = cost
        .params()
        .map_err(|error| HashError::Refused(error.to_string()))?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(password.as_bytes(), salt)
        .map(|hash: phc::PasswordHash| hash.to_string())
        .map_err(|error| HashError::Refused(error.to_string()))
}

/// A hash as it stands in the password file, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPassword {
    hash: phc::PasswordHash,
}

/// Why a text is no stored password; it never repeats the text, which may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Nothing, or nothing but blanks.
    Empty,
    /// Not one PHC string; perhaps the password itself, in clear.
    Malformed,
    /// A PHC string of another function than Argon2id version 19, or one without salt or hash.
    Unsupported,
    /// Its parameters ask for more memory or time than a small board should spend.
    TooCostly,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Malformed => f.write_str("it is not one PHC string (`$argon2id$v=19$…`)"),
            Self::Unsupported => {
                f.write_str("its PHC string is not a complete one of argon2id, v=19")
            }
            Self::TooCostly => write!(
                f,
                "its parameters exceed m={MAX_MEMORY_KIB},t={MAX_PASSES},p={MAX_LANES}"
            ),
        }
    }
}

impl std::error::Error for ParseError {}

impl StoredPassword {
    /// Reads the text of a password file; blanks around the PHC string are passed over.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        let hash = phc::PasswordHash::new(text).map_err(|_| ParseError::Malformed)?;
        let complete = hash.salt.is_some() && hash.hash.is_some();
        // 19 is 0x13, the version that RFC 9106 describes.
        if hash.algorithm.as_str() != "argon2id" || hash.version != Some(19) || !complete {
            return Err(ParseError::Unsupported);
        }
        let params = Params::try_from(&hash).map_err(|_| ParseError::Unsupported)?;
        let costly = params.m_cost() > MAX_MEMORY_KIB
            || params.t_cost() > MAX_PASSES
            || params.p_cost() > MAX_LANES;
        if costly {
            return Err(ParseError::TooCostly);
        }
        Ok(Self { hash })
    }

    /// Whether `password` is the one: takes as long as its [`Cost`] says, and tells nothing by its time.
    pub fn verify(&self, password: &[u8]) -> bool {
        password.len() <= MAX_PASSWORD
            && PasswordVerifier::<phc::PasswordHash>::verify_password(
                &Argon2::default(),
                password,
                &self.hash,
            )
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; SALT_LENGTH] = *b"0123456789abcdef";

    /// Made by the reference implementation: `echo -n secret | argon2 0123456789abcdef -id -e -k 1024 -t 1 -p 1`.
    const REFERENCE: &str = "$argon2id$v=19$m=1024,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$M4074Iv3KwOnKN2ICtqv1H2ChAW7ustvRd8aCfT7DJw";

    #[test]
    fn what_is_hashed_verifies_and_nothing_else_does() {
        let text = hash("secret", &SALT, Cost::Random).unwrap();
        assert_eq!(text, REFERENCE);
        let stored = StoredPassword::parse(&format!(" {text}\n")).unwrap();
        assert!(stored.verify(b"secret"));
        for wrong in ["", "secre", "secret ", "Secret"] {
            assert!(!stored.verify(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(!stored.verify(&[b'x'; MAX_PASSWORD + 1]));
    }

    #[test]
    fn a_chosen_password_costs_what_owasp_asks() {
        let text = hash("secret", &SALT, Cost::Chosen).unwrap();
        assert!(text.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{text}");
        assert!(StoredPassword::parse(&text).unwrap().verify(b"secret"));
    }

    #[test]
    fn passwords_that_cannot_be_used_are_refused() {
        let check = |password: &str, expected| {
            assert_eq!(hash(password, &SALT, Cost::Random), Err(expected));
        };
        check("", HashError::Empty);
        check(&"x".repeat(MAX_PASSWORD + 1), HashError::TooLong);
        check("two\nlines", HashError::ControlCharacter);
    }

    #[test]
    fn texts_that_are_no_stored_password_say_why() {
        let tail = "$MDEyMzQ1Njc4OWFiY2RlZg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let rows = [
            (String::new(), ParseError::Empty),
            (" \n".to_owned(), ParseError::Empty),
            ("correct horse".to_owned(), ParseError::Malformed),
            (
                format!("$argon2id$v=19$m=1024,t=1,p=1{tail}\nmore"),
                ParseError::Malformed,
            ),
            (
                format!("$argon2i$v=19$m=1024,t=1,p=1{tail}"),
                ParseError::Unsupported,
            ),
            (
                format!("$argon2id$v=16$m=1024,t=1,p=1{tail}"),
                ParseError::Unsupported,
            ),
            (
                "$argon2id$v=19$m=1024,t=1,p=1".to_owned(),
                ParseError::Unsupported,
            ),
            (
                format!("$argon2id$v=19$m=1048576,t=1,p=1{tail}"),
                ParseError::TooCostly,
            ),
            (
                format!("$argon2id$v=19$m=1024,t=1000000,p=1{tail}"),
                ParseError::TooCostly,
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(StoredPassword::parse(&text), Err(expected), "{text}");
        }
    }
}
