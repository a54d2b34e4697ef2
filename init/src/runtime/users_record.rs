//! Which user each service got, remembered over boots: `<home-dir>/.users`, lines of `<id> <service>`; pure.
//!
//! A record that is lost or damaged is made up from the owners of the homes, since those are what a user is for.

use std::collections::{BTreeMap, HashSet};

use gokrazy_core::users;

use crate::service::is_name;

/// Users that have been given out, by service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    by_name: BTreeMap<String, u32>,
    taken: HashSet<u32>,
}

impl Record {
    /// Reads a record; a line that says nothing, or the contrary of an earlier one, is passed over.
    pub fn parse(text: &str) -> Self {
        let mut record = Self::default();
        for line in text.lines() {
            if let Some((id, name)) = line.split_once(' ')
                && let Ok(id) = id.parse()
            {
                record.adopt(name, id);
            }
        }
        record
    }

    /// Takes in what is known from elsewhere; says whether it was new and contradicts nothing.
    pub fn adopt(&mut self, name: &str, id: u32) -> bool {
        let is_new = is_name(name)
            && (users::AUTO_FIRST..=users::AUTO_LAST).contains(&id)
            && !self.by_name.contains_key(name)
            && !self.taken.contains(&id);
        if is_new {
            self.by_name.insert(name.to_owned(), id);
            self.taken.insert(id);
        }
        is_new
    }

    /// The user of a service, if it has one.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// Whether a service has that user.
    pub fn is_taken(&self, id: u32) -> bool {
        self.taken.contains(&id)
    }

    /// The record as it is written.
    pub fn render(&self) -> String {
        let lines = self.by_name.iter();
        lines.map(|(name, id)| format!("{id} {name}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_round_trips() {
        let mut record = Record::default();
        assert!(record.adopt("b", 10_002) && record.adopt("a", 10_001));
        assert_eq!(record.render(), "10001 a\n10002 b\n");
        assert_eq!(Record::parse(&record.render()), record);
    }

    #[test]
    fn garbage_costs_its_own_lines_alone() {
        let text = "10001 a\nx\n\n0 root\n99999 far\n10001 thief\n10007 a\n10002 ../b\n10003 c d\n\u{fffd}\u{0}\n10004 d";
        let record = Record::parse(text);
        assert_eq!(record.render(), "10001 a\n10004 d\n");
    }

    #[test]
    fn nonsense_never_gives_two_services_one_user() {
        let mut state = 3_u32;
        for _ in 0..500 {
            let text: String = (0..80)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ['1', '0', '0', '0', ' ', '\n', 'a', 'b', '-'][(state >> 24) as usize % 9]
                })
                .collect();
            let record = Record::parse(&text);
            assert_eq!(record.by_name.len(), record.taken.len(), "{text:?}");
        }
    }
}
