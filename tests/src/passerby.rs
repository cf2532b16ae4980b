//! Somebody else's eBPF program: it counts the packets that it sees at an interface, and lets them go on.
//!
//! It is put together here, instruction by instruction, so that no compiler and no loader of ours has a hand in it.

use std::fs::create_dir_all;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::bpf::{Attributes, MAP_LOOKUP_ELEM, bpf, bpf_descriptor};
use crate::fail::OrFail;
use crate::machine::Machine;

/// Commands of bpf(2), from `linux/bpf.h`.
const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_ARRAY: u64 = 2;
const PROG_TYPE_SCHED_CLS: u64 = 3;
const TCX_INGRESS: u64 = 46;
const TCX_EGRESS: u64 = 47;
const BEFORE: u64 = 1 << 3;
const AFTER: u64 = 1 << 4;

/// Where `tc` finds a program: a bpffs of the machine's own.
const PINS: &str = "/run/lab/bpf";

/// Which packets of an interface a program sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

/// Its place among the programs that are there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

/// A loaded program. As a TCX program it is attached until this is dropped.
pub struct Passerby {
    counter: OwnedFd,
    program: OwnedFd,
    link: Option<OwnedFd>,
}

impl Machine {
    /// Attaches a counting program to an interface by TCX.
    #[track_caller]
    pub fn attach_tcx(&self, interface: &str, direction: Direction, order: Order) -> Passerby {
        let index = u64::from(self.link(interface).index);
        let attach = || -> io::Result<Passerby> {
            let mut passerby = Passerby::load()?;
            let hook = if direction == Direction::Ingress { TCX_INGRESS } else { TCX_EGRESS };
            let place = if order == Order::First { BEFORE } else { AFTER };
            // Program and interface; hook and flags; relative to nobody in particular.
            let words = [index << 32 | passerby.program.as_raw_fd() as u64, place << 32 | hook, 0, 0];
            passerby.link = Some(bpf_descriptor(LINK_CREATE, &mut Attributes(words))?);
            Ok(passerby)
        };
        self.run(attach).or_fail(format_args!("attach a program to {interface} of {}", self.name()))
    }

    /// Attaches a counting program to an interface as a filter of its clsact qdisc, by `tc`, at a priority of its own.
    #[track_caller]
    pub fn attach_clsact(&self, interface: &str, direction: Direction, priority: u16) -> Passerby {
        let name = format!("{interface}-{direction:?}").to_lowercase();
        let pin = Path::new(PINS).join(&name);
        let load = || -> io::Result<Passerby> {
            if !Path::new(PINS).exists() {
                create_dir_all(PINS)?;
                mount(Some("bpf"), PINS, Some("bpf"), MsFlags::empty(), None::<&str>)?;
            }
            let passerby = Passerby::load()?;
            let path = [pin.as_os_str().as_bytes(), &[0]].concat();
            let descriptor = passerby.program.as_raw_fd() as u64;
            bpf(OBJ_PIN, &mut Attributes([path.as_ptr() as u64, descriptor, 0, 0]))?;
            Ok(passerby)
        };
        let passerby = self.enter(load).or_fail(format_args!("load a program on {}", self.name()));
        // It may be there already, somebody's: that is no failure of ours.
        self.command(&format!("tc qdisc add dev {interface} clsact"));
        let direction = format!("{direction:?}").to_lowercase();
        let filter = format!("bpf direct-action object-pinned {}", pin.display());
        self.command(&format!("tc filter add dev {interface} {direction} pref {priority} {filter}")).ok();
        passerby
    }
}

impl Passerby {
    fn load() -> io::Result<Self> {
        // One counter of eight bytes.
        let counter = bpf_descriptor(MAP_CREATE, &mut Attributes([4 << 32 | MAP_TYPE_ARRAY, 1 << 32 | 8, 0, 0]))?;
        let instructions = instructions(counter.as_raw_fd());
        let license = c"GPL";
        let words = [
            (instructions.len() as u64) << 32 | PROG_TYPE_SCHED_CLS,
            instructions.as_ptr() as u64,
            license.as_ptr() as u64,
            0,
        ];
        let program = bpf_descriptor(PROG_LOAD, &mut Attributes(words))?;
        Ok(Self { counter, program, link: None })
    }

    /// How many packets it has seen so far.
    #[track_caller]
    pub fn packets(&self) -> u64 {
        let (key, mut value) = (0_u32, 0_u64);
        let words = [self.counter.as_raw_fd() as u64, &raw const key as u64, &raw mut value as u64, 0];
        bpf(MAP_LOOKUP_ELEM, &mut Attributes(words)).or_fail("read a counter");
        value
    }
}

/// One instruction, as `struct bpf_insn` lies in memory: operation, source and destination register, offset, operand.
const fn instruction(operation: u8, registers: u8, offset: i16, operand: i32) -> u64 {
    operation as u64 | (registers as u64) << 8 | ((offset as u16) as u64) << 16 | ((operand as u32) as u64) << 32
}

/// Adds one to the counter; returns TCX_NEXT, which is TC_ACT_UNSPEC for a filter: whoever comes next decides.
fn instructions(counter: i32) -> [u64; 11] {
    [
        // *(u32 *)(r10 - 4) = 0; r2 = r10 - 4
        instruction(0x62, 0x0a, -4, 0),
        instruction(0xbf, 0xa2, 0, 0),
        instruction(0x07, 0x02, 0, -4),
        // r1 = counter; r0 = bpf_map_lookup_elem(r1, r2)
        instruction(0x18, 0x11, 0, counter),
        instruction(0, 0, 0, 0),
        instruction(0x85, 0, 0, 1),
        // if r0 != 0 { lock *(u64 *)r0 += 1 }
        instruction(0x15, 0x00, 2, 0),
        instruction(0xb7, 0x01, 0, 1),
        instruction(0xdb, 0x10, 0, 0),
        // return -1
        instruction(0xb7, 0x00, 0, -1),
        instruction(0x95, 0, 0, 0),
    ]
}
