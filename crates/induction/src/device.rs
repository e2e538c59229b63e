//! What a model runs on.

use clap::ValueEnum;
use induction_engine::{BurnEngine, CpuEngine, Engine};
use induction_model::{ModelConfig, Params};

use crate::Error;

/// An engine and its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The fused CPU engine.
    #[default]
    Cpu,
    /// burn on its pure-Rust CPU backend.
    Flex,
}

impl Device {
    /// As in the option.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Flex => "flex",
        }
    }

    /// The engine, with these weights.
    ///
    /// # Errors
    /// An invalid configuration, or parameters that are not its own.
    pub fn open(self, config: &ModelConfig, params: &Params) -> Result<Box<dyn Engine>, Error> {
        Ok(match self {
            Self::Cpu => Box::new(CpuEngine::new(config, params)?),
            Self::Flex => Box::new(BurnEngine::flex(config, params)?),
        })
    }
}
