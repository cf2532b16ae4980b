//! Runs a program on one frame through BPF_PROG_TEST_RUN: the garbage collector's way to work, and the way in which
//! programs are tested and measured.

use std::time::Duration;

use aya::programs::{TestRun as _, TestRunOptions};

use super::{Dataplane, error::DataplaneError, programs};

/// Where the frame is, as the program sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunContext {
    /// Interface at which the program runs; 0 for loopback.
    pub ifindex: u32,
    /// Interface through which the packet came into the host; 0 if the host made it.
    pub ingress_ifindex: u32,
    /// Payload bytes of the segments into which the packet is to be cut; 0 if it is not.
    pub gso_size: u32,
    /// How often it runs; 0 counts as 1. The same packet each time, as the run before left it.
    pub repeat: u32,
}

/// What a program did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProgramRun {
    /// The action it returned, of its kind of program.
    pub verdict: i32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// How long one run took, on average.
    pub duration: Duration,
}

/// Byte offsets in `struct __sk_buff` of `linux/bpf.h`.
mod sk_buff {
    pub(super) const INGRESS_IFINDEX: usize = 36;
    pub(super) const IFINDEX: usize = 40;
    pub(super) const GSO_SIZE: usize = 176;
    pub(super) const LEN: usize = 192;
}

impl Dataplane {
    /// Runs one of the programs on `frame`, at least an Ethernet header. Redirects are told, not carried out.
    ///
    /// # Errors
    ///
    /// There is no such program, or the kernel does not take the frame.
    pub fn run_program(
        &mut self,
        program: &'static str,
        frame: &[u8],
        context: &RunContext,
    ) -> Result<ProgramRun, DataplaneError> {
        // Programs never make a frame longer, but a test should see it if one did.
        const ROOM: usize = 256;
        let mut out = vec![0; frame.len() + ROOM];
        let mut ctx = [0; sk_buff::LEN];
        for (at, value) in [
            (sk_buff::IFINDEX, context.ifindex),
            (sk_buff::INGRESS_IFINDEX, context.ingress_ifindex),
            (sk_buff::GSO_SIZE, context.gso_size),
        ] {
            ctx[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        let result = self
            .programs
            .classifier(program)?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: Some(&ctx),
                repeat: context.repeat.max(1),
                ..TestRunOptions::new()
            })
            .map_err(|source| DataplaneError::Program { program, action: "run".into(), source })?;
        out.truncate(result.data_size_out as usize);
        Ok(ProgramRun { verdict: result.return_value.cast_signed(), frame: out, duration: result.duration })
    }

    /// Runs the shield on `frame`, `repeat` times, as if it had come in through an interface.
    ///
    /// # Errors
    ///
    /// The kernel does not take the frame.
    pub fn run_shield(&mut self, frame: &[u8], repeat: u32) -> Result<ProgramRun, DataplaneError> {
        let mut out = vec![0; frame.len()];
        let result = self
            .programs
            .shield(programs::SHIELDS[0])?
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                repeat: repeat.max(1),
                ..TestRunOptions::new()
            })
            .map_err(|source| DataplaneError::Program {
                program: programs::SHIELDS[0],
                action: "run".into(),
                source,
            })?;
        out.truncate(result.data_size_out as usize);
        Ok(ProgramRun { verdict: result.return_value.cast_signed(), frame: out, duration: result.duration })
    }
}
