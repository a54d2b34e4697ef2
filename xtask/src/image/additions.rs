//! The kernel and its modules for machines that boot no image of ours.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::cache::Cache;
use super::kernel::Kernel;
use super::modules::{self, Signatures};
use super::tree::Tree;
use super::{Board, root};
use crate::packages;
use crate::workspace::Workspace;

/// The kernel of a board's package, as it came.
///
/// # Errors
/// It cannot be had.
pub(crate) fn kernel(workspace: &Workspace, board: Board) -> Result<PathBuf> {
    Ok(Kernel::packaged(&packages::ensure(workspace, board, false)?)?.image)
}

/// Adds modules of the board's packaged kernel to `tree`, with all that they need and the index files.
///
/// # Errors
/// The kernel cannot be had, or lacks one of `names`.
pub(crate) fn add_modules(
    workspace: &Workspace,
    board: Board,
    names: &[&str],
    tree: &mut Tree,
) -> Result<()> {
    let kernel = Kernel::packaged(&packages::ensure(workspace, board, false)?)?;
    let cache = Cache::of(workspace, board)?;
    let index = modules::index(&cache, &kernel.modules, &kernel.release, &kernel.key)?;
    if let Some(name) = index.unknown(names) {
        bail!("kernel {} has no module {name}", kernel.release);
    }
    let paths = index.closure(names);
    let folder = modules::unpacked(&cache, &kernel, &paths, Signatures::Removed)?;
    root::add_modules(tree, &kernel.release, &modules::files(&folder)?)
}
