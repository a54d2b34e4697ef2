//! The loop: pipes in, segments out.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use gokrazy_core::keyvalue::Document;
use gokrazy_core::log_record::{Stream, Times};
use gokrazy_sys::passing;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;

use super::kernel;
use super::lines::Lines;
use super::segments::Log;
use crate::runtime::clock;
use crate::service;

/// Longest message of init, in bytes.
const MESSAGE_MAX: usize = 1024;

/// So much is read of a pipe at once: its whole size.
const CHUNK: usize = 64 * 1024;

/// So often an input is read at the end.
const FINAL_READS: usize = 64;

/// So often a talkative pipe is read before the others get their turn.
const PER_TURN: usize = 4;

/// Where logs are kept.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Until the next boot.
    pub volatile: Rc<Path>,
    /// Over boots, for services that ask for it.
    pub persistent: Option<Rc<Path>>,
}

/// What logd listens to, by the number in its event.
const INIT: u64 = 0;
const SIGNALS: u64 = 1;
const FIRST_INPUT: u64 = 2;

/// A pipe or device that is read.
#[derive(Debug)]
struct Input {
    fd: OwnedFd,
    lines: Lines,
    is_kernel: bool,
    name: Rc<str>,
}

/// The logs of one name.
#[derive(Debug)]
struct Keeper {
    /// Boxed, since a growing list begins with room for four.
    logs: Box<[Log]>,
}

/// Logd at work.
#[derive(Debug)]
pub struct Server {
    folders: Folders,
    epoll: Epoll,
    signals: SignalFd,
    init: Option<OwnedFd>,
    /// Boxed, since a map keeps room for twice what is in it.
    inputs: HashMap<u64, Box<Input>>,
    /// By names that inputs and logs share.
    keepers: HashMap<Rc<str>, Keeper>,
    next: u64,
    /// What init puts behind a run's output.
    mark: Option<Rc<str>>,
    buffer: Vec<u8>,
}

/// Whether the loop goes on.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    On,
    End,
}

impl Server {
    /// Prepares to keep what `init` hands over by its socket.
    ///
    /// # Errors
    /// The errno of making the queue.
    pub fn new(folders: Folders, init: Option<OwnedFd>) -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        if let Some(init) = &init {
            epoll.add(init, EpollEvent::new(EpollFlags::EPOLLIN, INIT))?;
        }
        Ok(Self {
            folders,
            epoll,
            signals,
            init,
            inputs: HashMap::new(),
            keepers: HashMap::new(),
            next: FIRST_INPUT,
            mark: None,
            buffer: vec![0; CHUNK],
        })
    }

    /// Keeps what `fd` delivers under `name`.
    ///
    /// # Errors
    /// The errno of listening to it.
    pub fn add(
        &mut self,
        name: &str,
        stream: Stream,
        fd: OwnedFd,
        limits: (u64, u64),
    ) -> io::Result<()> {
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        self.epoll
            .add(&fd, EpollEvent::new(EpollFlags::EPOLLIN, self.next))?;
        let name = match self.keepers.get_key_value(name) {
            Some((name, _)) => Rc::clone(name),
            None => {
                let name: Rc<str> = name.into();
                let keeper = Keeper::new(&self.folders, &name, limits);
                self.keepers.insert(Rc::clone(&name), keeper);
                name
            }
        };
        let input = Input {
            fd,
            lines: Lines::new(stream, self.mark.clone()),
            is_kernel: stream == Stream::Kernel,
            name,
        };
        self.inputs.insert(self.next, Box::new(input));
        self.next = self.next.saturating_add(1);
        Ok(())
    }

    /// Keeps logs until init is gone, every input has ended, or a signal says so; what is there by then is read still.
    pub fn run(mut self) {
        gokrazy_sys::memory::forget_code();
        while self.turn() == Turn::On {}
        let all: Vec<u64> = self.inputs.keys().copied().collect();
        for id in all {
            self.drain(id);
            self.end_line(id);
        }
    }

    /// Reads what is there, but no more than a pipe can hold; says whether that was all.
    fn drain(&mut self, id: u64) -> bool {
        (0..FINAL_READS).any(|_| !self.read_some(id))
    }

    /// Keeps a line whose end has not come.
    fn end_line(&mut self, id: u64) {
        if let Some(input) = self.inputs.get_mut(&id)
            && let Some(keeper) = self.keepers.get_mut(&input.name)
        {
            let times = now();
            let mut put = |beginning: &[u8], text: &[u8]| keeper.put(beginning, text);
            input.lines.finish(times, &mut put);
            keeper.flush(times);
            keeper.rest();
        }
    }

    fn turn(&mut self) -> Turn {
        let mut events = [EpollEvent::empty(); 32];
        let count = self
            .epoll
            .wait(&mut events, EpollTimeout::NONE)
            .unwrap_or(0);
        for event in events.iter().take(count) {
            let turn = match event.data() {
                INIT => self.on_init(),
                SIGNALS => self.on_signal(),
                id => self.on_input(id),
            };
            if turn == Turn::End {
                return Turn::End;
            }
        }
        Turn::On
    }

    fn on_signal(&mut self) -> Turn {
        // Either of the two that are blocked asks to end.
        if matches!(self.signals.read_signal(), Ok(Some(_))) {
            Turn::End
        } else {
            Turn::On
        }
    }

    fn on_input(&mut self, id: u64) -> Turn {
        for _ in 0..PER_TURN {
            if !self.read_some(id) {
                break;
            }
        }
        if self.inputs.is_empty() && self.init.is_none() {
            Turn::End
        } else {
            Turn::On
        }
    }

    fn on_init(&mut self) -> Turn {
        let Some(init) = &self.init else {
            return Turn::On;
        };
        let mut buffer = [0; MESSAGE_MAX];
        let message = match passing::receive(init.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Turn::On,
            Err(_) => return Turn::End,
            Ok(message) if message.length == 0 => return Turn::End,
            Ok(message) => message,
        };
        let text = std::str::from_utf8(buffer.get(..message.length).unwrap_or_default());
        let document = text.ok().and_then(|text| Document::parse(text).ok());
        if let Some(document) = document {
            self.take_over(&document, message.descriptors);
        }
        Turn::On
    }

    fn take_over(&mut self, document: &Document, descriptors: Vec<OwnedFd>) {
        let Some(name) = document.get("name").filter(|name| service::is_name(name)) else {
            return;
        };
        if document.get("ended").is_some() {
            self.finish(name);
            return;
        }
        if self.mark.as_deref() != document.get("mark") {
            self.mark = document.get("mark").map(Into::into);
        }
        let bytes = |key| document.optional_as(key).ok().flatten().unwrap_or(0);
        let limits = (bytes("volatile"), bytes("persistent"));
        let streams: &[Stream] = match name {
            service::KERNEL_LOG => &[Stream::Kernel],
            service::INIT_LOG => &[Stream::Out],
            _ => &[Stream::Out, Stream::Err],
        };
        if descriptors.len() < streams.len() {
            eprintln!("logd: no descriptor left for {name}: raise `ulimit -n` of init");
        }
        for (stream, fd) in streams.iter().zip(descriptors) {
            if let Err(error) = self.add(name, *stream, fd, limits) {
                eprintln!("logd: listen to {name}: {error}");
            }
        }
    }

    /// A run is over: reads what it left, of which the last line may lack its end.
    fn finish(&mut self, name: &str) {
        let of_it = self.inputs.iter().filter(|(_, input)| &*input.name == name);
        let ids: Vec<u64> = of_it.map(|(id, _)| *id).collect();
        for id in ids {
            if self.drain(id) {
                self.end_line(id);
            }
        }
    }

    /// Reads once; says whether there may be more.
    fn read_some(&mut self, id: u64) -> bool {
        let Some(input) = self.inputs.get_mut(&id) else {
            return false;
        };
        let Some(keeper) = self.keepers.get_mut(&input.name) else {
            return false;
        };
        let times = now();
        let more = match read(&input.fd, &mut self.buffer) {
            Ok(0) => {
                self.end_line(id);
                self.inputs.remove(&id);
                return false;
            }
            Ok(length) => {
                let bytes = self.buffer.get(..length).unwrap_or_default();
                input.feed(bytes, times, keeper);
                // A pipe that was not full has been emptied.
                input.is_kernel || length == CHUNK
            }
            // EPIPE: the kernel has overwritten what had not been read yet; the next read goes on behind it.
            Err(Errno::EINTR | Errno::EPIPE) => true,
            Err(_) => false,
        };
        keeper.flush(times);
        if !more {
            keeper.rest();
        }
        more
    }
}

impl Input {
    fn feed(&mut self, bytes: &[u8], times: Times, keeper: &mut Keeper) {
        if !self.is_kernel {
            self.lines.feed(bytes, times, &mut |beginning, text| {
                keeper.put(beginning, text)
            });
        } else if let Some((beginning, text)) = kernel::record(bytes, times) {
            keeper.put(beginning.as_bytes(), text);
        }
    }
}

impl Keeper {
    fn new(folders: &Folders, name: &Rc<str>, (volatile, persistent): (u64, u64)) -> Self {
        let open = |folder: &Rc<Path>, limit| Log::open(Rc::clone(folder), Rc::clone(name), limit);
        let kept = folders.persistent.as_ref().filter(|_| persistent > 0);
        let logs = [
            Some(open(&folders.volatile, volatile)),
            kept.map(|folder| open(folder, persistent)),
        ];
        Self {
            logs: logs.into_iter().flatten().collect(),
        }
    }

    fn put(&mut self, beginning: &[u8], text: &[u8]) {
        for log in &mut self.logs {
            log.put(beginning, text);
        }
    }

    /// Nothing more is to be read for now.
    fn rest(&mut self) {
        self.logs.iter_mut().for_each(Log::rest);
    }

    /// Writes, and says in the log itself what was lost before.
    fn flush(&mut self, times: Times) {
        for log in &mut self.logs {
            log.flush();
            log.confess(times);
        }
    }
}

fn now() -> Times {
    Times {
        boot_us: u64::try_from(clock::boot().as_micros()).unwrap_or(u64::MAX),
        wall_ms: clock::wall_ms(),
    }
}
