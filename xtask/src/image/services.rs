//! `services.toml` of the device from the configuration's tables; pure.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde::Serialize;

use super::config::Config;

#[derive(Serialize)]
struct File<'config> {
    service: Vec<&'config toml::Table>,
}

/// The text of `services.toml`.
///
/// # Errors
/// A table that cannot be written as TOML.
pub(crate) fn render(config: &Config) -> Result<String> {
    let mut text = "# Made by the image builder from gokrazy.toml.\n".to_owned();
    if !config.service.is_empty() {
        let file = File {
            service: config.service.iter().map(toml::Spanned::get_ref).collect(),
        };
        let tables = toml::to_string(&file).context("write services.toml")?;
        let _ = write!(text, "\n{tables}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_the_user_wrote_comes_through() {
        let source = "[[service]]\nname = 'x'\ncommand = ['/user/x', '-a']\nenv = { A = 'b' }\n[[service]]\nname = 'y'\n";
        let config = Config::parse(Path::new("x"), source).unwrap();
        let text = render(&config).unwrap();
        let again = Config::parse(Path::new("x"), &text).unwrap();
        let tables = |config: &Config| -> Vec<toml::Table> {
            config
                .service
                .iter()
                .map(|table| table.get_ref().clone())
                .collect()
        };
        assert_eq!(tables(&again), tables(&config));
    }
}
