//! What the stand-in has handed out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::rc::Rc;

thread_local! {
    static STAND_IN: RefCell<StandIn> = RefCell::new(StandIn::new(Settings::default()));
}

/// Codes that a driver gives.
pub const INVALID_VALUE: i32 = 1;
pub const OUT_OF_MEMORY: i32 = 2;
pub const INVALID_CONTEXT: i32 = 201;
pub const INVALID_PTX: i32 = 218;
pub const NOT_FOUND: i32 = 500;

/// Executes a launch; gives a code.
pub type Execute = Rc<dyn Fn(&Launch, Memory) -> i32>;

/// All that kernels reach, by address: device memory, and host memory that is mapped.
pub struct Memory<'a> {
    pub device: &'a mut BTreeMap<u64, Vec<u8>>,
    pub host: &'a mut BTreeMap<u64, Box<[u64]>>,
}

/// How the stand-in behaves.
#[derive(Clone)]
pub struct Settings {
    /// What `cuDriverGetVersion` says.
    pub version: i32,
    /// Number of devices.
    pub devices: i32,
    /// Compute capability, major and minor.
    pub compute: (i32, i32),
    /// Bytes of device memory.
    pub memory: usize,
    /// Whether host and device share memory.
    pub integrated: bool,
    /// Functions that the driver lacks.
    pub missing: Vec<&'static str>,
    /// The call, counted from 0, that fails, and with which code.
    pub fail: Option<(usize, i32)>,
    /// Modules whose text has one of these in it are refused.
    pub refused: Vec<&'static str>,
    /// What launches do; nothing where there is none.
    pub execute: Option<Execute>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            version: 12020,
            devices: 2,
            compute: (9, 0),
            memory: 1 << 32,
            integrated: false,
            missing: Vec::new(),
            fail: None,
            refused: Vec::new(),
            execute: None,
        }
    }
}

/// A kernel's start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Text of the module.
    pub ptx: Rc<str>,
    /// Name of the entry.
    pub entry: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Eight bytes a parameter.
    pub parameters: Vec<u64>,
}

/// What a graph may hold.
#[derive(Clone, Debug)]
pub enum Work {
    Launch(Launch),
    /// First byte, number, value.
    Fill(u64, usize, u8),
}

/// Nodes of a graph: handle and work.
pub type Nodes = Vec<(u64, Work)>;

/// Everything handed out, and the calls so far.
pub struct StandIn {
    pub settings: Settings,
    /// Names of the calls, in order.
    pub calls: Vec<&'static str>,
    /// Holds on the primary context.
    pub retained: usize,
    /// Contexts current on this thread, innermost last.
    pub current: Vec<u64>,
    pub device: BTreeMap<u64, Vec<u8>>,
    pub host: BTreeMap<u64, Box<[u64]>>,
    pub streams: BTreeSet<u64>,
    pub events: BTreeSet<u64>,
    pub modules: BTreeMap<u64, Rc<str>>,
    /// By handle: module and entry.
    pub functions: BTreeMap<u64, (u64, CString)>,
    /// Nodes by handle, in order.
    pub graphs: BTreeMap<u64, Nodes>,
    /// The graph that each was made of, and its nodes.
    pub instances: BTreeMap<u64, (u64, Nodes)>,
    /// Launches that ran.
    pub launches: Vec<Launch>,
    /// Number of launches and fills started through graphs.
    pub from_graphs: usize,
    /// Bytes of the copies to the host.
    pub downloads: Vec<usize>,
    /// What was done wrong.
    pub misuse: Vec<String>,
    next: u64,
}

impl StandIn {
    fn new(settings: Settings) -> StandIn {
        StandIn {
            settings,
            calls: Vec::new(),
            retained: 0,
            current: Vec::new(),
            device: BTreeMap::new(),
            host: BTreeMap::new(),
            streams: BTreeSet::new(),
            events: BTreeSet::new(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            graphs: BTreeMap::new(),
            instances: BTreeMap::new(),
            launches: Vec::new(),
            from_graphs: 0,
            downloads: Vec::new(),
            misuse: Vec::new(),
            next: 0x7f00_0000_0000,
        }
    }

    /// Forgets everything.
    pub fn start(settings: Settings) {
        STAND_IN.with_borrow_mut(|stand_in| *stand_in = StandIn::new(settings));
    }

    /// Looks at the stand-in.
    pub fn with<T>(look: impl FnOnce(&mut StandIn) -> T) -> T {
        STAND_IN.with_borrow_mut(look)
    }

    /// Notes a call; the code where it is to fail.
    pub fn called(&mut self, name: &'static str) -> Option<i32> {
        let index = self.calls.len();
        self.calls.push(name);
        self.settings.fail.filter(|&(at, _)| at == index).map(|(_, code)| code)
    }

    /// A handle or address that was never given before, with room for `bytes` after it.
    pub fn fresh(&mut self, bytes: usize) -> u64 {
        let handle = self.next;
        // A gap behind every allocation, so that an overrun meets nothing.
        self.next += (bytes as u64).next_multiple_of(256) + 4096;
        handle
    }

    /// What memory holds at first: NaN in every type, so that what is read before it is written shows; where nothing is
    /// executed nobody reads.
    pub fn anything(&self) -> u8 {
        if self.settings.execute.is_some() { 0xFF } else { 0 }
    }

    /// Notes a misuse and gives the code for it.
    pub fn wrong(&mut self, what: impl Into<String>, code: i32) -> i32 {
        self.misuse.push(what.into());
        code
    }

    /// Does work.
    pub fn run(&mut self, work: Work) -> i32 {
        match work {
            Work::Launch(launch) => {
                let execute = self.settings.execute.clone();
                let memory = Memory { device: &mut self.device, host: &mut self.host };
                let code = execute.map_or(0, |execute| execute(&launch, memory));
                self.launches.push(launch);
                code
            }
            Work::Fill(start, bytes, value) => match self.bytes(start, bytes) {
                Some(memory) => {
                    memory.fill(value);
                    0
                }
                None => self.wrong("a fill beyond an allocation", INVALID_VALUE),
            },
        }
    }

    /// The bytes of device memory `at..at + len`.
    pub fn bytes(&mut self, at: u64, len: usize) -> Option<&mut [u8]> {
        let (start, memory) = self.device.range_mut(..=at).next_back()?;
        let first = usize::try_from(at - start).ok()?;
        memory.get_mut(first..first.checked_add(len)?)
    }

    /// What is still held, in words; nothing after everything was dropped.
    pub fn leaks(&self) -> Vec<String> {
        let counts = [
            ("contexts", self.retained),
            ("current contexts", self.current.len()),
            ("device memory", self.device.len()),
            ("host memory", self.host.len()),
            ("streams", self.streams.len()),
            ("events", self.events.len()),
            ("modules", self.modules.len()),
            ("graphs", self.graphs.len()),
            ("graph instances", self.instances.len()),
        ];
        let held = counts.into_iter().filter(|&(_, count)| count > 0);
        held.map(|(what, count)| format!("{count} {what}")).collect()
    }
}
