//! Users by name: their number, their group and the groups that count them in (`passwd(5)`, `group(5)`).

use std::fs;

use gokrazy_core::{paths, users};

/// What the machine's tables say of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Id of its own group.
    pub gid: u32,
    /// Ids of the groups that it is a member of.
    pub further: Vec<u32>,
}

/// Looks a user up in the machine's tables, or among ours, which need none.
///
/// # Errors
/// That there is no user of that name, for people.
pub fn lookup(name: &str) -> Result<Account, String> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let ours = || {
        let user = users::ALL.iter().find(|user| user.name == name)?;
        Some((user.id, user.id))
    };
    let (uid, gid) = in_passwd(&read(paths::ETC_PASSWD), name)
        .or_else(ours)
        .ok_or_else(|| format!("there is no user `{name}`"))?;
    let further = in_group(&read(paths::ETC_GROUP), name);
    Ok(Account { uid, gid, further })
}

/// User and group id of a name.
fn in_passwd(text: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = text
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Ids of the groups that name a user among their members.
fn in_group(text: &str, name: &str) -> Vec<u32> {
    let member_of = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let id = fields.next()?.parse().ok()?;
        let mut members = fields.next()?.split(',');
        members.any(|member| member == name).then_some(id)
    };
    text.lines().filter_map(member_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up() {
        let text = "root:x:0:0::/:/bin/sh\nbad\nme:x:1000:100::/home/me:\n";
        assert_eq!(in_passwd(text, "me"), Some((1000, 100)));
        assert_eq!(in_passwd(text, "bad"), None);
        assert_eq!(in_passwd(text, "nobody"), None);
    }

    #[test]
    fn a_member_of_groups_is_found_by_its_whole_name() {
        let text = "root:x:0:\nvideo:x:44:you,me\nbad:x:men:me\naudio:x:29:mean,me\nnone:x:7\n";
        assert_eq!(in_group(text, "me"), [44, 29]);
        assert!(in_group(text, "m").is_empty());
    }
}
