//! Waiting for files to change, by inotify(7): asleep until the kernel has something to say.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// nix's type lacks the one trait that tokio asks for.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A set of watched folders.
pub struct Watch {
    inotify: AsyncFd<Descriptor>,
}

impl Watch {
    /// An empty set.
    ///
    /// # Errors
    /// The errno of `inotify_init1`, or the runtime's refusal.
    pub fn new() -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "unsound only for types whose descriptor changes; ours owns one from its making to its end"
        )]
        let inotify = AsyncFd::with_interest(Descriptor(inotify), Interest::READABLE)?;
        Ok(Self { inotify })
    }

    /// Watches the entries of `folder` (and nothing deeper) for `what`; twice is as good as once.
    ///
    /// # Errors
    /// The errno of `inotify_add_watch`: the folder is absent or may not be read, or the user has too many watches.
    pub fn add(&self, folder: &Path, what: AddWatchFlags) -> Result<(), Errno> {
        let what = what | AddWatchFlags::IN_ONLYDIR;
        self.inotify.get_ref().0.add_watch(folder, what).map(drop)
    }

    /// Ready when something happened, with what it was.
    pub fn poll_events(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<Vec<InotifyEvent>>> {
        loop {
            let mut guard = std::task::ready!(self.inotify.poll_read_ready(context))?;
            match guard.get_inner().0.read_events() {
                Ok(events) => return Poll::Ready(Ok(events)),
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }

    /// Waits until something happened.
    ///
    /// # Errors
    /// The errno of reading.
    pub async fn events(&self) -> std::io::Result<Vec<InotifyEvent>> {
        std::future::poll_fn(|context| self.poll_events(context)).await
    }
}

/// One file that is replaced now and then, in a folder that may itself come and go.
pub struct FileWatch {
    watch: Watch,
    path: PathBuf,
}

impl FileWatch {
    /// Watches `path`.
    ///
    /// # Errors
    /// As [`Watch::new`].
    pub fn new(path: PathBuf) -> std::io::Result<Self> {
        let watch = Watch::new()?;
        Ok(Self { watch, path })
    }

    /// Waits until the file may have changed; what happens to its neighbours wakes nobody else.
    ///
    /// The caller reads the file after [`FileWatch::arm`] and before it waits, so that no change slips through.
    ///
    /// # Errors
    /// The errno of reading.
    pub async fn changed(&self) -> std::io::Result<()> {
        let folder = self.path.parent();
        let names = [self.path.file_name(), folder.and_then(Path::file_name)];
        loop {
            let events = self.watch.events().await?;
            let concerns_us = |event: &InotifyEvent| match &event.name {
                // Without a name: the folder itself, or events were lost.
                None => true,
                Some(name) => names.contains(&Some(name)),
            };
            if events.iter().any(concerns_us) {
                return Ok(());
            }
        }
    }

    /// Sets the watches anew, on the file's folder and on the folder around it, as far as they exist.
    pub fn arm(&self) {
        let appear = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let entries = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF;
        let Some(folder) = self.path.parent() else {
            return;
        };
        // An absent folder is no error: the one around it tells when it comes.
        let inside = self.watch.add(folder, entries);
        if let (Err(_), Some(around)) = (inside, folder.parent()) {
            let _ = self.watch.add(around, appear);
        }
    }
}
