//! The order of steps, as data; pure.
//!
//! ```text
//! load: read and remove each file → sync the folder → mix both, and credit what deserves it
//! keep: read each file
//! save: draw → write seed.no-credit → sync it → rename to seed.credit → sync the folder
//! ```
//!
//! Invariants, whatever step is the last before a power cut:
//! - A seed that went into the pool is never on the disk: its removal is durable *before* its use.
//! - A new seed bears the name that earns credit only when it is whole on the disk.
//! - So a cut only downgrades: from creditable to not, or to a seed that was never used.
//!
//! SeedRNG takes one file after the other, each with its own sync.
//! Here both are gone before either is used: it costs one sync less, and on a file system without a journal a cut
//! during the rename can leave one seed under both names.
//!
//! A group ends early at a step that fails, and what it read is not used; the other groups are performed all the same.

/// The two files of a seed folder, named as SeedRNG names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `seed.no-credit`: mixed, never credited.
    NoCredit,
    /// `seed.credit`: mixed, and credited if this machine made it.
    Credit,
}

impl Name {
    /// The file's name in the seed folder.
    pub const fn file(self) -> &'static str {
        match self {
            Self::NoCredit => "seed.no-credit",
            Self::Credit => "seed.credit",
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.file())
    }
}

/// One thing to do; each but [`Step::Mix`] is at most one change of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read a seed; a file that is not there ends the group.
    Read(Name),
    /// Remove the seed that was read.
    Remove(Name),
    /// Make the removal of the seeds that were read durable; if there were none, the group ends.
    SyncRemoval,
    /// Mix the seeds that were read into the pool, and hash them into the seed to come.
    Mix,
    /// Hash the seeds that were read into the seed to come, and leave them where they are.
    Keep,
    /// Draw a new seed from the pool and hash the old ones into it.
    Draw,
    /// Write the new seed as `seed.no-credit`.
    Write,
    /// Make the content of the new seed durable.
    SyncSeed,
    /// Rename the new seed to `seed.credit`, if it is creditable.
    Promote,
    /// Make the new seed's name durable.
    SyncFolder,
}

/// Steps that depend on each other.
pub type Group = &'static [Step];

/// Use what is on the disk, once.
pub const LOAD: [Group; 3] = [
    &[Step::Read(Name::NoCredit), Step::Remove(Name::NoCredit)],
    &[Step::Read(Name::Credit), Step::Remove(Name::Credit)],
    &[Step::SyncRemoval, Step::Mix],
];

/// Let the new seed succeed the old ones, which stay.
pub const KEEP: [Group; 3] = [
    &[Step::Read(Name::NoCredit)],
    &[Step::Read(Name::Credit)],
    &[Step::Keep],
];

/// Leave a seed for the next boot; after [`LOAD`] or [`KEEP`].
pub const SAVE: [Group; 1] = [&[
    Step::Draw,
    Step::Write,
    Step::SyncSeed,
    Step::Promote,
    Step::SyncFolder,
]];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_durably_gone_before_its_use() {
        let steps = LOAD.concat();
        let at = |wanted| steps.iter().position(|step| *step == wanted).unwrap();
        for name in [Name::NoCredit, Name::Credit] {
            assert!(at(Step::Read(name)) < at(Step::Remove(name)));
            assert!(at(Step::Remove(name)) < at(Step::SyncRemoval));
        }
        assert!(at(Step::SyncRemoval) < at(Step::Mix));
    }

    #[test]
    fn a_seed_is_whole_before_it_is_creditable() {
        let steps = SAVE.concat();
        let at = |wanted| steps.iter().position(|step| *step == wanted).unwrap();
        assert!(at(Step::Write) < at(Step::SyncSeed));
        assert!(at(Step::SyncSeed) < at(Step::Promote));
        assert!(at(Step::Promote) < at(Step::SyncFolder));
    }
}
