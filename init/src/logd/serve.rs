//! The loop: pipes in, segments out.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use gokrazy_core::keyvalue::Document;
use gokrazy_core::log_record::{Stream, Times};
use gokrazy_sys::passing;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::read;

use super::keeper::{Folders, Keeper};
use super::kernel;
use super::lines::Lines;
use super::segments::Rooms;
use crate::runtime::clock;
use crate::service;

/// Longest message of init, in bytes.
const MESSAGE_MAX: usize = 1024;

/// So much is read of a pipe at once: its whole size.
const CHUNK: usize = 64 * 1024;

/// So often an input is read at the end.
const FINAL_READS: usize = 64;

/// Most messages of init that are taken in at the end: more than a socket holds.
const FINAL_MESSAGES: usize = 4096;

/// So often a talkative pipe is read before the others get their turn.
const PER_TURN: usize = 4;

/// What comes in pieces smaller than half a pipe, and so many bytes of them at a look, is left alone for a moment: each
/// piece costs a file that is opened and closed, and soon there will be more of them.
const DRIBBLE: usize = 4 * 1024;

/// How long: a pipe takes twice as long to fill at the rate that a processor can print.
const BREATH: Duration = Duration::from_micros(50);

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
    rooms: Rooms,
    /// Bytes that came in small pieces since the last look.
    dribble: usize,
}

/// Whether the loop goes on.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    On,
    End,
}

/// What there was of init.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Something,
    Nothing,
    TheEnd,
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
            rooms: Rooms::default(),
            dribble: 0,
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
                let keeper = Keeper::new(&self.folders, &name, limits, &self.rooms);
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
        // Pipes that init had handed over before it told us to end.
        for _ in 0..FINAL_MESSAGES {
            if self.take_message() != Taken::Something {
                break;
            }
        }
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
        }
    }

    fn turn(&mut self) -> Turn {
        if std::mem::take(&mut self.dribble) >= DRIBBLE {
            thread::sleep(BREATH);
        }
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
        match self.take_message() {
            Taken::TheEnd => Turn::End,
            Taken::Something | Taken::Nothing => Turn::On,
        }
    }

    /// Takes in one message of init, if there is one.
    fn take_message(&mut self) -> Taken {
        let Some(init) = &self.init else {
            return Taken::Nothing;
        };
        let mut buffer = [0; MESSAGE_MAX];
        let message = match passing::receive(init.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Taken::Nothing,
            Err(_) => return Taken::TheEnd,
            Ok(message) if message.length == 0 => return Taken::TheEnd,
            Ok(message) => message,
        };
        let text = std::str::from_utf8(buffer.get(..message.length).unwrap_or_default());
        let document = text.ok().and_then(|text| Document::parse(text).ok());
        if let Some(document) = document {
            self.take_over(&document, message.descriptors);
        }
        Taken::Something
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
                self.dribble = match length < CHUNK / 2 {
                    true => self.dribble.saturating_add(length),
                    false => 0,
                };
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

fn now() -> Times {
    Times {
        boot_us: u64::try_from(clock::boot().as_micros()).unwrap_or(u64::MAX),
        wall_ms: clock::wall_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gokrazy_core::log_record::Record;
    use nix::sys::signal::raise;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use nix::unistd::{pipe, write};
    use std::fs;

    #[test]
    fn what_was_handed_over_before_the_end_is_kept() {
        let place = std::env::temp_dir().join(format!("gokrazy-logd-last-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        let folders = Folders {
            volatile: place.as_path().into(),
            persistent: None,
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
        let (init, ours) = pair.unwrap();
        let server = Server::new(folders, Some(ours)).unwrap();
        let mut kept = Vec::new();
        for n in 0..100 {
            let (reader, writer) = pipe().unwrap();
            write(&writer, b"last words\n").unwrap();
            let message = Document::new()
                .set("name", format!("s{n}"))
                .set("volatile", 16_384)
                .set("persistent", 0)
                .render();
            let ends = [reader.as_fd(), reader.as_fd()];
            passing::send(init.as_fd(), message.as_bytes(), &ends).unwrap();
            kept.push((reader, writer));
        }
        // To this thread alone, which has blocked it.
        raise(Signal::SIGTERM).unwrap();
        server.run();
        for n in 0..100 {
            let log = fs::read(place.join(format!("s{n}/0000000001.log"))).unwrap();
            let line = log.split(|byte| *byte == b'\n').next();
            let record = line.and_then(Record::parse).unwrap();
            assert_eq!(record.text, b"last words", "s{n}");
        }
        fs::remove_dir_all(place).unwrap();
    }
}
