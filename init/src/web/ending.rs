//! The end of the process: what SIGTERM and SIGINT begin, and how everybody hears of it.
//!
//! Answers under way to those who have shown the password are finished first, so that whoever asked for a reboot is
//! told that it comes; streams that follow a log end, and everybody else is cut off.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// How long answers under way may take: a client that does not read must not hold a reboot up.
pub const LIMIT: Duration = Duration::from_secs(2);

/// Whether the end has begun, and a bell for those who wait for it.
#[derive(Debug, Clone)]
pub struct Ending {
    begun: watch::Sender<bool>,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            begun: watch::Sender::new(false),
        }
    }
}

impl Ending {
    /// Tells everybody; for good.
    pub fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.begun.borrow()
    }

    /// Does `work` until the end begins; `None` if that came first.
    pub async fn cuts<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut begun = pin!(self.begun());
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => begun.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Waits until it begins.
    pub fn begun(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut receiver = self.begun.subscribe();
        async move {
            // The sender outlives all who wait: the application holds it.
            let _ = receiver.wait_for(|begun| *begun).await;
        }
    }
}

/// nix's type lacks the one trait that tokio asks for.
struct Descriptor(SignalFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Blocks the signals that ask for the end, for this thread and all that it starts; before this, they kill.
///
/// # Errors
/// The errno of `sigprocmask` or `signalfd`.
pub fn take_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    Ok(SignalFd::with_flags(&set, flags)?)
}

/// Begins the end when one of `signals` comes.
///
/// # Errors
/// The runtime's refusal to listen.
pub fn follow(signals: SignalFd, ending: Ending) -> io::Result<()> {
    #[expect(
        deprecated,
        reason = "unsound only for types whose descriptor changes; ours owns one from its making to its end"
    )]
    let signals = AsyncFd::with_interest(Descriptor(signals), Interest::READABLE)?;
    tokio::spawn(async move {
        // An error is the runtime's end.
        let _ = signals.readable().await;
        ending.begin();
    });
    Ok(())
}
