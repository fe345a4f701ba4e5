use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::watch,
};

use crate::{Exit, Launch, ProcessTree, Signal, SpawnError, Spawned, Spawner, Survivor};

/// The first pid of fakes: no system gives such a number to a real process.
const FIRST_PID: u32 = 1 << 30;

/// A spawner whose processes exist in memory only. Clones share them.
///
/// A process lives until the test ends it, or a signal does: SIGTERM at once (unless
/// [`FakeSpawner::ignore_terminate`] says else), SIGKILL always. As with real ones, output is there until
/// it was read, and the exit is told whoever listens. Processes are counted from 0 in the order of
/// their start.
#[derive(Clone, Debug)]
pub struct FakeSpawner {
    state: Arc<Mutex<State>>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    processes: Vec<FakeProcess>,
    at_start: HashMap<OsString, StartScript>,
    failures: usize,
    ignores_terminate: bool,
    outlives_kill: bool,
}

#[derive(Clone, Debug, Default)]
struct StartScript {
    output: Vec<u8>,
    exit: Option<Exit>,
    error: Option<i32>,
    panics: bool,
}

#[derive(Clone, Debug)]
struct FakeProcess {
    launch: Launch,
    exit: watch::Sender<Option<Exit>>,
    output: Arc<Mutex<FakeOutput>>,
    signals: Vec<Signal>,
    /// How often somebody has asked for the processes of its tree.
    looks: usize,
}

impl FakeProcess {
    fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    fn end(&self, exit: Exit) {
        if self.is_running() {
            self.exit.send_replace(Some(exit));
            self.output.lock().close();
        }
    }
}

impl FakeSpawner {
    /// A spawner that has started nothing.
    pub fn new() -> Self {
        Self { state: Arc::default(), changes: watch::Sender::new(0) }
    }

    /// From now on each start of `program` prints `output` first.
    pub fn print_at_start(&self, program: &str, output: &str) {
        self.state.lock().at_start.entry(program.into()).or_default().output = output.into();
    }

    /// From now on `program` ends as soon as it started, as commands of a build do.
    pub fn exit_at_start(&self, program: &str, exit: Exit) {
        self.state.lock().at_start.entry(program.into()).or_default().exit = Some(exit);
    }

    /// From now on `program` cannot be started, for the reason of this errno (2: no such file, 11:
    /// try again).
    pub fn fail_spawn(&self, program: &str, errno: i32) {
        self.state.lock().at_start.entry(program.into()).or_default().error = Some(errno);
    }

    /// From now on starting `program` panics, as a faulty spawner does.
    pub fn panic_at_start(&self, program: &str) {
        self.state.lock().at_start.entry(program.into()).or_default().panics = true;
    }

    /// Takes back what was said of `program`: it starts, and lives.
    pub fn start_normally(&self, program: &str) {
        self.state.lock().at_start.remove(&OsString::from(program));
    }

    /// Whether processes, also those that run, leave [`Signal::Terminate`] without an answer.
    pub fn ignore_terminate(&self, ignore: bool) {
        self.state.lock().ignores_terminate = ignore;
    }

    /// Whether processes, also those that run, outlive [`Signal::Kill`], as in state D. One that is to end then
    /// [`crash`](Self::crash)es.
    pub fn outlive_kill(&self, outlive: bool) {
        self.state.lock().outlives_kill = outlive;
    }

    /// Ends the `nth` process by itself. Nothing if it has ended.
    ///
    /// # Panics
    ///
    /// If there never was such a process.
    pub fn crash(&self, nth: usize, exit: Exit) {
        self.process(nth).end(exit);
        self.changed();
    }

    /// Lets the `nth` process write to its output.
    ///
    /// # Panics
    ///
    /// If there never was such a process.
    pub fn write(&self, nth: usize, output: &str) {
        self.process(nth).output.lock().write(output.as_bytes());
    }

    /// What was started, in order; failed starts are not in it.
    pub fn launches(&self) -> Vec<Launch> {
        self.state.lock().processes.iter().map(|process| process.launch.clone()).collect()
    }

    /// How often the tree of the `nth` process was asked which processes it has.
    ///
    /// # Panics
    ///
    /// If there never was such a process.
    pub fn looks(&self, nth: usize) -> usize {
        self.process(nth).looks
    }

    /// The pid of the `nth` process.
    pub fn pid(&self, nth: usize) -> u32 {
        pid(nth)
    }

    /// Which processes run now.
    pub fn running(&self) -> Vec<usize> {
        let state = self.state.lock();
        let running = state.processes.iter().enumerate().filter(|(_, process)| process.is_running());
        running.map(|(nth, _)| nth).collect()
    }

    /// The signals that the `nth` process was sent while it ran.
    ///
    /// # Panics
    ///
    /// If there never was such a process.
    pub fn signals(&self, nth: usize) -> Vec<Signal> {
        self.process(nth).signals
    }

    /// How many starts failed.
    pub fn failures(&self) -> usize {
        self.state.lock().failures
    }

    /// Waits until `count` processes were started in all.
    pub async fn wait_for_launches(&self, count: usize) {
        self.wait_until(|state| state.processes.len() >= count).await;
    }

    /// Waits until `count` processes run.
    pub async fn wait_for_running(&self, count: usize) {
        self.wait_until(|state| {
            state.processes.iter().filter(|process| process.is_running()).count() == count
        })
        .await;
    }

    /// Waits until `count` starts failed in all.
    pub async fn wait_for_failures(&self, count: usize) {
        self.wait_until(|state| state.failures >= count).await;
    }

    /// Waits until the `nth` process was sent `signal`.
    pub async fn wait_for_signal(&self, nth: usize, signal: Signal) {
        self.wait_until(|state| {
            state.processes.get(nth).is_some_and(|process| process.signals.contains(&signal))
        })
        .await;
    }

    async fn wait_until(&self, mut reached: impl FnMut(&State) -> bool) {
        let mut changes = self.changes.subscribe();
        while !reached(&self.state.lock()) {
            changes.changed().await.expect("the sender is a field of self");
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn process(&self, nth: usize) -> FakeProcess {
        self.state.lock().processes[nth].clone()
    }

    fn signal(&self, nth: usize, signal: Signal) {
        let mut state = self.state.lock();
        let ignored = match signal {
            Signal::Terminate => state.ignores_terminate || state.outlives_kill,
            Signal::Kill => state.outlives_kill,
        };
        let process = &mut state.processes[nth];
        if process.is_running() {
            process.signals.push(signal);
            if !ignored {
                process.end(Exit::Signal(match signal {
                    Signal::Terminate => 15,
                    Signal::Kill => 9,
                }));
            }
        }
        drop(state);
        self.changed();
    }
}

impl Default for FakeSpawner {
    fn default() -> Self {
        Self::new()
    }
}

fn pid(nth: usize) -> u32 {
    FIRST_PID + u32::try_from(nth).expect("a test starts fewer than 2^30 processes")
}

impl Spawner for FakeSpawner {
    fn spawn(&self, launch: &Launch) -> Result<Spawned, SpawnError> {
        let mut state = self.state.lock();
        let script = state.at_start.get(&launch.program).cloned().unwrap_or_default();
        if script.panics {
            state.failures += 1;
            drop(state);
            self.changed();
            panic!("the test lets the start of {} panic", launch.program.display());
        }
        if let Some(errno) = script.error {
            state.failures += 1;
            drop(state);
            self.changed();
            return Err(SpawnError {
                program: launch.program.clone(),
                folder: launch.folder.clone(),
                source: io::Error::from_raw_os_error(errno),
            });
        }
        let nth = state.processes.len();
        let process = FakeProcess {
            launch: launch.clone(),
            exit: watch::Sender::new(None),
            output: Arc::default(),
            signals: Vec::new(),
            looks: 0,
        };
        let mut exit = process.exit.subscribe();
        let output = OutputReader(Arc::clone(&process.output));
        process.output.lock().write(&script.output);
        if let Some(exit) = script.exit {
            process.end(exit);
        }
        let tree = FakeTree { spawner: self.clone(), nth, exit: exit.clone() };
        state.processes.push(process);
        drop(state);
        self.changed();
        Ok(Spawned {
            tree: Box::new(tree),
            exit: Box::pin(async move {
                let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
                ended.unwrap_or(Exit::Unknown)
            }),
            output: Box::new(output),
            errors: None,
        })
    }
}

struct FakeTree {
    spawner: FakeSpawner,
    nth: usize,
    exit: watch::Receiver<Option<Exit>>,
}

impl ProcessTree for FakeTree {
    fn leader(&self) -> u32 {
        pid(self.nth)
    }

    fn pids(&self) -> Vec<u32> {
        self.spawner.state.lock().processes[self.nth].looks += 1;
        if self.exit.borrow().is_none() { vec![self.leader()] } else { Vec::new() }
    }

    fn signal(&self, signal: Signal) {
        self.spawner.signal(self.nth, signal);
    }

    fn survivors(&self) -> Vec<Survivor> {
        let name = self.spawner.process(self.nth).launch.program.to_string_lossy().into_owned();
        let state = "D (disk sleep)".to_owned();
        let survivor = |pid| Survivor {
            pid,
            name: name.clone(),
            state: state.clone(),
            wait_channel: "fake_wait".to_owned(),
            foreign_user: None,
        };
        self.pids().into_iter().map(survivor).collect()
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        let mut exit = self.exit.clone();
        Box::pin(async move {
            // An error means that nobody can end it any more.
            drop(exit.wait_for(Option::is_some).await);
        })
    }
}

#[derive(Debug, Default)]
struct FakeOutput {
    bytes: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
}

impl FakeOutput {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.wake();
    }

    fn close(&mut self) {
        self.closed = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

struct OutputReader(Arc<Mutex<FakeOutput>>);

impl AsyncRead for OutputReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut output = self.0.lock();
        if output.bytes.is_empty() && !output.closed {
            output.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = output.bytes.len().min(into.remaining());
        for byte in output.bytes.drain(..count) {
            into.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}
