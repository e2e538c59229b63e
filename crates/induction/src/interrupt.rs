//! Ctrl-C and SIGTERM as a flag that long work looks at between its steps.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use signal_hook::consts::{SIGINT, SIGTERM};

use induction_study::{Error as StudyError, Signal};

use crate::Error;

/// Set once by the first signal. A second Ctrl-C ends the process at once, as usual; a second
/// SIGTERM does nothing more, since a scheduler sends one to all processes of a job, and the job's
/// script hands its own on. What ends a process at once is SIGKILL.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refuses to register a handler.
    pub fn listen() -> std::io::Result<Self> {
        let flag = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        // In this order: the default action must look at what an earlier signal set, not at what
        // this one sets.
        signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&again))?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&again))?;
            signal_hook::flag::register_usize(signal, Arc::clone(&flag), signal as usize)?;
        }
        Ok(Self(flag))
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<Signal> {
        match self.0.load(Ordering::Relaxed) as i32 {
            0 => None,
            SIGTERM => Some(Signal::Terminate),
            _ => Some(Signal::Interrupt),
        }
    }

    /// An error once a signal came.
    ///
    /// # Errors
    /// [`StudyError::Interrupted`].
    pub fn check(&self) -> Result<(), Error> {
        self.signal().map_or(Ok(()), |signal| Err(StudyError::Interrupted(signal).into()))
    }
}
